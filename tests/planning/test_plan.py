from __future__ import annotations

import json

import pytest

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.planning.plan import loads_between, plan
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings
from tests.planned import SEED_B, asked


def test_the_loads_shown_are_powers_of_two_and_the_ends() -> None:
    assert loads_between(1, 64) == (1, 2, 4, 8, 16, 32, 64)
    assert loads_between(3, 20) == (3, 4, 8, 16, 20)
    assert loads_between(5, 5) == (5,)


def test_a_single_load_has_no_schedule() -> None:
    found = plan(asked(first=4, last=4))

    assert [r.num_requests for r in found.rankings] == [4]
    assert (found.schedule, found.needs_schedule) == ((), False)


def test_latency_decides_at_the_low_end_of_a_range_and_throughput_at_the_high_end() -> None:
    few = plan(asked(SEED_B, "H20", last=64, goal="latency"))
    many = plan(asked(SEED_B, "H20", last=64, goal="throughput"))

    assert few.deciding.num_requests == 1
    assert few.choice is not OFF
    assert many.deciding.num_requests == 64
    assert many.choice is OFF
    assert few.schedule == many.schedule


def test_a_load_that_does_not_fit_is_cut_to_what_does() -> None:
    found = plan(asked(last=512))

    assert found.num_requests_asked == 512
    assert found.asked.last == found.rankings[-1].num_requests < 64
    assert found.max_requests <= found.asked.last
    assert found.flags[2:4] == ("--max-running-requests", str(found.max_requests))


def test_a_schedule_with_a_tree_is_noted_for_chains() -> None:
    tree = plan(asked(last=32))
    chains = plan(asked(engine="vllm", last=32))

    assert tree.choice == Settings(5, 4, 16)
    assert tree.needs_schedule
    assert [note.id for note in chains.notes] == ["vllm-few-tokens", "vllm-schedule-graphs"]


def test_a_target_that_does_not_fit_has_no_plan() -> None:
    with pytest.raises(Eagle3Error, match=r"Qwen3-32B needs 68\.1 GiB"):
        plan(asked(("Qwen/Qwen3-32B", SEED_B[1])))


def test_the_json_says_what_was_chosen_why_and_what_it_rests_on() -> None:
    made = json.loads(json.dumps(plan(asked(last=8)).to_json()))

    assert set(made) == {
        "schema", "target", "draft", "sizes_from", "gpu", "num_gpus", "engine", "goal",
        "context_tokens", "baseline_tokens_per_s", "acceptance", "choice", "predicted_speedup",
        "times", "profile", "passed_over", "reason", "notes", "memory", "num_requests_asked",
        "max_requests", "flags", "schedule", "loads",
    }  # fmt: skip
    assert made["schema"] == 1
    assert made["choice"] == {"num_steps": 5, "topk": 4, "num_draft_tokens": 16}
    assert made["acceptance"]["basis"] == "card"
    assert made["acceptance"]["tokens_per_verify"] == {
        "5,4,16": {"low": 3.27, "expected": pytest.approx(3.30), "high": 3.33}
    }
    assert set(made["predicted_speedup"]) == {"low", "expected", "high"}
    assert {t["basis"] for t in made["loads"][0]["terms"]} == {"datasheet", "fitted"}
    assert made["loads"][0]["ranking"][0]["settings"] == made["choice"]
    assert set(made["schedule"]) == {"stretches", "off_from", "speculative_adaptive_config"}


def test_the_json_of_vllm_has_its_own_schedule_and_off_is_a_word() -> None:
    made = plan(asked(SEED_B, "H20", "vllm", last=64, goal="throughput")).to_json()

    assert made["choice"] == "off"
    assert made["schedule"]["num_speculative_tokens_per_batch_size"][-1][1:] == (64, 0)
    assert made["schedule"]["off_from"] == made["schedule"]["stretches"][-1]["first"]
