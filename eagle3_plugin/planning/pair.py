"""A target and its draft as a plan sees them: sizes, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eagle3_plugin.draft.dialects.fields import Fields
from eagle3_plugin.errors import DraftError, NotFoundError, Problem
from eagle3_plugin.planning.acceptance import Acceptance
from eagle3_plugin.planning.acceptance_sources import SIDECAR, from_sidecar, typical
from eagle3_plugin.planning.cards import card_acceptance, cards
from eagle3_plugin.planning.shapes import (
    BYTES_PER_DRAFT_WEIGHT,
    BYTES_PER_KV_VALUE,
    DraftShape,
    TargetShape,
    known_target,
    target_shape,
    usual_draft_shape,
)

NUM_TAPS: Final = 3
"""Of a draft whose config does not list them."""

IMAGE_ENCODER_BYTES: Final = 1_200_000_000
"""Of a target that reads images and whose config is not there; assumed: Qwen3-VL's encoders have
0.4 to 0.6 G weights of 16 bits."""


@dataclass(frozen=True)
class Pair:
    """A target and a draft; `target_source` and `draft_source` say what the sizes were read from.

    target_bytes: all its weights in memory. model_type: "" when no config was read.
    """

    target_name: str
    draft_name: str
    target: TargetShape
    draft: DraftShape
    target_source: str
    draft_source: str
    target_bytes: float
    is_multimodal: bool = False
    model_type: str = ""

    @property
    def draft_bytes(self) -> int:
        return self.draft.pass_bytes + self.draft.fc_bytes


@dataclass(frozen=True)
class _Target:
    shape: TargetShape
    source: str
    num_bytes: float
    is_multimodal: bool
    model_type: str
    usual_draft: DraftShape


def read_pair(target: str, draft: str) -> tuple[Pair, Acceptance]:
    """The pair of these names, and the best that is known of the draft's acceptance.

    A folder or hub id is read by its config.json alone. A published target and the two seeds need
    no file: their sizes ship with the package (data/models.toml). Acceptance: what the draft's
    eagle3.json expects, else its card if it is a seed, else `typical`.
    """
    found = _read_target(target)
    shape, source, sidecar = _read_draft(draft, found)
    pair = Pair(
        target,
        draft,
        found.shape,
        shape,
        found.source,
        source,
        found.num_bytes,
        found.is_multimodal,
        found.model_type,
    )
    if sidecar.get("expected_acceptance"):
        return pair, from_sidecar(sidecar, f"{draft}: {SIDECAR}")
    return pair, card_acceptance(draft) if draft in cards() else typical()


def draft_shape_of(config: Mapping[str, Any], where: str = "draft") -> DraftShape:
    """The shape of a draft from its config.json alone, of any dialect; raises DraftError.

    Without a list of taps there are three; an absent draft_vocab_size means the whole vocabulary.
    """
    problems: list[Problem] = []
    outer = Fields(config, problems)
    name = "transformer_layer_config"
    fields = outer.section(name) if name in outer else outer
    hidden, heads = fields.count("hidden_size") or 0, fields.count("num_attention_heads") or 0
    kv_heads = fields.count("num_key_value_heads", heads or None) or 0
    head_dim = fields.count("head_dim", (hidden // heads or None) if heads else None) or 0
    layer = 3 * (fields.count("intermediate_size") or 0) * hidden
    vocab = outer.optional_count("draft_vocab_size") or fields.count("vocab_size") or 0
    num_layers = fields.count("num_hidden_layers", 1) or 1
    width = outer.optional_count("target_hidden_size") or hidden
    taps = _taps(outer)
    if problems:
        raise DraftError(tuple(dict.fromkeys(problems)), where=where)
    q, kv = heads * head_dim, kv_heads * head_dim
    layer += hidden * (2 * q + 2 * kv)
    return DraftShape(
        pass_params=num_layers * layer + hidden * (q + 2 * kv) + vocab * hidden,
        fc_params=taps * width * hidden,
        kv_bytes_per_token=2 * num_layers * kv * BYTES_PER_KV_VALUE,
    )


def _taps(outer: Fields) -> int:
    key = "eagle_aux_hidden_state_layer_ids"
    ids = outer.ids(key) or outer.section("eagle_config").ids(key)
    return len(ids) if ids else NUM_TAPS


def _read_target(name: str) -> _Target:
    short = name.rpartition("/")[2].partition("@")[0]
    if not Path(name).expanduser().exists():
        try:
            shape, usual = known_target(short)
        except NotFoundError:
            return _target_of(_config(name), name)
        is_multimodal = "-VL-" in short
        num_bytes = _num_bytes(shape, is_tied=False)
        num_bytes += IMAGE_ENCODER_BYTES if is_multimodal else 0
        source = f"published sizes of {short}"
        return _Target(shape, source, num_bytes, is_multimodal, "", usual)
    return _target_of(_config(name), name)


def _target_of(config: Mapping[str, Any], name: str) -> _Target:
    shape = target_shape(config, where=name)
    outer = Fields(config, [])
    text = outer.section("text_config")
    is_tied = bool(outer.flag("tie_word_embeddings") or text.flag("tie_word_embeddings"))
    vision = outer.section("vision_config")
    num_bytes = _num_bytes(shape, is_tied) + _encoder_bytes(vision)
    model_type = outer.text("model_type") or ""
    is_multimodal = bool(vision.values)
    usual = usual_draft_shape(shape)
    return _Target(shape, f"{name}: config.json", num_bytes, is_multimodal, model_type, usual)


def _encoder_bytes(vision: Fields) -> float:
    """Attention and MLP of each layer, in 16 bits."""
    hidden = vision.number("hidden_size") or 0
    depth = vision.number("depth") or vision.number("num_hidden_layers") or 0
    mlp = 2 * hidden * (vision.number("intermediate_size") or 0)
    return BYTES_PER_DRAFT_WEIGHT * depth * (4 * hidden**2 + mlp)


def _num_bytes(shape: TargetShape, is_tied: bool) -> float:
    """All weights; an embedding that is not known to be the head's counts by itself."""
    num_experts = shape.experts.num_experts if shape.experts else 0
    embedding = 0 if is_tied else 2 * shape.vocab_size * shape.hidden_size
    return shape.shared_bytes + num_experts * shape.expert_bytes + embedding


def _read_draft(name: str, target: _Target) -> tuple[DraftShape, str, Mapping[str, Any]]:
    """Shape, what it was read from, and the draft's eagle3.json (empty without one)."""
    if name in cards() and not Path(name).exists():
        return target.usual_draft, "usual shape of a draft for this target", {}
    from eagle3_plugin.draft.checkpoint import read_config
    from eagle3_plugin.hub import resolve

    source = resolve(name)
    shape = draft_shape_of(read_config(source, "config.json"), where=name)
    sidecar = read_config(source, SIDECAR) if SIDECAR in source.sizes() else {}
    return shape, f"{name}: config.json", sidecar


def _config(name: str) -> Mapping[str, Any]:
    from eagle3_plugin.draft.checkpoint import read_config
    from eagle3_plugin.hub import resolve

    return read_config(resolve(name), "config.json")
