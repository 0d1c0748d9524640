"""Rules about the draft together with its target."""

from __future__ import annotations

from collections.abc import Iterable

from eagle3_plugin.draft.config import DraftConfig, Rope, TargetConfig
from eagle3_plugin.draft.rules.rule import AS_STOCK, Case, Rule, Seen, at, both, everywhere, paired

_ID_RULES = "SGLang models/deepseek_v2.py:3470, glm4_moe_lite.py:817, gpt_oss.py:1337"
_OTHER_ID_RULES = ("deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", "glm4_moe_lite", "gpt_oss")
"""Targets for which SGLang does not add one to every id."""


def _max_positions(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if config.max_position_embeddings < target.max_position_embeddings:
        limit = config.max_position_embeddings
        yield Seen(
            f"max_position_embeddings is {limit}, the target's {target.max_position_embeddings}",
            f"at least {target.max_position_embeddings}",
            f"Serve with --context-length {limit}, or set SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"
            "=1." if case.column == "sglang" else None,
        )  # fmt: skip


def _rope(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    draft, expected = _frequencies(config.rope), _frequencies(target.rope)
    if draft != expected:
        yield Seen(f"the draft's rope has {draft}", f"{expected}, as the target")


def _frequencies(rope: Rope) -> str:
    parameters = "".join(f", {k} {v:g}" for k, v in sorted(rope.parameters.items()))
    return f"theta {rope.theta:g}, type {rope.type}{parameters}"


def _page_size(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    draft = config.num_key_value_heads * config.head_dim
    whole = target.num_key_value_heads * target.head_dim
    if max(draft, whole) % min(draft, whole):
        yield Seen(
            f"{config.num_key_value_heads} x {config.head_dim} values a key in the draft, "
            f"{target.num_key_value_heads} x {target.head_dim} in the target",
            "one a multiple of the other",
        )


def _narrow(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if config.hidden_size < target.hidden_size:
        yield Seen(
            f"the draft is {config.hidden_size} wide, the target {target.hidden_size}",
            "the same width, on a CPU",
        )


def _quantized(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if target.quantization is not None:
        yield Seen(f"the target is quantised ({target.quantization})", "an unquantised target")


def _id_rule(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if target.model_type in _OTHER_ID_RULES and case.raw.get("eagle_config") is not None:
        yield Seen(f"the target is a {target.model_type}", "a target of the Qwen or Llama family")


_MEASURE = "If the draft accepts little: eagle3 score DRAFT --target TARGET"

PAIR: tuple[Rule, ...] = (
    Rule("max-positions", "max_position_embeddings below the target's",
        at("info", "info", "error", "info"), paired(_max_positions),
        {"vllm": "raises it to the target's", "sglang": "refuses to start at the target's context"},
        "vLLM config/speculative.py:1393; SGLang configs/model_config.py:1295",
        plugin="With the plugin it is raised to the target's.",
        remedy="Expect less beyond the length that the draft was trained on."),
    Rule("rope-unlike-target", "the rope is not the target's", everywhere("warning"),
        paired(_rope),
        both("takes the draft's: right if it was trained so"),
        "configs of published drafts", plugin=AS_STOCK, remedy=_MEASURE),
    Rule("kv-page-size", "keys and values whose sizes do not divide each other's",
        at("warning", "warning"), paired(_page_size),
        {"vllm": "pads the pages, which costs memory; older releases do not start (vllm#23740)"},
        "vLLM v1/core/kv_cache_utils.py:1292", plugin=AS_STOCK,
        remedy="Prefer a draft with the target's head_dim."),
    Rule("narrow-draft", "a draft narrower than its target", at("warning", "warning"),
        paired(_narrow), {"vllm": "can corrupt its memory when it runs on a CPU"},
        "vLLM _custom_ops.py:3759", plugin=AS_STOCK, remedy="Serve it on a GPU."),
    Rule("target-quantized", "a quantised target", at("info", "info", "warning", "warning"),
        paired(_quantized),
        {"vllm": "keeps the draft's own type", "sglang": "may give the draft the target's "
         "quantisation"}, "vLLM pull request 26590; SGLang issue 4351", plugin=AS_STOCK,
        remedy="In SGLang, set --speculative-draft-model-quantization unquant."),
    Rule("tap-id-rule", "a target for which SGLang reads tap ids by another rule",
        at(sglang="warning"), paired(_id_rule),
        {"sglang": "adds one to the ids only if the first is 1, or not at all"},
        _ID_RULES, remedy=_MEASURE),
)  # fmt: skip
