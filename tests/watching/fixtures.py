"""Literal metrics of both engines, and an expectation, for the tests of watching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eagle3_plugin.measuring.record import Counts
from eagle3_plugin.measuring.result import Request
from eagle3_plugin.measuring.summaries import make_cell
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from tests.measuring.examples import sets_example

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1437.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 3.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 17.0
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 578.0
vllm:spec_decode_num_drafts_created{engine="0",model_name="m"} 1.7953343603960176e+09
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 1734.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 855.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 376.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="1"} 275.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="2"} 204.0
"""
"""Of vLLM 0.32 with the tiny pair and a chain of 3, other lines and labels left out."""

RANK = 'engine_type="unified",model_name="m",pp_rank="0",tp_rank="{}"'
SGLANG = f"""\
sglang:num_running_reqs{{{RANK.format(0)}}} 5.0
sglang:num_queue_reqs{{{RANK.format(0)}}} 2.0
sglang:generation_tokens_total{{is_streaming="false",model_name="m"}} 8.0
sglang:generation_tokens_total{{is_streaming="true",model_name="m"}} 896.0
sglang:spec_verify_calls_total{{model_name="m"}} 351.0
sglang:num_requests_total{{is_streaming="false",model_name="m"}} 1.0
sglang:num_requests_total{{is_streaming="true",model_name="m"}} 14.0
sglang:realtime_tokens_total{{mode="prefill_compute",{RANK.format(0)}}} 653.0
sglang:realtime_tokens_total{{mode="decode",{RANK.format(0)}}} 1086.0
sglang:realtime_tokens_total{{mode="decode",{RANK.format(1)}}} 1086.0
"""
"""Of SGLang 0.5.23 likewise, with a second rank of the same copy."""

SERVER_INFO: dict[str, Any] = {
    "speculative_algorithm": "EAGLE3",
    "speculative_adaptive": False,
    "speculative_num_steps": 3,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": 4,
}

SCORE: dict[str, Any] = {
    "schema": 1,
    "chain": 3,
    "num_prompts": 400,
    "num_rounds": 10000,
    "tokens_per_verify": {"1": 1.6, "2": 2.0, "3": 2.2},
    "acceptance_rate": [0.6, 0.4, 0.2],
    "acceptance_rate_conditional": [0.6, 2 / 3, 0.5],
    "prompt_sets": {"prompts": {"1": 1.6, "2": 2.0, "3": 2.2}},
}
"""A score in round numbers: 1.2 accepted draft tokens a round with a chain of 3."""


def vllm_text(num_rounds: int, accepted: tuple[int, int, int], num_finished: int) -> str:
    """What vLLM would show after so many rounds of a chain of 3."""
    lines = [
        "vllm:num_requests_running 2.0",
        "vllm:num_requests_waiting 0.0",
        f"vllm:generation_tokens_total {num_rounds + sum(accepted)}",
        f"vllm:request_success_total {num_finished}",
        f"vllm:spec_decode_num_drafts_total {num_rounds}",
        f"vllm:spec_decode_num_draft_tokens_total {3 * num_rounds}",
        f"vllm:spec_decode_num_accepted_tokens_total {sum(accepted)}",
    ]
    name = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
    lines += [f'{name}{{position="{i}"}} {count}' for i, count in enumerate(accepted)]
    return "\n".join(lines) + "\n"


Positions = tuple[int, ...]
Loops = dict[tuple[str, str], Sequence[tuple[int, Positions] | None]]
"""By server and set, each answer's rounds and accepted by position; None: it does not say."""


def bench(*repeats: Loops, counted: AcceptanceCounts | None = None) -> dict[str, Any]:
    """A bench of the chains of 3 and of 5 with these loops; each answer is a conversation."""
    cells = [
        make_cell(
            server=server, set=name, concurrency=1, repeat=repeat,
            begun_at="2026-11-21T08:00:00Z", elapsed_s=1.0, counted=counted,
            requests=[_request(i, answer) for i, answer in enumerate(answers)],
        )
        for repeat, loops in enumerate(repeats)
        for (server, name), answers in loops.items()
    ]  # fmt: skip
    found = sets_example().to_json()
    return {**found, "cells": [cell.model_dump(mode="json") for cell in cells]}


def _request(conversation: int, answer: tuple[int, Positions] | None) -> Request:
    counts = None
    if answer is not None:
        rounds, positions = answer
        drafted = rounds * len(positions)
        counts = Counts.of(AcceptanceCounts(rounds, drafted, sum(positions), positions))
    return Request(
        conversation=conversation, turn=0, modality="text", begin_s=0.0,
        time_to_first_token_s=0.1, request_s=1.0, num_prompt_tokens=9, num_tokens=9,
        finish_reason="stop", counts=counts,
    )  # fmt: skip
