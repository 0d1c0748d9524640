"""Reads a target model's config.json into a TargetConfig."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from eagle3_plugin.draft.config import TargetConfig
from eagle3_plugin.draft.dialects.fields import Fields, architecture_of
from eagle3_plugin.draft.dialects.rope import read_rope
from eagle3_plugin.errors import Problem, TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping


def target_from_config(config: Mapping[str, Any], where: str = "target") -> TargetConfig:
    """The TargetConfig of a parsed config.json; raises TargetError naming every bad field."""
    problems: list[Problem] = []
    outer = Fields(config, problems)
    fields = outer.section("text_config") if "text_config" in outer else outer
    heads = fields.count("num_attention_heads")
    hidden = fields.count("hidden_size")
    head_dim = fields.count("head_dim", hidden // heads if hidden and heads else None)
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
        "tie_word_embeddings": bool(outer.flag("tie_word_embeddings")),
        "quantization": _quantization(outer),
        "num_experts": fields.values.get("num_experts") or 0,
        "deepstack_layers": _deepstack(outer),
        "is_multimodal": "vision_config" in outer,
    }
    try:
        if not problems:
            return TargetConfig.model_validate(values)
    except ValidationError as error:
        problems += [Problem("target-config", str(d["msg"])) for d in error.errors()]
    lines = "\n".join(f"  {p.message}" for p in problems)
    raise TargetError(
        f"{where}: config.json does not describe a decoder-only target\n{lines}",
        hint="--target takes the folder or hub id of the target model, not of the draft.",
    )


def read_target(name: str) -> TargetConfig:
    """The TargetConfig of a folder or hub id; reads its config.json only."""
    from eagle3_plugin.draft.checkpoint import read_config
    from eagle3_plugin.hub import resolve

    return target_from_config(read_config(resolve(name), "config.json"), where=name)


def _quantization(outer: Fields) -> str | None:
    section = outer.section("quantization_config")
    return section.text("quant_method") or ("unknown" if section.values else None)


def _deepstack(outer: Fields) -> tuple[int, ...]:
    """The text layers whose output gets visual features added: the first ones, one per entry."""
    indexes = outer.section("vision_config").ids("deepstack_visual_indexes")
    return tuple(range(len(indexes))) if indexes else ()
