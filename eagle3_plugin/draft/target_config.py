"""Reads a target model's config.json into a TargetConfig."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eagle3_plugin.draft.config import TargetConfig
from eagle3_plugin.draft.dialects.fields import Fields, architecture_of
from eagle3_plugin.draft.dialects.rope import read_rope
from eagle3_plugin.errors import Problem, TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DRAFT_KEYS = (
    "draft_vocab_size",
    "eagle_config",
    "eagle_aux_hidden_state_layer_ids",
    "speculators_model_type",
)
"""Keys of drafts that no target has."""


def target_from_config(config: Mapping[str, Any], where: str = "target") -> TargetConfig:
    """The TargetConfig of a parsed config.json; raises TargetError naming every bad field."""
    problems: list[Problem] = [*_draft_signs(config)]
    outer = Fields(config, problems)
    fields = outer.section("text_config") if "text_config" in outer else outer
    heads = fields.count("num_attention_heads")
    hidden = fields.count("hidden_size")
    head_dim = fields.count("head_dim", (hidden // heads or None) if hidden and heads else None)
    rope = read_rope(fields, [])
    values = {
        "architecture": architecture_of(config),
        "model_type": outer.text("model_type") or "",
        "hidden_size": hidden,
        "num_layers": fields.count("num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.count("num_key_value_heads", heads),
        "head_dim": head_dim,
        "vocab_size": fields.count("vocab_size"),
        "max_position_embeddings": fields.count("max_position_embeddings"),
        "rope": rope,
        "tie_word_embeddings": _tied(outer, fields),
        "dtype": _dtype(outer) or _dtype(fields),
        "quantization": _quantization(outer),
        "num_experts": fields.optional_count("num_experts") or 0,
        "deepstack_layers": _deepstack(outer),
        "is_multimodal": "vision_config" in outer,
    }
    if not problems:
        return TargetConfig.model_validate(values)
    lines = "\n".join(f"  {p.message}" for p in dict.fromkeys(problems))
    raise TargetError(
        f"{where}: config.json does not describe a decoder-only target\n{lines}",
        hint="--target takes the folder or hub id of the target model, not of the draft.",
    )


def _draft_signs(config: Mapping[str, Any]) -> list[Problem]:
    """A draft's config has all the sizes that a target's has, with one layer: it is no target."""
    signs = [name for name in _DRAFT_KEYS if config.get(name) is not None]
    if not signs:
        return []
    return [Problem("target-is-draft", f"config.json has {', '.join(signs)}: this is a draft")]


def _tied(outer: Fields, fields: Fields) -> bool:
    flags = (outer.flag("tie_word_embeddings"), fields.flag("tie_word_embeddings"))
    return bool(next((flag for flag in flags if flag is not None), False))


def read_target(name: str) -> TargetConfig:
    """The TargetConfig of a folder or hub id; reads its config.json only."""
    from eagle3_plugin.draft.checkpoint import read_config
    from eagle3_plugin.hub import resolve

    return target_from_config(read_config(resolve(name), "config.json"), where=name)


def _dtype(fields: Fields) -> str | None:
    """As the file states it: `bfloat16`."""
    return fields.text("dtype") or fields.text("torch_dtype")


def _quantization(outer: Fields) -> str | None:
    section = outer.section("quantization_config")
    return section.text("quant_method") or ("unknown" if section.values else None)


def _deepstack(outer: Fields) -> tuple[int, ...]:
    """The text layers whose output gets visual features added: the first ones, one per entry."""
    indexes = outer.section("vision_config").ids("deepstack_visual_indexes")
    return tuple(range(len(indexes))) if indexes else ()
