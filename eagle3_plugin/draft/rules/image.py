"""Rules about images: what a draft is given beside a target that takes them, such as Qwen3-VL.

None of them touches text. Three things are in question at image positions: the position of a row,
its embedding, and whether a tap holds the visual features that the target adds (deepstack).
"""

from __future__ import annotations

from collections.abc import Iterable

from eagle3_plugin.draft.config import DraftConfig, Rope, TargetConfig
from eagle3_plugin.draft.rules.rule import (
    AS_STOCK,
    Case,
    Rule,
    Seen,
    at,
    both,
    everywhere,
    mend,
    paired,
)

_UNREAD_TAPS = frozenset({"taps-ambiguous", "taps-conflict", "taps-unknown"})
_STOCK_EMBEDDING = {"vllm": "placeholder", "sglang": "visual"}
_WHAT = {"placeholder": "the placeholder token's embedding", "visual": "the visual features"}
_VLLM_ROPES = ("default", "yarn")
"""Rope types that vLLM 0.32 combines with M-RoPE."""


def _one_axis(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if config.rope.mrope_section is None and target.rope.mrope_section is not None:
        yield Seen("the draft has 1-D positions", f"{_axes(target.rope)}, as the target")


def _mrope(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    draft, expected = _axes(config.rope), _axes(target.rope)
    if config.rope.mrope_section is not None and draft != expected:
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


def _scaled(case: Case) -> Iterable[Seen]:
    rope = case.config.rope if case.config is not None else None
    able = _VLLM_ROPES if case.engine == "vllm" else ("default",)
    if rope is not None and rope.mrope_section is not None and rope.type not in able:
        found = f"M-RoPE {list(rope.mrope_section)} with a rope of type {rope.type}"
        yield Seen(found, f"a rope of type {' or '.join(able)}")


def _v2_runner(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if target.is_multimodal and config.rope.mrope_section is not None:
        yield Seen("the draft has M-RoPE, which vLLM's V2 runner does not give it", "the V1 runner")


def _key_slots(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if target.is_multimodal and target.rope.mrope_section is not None:
        yield Seen(
            "after an image the target's M-RoPE positions are not the indices of the tokens",
            "keys of each draft step at the index of its token",
        )


def _embedding_unknown(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if target.is_multimodal and config.image_embedding == "unknown":
        yield Seen(
            "what the draft was trained to see at image positions is not known",
            "image_embedding placeholder or visual in eagle3.json",
        )


def _embedding_misread(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    given, trained = _STOCK_EMBEDDING[case.engine], config.image_embedding
    if target.is_multimodal and trained not in (given, "unknown"):
        found = f"stock {case.title} gives the draft {_WHAT[given]} at image positions"
        yield Seen(found, f"{_WHAT[trained]}, as trained")


def _narrow(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    if target.is_multimodal and config.hidden_size != target.hidden_size:
        yield Seen(
            f"visual features are {target.hidden_size} wide, the draft {config.hidden_size}",
            "a draft as wide as its target, for images",
        )


def _tap_unknown(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    for tap in _among_visual(config, target):
        if config.deepstack_tap == "unknown":
            yield Seen(
                f"tap {tap} lies where visual features are added; whether the draft was trained "
                "on the state before or after the add is not known",
                "deepstack_tap before or after in eagle3.json",
            )


def _tap_misread(case: Case, config: DraftConfig, target: TargetConfig) -> Iterable[Seen]:
    for tap in _among_visual(config, target):
        if config.deepstack_tap == "before":
            found = f"stock {case.title} captures tap {tap} after the visual add"
            yield Seen(found, "before the visual add, as trained")


def _among_visual(config: DraftConfig, target: TargetConfig) -> list[int]:
    """The taps whose state differs before and after a visual add."""
    added_after = [layer + 1 for layer in target.deepstack_layers]
    return [tap for tap in config.taps_for(target.num_layers) if tap in added_after]


def _takes_images(case: Case) -> Iterable[Seen]:
    if case.target is not None and case.target.is_multimodal:
        yield Seen(
            "the target takes images, which a chat template for text drops",
            "prompt_tokens that grow when an image is added",
        )


def _serve_as_trained(case: Case) -> str:
    if case.plugin:
        return "images cost acceptance; text does not."
    if case.plugin_serves:
        return "Serve the draft with the plugin (no conversion needed). Text is not affected."
    return _MEASURE


_MEASURE = "Text is not affected. With images, measure the acceptance before relying on it."
_SETTLE = (
    "Find out with `eagle3 score DRAFT --target TARGET --sweep-images`, then settle it in `eagle3 "
    "convert` with {}, which keeps it in eagle3.json. Text is not affected."
)
_V1 = "vLLM v1/spec_decode/llm_base_proposer.py"

IMAGE: tuple[Rule, ...] = (
    Rule("positions-1d", "a draft with 1-D positions beside a target with M-RoPE",
        everywhere("warning"), paired(_one_axis),
        {"vllm": "gives it the time axis of the target's positions (V1), or sequence indices (V2)",
         "sglang": "gives it sequence indices"},
        f"{_V1}:399; SGLang configs/model_config.py:677; SpecForge checkpoint_io.py:31 at a6b6b02",
        plugin="The plugin gives it sequence indices.",
        remedy="Nothing to do for text, or if it was trained so. If it was trained with M-RoPE, "
        "write mrope_section and mrope_interleaved into rope_scaling of its config.json."),
    Rule("mrope-unlike-target", "the draft's M-RoPE is not the target's",
        everywhere("warning"), paired(_mrope),
        both("takes the draft's: right if it was trained so"),
        "vLLM rotary_embedding/__init__.py:113; SGLang rotary_embedding/factory.py:242",
        plugin=AS_STOCK, remedy=_MEASURE, muted_by=frozenset({"mrope-interleaved-absent"})),
    Rule("mrope-interleaved-absent", "mrope_section without mrope_interleaved",
        everywhere("warning"), _interleaved_absent,
        both("takes false, in silence"),
        "vLLM rotary_embedding/__init__.py:122; SGLang rotary_embedding/factory.py:251",
        plugin="The plugin takes false as well."),
    Rule("mrope-scaling-dropped", "M-RoPE with a scaled rope", at(sglang="error",
        sglang_plugin="info"), _scaled,
        {"sglang": "sets the rope's type to default: the scaling is dropped, in silence"},
        "SGLang models/llama_eagle3.py:142", remedy=mend),
    Rule("mrope-scaling-refused", "M-RoPE with a rope of type linear or llama3",
        at("error", "error"), _scaled,
        {"vllm": "builds a 1-D rope, which three rows of positions do not fit: fails, or computes "
         "something else"}, "vLLM rotary_embedding/__init__.py:167, 188, seen in a run",
        plugin=AS_STOCK, remedy=mend),
    Rule("mrope-v2-runner", "a draft with M-RoPE in vLLM's V2 runner, the default on a GPU",
        at("warning", "info"), paired(_v2_runner),
        {"vllm": "gives it sequence indices in V2, also after an image"},
        "vLLM v1/worker/gpu/spec_decode knows no M-RoPE",
        plugin="The plugin has vLLM take the V1 runner, and refuses V2.",
        remedy=lambda _: "Set VLLM_USE_V2_MODEL_RUNNER=0 for images. Text is not affected."),
    Rule("image-key-slots", "keys of later draft steps after an image", at("warning", "info"),
        paired(_key_slots),
        {"vllm": "writes them, in V1, to the slot of the M-RoPE time axis: a wrong one after an "
         "image"}, f"{_V1}:786, seen in a run; issue 54498",
        plugin="The plugin writes them to the slot of the token's index.",
        remedy=_serve_as_trained),
    Rule("image-embedding-unknown", "what the draft was trained to see at image positions is not "
        "known", everywhere("warning"), paired(_embedding_unknown),
        {"vllm": "embeds the placeholder token, as SpecForge trains",
         "sglang": "gives the target's visual features, where SpecForge trains on the placeholder"},
        f"{_V1}:1343; SGLang eagle_worker_v2.py:960; SpecForge core/eagle3.py at d3472dd",
        plugin="The plugin embeds the placeholder token and says so in the log.",
        remedy=_SETTLE.format("--image-embedding placeholder or visual")),
    Rule("image-embedding-misread", "the engine embeds something else at image positions than the "
        "draft was trained on", at("warning", "info", "warning", "info"),
        paired(_embedding_misread),
        {"vllm": "embeds the placeholder token, and says so in its log",
         "sglang": "gives the target's visual features, in silence"},
        f"{_V1}:1343; SGLang models/llama_eagle3.py:218", remedy=_serve_as_trained),
    Rule("image-narrow-draft", "a draft of another width than the visual features",
        at(sglang="error", sglang_plugin="info"), paired(_narrow),
        {"sglang": "gives it the visual features all the same: the first image request fails"},
        "SGLang models/llama_eagle3.py:218",
        plugin="The plugin embeds the placeholder token.", remedy=_serve_as_trained),
    Rule("deepstack-unknown", "a tap where visual features are added, trained before or after "
        "the add", everywhere("warning"), paired(_tap_unknown),
        both("captures it after the add"),
        "vLLM models/qwen3_vl.py:1879; SGLang models/qwen3_vl.py:1254; transformers 5.19 "
        "modeling_qwen3_vl.py:851 records it before",
        plugin="The plugin captures it after the add and says so in the log.",
        remedy=_SETTLE.format("--deepstack-tap before or after"), muted_by=_UNREAD_TAPS),
    Rule("deepstack-misread", "the engine captures a tap after the visual add, trained before it",
        at("warning", "info", "warning", "info"), paired(_tap_misread),
        both("captures it after the add"),
        "vLLM models/qwen3_vl.py:1879; SGLang models/qwen3_vl.py:1254",
        remedy=_serve_as_trained, muted_by=_UNREAD_TAPS),
    Rule("chat-template-images", "a target that takes images, behind a chat template for text",
        at(sglang="info", sglang_plugin="info"), _takes_images,
        {"sglang": "drops the image in silence, and answers with 200"},
        "seen in a run of SGLang 0.5.23", plugin=AS_STOCK,
        remedy="Give --chat-template only one that has a place for images."),
)  # fmt: skip
