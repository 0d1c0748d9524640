"""Rules for what a stock engine reads otherwise than the draft was trained.

Each compares one field of `stock.StockReading` with the draft. With the plugin they are only told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eagle3_plugin.draft.config import DraftConfig, default_taps
from eagle3_plugin.draft.dialects.taps import is_default
from eagle3_plugin.draft.rules.rule import (
    AS_STOCK,
    REFUSES,
    Case,
    Rule,
    Seen,
    at,
    both,
    compared,
    everywhere,
    mend,
)
from eagle3_plugin.draft.rules.stock import SGLANG_DTYPES, Ids, StockReading

_TAPS = frozenset({"taps-ambiguous", "taps-conflict", "taps-unknown", "fc-width"})
_SGLANG = "SGLang 0.5.23 models/llama_eagle3.py"
_VLLM = "vLLM 0.32 models/llama_eagle3.py, qwen3_eagle3.py"


def _field(name: str, words: str) -> Callable[[Case], Iterable[Seen]]:
    """A rule's function that compares one field, which has the same name in both."""

    def look(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
        trained, read = getattr(config, name), getattr(reading, name)
        if read != trained:
            yield Seen(f"{words} {_plain(read)} to {case.title}", f"{_plain(trained)}, as trained")

    return compared(look)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _taps(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    trained = None if config.taps == "default" else config.taps
    wrong = [
        f"stock {who} captures {_named(ids, case.num_layers)}"
        for who, ids in reading.taps.items()
        if not _same_taps(ids, trained, case.num_layers)
    ]
    if wrong:
        expected = f"{_named(trained, case.num_layers)}, as trained (boundaries)"
        yield Seen("; ".join(wrong), expected)


def _same_taps(read: Ids | None, trained: Ids | None, num_layers: int | None) -> bool:
    """Both None = the default taps; the order is another rule's."""
    if num_layers is not None:
        read, trained = read or default_taps(num_layers), trained or default_taps(num_layers)
    if read is None or trained is None:
        given = read or trained
        return given is None or is_default(given, "boundary", None)
    return sorted(set(read)) == sorted(trained)


def _named(taps: Ids | None, num_layers: int | None) -> str:
    if taps is None and num_layers is not None:
        return f"the default taps {list(default_taps(num_layers))}"
    return "the default taps" if taps is None else str(list(taps))


def _unsorted(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if config.taps != "default" and list(config.taps) != sorted(config.taps):
        yield Seen(f"taps {list(config.taps)} are not in ascending order", "ascending taps")


def _last_boundary(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    num_layers = case.num_layers
    if num_layers is not None and num_layers in config.taps_for(num_layers):
        found = f"tap {num_layers} is the state after the last of {num_layers} layers"
        yield Seen(found, f"taps up to {num_layers - 1}")


def _fc_skipped(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if config.num_taps * config.target_hidden_size == config.hidden_size:
        yield Seen(f"fc takes and gives {config.hidden_size} values", "a wider input than output")


def _layer_class(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    layers = reading.layers or "llama"
    if layers != config.decoder:
        has = "has" if config.decoder == "qwen3" else "lacks"
        yield Seen(
            f"the draft {has} q and k norms; {case.title} builds {layers} layers",
            f"{config.decoder} layers",
        )


def _num_layers(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if config.num_layers > 1:
        yield Seen(f"{config.num_layers} layers", "one layer")


def _theta_misread(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if reading.theta is not None and reading.theta != config.rope.theta:
        yield Seen(f"rope_theta is absent: {reading.theta:g} to {case.title}",
                   f"{config.rope.theta:g}, the trainers' default")  # fmt: skip


def _theta_absent(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if reading.theta is not None and reading.theta == config.rope.theta:
        yield Seen(f"rope_theta is absent: read as {reading.theta:g}", "rope_theta in config.json")


def _attention_factor(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    rope = config.rope
    if rope.mrope_section is None and not rope.is_usual_yarn:
        yield Seen(f"yarn with an attention_factor of {rope.attention_factor:g}",
                   "0.1 ln(factor) + 1, which it takes")  # fmt: skip


def _dtype_auto(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    """A target that names no type is taken for BF16, as most are."""
    stated = case.target.dtype if case.target is not None else None
    wanted = SGLANG_DTYPES.get(stated or "bfloat16", "F16")
    if reading.dtype != wanted:
        yield Seen(f"without --dtype the draft runs in {reading.dtype}", f"{wanted}, as the target")


_ADD_THETA = "Write the theta that the draft was trained with into config.json."

MISREAD: tuple[Rule, ...] = (
    Rule("taps-misread", "the engine captures other taps than the draft was trained on",
        at("error", "info", "error", "info"), compared(_taps),
        {"vllm": "reads the top level, else (V1) the nested list, else (V2) the default, as "
         "boundaries", "sglang": "reads only eagle_config's list, plus one, else the default"},
        "vLLM gpu_model_runner.py:5251, eagle3_utils.py:100; SGLang spec_aux_hidden_state.py:185, "
        "models/qwen3.py:778", remedy=mend, muted_by=_TAPS),
    Rule("taps-unsorted", "taps that are not ascending", at("error", "info", "error", "info"),
        compared(_unsorted),
        both("captures them in ascending order, which permutes fc's columns in silence"),
        "vLLM models/interfaces.py:1578; SGLang models/qwen3.py:530",
        plugin="The plugin reorders fc's columns to match.", remedy=mend, muted_by=_TAPS),
    Rule("taps-count", "the engine builds fc for another number of taps",
        at("error", "info", "error", "info"), _field("num_taps", "the number of taps is"),
        both("fails to load fc"),
        f"{_VLLM}; {_SGLANG}", remedy=mend, muted_by=_TAPS),
    Rule("tap-after-last-layer", "a tap after the last layer",
        at(sglang="error", sglang_plugin="error"), compared(_last_boundary),
        {"sglang": "captures before a layer, so never this one: fc gets too few taps"},
        "SGLang 0.5.23 models/qwen3.py:530", plugin=REFUSES, remedy="Serve the draft in vLLM.",
        muted_by=_TAPS),
    Rule("fc-skipped", "fc is as wide as its output",
        at(sglang="error", sglang_plugin="info"), compared(_fc_skipped),
        {"sglang": "takes the taps for already mixed and skips fc, in silence"},
        f"{_SGLANG}, LlamaModel.forward", remedy=mend),
    Rule("residual-misread", "norm_before_residual is not read as trained",
        at("error", "info", "error", "info"), _field("residual", "the first residual is"),
        {"vllm": "reads it at the top level only; absent from a speculators config it is true",
         "sglang": "does not know the field: always raw, in silence"},
        f"{_SGLANG}; vLLM configs/speculators/algos.py:34", remedy=mend,
        muted_by=frozenset({"residual-ambiguous"})),
    Rule("fc-norm-misread", "the norm before fc is not read as trained",
        at("error", "info", "error", "info"), _field("fc_input_norm", "the norm before fc is"),
        {"vllm": "drops input_norm without its flag in silence, refuses fc_norm without its own",
         "sglang": "drops a norm without its flag, in silence"}, f"{_VLLM}; {_SGLANG}",
        remedy=mend, muted_by=frozenset({"norm-conflict"})),
    Rule("norm-output-misread", "norm_output is not read as trained",
        at("error", "info", "error", "info"), _field("feedback", "the state fed back is"),
        both("feeds the state after the norm back if the flag is true"),
        f"{_VLLM}; {_SGLANG}; SpecForge llama3_eagle.py:1690", remedy=mend,
        muted_by=frozenset({"norm-output-ambiguous"})),
    Rule("qk-norm", "layers with q and k norms in a class without, or the other way round",
        at("error", "info", "error", "info"), compared(_layer_class),
        {"vllm": "refuses the norms, or norms with 1 where none was trained, in silence",
         "sglang": "drops the norms, in silence"}, f"{_VLLM}; {_SGLANG}", remedy=mend),
    Rule("attention-bias", "biases on q, k and v that the engine drops, or the other way round",
        at("error", "info", "error", "info"), _field("attention_bias", "a bias on q, k and v is"),
        {"vllm": "drops them in silence when the flag is off",
         "sglang": "drops them, in silence"}, f"{_VLLM}; {_SGLANG}",
        remedy=mend),
    Rule("output-bias", "a bias on o that the engine lacks, or makes without being given one",
        at("error", "info", "error", "info"), _field("attention_output_bias", "a bias on o is"),
        {"vllm": "the Llama class makes one with attention_bias, uninitialised; the Qwen3 class "
         "has none", "sglang": "makes one with attention_bias, uninitialised; else drops it"},
        f"{_VLLM}; {_SGLANG}", remedy=mend),
    Rule("fc-bias", "fc has a bias", at("error", "info", "error", "info"),
        _field("fc_bias", "a bias on fc is"),
        {"vllm": "refuses to load", "sglang": "drops it, in silence"}, f"{_VLLM}; {_SGLANG}",
        remedy=mend),
    Rule("several-layers", "more than one layer",
        at(sglang="error", sglang_plugin="info"), compared(_num_layers),
        {"sglang": "norms the input of later layers with a hidden_norm that no draft has, and "
         "ignores input_layernorm"}, f"{_SGLANG}, LlamaDecoderLayer.forward", remedy=mend,
        muted_by=frozenset({"num-layers"})),
    Rule("rope-theta-misread", "rope_theta is absent, and the engine's default is another",
        at("error", "info", "error", "info"), compared(_theta_misread),
        both("takes its own default, in silence"),
        "transformers 5.19; vLLM models/qwen3.py:188", remedy=_ADD_THETA),
    Rule("rope-theta-absent", "rope_theta is absent", everywhere("warning"),
        compared(_theta_absent),
        both("takes 10000, as the trainers do"),
        "transformers 5.19 LlamaConfig, Qwen3Config", plugin=AS_STOCK, remedy=_ADD_THETA),
    Rule("yarn-attention-factor", "yarn with an attention_factor of its own",
        at(sglang="error", sglang_plugin="info"), compared(_attention_factor),
        {"sglang": "takes 0.1 ln(factor) + 1, in silence"},
        "SGLang layers/rotary_embedding/factory.py:318", remedy=mend),
    Rule("dtype-auto", "a draft that runs in another type than its target unless --dtype says so",
        at(sglang="warning", sglang_plugin="info"), compared(_dtype_auto),
        {"sglang": "takes the type that the draft's config.json states, F16 for F32 or none: "
         "beside a target of another type the first request fails"},
        "SGLang configs/model_config.py:2284; seen in a run of SGLang 0.5.23",
        plugin="The plugin gives the draft the target's type.",
        remedy="Serve with --dtype and the target's type."),
)  # fmt: skip
