"""Reads what all dialects share: sizes, norms, biases and sources of the weights.

The weights tell the truth about what was trained: a q_norm in the file was used in training,
whatever the config says. The config tells sizes; where it is silent they are read off a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eagle3_plugin.draft.dialects.fields import Fields
from eagle3_plugin.errors import Problem

Shape = tuple[int, ...]

_FLOATS = ("BF16", "F16", "F32", "F64")


@dataclass
class Stored:
    """A checkpoint as it is stored, under canonical tensor names, and what is found on the way."""

    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str]
    stored_names: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def size(self, name: str, axis: int) -> int | None:
        """One dimension of a tensor, or None if it is not there or has no such axis."""
        shape = self.shapes.get(name, ())
        return shape[axis] if axis < len(shape) and shape[axis] > 0 else None

    def has(self, suffix: str) -> bool:
        return any(name.endswith(suffix) for name in self.shapes)

    def stored_with_prefix(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.stored_names)

    def note(self, rule: str, message: str, hint: str | None = None) -> None:
        self.notes.append(Problem(rule, message, hint))

    def problem(self, rule: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(rule, message, hint))


def read_shape(stored: Stored, layer: Fields, top: Fields) -> dict[str, Any]:
    """Fields of DraftConfig that every dialect spells alike.

    layer: the object with the decoder layer's sizes; top: the one with the draft's own fields
    (the same object, except in the speculators format).
    """
    heads = layer.count("num_attention_heads")
    queries = stored.size("layers.0.self_attn.q_proj.weight", 0)
    hidden = layer.count("hidden_size", stored.size("norm.weight", 0))
    vocab = layer.count("vocab_size")
    values = {
        "decoder": _decoder(stored, layer),
        "hidden_size": hidden,
        "intermediate_size": layer.count(
            "intermediate_size", stored.size("layers.0.mlp.gate_proj.weight", 0)
        ),
        "num_layers": layer.count("num_hidden_layers", _count_layers(stored)),
        "num_attention_heads": heads,
        "num_key_value_heads": layer.count("num_key_value_heads", heads),
        "head_dim": layer.count("head_dim", queries // heads if queries and heads else None),
        "vocab_size": vocab,
        "draft_vocab_size": top.count("draft_vocab_size", stored.size("lm_head.weight", 0) or vocab),
        "attention_bias": _attention_bias(stored, layer),
        "attention_output_bias": stored.has("self_attn.o_proj.bias"),
        "fc_bias": "fc.bias" in stored.shapes,
        "rms_norm_eps": _required(layer, "rms_norm_eps"),
        "max_position_embeddings": layer.count("max_position_embeddings"),
        "embedding": "own" if "embed_tokens.weight" in stored.shapes else "target",
        "has_vocab_map": "d2t" in stored.shapes,
        "dtype": _dtype(stored),
    }
    values["lm_head"] = _lm_head(stored, values)
    _refuse_unsupported(stored, layer, top)
    return values


def read_widths(
    stored: Stored, top: Fields, hidden: int | None, num_ids: int | None
) -> dict[str, Any]:
    """target_hidden_size and num_taps, from the fc's width and whatever else is known."""
    width = stored.size("fc.weight", 1)
    stated = top.count("target_hidden_size", hidden)
    if width is None or stated is None:
        return {"target_hidden_size": stated, "num_taps": num_ids or 3}
    if "target_hidden_size" not in top and width % stated:
        stated = width // (num_ids or 3)
    num_taps = num_ids or width // stated
    if num_taps * stated != width:
        stored.problem(
            "fc-width",
            f"fc.weight takes {width} values; {num_taps} taps of a target with hidden size "
            f"{stated} give {num_taps * stated}",
            "The draft belongs to another target, or the list of taps is wrong.",
        )
    return {"target_hidden_size": stated, "num_taps": num_taps}


def read_fc_input_norm(stored: Stored, top: Fields) -> str:
    """none, joint or per_tap: by the flags of the config and by the weights that are there."""
    nested = top.section("eagle_config")
    stated = {
        "joint": _either(nested.flag("norm_before_fc"), top.flag("norm_before_fc")),
        "per_tap": _either(top.flag("fc_norm"), top.flag("use_aux_norm")),
    }
    tensors = {"joint": "input_norm.weight", "per_tap": "fc_norm.0.weight"}
    found = []
    for kind, tensor in tensors.items():
        present = tensor in stored.shapes
        if present and stated[kind] is False:
            stored.problem(
                "norm-conflict", f"{tensor} is in the file, but the config switches it off"
            )
        elif present and stated[kind] is None:
            stored.note("norm-flag-absent", f"{tensor} is in the file, but no flag names it")
        if present or stated[kind]:
            found.append(kind)
    if len(found) > 1:
        stored.problem("norm-conflict", "both norm_before_fc and fc_norm are set; one is possible")
    return found[0] if found else "none"


