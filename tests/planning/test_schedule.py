from __future__ import annotations

import json
from pathlib import Path

import pytest

from eagle3_plugin.planning.ranking import Range, yields_of
from eagle3_plugin.planning.schedule import (
    Stretch,
    is_constant,
    longest_chain,
    off_from,
    schedule,
    sglang_config,
    sglang_steps,
    vllm_schedule,
)
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import chain
from tests.planned import SEED_B, asked

ONE = Range(1.0, 1.0, 1.0)


def stretch(first: int, last: int, choice: Choice) -> Stretch:
    return Stretch(first, last, choice, (ONE, ONE))


MADE = (stretch(1, 4, chain(3)), stretch(5, 16, chain(2)), stretch(17, 64, OFF))


def test_vllm_is_given_inclusive_ranges_and_no_draft_tokens_for_off() -> None:
    assert vllm_schedule(MADE) == [(1, 4, 3), (5, 16, 2), (17, 64, 0)]


def test_sglang_is_given_the_first_batch_size_and_one_candidate() -> None:
    assert sglang_config(MADE) == {
        "1": {"candidate_steps": [3]},
        "5": {"candidate_steps": [2]},
        "17": {"candidate_steps": [0]},
    }
    assert sglang_steps(MADE) == 3


def test_the_batch_size_from_which_on_it_is_off() -> None:
    assert off_from(MADE) == 17
    assert off_from(MADE[:2]) is None
    assert (longest_chain(MADE), longest_chain(MADE[2:])) == (chain(3), OFF)
    assert (is_constant(MADE), is_constant(MADE[:1])) == (False, True)


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_seed_b_on_h20_gets_shorter_chains_and_then_none(engine: str) -> None:
    """H20 has 37 FLOP for a byte: tokens to verify soon cost more than weights to read."""
    request = asked(SEED_B, "H20", "vllm" if engine == "vllm" else "sglang", last=64)
    found = schedule(request, yields_of(request))
    steps = [s.num_steps for s in found]

    assert (found[0].first, found[-1].last) == (1, 64)
    assert [s.first for s in found[1:]] == [s.last + 1 for s in found[:-1]]
    assert steps == sorted(set(steps), reverse=True)
    assert steps[-1] == 0
    assert off_from(found) == found[-1].first


def test_a_chain_within_one_per_cent_of_the_best_is_kept() -> None:
    """So a table has few entries: seed A on RTX 4090, 32 loads."""
    request = asked(last=32)

    assert len(schedule(request, yields_of(request))) == 2


def test_the_engine_reads_what_we_write(tmp_path: Path) -> None:
    """The rules of vLLM 0.32.0, v1/spec_decode/dynamic/utils.py: first range from 1, ranges in
    order and apart; of SGLang 0.5.23, adaptive_spec_params.py: lists of whole numbers."""
    request = asked(SEED_B, "H20", last=64)
    found = schedule(request, yields_of(request))
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps(sglang_config(found)))
    entries = json.loads(path.read_text())

    assert all(
        key.isdigit() and all(s >= 0 for s in e["candidate_steps"]) for key, e in entries.items()
    )
    previous_end = 0
    for start, end, num_tokens in vllm_schedule(found):
        assert previous_end < start <= end
        assert num_tokens >= 0
        previous_end = end
    assert vllm_schedule(found)[0][0] == 1
