"""A measured profile asked: times between measured ones, acceptance, and plans that prefer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.planning import asked as asking
from eagle3_plugin.planning.asked import Asked, read_asked
from eagle3_plugin.planning.local_gpus import LocalGpu
from eagle3_plugin.planning.measured import (
    Measured,
    find_measured,
    read_measured,
    require_same,
    shorter_tokens_per_verify,
)
from eagle3_plugin.planning.plan import plan
from eagle3_plugin.planning.profile import Counted, profile_path
from eagle3_plugin.planning.ranking import rank, yields_of
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings, chain
from tests.planned import SEED_A, asked
from tests.tuned import DATE, LONG, SUBJECT, TIMES, measured, profile, timed, write

TREE = Settings(3, 4, 8)
RATES = (0.8, 0.8, 0.7, 0.5, 0.5, 0.5, 0.5)


def _seconds(found: Measured, settings: Settings, num_requests: int) -> float | None:
    cost = found.cost(settings, num_requests)
    return None if cost is None else cost.total_s


def test_a_measured_time_is_taken_as_it_is() -> None:
    assert _seconds(measured(), chain(3), 1) == 0.015


@pytest.mark.parametrize(
    ("steps", "num_requests", "seconds"),
    [(2, 1, 0.014), (5, 1, 0.017), (3, 2, 0.020), (5, 4, 0.040), (5, 2, 0.0246667)],
)
def test_a_time_between_measured_ones_lies_on_the_line(
    steps: int, num_requests: int, seconds: float
) -> None:
    assert _seconds(measured(), chain(steps), num_requests) == pytest.approx(seconds, rel=1e-5)


def test_a_time_between_says_so_and_has_the_larger_error() -> None:
    times = {k: v for k, v in TIMES.items() if k[0] != "3,1,4"}
    made = profile(times)
    made = made.model_copy(update={"timed": (*made.timed, timed("3,1,4", 1, 0.010, 0.015, 0.016))})
    cost = Measured(made, "file.json").cost(chain(2), 1)
    assert cost is not None
    assert cost.terms[0].basis == "measured"
    assert cost.terms[0].how == "between the measured chains of 1 and 3"
    assert cost.relative_error == pytest.approx(0.55, abs=1e-12)


@pytest.mark.parametrize(("settings", "num_requests"), [(chain(8), 1), (chain(3), 8), (TREE, 1)])
def test_nothing_is_taken_from_beyond_what_was_measured(
    settings: Settings, num_requests: int
) -> None:
    assert measured().cost(settings, num_requests) is None


def test_a_real_run_wins_over_a_synthetic_one() -> None:
    made = profile()
    late = timed("3,1,4", 1, 0.099, how="synthetic")
    both = made.model_copy(update={"timed": (*made.timed, late)})
    assert _seconds(Measured(both, "file.json"), chain(3), 1) == 0.015


def test_one_long_chain_gives_the_acceptance_of_every_chain() -> None:
    known = measured().acceptance
    assert known.rates.conditional == pytest.approx(RATES, abs=1e-12)
    assert known.tokens_per_verify(chain(2)).expected == pytest.approx(2.44, abs=1e-12)
    assert known.tokens_per_verify(chain(7)).expected == pytest.approx(3.308, abs=1e-12)


COUNTED = (212, 142, 102, 78, 65, 57, 42)
"""Of 348 rounds of a chain of 7: the tiny pair, 16 prompts of 64 tokens, vLLM 0.32.0 on a CPU; and
so SGLang 0.5.23."""


@pytest.mark.parametrize(("steps", "accepted", "num_rounds"), [(1, 408, 604), (3, 610, 417)])
def test_shorter_chains_yield_what_an_engine_counted_of_them(
    steps: int, accepted: int, num_rounds: int
) -> None:
    """Counted by vLLM 0.32.0 over the same prompts; SGLang 0.5.23 counted 2.127 with two steps."""
    long = Counted(settings="7,1,8", num_rounds=348, accepted_by_position=COUNTED, measured_at=DATE)
    expected = 1 + accepted / num_rounds
    assert shorter_tokens_per_verify(long, steps) == pytest.approx(expected, rel=0.01)
    assert shorter_tokens_per_verify(long, 2) == pytest.approx(2.127, rel=0.01)


def test_a_draft_that_gets_worse_with_each_step_is_taken_by_its_first_positions() -> None:
    assert shorter_tokens_per_verify(LONG, 2) == pytest.approx(2.44, abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "expected"), [((100, 100, 100), 2.0), ((50, 0, 0), 1.5), ((0, 0, 0), 1.0)]
)
def test_a_draft_that_is_always_or_never_right_stays_within_its_bounds(
    counts: tuple[int, ...], expected: float
) -> None:
    long = Counted(settings="3,1,4", num_rounds=100, accepted_by_position=counts, measured_at=DATE)
    assert shorter_tokens_per_verify(long, 1) == pytest.approx(expected, abs=1e-3)


def test_a_chain_and_a_tree_that_were_counted_are_known() -> None:
    three = Counted(
        settings="3,1,4", num_rounds=100, accepted_by_position=(80, 60, 40), measured_at=DATE
    )
    tree = Counted(
        settings="3,4,8", num_rounds=100, accepted_by_position=(95, 80, 60), measured_at=DATE
    )
    known = measured(TIMES, LONG, three, tree).acceptance
    assert known.tokens_per_verify(chain(3)).expected == pytest.approx(2.8, abs=1e-12)
    assert known.tokens_per_verify(TREE).expected == pytest.approx(3.35, abs=1e-12)


def test_a_profile_without_the_counts_of_a_chain_gives_no_acceptance() -> None:
    with pytest.raises(Eagle3Error, match=r"^file\.json has no counts of a chain; expected those"):
        _ = Measured(profile(TIMES, ()), "file.json").acceptance


def test_speeds_are_requests_times_tokens_over_the_round() -> None:
    speeds = {s.choice: s for s in measured().speeds(4)}
    assert speeds[OFF].tokens_per_s == pytest.approx(250, abs=1e-9)
    assert speeds[chain(2)].tokens_per_s == pytest.approx(4 * 2.44 / 0.026, rel=1e-12)
    assert [s.choice for s in measured().speeds(4)][:3] == [chain(3), chain(2), chain(4)]
    assert [c for c, s in speeds.items() if s.is_measured] == [chain(7), OFF]


def test_an_unfinished_profile_is_not_used(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", profile(finished_at=None))
    with pytest.raises(Eagle3Error) as raised:
        read_measured(path)
    assert raised.value.message == (
        f"{path} is not finished: eagle3 tune was stopped before its end"
    )


def test_a_profile_of_another_pair_is_refused() -> None:
    with pytest.raises(UsageError) as raised:
        require_same(SUBJECT, "vllm", "T", "E", "file.json")
    assert raised.value.message == (
        "--profile file.json is of T with D in sglang; expected T with E in vllm"
    )


def _of_seed_a(times: Mapping[tuple[str, int], float] = TIMES, **changes: Any) -> Asked:
    found = measured(times)
    return replace(asked(), measured=found, acceptance=found.acceptance, **changes)


def test_a_plan_ranks_what_was_measured_and_says_so() -> None:
    made = plan(_of_seed_a())
    assert made.basis == "measured"
    assert made.to_json()["times"] == "measured"
    assert made.to_json()["profile"] == "file.json"
    best = made.deciding.best
    assert made.choice == chain(3)
    assert best.speedup.expected == pytest.approx(2.888 / 1.5, rel=1e-12)
    assert {t.basis for r in made.deciding.ranked for t in r.cost.terms} == {"measured"}
    assert {r.choice for r in made.deciding.ranked} == {OFF, *map(chain, range(1, 8))}


def test_what_was_not_measured_is_not_ranked_and_it_is_said_why() -> None:
    given = _of_seed_a()
    rejected = {r.choice: r for r in rank(given, 1, yields_of(given)).rejected}
    assert rejected[TREE].limit == "not-measured"
    assert rejected[TREE].reason == (
        "the profile has no time for it: eagle3 tune runs chains, and trees with --tree"
    )


def test_a_schedule_follows_the_measured_times_at_every_load() -> None:
    times = {**TIMES, ("2,1,3", 1): 0.014, ("2,1,3", 4): 0.026, ("3,1,4", 4): 0.036}
    made = plan(_of_seed_a(times, first=1, last=4))
    assert [(s.first, s.last, s.num_steps) for s in made.schedule] == [(1, 1, 3), (2, 4, 2)]


def test_loads_beyond_the_measured_ones_are_refused() -> None:
    with pytest.raises(UsageError) as raised:
        _of_seed_a(first=1, last=16)
    assert raised.value.message == (
        "file.json was measured at 1, 4 requests at a time; expected loads from 1 to 16 within"
    )


def test_loads_at_which_only_off_was_timed_are_not_covered() -> None:
    """tune from 1 to 16 was stopped after its first server, and went on from 1 to 4."""
    found = measured({**TIMES, ("off", 8): 0.024, ("off", 16): 0.040})
    assert found.loads == (1, 4)
    assert not found.covers(1, 16)
    assert found.covers(1, 4)


def test_loads_without_the_shortest_chain_are_not_covered() -> None:
    """Else only the longest would be ranked there; one between the two may lack."""
    ends = {("off", 8): 0.024, ("7,1,8", 8): 0.090}
    assert measured({**TIMES, **ends}).loads == (1, 4)
    assert measured({**TIMES, **ends, ("1,1,2", 8): 0.033}).loads == (1, 4, 8)


def test_a_profile_of_off_alone_covers_its_loads_and_one_without_off_none() -> None:
    assert measured({("off", 1): 0.010}).loads == (1,)
    assert measured({("3,1,4", 1): 0.015}).loads == ()


FROM_4 = {
    (settings, 4 * num_requests): seconds for (settings, num_requests), seconds in TIMES.items()
}


@pytest.mark.parametrize("goal", ["latency", "throughput"])
def test_below_the_loads_of_a_profile_the_choice_at_its_first_one_holds(goal: str) -> None:
    """On the lines from 4 to 16, chains of 3 and 2 yield 142.6 and 143.5 tokens a second and
    request at 7 requests, within 1 %; at 8 131.3 and 135.6."""
    times = {**FROM_4, ("2,1,3", 4): 0.014, ("2,1,3", 16): 0.026, ("3,1,4", 16): 0.036}
    made = plan(_of_seed_a(times, first=4, last=16, goal=goal))
    assert [(s.first, s.last, s.num_steps) for s in made.schedule] == [(1, 7, 3), (8, 16, 2)]
    assert made.schedule[0].speedup[0] == made.rankings[0].of(chain(3)).speedup
    table = made.to_json()["schedule"]["speculative_adaptive_config"]
    assert table == {"1": {"candidate_steps": [3]}, "8": {"candidate_steps": [2]}}


def test_a_stated_baseline_beside_a_profile_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^a measured baseline beside the profile file\.json"):
        _of_seed_a(baseline_tokens_per_s=100.0)


def _read(gpu: str | None = "RTX 4090", path: Path | None = None, **changes: Any) -> Asked:
    given: dict[str, Any] = {
        "num_gpus": 1,
        "acceptance": None,
        "concurrency": "1",
        "context_tokens": 1024,
        "goal": "latency",
        "baseline_tokens_per_s": None,
        "server_flags": (),
    }
    return read_asked(*SEED_A, "sglang", gpu=gpu, profile=path, **given | changes)


def _seed_a_file(path: Path, **subject: Any) -> Path:
    named = {"target": SEED_A[0], "draft": SEED_A[1], **subject}
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, profile(subject=SUBJECT.model_copy(update=named)))


def test_the_profile_that_tune_keeps_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    assert _read().measured is None
    path = _seed_a_file(profile_path("sglang", *SEED_A, SUBJECT.hardware, 1))
    found = _read()
    assert found.measured is not None
    assert found.measured.source == found.acceptance.source == str(path)
    assert find_measured("vllm", *SEED_A, SUBJECT.hardware, 1) is None


def test_the_kept_profile_is_left_out_where_it_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    path = _seed_a_file(profile_path("sglang", *SEED_A, SUBJECT.hardware, 1))
    assert _read(concurrency="1..64").measured is None
    assert _read(concurrency="1..64").passed_over == (
        f"the kept profile {path} is not used: it was measured at 1, 4 requests at a time, and "
        "loads from 1 to 64 are asked for with --concurrency"
    )
    assert _read(concurrency="1..4").passed_over is None
    assert _read(baseline_tokens_per_s=100.0).measured is None


def test_a_named_profile_brings_its_gpu_along(tmp_path: Path) -> None:
    found = _read(gpu=None, path=_seed_a_file(tmp_path / "p.json"))
    assert found.machine.gpu.name == "NVIDIA GeForce RTX 4090"


def test_a_profile_of_a_cpu_makes_a_plan_without_a_gpu(tmp_path: Path) -> None:
    path = _seed_a_file(tmp_path / "p.json", device="cpu", hardware="Some CPU, 2 cores")
    made = plan(_read(gpu=None, path=path))
    assert made.choice == chain(3)
    assert made.memory is None
    assert made.to_json()["gpu"] == "Some CPU, 2 cores"


def test_a_profile_of_another_gpu_than_the_named_one_is_refused(tmp_path: Path) -> None:
    path = _seed_a_file(tmp_path / "p.json")
    with pytest.raises(UsageError) as raised:
        _read(gpu="H100 PCIe", path=path)
    assert raised.value.message == (
        f"--profile {path} was measured on NVIDIA GeForce RTX 4090; expected --gpu H100 PCIe"
    )


def test_a_gpu_without_published_rates_is_planned_for_by_its_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    monkeypatch.setattr(asking, "local_gpus", lambda: (LocalGpu("Quantum 9000", 24.0),))
    _seed_a_file(profile_path("sglang", *SEED_A, "Quantum 9000", 1), hardware="Quantum 9000")
    assert asking.local_hardware() == "Quantum 9000"
    made = plan(_read(gpu=None))
    assert made.choice == chain(3)
    assert made.to_json()["gpu"] == "Quantum 9000"


def test_the_hardware_of_a_known_gpu_is_the_name_of_its_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "local_gpus", lambda: (LocalGpu("GeForce RTX 4090", 24.0),))
    assert asking.local_hardware() == "NVIDIA GeForce RTX 4090"
