"""Rules about the draft together with its target."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from eagle3_plugin.draft.config import DraftConfig, Rope, TargetConfig
from eagle3_plugin.draft.rules.rule import AS_STOCK, Case, Rule, Seen, at, both, everywhere

_ID_RULES = "SGLang models/deepseek_v2.py:3470, glm4_moe_lite.py:817, gpt_oss.py:1337"
_OTHER_ID_RULES = ("deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", "glm4_moe_lite", "gpt_oss")
"""Targets for which SGLang does not add one to every id."""


def _paired(
    look: Callable[[Case, DraftConfig, TargetConfig], Iterable[Seen]],
) -> Callable[[Case], Iterable[Seen]]:
    """A rule's function that is only asked when both the draft and the target are known."""

    def checked(case: Case) -> Iterable[Seen]:
        if case.config is not None and case.target is not None:
            yield from look(case, case.config, case.target)

    return checked


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


def _mrope(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    draft, expected = _axes(config.rope), _axes(target.rope)
    if draft != expected:
        yield Seen(f"the draft has {draft}", f"{expected}, as the target")


def _axes(rope: Rope) -> str:
    if rope.mrope_section is None:
        return "1-D positions"
    kind = "interleaved" if rope.mrope_interleaved else "in blocks"
    return f"M-RoPE {list(rope.mrope_section)} {kind}"


def _interleaved_absent(case: Case) -> Iterable[Seen]:
    for note in case.found.notes:
        if note.id == "mrope-interleaved-absent":
            yield Seen(note.message, "mrope_interleaved in config.json", note.hint)


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


def _image_embedding(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    given = "placeholder" if case.engine == "vllm" else "visual"
    if target.is_multimodal and config.image_embedding != given:
        trained = config.image_embedding
        found = "not known" if trained == "unknown" else trained
        yield Seen(f"what the draft was trained to see at image positions is {found}", given)


def _deepstack(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    affected = [
        tap for tap in config.taps_for(target.num_layers)
        if any(tap == layer + 1 for layer in target.deepstack_layers)
    ]  # fmt: skip
    if affected and config.deepstack_tap != "after":
        trained = "not known" if config.deepstack_tap == "unknown" else "before the visual add"
        yield Seen(
            f"tap {affected[0]} lies where visual features are added; trained: {trained}",
            "after the visual add",
        )


def _image_positions(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if target.is_multimodal:
        yield Seen("the target takes images", "text, for full acceptance")


_IMAGES = "vLLM v1/spec_decode/llm_base_proposer.py:1343; SGLang eagle_worker_v2.py:960"
_MEASURE = "If the draft accepts little: eagle3 score DRAFT --target TARGET"
_TEXT_ONLY = "Text is not affected. With images, measure the acceptance before relying on it."

PAIR: tuple[Rule, ...] = (
    Rule("max-positions", "max_position_embeddings below the target's",
        at("info", "info", "error", "info"), _paired(_max_positions),
        {"vllm": "raises it to the target's", "sglang": "refuses to start at the target's context"},
        "vLLM config/speculative.py:1393; SGLang configs/model_config.py:1295",
        plugin="With the plugin it is raised to the target's.",
        remedy="Expect less beyond the length that the draft was trained on."),
    Rule("rope-unlike-target", "the rope is not the target's", everywhere("warning"),
        _paired(_rope),
        both("takes the draft's: right if it was trained so"),
        "configs of published drafts", plugin=AS_STOCK, remedy=_MEASURE),
    Rule("mrope-unlike-target", "the draft's positions are not the target's kind",
        everywhere("warning"), _paired(_mrope),
        both("takes the draft's: right if it was trained so"),
        _IMAGES, plugin=AS_STOCK, remedy=_TEXT_ONLY,
        muted_by=frozenset({"mrope-interleaved-absent"})),
    Rule("mrope-interleaved-absent", "mrope_section without mrope_interleaved",
        everywhere("warning"), _interleaved_absent,
        both("takes false, in silence"),
        "transformers 5.19; SGLang rotary_embedding/factory.py:251", plugin=AS_STOCK),
    Rule("kv-page-size", "keys and values whose sizes do not divide each other's",
        at("warning", "warning"), _paired(_page_size),
        {"vllm": "pads the pages, which costs memory; older releases do not start (vllm#23740)"},
        "vLLM v1/core/kv_cache_utils.py:1292", plugin=AS_STOCK,
        remedy="Prefer a draft with the target's head_dim."),
    Rule("narrow-draft", "a draft narrower than its target", at("warning", "warning"),
        _paired(_narrow), {"vllm": "can corrupt its memory when it runs on a CPU"},
        "vLLM _custom_ops.py:3759", plugin=AS_STOCK, remedy="Serve it on a GPU."),
    Rule("target-quantized", "a quantised target", at("info", "info", "warning", "warning"),
        _paired(_quantized),
        {"vllm": "keeps the draft's own type", "sglang": "may give the draft the target's "
         "quantisation"}, "vLLM pull request 26590; SGLang issue 4351", plugin=AS_STOCK,
        remedy="In SGLang, set --speculative-draft-model-quantization unquant."),
    Rule("tap-id-rule", "a target for which SGLang reads tap ids by another rule",
        at(sglang="warning"), _paired(_id_rule),
        {"sglang": "adds one to the ids only if the first is 1, or not at all"},
        _ID_RULES, remedy=_MEASURE),
    Rule("image-embedding", "what the draft sees at image positions", everywhere("warning"),
        _paired(_image_embedding),
        {"vllm": "embeds the placeholder token", "sglang": "gives the target's visual features"},
        _IMAGES, plugin=AS_STOCK, remedy=_TEXT_ONLY),
    Rule("deepstack-tap", "a tap where visual features are added", everywhere("warning"),
        _paired(_deepstack),
        both("captures it after the add"),
        "vLLM models/qwen3_vl.py:1879; SGLang models/qwen3_vl.py:1254",
        plugin=AS_STOCK, remedy=_TEXT_ONLY,
        muted_by=frozenset({"taps-ambiguous", "taps-conflict", "taps-unknown"})),
    Rule("image-positions", "positions of draft steps after an image", at("warning", "warning"),
        _paired(_image_positions),
        {"vllm": "V1 writes the keys of later draft steps to wrong places after an image, V2 gives "
         "the draft 1-D positions"},
        "vLLM v1/spec_decode/llm_base_proposer.py:785; issue 54498", plugin=AS_STOCK,
        remedy=_TEXT_ONLY),
)  # fmt: skip
