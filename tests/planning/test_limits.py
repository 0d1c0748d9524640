"""Every limit of the engines is a rule with an id, and acts where it should."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.cost import Engine, Machine
from eagle3_plugin.planning.gpus import find_gpu
from eagle3_plugin.planning.limit_rules import LIMITS, Effect, Server
from eagle3_plugin.planning.limits import allowed, found, parse_flags
from eagle3_plugin.planning.settings import OFF, candidates, parse
from eagle3_plugin.settings import Settings, chain

TREE = Settings(5, 4, 16)
CHAIN = chain(3)


def server(
    engine: Engine = "sglang", gpu: str = "RTX 4090", max_requests: int = 1, **changes: Any
) -> Server:
    return Server(Machine(find_gpu(gpu), 1, engine), max_requests, **changes)


def ids(settings: Settings, at: Server, effect: Effect = "rejects") -> list[str]:
    return [limit.id for limit in found(settings, at, effect)]


def test_each_rule_has_an_id_of_its_own_and_a_place_in_the_source() -> None:
    assert max(Counter(limit.id for limit in LIMITS).values()) == 1
    assert all(limit.what and limit.source for limit in LIMITS)
    assert Counter(limit.engine for limit in LIMITS) == {"sglang": 29, "vllm": 9, None: 2}


def test_a_plain_server_allows_all_of_sglang_and_the_chains_of_vllm() -> None:
    assert allowed(candidates(), server()) == (candidates(), ())
    kept, rejected = allowed(candidates(), server("vllm"))

    assert kept == (OFF, *(chain(steps) for steps in range(1, 8)))
    assert {r.limit for r in rejected} == {"vllm-chains-only"}


@pytest.mark.parametrize(
    ("limit", "changes"),
    [
        ("sglang-tree-trtllm-mha", {"flags": {"attention-backend": "trtllm_mha"}}),
        ("sglang-tree-flashmla", {"flags": {"attention-backend": "flashmla"}}),
        ("sglang-tree-qsa", {"flags": {"attention-backend": "qsa"}}),
        ("sglang-tree-flashinfer-mla", {"model_type": "deepseek_v3"}),
        ("sglang-tree-lightning", {"model_type": "bailing_hybrid"}),
        ("sglang-tree-kda", {"model_type": "kimi_linear"}),
        ("sglang-tree-deepseek-v4", {"model_type": "deepseek_v4"}),
        ("sglang-tree-hisparse", {"flags": {"enable-hisparse": ""}}),
        ("sglang-tree-unified-memory", {"flags": {"enable-unified-memory": ""}}),
        ("sglang-tree-replayssm", {"flags": {"enable-linear-replayssm-spec": ""}}),
        ("sglang-tree-rejection", {"flags": {"speculative-use-rejection-sampling": ""}}),
        ("sglang-tree-pages", {"flags": {"page-size": "64", "attention-backend": "aiter"}}),
        ("sglang-tree-rocm", {"gpu": "MI300X"}),
        (
            "sglang-tree-window",
            {"flags": {"page-size": "64", "attention-backend": "fa3"}, "model_type": "gpt_oss"},
        ),
    ],
)
def test_a_tree_is_rejected_and_a_chain_is_not(limit: str, changes: dict[str, Any]) -> None:
    assert ids(TREE, server(**changes)) == [limit]
    assert ids(CHAIN, server(**changes)) == []


def test_minimax_on_rocm_has_chains_only() -> None:
    at = server(gpu="MI300X", model_type="minimax_m3")

    assert ids(TREE, at) == ["sglang-tree-minimax-rocm", "sglang-tree-rocm"]


def test_kv_sharding_rejects_chains_too() -> None:
    at = server(flags={"enable-kv-cache-sharding": ""})

    assert ids(CHAIN, at) == ids(TREE, at) == ["sglang-kv-sharding"]


def test_disaggregation_carries_sixteen_candidates() -> None:
    at = server(flags={"disaggregation-mode": "decode"})

    assert ids(Settings(3, 17, 32), at) == ["sglang-disaggregation-topk"]
    assert ids(Settings(3, 16, 32), at) == []


@pytest.mark.parametrize("backend", ["flashinfer", "fa3", "triton"])
def test_these_backends_have_trees_with_pages(backend: str) -> None:
    at = server(flags={"page-size": "64", "attention-backend": backend}, model_type="qwen3")

    assert ids(TREE, at) == []


def test_vllm_verifies_no_more_than_its_token_budget() -> None:
    """64 requests of a chain of 3 verify 256 tokens."""
    narrow, wide = (
        server("vllm", max_requests=64, flags={"max-num-batched-tokens": str(number)})
        for number in (255, 256)
    )

    assert ids(CHAIN, narrow) == ["vllm-token-budget"]
    assert ids(CHAIN, wide) == []


@pytest.mark.parametrize(
    ("gpu", "requests"),
    [("RTX 4090", 512), ("A100-SXM4-80GB", 512), ("H200", 2048), ("B200", 4096)],
)
def test_the_default_budget_is_that_of_the_gpu(gpu: str, requests: int) -> None:
    """2048, 8192 and 16384 tokens; four for each request."""
    assert ids(CHAIN, server("vllm", gpu, requests)) == []
    assert ids(CHAIN, server("vllm", gpu, requests + 1)) == ["vllm-token-budget"]


def test_parallel_drafting_needs_its_own_draft() -> None:
    assert ids(CHAIN, server("vllm", flags={"parallel-drafting": ""})) == ["vllm-parallel-drafting"]


@pytest.mark.parametrize(
    ("engine", "effect", "flags", "limit"),
    [
        ("sglang", "note", {"enable-mixed-chunk": ""}, "sglang-mixed-chunk"),
        ("sglang", "schedule", {"enable-dp-attention": ""}, "sglang-adaptive-dp"),
        ("sglang", "schedule", {"enable-two-batch-overlap": ""}, "sglang-adaptive-overlap"),
        ("sglang", "schedule", {"enable-pdmux": ""}, "sglang-adaptive-pdmux"),
        ("vllm", "note", {"max-num-batched-tokens": "2048"}, "vllm-few-tokens"),
        ("vllm", "note", {"disable-padded-drafter-batch": ""}, "vllm-padded-batch"),
        ("vllm", "schedule", {"data-parallel-size": "2"}, "vllm-schedule-dp"),
    ],
)
def test_what_an_engine_changes_is_noted(
    engine: Engine, effect: Effect, flags: dict[str, str], limit: str
) -> None:
    assert limit in ids(CHAIN, server(engine, "H200", flags=flags), effect)
    assert limit not in ids(CHAIN, server(engine, "H200"), effect)


@pytest.mark.parametrize("requests", [128, 129])
def test_vllm_captures_graphs_of_512_tokens(requests: int) -> None:
    """A chain of 3 has four tokens a request; data-centre Blackwell has twice the ceiling."""
    beyond = ["vllm-graph-tokens"] if requests > 128 else []

    assert ids(CHAIN, server("vllm", max_requests=requests), "set") == beyond
    assert ids(CHAIN, server("vllm", "B200", requests), "set") == []


@pytest.mark.parametrize("text", ["3,1,8", "3,8,200", "0,1,1"])
def test_what_settings_hold_cannot_be_made(text: str) -> None:
    """sglang-chain-tokens, sglang-tree-nodes, vllm-draft-tokens."""
    with pytest.raises(UsageError, match="expected"):
        parse(text)


def test_off_falls_under_no_rule() -> None:
    assert found(OFF, server("vllm", flags={"parallel-drafting": ""}), "rejects") == ()


def test_flags_are_read_with_and_without_dashes() -> None:
    assert parse_flags(["--page-size=64", "enable-hisparse"], "sglang") == {
        "page-size": "64",
        "enable-hisparse": "",
    }


def test_flags_that_change_no_plan_and_wrong_numbers_are_all_named() -> None:
    with pytest.raises(UsageError) as error:
        parse_flags(["seed=1", "page-size=big"], "sglang")

    assert error.value.message == (
        "--server-flag for sglang: no limit depends on 'seed'; "
        "page-size is 'big', expected a whole number above 0"
    )
    assert "attention-backend" in (error.value.hint or "")
