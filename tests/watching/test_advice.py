"""What the planner would set for a running engine."""

from __future__ import annotations

from dataclasses import replace

from eagle3_plugin.planning.cost import Machine
from eagle3_plugin.planning.gpus import parse_gpu
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.watching.advice import Advice, Adviser, advise, measured
from tests.planned import asked

GOOD = AcceptanceCounts(1000, 3000, 2400, (900, 800, 700))
POOR = AcceptanceCounts(1000, 3000, 20, (20, 0, 0))
TOTAL_ONLY = AcceptanceCounts(1000, 15000, 2300, ())


def test_acceptance_by_position_is_planned_by_where_the_engine_has_it() -> None:
    found = measured(chain(3), GOOD)
    assert found.rates.conditional == (0.9, 800 / 900, 700 / 800)
    assert found.source == "1000 rounds of this engine"


def test_without_positions_the_total_is() -> None:
    found = measured(Settings(5, 4, 16), TOTAL_ONLY)
    assert found.tokens_per_verify(Settings(5, 4, 16)).expected == 3.3


def test_a_draft_that_is_never_right_is_better_left_off() -> None:
    found = advise(asked(engine="vllm"), 4, measured(chain(3), POOR))
    assert (found.choice, found.speedup, found.num_requests) == (OFF, 1.0, 4)
    assert found.to_json() == {
        "choice": "off",
        "predicted_speedup": 1.0,
        "num_requests": 4,
        "problem": None,
    }


def test_a_good_draft_is_used() -> None:
    found = advise(asked(engine="vllm"), 1, measured(chain(3), GOOD))
    assert isinstance(found.choice, Settings)
    assert found.speedup is not None
    assert found.speedup > 1.5


def test_a_plan_that_cannot_be_made_says_why() -> None:
    small = parse_gpu("mem_gib=1,mem_bw_gbps=1000,bf16_tflops=100")
    request = replace(asked(), machine=Machine(small, 1, "vllm"))
    found = advise(request, 1, measured(chain(3), GOOD))
    assert found.choice is None
    assert found.problem is not None
    assert "GiB" in found.problem


def test_a_plan_is_made_anew_every_ten_seconds_for_the_load_of_then() -> None:
    adviser = Adviser(asked(engine="vllm"))
    first = adviser.advise(100, 1.2, chain(3), GOOD)
    assert first is not None
    assert first.num_requests == 1
    assert adviser.advise(105, 30, chain(3), GOOD) is first
    later = adviser.advise(111, 30, chain(3), GOOD)
    assert later is not None
    assert later.num_requests == 30


def test_rounds_of_shorter_drafts_are_not_planned_by() -> None:
    """Half of the rounds drafted one token of three."""
    mixed = AcceptanceCounts(1000, 2000, 1600, (900, 400, 300))
    found = Adviser(asked()).advise(100, 1, chain(3), mixed)
    assert found == Advice(
        None,
        None,
        1,
        "rounds with shorter drafts are in the window, which do not tell how often the last "
        "positions are right",
    )


def test_a_few_rounds_are_not_planned_by() -> None:
    few = AcceptanceCounts(99, 297, 200, (90, 60, 50))
    assert Adviser(asked()).advise(100, 1, chain(3), few) is None
