"""Reads rotary embedding settings in the three spellings that configs use, and writes one.

Spellings: `rope_theta` + `rope_scaling` (transformers 4), `rope_parameters` (transformers 5), and
either of them with `mrope_section` / `mrope_interleaved` for multimodal positions.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from eagle3_plugin.draft.config import ROPE_PARAMETERS, Json, Rope
from eagle3_plugin.draft.dialects.fields import Fields, short
from eagle3_plugin.errors import Problem

TRAINER_DEFAULT_THETA = 10000.0
"""What every trainer uses when the config names no theta (transformers' LlamaConfig)."""

_MULTIMODAL = ("mrope_section", "mrope_interleaved")
_LENGTH = "original_max_position_embeddings"
_NOT_PARAMETERS = ("rope_type", "type", "rope_theta", *_MULTIMODAL)


def read_rope(fields: Fields, notes: list[Problem]) -> Rope | None:
    """The rope of a config, or None after reporting problems on `fields`."""
    spelled = [fields.section("rope_scaling"), fields.section("rope_parameters")]
    spelled = [s for s in spelled if s.values]
    theta = _agree(
        fields,
        "rope_theta",
        [fields.number("rope_theta")] + [s.number("rope_theta") for s in spelled],
    )
    if theta is None:
        theta = TRAINER_DEFAULT_THETA
        notes.append(
            Problem(
                "rope-theta-absent",
                "config.json names no rope_theta; trainers and engines then use 10000",
                "If the draft was trained with another theta, write it into config.json.",
            )
        )
    kinds = [_kind(s) for s in spelled]
    rope_type = _agree(fields, "rope_type", kinds) or "default"
    if rope_type not in ROPE_PARAMETERS:
        message = f"rope type {rope_type!r} is not supported; known: {', '.join(ROPE_PARAMETERS)}"
        fields.problems.append(Problem("rope-type", message))
        return None
    parameters = _agree(fields, "rope parameters", [_parameters(s, rope_type) for s in spelled])
    section = _agree(fields, "mrope_section", [_section(s) for s in spelled])
    interleaved = _agree(
        fields, "mrope_interleaved", [s.flag("mrope_interleaved") for s in spelled]
    )
    if section is not None and interleaved is None:
        notes.append(
            Problem(
                "mrope-interleaved-absent",
                f"mrope_section {list(section)} without mrope_interleaved; read as false (blocks)",
                "Qwen3-VL interleaves: add mrope_interleaved: true if the draft was trained so.",
            )
        )
    return _build(fields, theta, rope_type, parameters or {}, section, bool(interleaved))


def write_rope(rope: Rope) -> Json:
    """`rope_theta` and `rope_scaling`, the spelling that both engines and all releases read."""
    if rope.type == "default" and rope.mrope_section is None:
        return {"rope_theta": rope.theta, "rope_scaling": None}
    scaling: Json = {"rope_type": rope.type, **rope.parameters}
    if _LENGTH in scaling:
        scaling[_LENGTH] = int(scaling[_LENGTH])
    if rope.mrope_section is not None:
        scaling["mrope_section"] = list(rope.mrope_section)
        scaling["mrope_interleaved"] = rope.mrope_interleaved
    return {"rope_theta": rope.theta, "rope_scaling": scaling}


def _agree(fields: Fields, what: str, values: list[Any]) -> Any:
    """The one value that is given; two that differ are a problem."""
    given = [v for v in values if v is not None]
    if any(v != given[0] for v in given[1:]):
        other = next(v for v in given if v != given[0])
        message = f"config.json gives {what} twice, differently: {given[0]!r} and {other!r}"
        fields.problems.append(Problem("rope-conflict", message, "Leave one of the spellings."))
    return given[0] if given else None


def _kind(section: Fields) -> str | None:
    kind = section.text("rope_type") or section.text("type")
    return "default" if kind == "mrope" else kind


def _parameters(section: Fields, rope_type: str) -> dict[str, float] | None:
    found: dict[str, float] = {}
    for name, value in section.values.items():
        if name in _NOT_PARAMETERS or value is None:
            continue
        number = section.number(name)
        if number is None:
            continue
        if name == "partial_rotary_factor" and number == 1.0:
            continue
        if name not in ROPE_PARAMETERS[rope_type]:
            if rope_type == "default" and name == "factor" and number == 1.0:
                continue
            message = (
                f"config.json: {section.where}{name} = {short(value)} has no meaning for a rope of "
                f"type {rope_type!r}"
            )
            section.problems.append(Problem("rope-parameter", message, "Remove the key."))
            continue
        found[name] = number
    return found or None


def _section(section: Fields) -> tuple[int, ...] | None:
    parts = section.ids("mrope_section")
    if parts is None or (len(parts) == 3 and min(parts) > 0):
        return parts
    message = (
        f"config.json: {section.where}mrope_section is {list(parts)}; expected three positive "
        "integers (time, height, width)"
    )
    section.problems.append(Problem("rope", message))
    return None


def _build(
    fields: Fields,
    theta: float,
    rope_type: str,
    parameters: dict[str, float],
    section: tuple[int, ...] | None,
    interleaved: bool,
) -> Rope | None:
    try:
        return Rope.model_validate(
            {
                "theta": theta,
                "type": rope_type,
                "parameters": parameters,
                "mrope_section": section,
                "mrope_interleaved": interleaved,
            }
        )
    except ValidationError as error:
        for detail in error.errors():
            at = "".join(f"{part}: " for part in detail["loc"][:1])
            text = detail["msg"].removeprefix("Value error, ")
            fields.problems.append(Problem("rope", f"config.json: {at}{text}"))
        return None
