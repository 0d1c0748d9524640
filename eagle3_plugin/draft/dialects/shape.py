"""Reads what all dialects share: sizes, norms, biases and sources of the weights.

The weights tell the truth about what was trained: a q_norm in the file was used in training,
whatever the config says. The config tells sizes; where it is silent they are read off a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eagle3_plugin.draft.dialects.fields import Fields, architecture_of, short
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
    head_dim = layer.count("head_dim", queries // heads if queries and heads else None)
    hidden = layer.count("hidden_size", stored.size("norm.weight", 0))
    vocab = layer.count("vocab_size", stored.size("embed_tokens.weight", 0))
    values = {
        "decoder": _decoder(stored, layer),
        "hidden_size": hidden,
        "intermediate_size": layer.count(
            "intermediate_size", stored.size("layers.0.mlp.gate_proj.weight", 0)
        ),
        "num_layers": layer.count("num_hidden_layers", count_layers(stored.shapes) or None),
        "num_attention_heads": heads,
        "num_key_value_heads": layer.count("num_key_value_heads", _kv_heads(stored, head_dim)),
        "head_dim": head_dim,
        "vocab_size": vocab,
        "draft_vocab_size": top.count(
            "draft_vocab_size", stored.size("lm_head.weight", 0) or vocab
        ),
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
    if "target_hidden_size" not in top and width % stated and width % (num_ids or 3) == 0:
        stated = width // (num_ids or 3)
    num_taps = num_ids or width // stated or 1
    if num_taps * stated != width:
        stored.problem(
            "fc-width",
            f"fc.weight takes {width} values, but {num_taps} taps of a target with hidden size "
            f"{stated} make {num_taps * stated}",
            "The list of taps or target_hidden_size in config.json is wrong, or the weights are "
            "of another draft.",
        )
    return {"target_hidden_size": stated, "num_taps": num_taps}


def read_fc_input_norm(stored: Stored, top: Fields) -> str:
    """none, joint or per_tap: by the flags of the config and by the weights that are there."""
    nested = top.section("eagle_config")
    joint = (nested.flag("norm_before_fc"), top.flag("norm_before_fc"))
    per_tap = (top.flag("fc_norm"), top.flag("use_aux_norm"))
    stated = {"joint": _first(joint), "per_tap": _first(per_tap)}
    tensors = {"joint": "input_norm.weight", "per_tap": "fc_norm.0.weight"}
    found = []
    for kind, tensor in tensors.items():
        present = tensor in stored.shapes
        if present and stated[kind] is False:
            stored.problem(
                "norm-conflict",
                f"{tensor} is in the file, but config.json says {_NORM_FLAGS[kind]}: false",
                f"Remove the tensor, or set {_NORM_FLAGS[kind]}: true.",
            )
        elif present and stated[kind] is None:
            stored.note(
                "norm-flag-absent",
                f"{tensor} is in the file, but config.json has no {_NORM_FLAGS[kind]}; read as "
                "true, where an engine would drop the tensor",
            )
        if present or stated[kind]:
            found.append(kind)
    if len(found) > 1:
        stored.problem(
            "norm-conflict",
            "the draft has both norm_before_fc (input_norm) and fc_norm; expected at most one",
        )
    return found[0] if found else "none"


_NORM_FLAGS = {"joint": "norm_before_fc", "per_tap": "fc_norm"}


def _first(flags: tuple[bool | None, ...]) -> bool | None:
    return next((flag for flag in flags if flag is not None), None)


def _decoder(stored: Stored, layer: Fields) -> str:
    """By the norms in the file; without them, a config that wants them lacks tensors.

    Except under a Llama name: AngelSlim's 2025 drafts say `model_type: qwen3` about the target.
    """
    model_type = layer.text("model_type")
    if stored.has("self_attn.q_norm.weight"):
        if model_type != "qwen3":
            stored.note(
                "decoder-norms",
                f"the file has q_norm and k_norm, but model_type is {model_type!r}; read as qwen3",
            )
        return "qwen3"
    if model_type == "qwen3" and "Llama" in architecture_of(stored.config):
        stored.note(
            "decoder-type",
            f"model_type is 'qwen3', but the file has no q_norm and architectures is "
            f"{architecture_of(stored.config)!r}; read as llama",
        )
        return "llama"
    return "qwen3" if model_type == "qwen3" else "llama"


def count_layers(names: Iterable[str]) -> int:
    """How many decoder layers these canonical tensor names belong to."""
    return len({name.split(".")[1] for name in names if name.startswith("layers.")})


def _kv_heads(stored: Stored, head_dim: int | None) -> int | None:
    keys = stored.size("layers.0.self_attn.k_proj.weight", 0)
    return keys // head_dim or None if keys and head_dim else None


def _attention_bias(stored: Stored, layer: Fields) -> bool:
    present = stored.has("self_attn.q_proj.bias")
    stated = layer.flag("attention_bias")
    if present and stated is False:
        stored.note(
            "bias-flag", "the file has attention biases, but config.json says attention_bias: false"
        )
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
    ("hidden_act", "silu", "an activation other than silu"),
    ("logit_scale", 1.0, "a scaled head"),
    ("use_sliding_window", False, "sliding-window attention"),
    ("parallel_drafting", False, "parallel drafting (P-EAGLE)"),
    ("partial_rotary_factor", 1.0, "a partial rope"),
    ("quantization_config", None, "a quantised draft"),
    ("speculators_model_type", "eagle3", "another kind of speculator than eagle3"),
)


def _refuse_unsupported(stored: Stored, layer: Fields, top: Fields) -> None:
    for name, only, what in _UNSUPPORTED:
        value = layer.values.get(name, top.values.get(name))
        if value is not None and value != only:
            expected = f" (only {only!r} is)" if only is not None else ""
            stored.problem(
                "unsupported",
                f"config.json: {name} is {short(value)}: {what} is not supported{expected}",
            )
    kinds = layer.values.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        stored.problem(
            "unsupported",
            f"config.json: layer_types is {short(kinds)}: only full_attention is supported",
        )
    if top.section("eagle_config").flag("use_aux_hidden_state") is False:
        stored.problem(
            "unsupported",
            "config.json: eagle_config.use_aux_hidden_state is false; an EAGLE-3 draft uses them",
        )
