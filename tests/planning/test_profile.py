"""A profile as a file: what is read back, what is refused, where it is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from eagle3_plugin.errors import CheckpointError, Eagle3Error, NotFoundError
from eagle3_plugin.planning import profile as profiles
from eagle3_plugin.planning.profile import (
    cpu_name,
    full_name,
    median_error,
    profile_path,
    read_profile,
)
from tests.tuned import LONG, profile, timed, write


def test_a_profile_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = profile()
    assert read_profile(write(tmp_path / "p.json", made)) == made


def test_the_error_of_a_time_is_of_the_wave_furthest_from_the_median() -> None:
    found = timed("3,1,4", 1, 0.010, 0.012, 0.008, 0.011, 0.010)
    assert found.median_s == 0.010
    assert found.relative_error == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize(
    ("num_values", "num_outside"), [(5, 0), (8, 0), (9, 1), (12, 2), (20, 5), (40, 13)]
)
def test_the_error_of_a_median_leaves_out_what_is_far_from_it(
    num_values: int, num_outside: int
) -> None:
    """num_outside: by a table of the sign test, two-sided at 1/16."""
    normal = [1.0] * (num_values - num_outside)
    assert median_error([*normal, *[9.0] * num_outside]) == 0
    assert median_error([*normal[1:], *[9.0] * (num_outside + 1)]) == 8
    assert median_error([*normal[1:], *[1 / 9] * (num_outside + 1)]) == pytest.approx(8)


def test_tokens_per_verify_count_the_bonus_token() -> None:
    assert LONG.tokens_per_verify == pytest.approx(3.308, abs=1e-12)


def test_every_problem_of_a_file_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", profile(), schema=2, extra=1)
    path.write_text(path.read_text().replace('"3,1,4"', '"3,1,5"').replace("0.016", "-1"))
    with pytest.raises(Eagle3Error) as raised:
        read_profile(path)
    lines = raised.value.message.splitlines()
    assert lines[0] == f"{path} is not a profile: 6 problem(s)"
    assert "  schema: Input should be 1" in lines
    assert "  extra: Extra inputs are not permitted" in lines
    assert "  timed.1.round_s.0: Input should be greater than 0" in lines
    assert any("timed.4.settings" in line and "topk 1 is a chain" in line for line in lines)
    assert raised.value.hint == "Measure it anew: remove the file and run eagle3 tune."


def test_counts_that_rise_with_the_position_are_refused() -> None:
    values = LONG.model_dump() | {"accepted_by_position": (800, 900)}
    with pytest.raises(ValidationError, match=r"counts by position rise: \(1000, 800, 900\)"):
        type(LONG)(**values)


def test_half_a_file_is_no_profile(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", profile())
    path.write_text(path.read_text()[:200])
    with pytest.raises(CheckpointError, match=r"p\.json"):
        read_profile(path)


def test_a_file_that_is_not_there_is_named_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as raised:
        read_profile(tmp_path / "none.json")
    assert raised.value.message == (
        f"{tmp_path / 'none.json'}: No such file or directory, expected a profile that "
        "`eagle3 tune` wrote"
    )


def test_a_profile_is_kept_by_pair_engine_and_hardware(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    path = profile_path("sglang", "Qwen/Qwen3-4B", "org/D", "H100", 1)
    others = {
        profile_path("vllm", "Qwen/Qwen3-4B", "org/D", "H100", 1),
        profile_path("sglang", "Qwen/Qwen3-4B", "org/D", "H200", 1),
        profile_path("sglang", "Qwen/Qwen3-4B", "org/D", "H100", 2),
        profile_path("sglang", "Qwen/Qwen3-4B", "org/E", "H100", 1),
    }
    assert path.parent == tmp_path / "profiles"
    assert path.name.startswith("sglang-Qwen3-4B-")
    assert len({path, *others}) == 5


def test_without_a_cache_of_ours_it_is_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("EAGLE3_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = profile_path("vllm", "T", "D", "H100", 1)
    assert path.parent == tmp_path / "eagle3" / "profiles"


def test_a_folder_has_one_name_from_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "draft").mkdir()
    monkeypatch.chdir(tmp_path)
    assert full_name("draft") == full_name("./draft") == str(tmp_path / "draft")
    assert full_name("org/draft") == "org/draft"


def test_a_cpu_is_named_with_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "_cpu_model", lambda: "Some CPU")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert cpu_name() == "Some CPU, 2 cores"
