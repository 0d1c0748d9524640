"""A profile while it is measured: what is on the disk after each step, and what is refused."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from eagle3_plugin.errors import EngineError, OutputError, UsageError
from eagle3_plugin.planning.profile import read_profile
from eagle3_plugin.serving.profile_file import now, opened, partial_path
from tests.tuned import LONG, SUBJECT, timed


def test_each_measurement_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.json"
    with opened(path, SUBJECT) as file:
        file.add(timed("off", 1, 0.01))
        file.add(LONG)
        kept = read_profile(partial_path(path))
        assert not path.exists()
    assert kept.timed == (timed("off", 1, 0.01),)
    assert kept.counted == (LONG,)
    assert kept.finished_at is None


def test_a_finished_profile_is_in_its_place_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with opened(path, SUBJECT) as file:
        file.name_command("off", "vllm serve T")
        file.finish()
    assert read_profile(path).commands == {"off": "vllm serve T"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", read_profile(path).finished_at or "")
    assert not partial_path(path).exists()


def test_a_run_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with contextlib.suppress(KeyboardInterrupt), opened(path, SUBJECT) as file:
        file.add(timed("off", 1, 0.01))
        raise KeyboardInterrupt
    with opened(path, SUBJECT) as file:
        assert file.profile.timed == (timed("off", 1, 0.01),)


def test_a_profile_in_its_place_stays_while_a_new_one_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with opened(path, SUBJECT) as file:
        file.add(timed("off", 1, 0.01))
        file.finish()
    before = path.read_bytes()
    with opened(path, SUBJECT) as file:
        assert file.profile.timed == ()
        file.add(timed("off", 1, 0.02))
    assert path.read_bytes() == before


def test_what_was_begun_for_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with opened(path, SUBJECT) as file:
        file.add(timed("off", 1, 0.01))
    other = SUBJECT.model_copy(update={"engine_version": "0.5.24", "num_prompts": 5})
    with pytest.raises(UsageError) as raised, opened(path, other):
        pass
    partial = partial_path(path)
    assert raised.value.message.splitlines() == [
        f"{partial} was begun for something else; expected the same",
        "  engine_version: '0.5.23' there, '0.5.24' now",
        "  num_prompts: 4 there, 5 now",
    ]
    assert (raised.value.hint or "").endswith(f"rm {partial}")


def test_a_second_tune_for_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with (
        opened(path, SUBJECT),
        pytest.raises(EngineError, match=r"^another eagle3 tune measures for"),
        opened(path, SUBJECT),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_last_measurements_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.json"
    with opened(path, SUBJECT) as file:
        file.add(timed("off", 1, 0.01))
        real = Path.open

        def full(self: Path, *args: object, **kwargs: object) -> object:
            to = Path("/dev/full") if ".tmp-" in self.name else self
            return real(to, *args, **kwargs)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(OutputError, match=r"p\.json\.partial needs \d+ bytes"):
            file.add(timed("off", 4, 0.01))
    monkeypatch.undo()
    assert read_profile(partial_path(path)).timed == (timed("off", 1, 0.01),)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.json.lock", "p.json.partial"]


def test_the_time_is_written_in_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now())
