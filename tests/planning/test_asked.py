from __future__ import annotations

from typing import Any

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning import asked as module
from eagle3_plugin.planning.asked import Asked, local_gpu, parse_concurrency, read_asked
from eagle3_plugin.planning.local_gpus import LocalGpu
from tests.planned import SEED_A, asked

GIVEN: dict[str, Any] = {
    "gpu": "RTX 4090",
    "num_gpus": 2,
    "acceptance": None,
    "concurrency": "1..8",
    "context_tokens": 2048,
    "goal": "throughput",
    "baseline_tokens_per_s": None,
    "server_flags": ["page-size=1"],
}


def read(**changes: Any) -> Asked:
    return read_asked(*SEED_A, "sglang", **(GIVEN | changes))


def on_a_machine_with(monkeypatch: pytest.MonkeyPatch, *gpus: LocalGpu) -> None:
    monkeypatch.setattr(module, "local_gpus", lambda: gpus)


def test_all_options_arrive() -> None:
    found = read()

    assert (found.machine.gpu.name, found.machine.num_gpus) == ("NVIDIA GeForce RTX 4090", 2)
    assert (found.first, found.last, found.context_tokens) == (1, 8, 2048)
    assert (found.goal, found.flags, found.acceptance.basis) == (
        "throughput", {"page-size": "1"}, "card",
    )  # fmt: skip


def test_an_acceptance_that_is_given_comes_before_the_card() -> None:
    assert read(acceptance="3.0@3,1,4").acceptance.source == "given: 3.0@3,1,4"


@pytest.mark.parametrize(
    ("text", "loads"), [("4", (4, 4)), ("1..64", (1, 64)), (" 2 .. 3 ", (2, 3))]
)
def test_a_load_is_a_number_or_a_range(text: str, loads: tuple[int, int]) -> None:
    assert parse_concurrency(text) == loads


@pytest.mark.parametrize("text", ["", "1-4", "1..", "many", "-1", "1,4"])
def test_other_loads_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a number of requests or a range"):
        parse_concurrency(text)


def test_an_unknown_goal_is_refused() -> None:
    with pytest.raises(UsageError, match="--goal is 'speed', expected latency or throughput"):
        read(goal="speed")


def test_without_a_gpu_it_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    card = LocalGpu("NVIDIA GeForce RTX 4090", 23.99)
    on_a_machine_with(monkeypatch, card, card)

    assert local_gpu().name == read(gpu=None).machine.gpu.name == "NVIDIA GeForce RTX 4090"


def test_a_machine_without_a_gpu_has_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_machine_with(monkeypatch)
    with pytest.raises(UsageError, match="shows a GPU on this machine; expected one, or --gpu"):
        local_gpu()


def test_several_kinds_of_gpu_have_to_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_machine_with(monkeypatch, LocalGpu("NVIDIA A10", 22.5), LocalGpu("Tesla T4", 15.0))
    with pytest.raises(UsageError, match="GPUs of 2 kinds: NVIDIA A10, Tesla T4; expected one"):
        local_gpu()


@pytest.mark.parametrize(("first", "last"), [(0, 1), (4, 2), (1, 1025)])
def test_a_load_that_is_no_range_is_refused(first: int, last: int) -> None:
    with pytest.raises(UsageError, match=f"concurrency from {first} to {last}, expected 1 <="):
        asked(first=first, last=last)


def test_a_baseline_belongs_to_one_load() -> None:
    with pytest.raises(UsageError, match="a measured baseline and loads from 1 to 8; expected"):
        asked(last=8, baseline_tokens_per_s=100.0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf")])
def test_a_baseline_is_a_speed(value: float) -> None:
    with pytest.raises(UsageError, match="tokens/s, expected more than 0"):
        asked(baseline_tokens_per_s=value)