def _either(first: bool | None, second: bool | None) -> bool | None:
    return second if first is None else first


def _decoder(stored: Stored, layer: Fields) -> str:
    named = "qwen3" if layer.text("model_type") == "qwen3" else "llama"
    if stored.has("self_attn.q_norm.weight"):
        if named != "qwen3":
            stored.note("decoder-norms", "the file has q_norm and k_norm, the config says llama")
        return "qwen3"
    return named


def _count_layers(stored: Stored) -> int | None:
    numbers = {name.split(".")[1] for name in stored.shapes if name.startswith("layers.")}
    return len(numbers) or None


def _attention_bias(stored: Stored, layer: Fields) -> bool:
    present = stored.has("self_attn.q_proj.bias")
    stated = layer.flag("attention_bias")
    if present and stated is False:
        stored.note("bias-flag", "the file has attention biases, the config says attention_bias: false")
    return present or bool(stated)


def _required(layer: Fields, name: str) -> float | None:
    value = layer.number(name)
    if value is None and layer.values.get(name) is None:
        message = f"config.json: {layer.where}{name} is absent; expected a positive number"
        layer.problems.append(Problem("config-field-missing", message))
    return value


def _dtype(stored: Stored) -> str | None:
    weights = {n: d for n, d in stored.dtypes.items() if n != "d2t"}
    unusable = sorted(n for n, d in weights.items() if d not in _FLOATS)
    if unusable:
        kinds = sorted({weights[n] for n in unusable})
        stored.problem(
            "tensor-dtype",
            f"{len(unusable)} weights are stored as {', '.join(kinds)} (first: {unusable[0]}); "
            "expected BF16, F16, F32 or F64",
            "A quantised draft cannot be read: use the unquantised checkpoint.",
        )
    if len(set(weights.values()) & set(_FLOATS)) > 1:
        kinds = sorted(set(weights.values()) & set(_FLOATS))
        stored.note("tensor-dtype-mixed", f"the weights mix {', '.join(kinds)}")
    dtype = weights.get("fc.weight")
    return dtype if dtype in _FLOATS else None


def _lm_head(stored: Stored, values: Mapping[str, Any]) -> str:
    if "lm_head.weight" in stored.shapes:
        if stored.config.get("tie_word_embeddings") is True:
            stored.note(
                "tie-flag",
                "tie_word_embeddings is true, yet the file has an lm_head of its own",
                "SGLang would throw the lm_head away: convert the draft, or serve it with the "
                "plugin.",
            )
        return "own"
    reduced = values["draft_vocab_size"] != values["vocab_size"] or values["has_vocab_map"]
    if reduced:
        stored.problem(
            "lm-head-missing",
            f"there is no lm_head.weight, and the target's has {values['vocab_size']} rows, not "
            f"{values['draft_vocab_size']}",
            "The checkpoint is incomplete: an engine would take the target's head, in silence.",
        )
    if stored.config.get("tie_word_embeddings") is True and values["embedding"] == "own":
        stored.problem(
            "unsupported",
            "the lm_head is tied to the draft's own embedding; expected an lm_head.weight, or "
            "neither of the two (both then come from the target)",
        )
    return "own" if reduced else "target"


_UNSUPPORTED: tuple[tuple[str, Any, str], ...] = (
    ("mlp_bias", False, "biases in the MLP"),
    ("hidden_act", "silu", "this activation"),
    ("logit_scale", 1.0, "a scaled head"),
    ("use_sliding_window", False, "sliding-window attention"),
    ("parallel_drafting", False, "parallel drafting (P-EAGLE)"),
    ("partial_rotary_factor", 1.0, "a partial rope"),
)


def _refuse_unsupported(stored: Stored, layer: Fields, top: Fields) -> None:
    for name, only, what in _UNSUPPORTED:
        value = layer.values.get(name, top.values.get(name))
        if value is not None and value != only:
            stored.problem("unsupported", f"config.json: {name} = {value!r}: {what} is not read")
    if "sliding_attention" in (layer.values.get("layer_types") or []):
        stored.problem("unsupported", "config.json: layer_types has sliding_attention, not read")
    if top.values.get("quantization_config") is not None:
        stored.problem("unsupported", "config.json: a quantised draft (quantization_config)")
    if top.section("eagle_config").flag("use_aux_hidden_state") is False:
        stored.problem(
            "unsupported", "eagle_config.use_aux_hidden_state is false: not an EAGLE-3 draft"
        )
