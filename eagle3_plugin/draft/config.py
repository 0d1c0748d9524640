"""The canonical description of a draft and of its target.

Where the world has two conventions there is one here, and its docstring says which.
Dialects translate into and out of this form; nothing else knows their spellings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0, strict=True)]

ROPE_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
    ),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}
"""The rope types that we read, and the parameters of each (names of transformers 5.19)."""

REQUIRED_ROPE_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ROPE_PARAMETERS["llama3"],
}


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rope(Frozen):
    """Rotary position embedding of the half-split (GPT-NeoX) kind that Llama and Qwen3 use.

    `mrope_section`: frequencies (of head_dim / 2) for the axes time, height, width; None = 1-D.
    `mrope_interleaved`: True = the axes alternate (Qwen3-VL), False = blocks (Qwen2-VL).
    """

    theta: Annotated[float, Field(gt=0)]
    type: Literal["default", "linear", "yarn", "llama3"] = "default"
    parameters: dict[str, float] = {}
    mrope_section: tuple[Count, Count, Count] | None = None
    mrope_interleaved: bool = False

    @model_validator(mode="after")
    def _parameters_fit_type(self) -> Rope:
        unknown = sorted(set(self.parameters) - set(ROPE_PARAMETERS[self.type]))
        missing = sorted(set(REQUIRED_ROPE_PARAMETERS[self.type]) - set(self.parameters))
        if unknown or missing:
            raise ValueError(
                f"rope type {self.type!r}: unknown parameters {unknown}, missing {missing}"
            )
        if self.mrope_interleaved and self.mrope_section is None:
            raise ValueError("mrope_interleaved without mrope_section")
        return self

    @property
    def attention_factor(self) -> float:
        """What cos and sin are multiplied by; for yarn 0.1 ln(factor) + 1 unless it is given."""
        factor = self.parameters.get("factor", 1.0)
        usual = 0.1 * math.log(factor) + 1.0 if self.type == "yarn" and factor > 1 else 1.0
        return self.parameters.get("attention_factor", usual)

    @property
    def is_usual_yarn(self) -> bool:
        """Whether the attention factor would be the same if the parameters did not give one."""
        rest = {k: v for k, v in self.parameters.items() if k != "attention_factor"}
        usual = self.model_copy(update={"parameters": rest}).attention_factor
        return math.isclose(self.attention_factor, usual, rel_tol=1e-6)


class DraftConfig(Frozen):
    """One EAGLE-3 draft, with nothing left to guess.

    taps: boundaries in fc column order. Boundary k is the residual stream after k target layers,
        which is the input of layer k and `hidden_states[k]` in transformers. "default" stands
        for the one default that every trainer and engine shares, [2, n // 2, n - 3] for a target
        of n layers (`default_taps`); it is kept as a word so that a draft can be read without
        its target.
    residual: which state the attention output of the first layer is added to: the fc output
        (`raw`) or its hidden_norm (`normed`, elsewhere `norm_before_residual: true`).
    fc_input_norm: `joint` = one RMSNorm over all taps (elsewhere `norm_before_fc`),
        `per_tap` = one each (elsewhere `fc_norm`).
    feedback: the state that the next draft step gets: before or after the final norm
        (`postnorm`: elsewhere `norm_output: true`). The head always reads the normed state.
    attention_bias: biases on q, k and v; attention_output_bias: on o.
    embedding, lm_head: `own` tensors, or the `target`'s.
    has_vocab_map: the lm_head's rows are a subset (or permutation) of the target's ids.
    image_embedding: what the first pass embeds at image positions: the image placeholder token, or
        the target's merged `visual` feature (without its deepstack parts).
    deepstack_tap: boundaries 1 to len(deepstack_layers) of the target at image positions: `before`
        or `after` the visual add, which belongs to the input of the next layer. No config.json
        says either of the two, only eagle3.json.
    """

    decoder: Literal["llama", "qwen3"]
    hidden_size: Count
    intermediate_size: Count
    num_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count
    vocab_size: Count
    draft_vocab_size: Count
    target_hidden_size: Count
    taps: tuple[Annotated[int, Field(ge=0, strict=True)], ...] | Literal["default"]
    num_taps: Count
    residual: Literal["raw", "normed"]
    fc_input_norm: Literal["none", "joint", "per_tap"]
    feedback: Literal["prenorm", "postnorm"]
    attention_bias: bool
    attention_output_bias: bool
    fc_bias: bool
    rms_norm_eps: Annotated[float, Field(gt=0)]
    max_position_embeddings: Count
    rope: Rope
    embedding: Literal["own", "target"]
    lm_head: Literal["own", "target"]
    has_vocab_map: bool
    dtype: Literal["BF16", "F16", "F32", "F64"]
    image_embedding: Literal["placeholder", "visual", "unknown"] = "unknown"
    deepstack_tap: Literal["after", "before", "unknown"] = "unknown"

    @model_validator(mode="after")
    def _is_consistent(self) -> DraftConfig:
        problems = list(_inconsistencies(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def taps_for(self, target_num_layers: int) -> tuple[int, ...]:
        """The boundaries to capture in a target of that many layers, in fc column order."""
        return default_taps(target_num_layers) if self.taps == "default" else self.taps

    def resolved(self, target_num_layers: int) -> DraftConfig:
        """The same draft with the default taps written out."""
        return self.model_copy(update={"taps": self.taps_for(target_num_layers)})


def default_taps(num_layers: int) -> tuple[int, int, int]:
    """The boundaries that all trainers following EAGLE use (facts: SafeAILab cnets, SpecForge)."""
    return (2, num_layers // 2, num_layers - 3)


def _inconsistencies(c: DraftConfig) -> list[str]:
    found = []
    if c.num_attention_heads % c.num_key_value_heads:
        found.append(
            f"{c.num_attention_heads} heads do not divide by {c.num_key_value_heads} kv heads"
        )
    if c.head_dim % 2:
        found.append(f"head_dim {c.head_dim} is odd")
    if c.taps == "default" and c.num_taps != 3:
        found.append(f"{c.num_taps} taps but no list of them (the default has three)")
    if c.taps != "default" and len(c.taps) != c.num_taps:
        found.append(f"taps {list(c.taps)} but fc is {c.num_taps} taps wide")
    if c.taps != "default" and len(set(c.taps)) != len(c.taps):
        found.append(f"taps {list(c.taps)} repeat")
    if c.draft_vocab_size > c.vocab_size:
        found.append(f"draft vocabulary {c.draft_vocab_size} > vocabulary {c.vocab_size}")
    if c.draft_vocab_size < c.vocab_size and not c.has_vocab_map:
        found.append("a reduced vocabulary without a vocabulary map")
    if c.draft_vocab_size < c.vocab_size and c.lm_head == "target":
        found.append("a reduced vocabulary with the target's lm_head")
    if c.hidden_size != c.target_hidden_size and "target" in (c.embedding, c.lm_head):
        found.append(
            f"hidden size {c.hidden_size} is not the target's {c.target_hidden_size}, "
            f"yet embedding is {c.embedding} and lm_head is {c.lm_head}"
        )
    if c.image_embedding == "visual" and c.hidden_size != c.target_hidden_size:
        found.append(
            f"the draft is {c.hidden_size} wide and cannot have been given visual features, which "
            f"are {c.target_hidden_size} wide"
        )
    section = c.rope.mrope_section
    if section is not None and sum(section) != c.head_dim // 2:
        found.append(
            f"mrope_section {list(section)} sums to {sum(section)}, "
            f"not to half of head_dim {c.head_dim}"
        )
    return found


class TargetConfig(Frozen):
    """What a draft has to know of its target; read by `read_target_config`."""

    architecture: str
    model_type: str
    hidden_size: Count
    num_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count
    vocab_size: Count
    max_position_embeddings: Count
    rope: Rope
    tie_word_embeddings: bool
    dtype: str | None = None
    quantization: str | None = None
    num_experts: Annotated[int, Field(ge=0)] = 0
    deepstack_layers: tuple[int, ...] = ()
    is_multimodal: bool = False

    @property
    def default_taps(self) -> tuple[int, int, int]:
        return default_taps(self.num_layers)


Json = dict[str, Any]
