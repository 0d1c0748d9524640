"""What a step of a target and a pass of a draft read and compute: bytes, parameters, FLOPs.

Embedding rows, norms and biases are left out: together under 0.1 % of what a step reads.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eagle3_plugin.draft.dialects.fields import Fields
from eagle3_plugin.errors import NotFoundError, Problem, TargetError

if TYPE_CHECKING:
    from eagle3_plugin.draft.config import DraftConfig

BYTES_PER_KV_VALUE: Final = 2
BYTES_PER_DRAFT_WEIGHT: Final = 2
"""Both engines load a draft in the target's 16-bit type, whatever the file holds."""

NUM_BITS: Final[Mapping[str, float]] = {"fp8": 8, "awq": 4, "gptq": 4}
"""Bits of a linear weight by `quant_method`, where the section does not say `bits` itself."""

SCALE_BYTES: Final = 0.02
"""What a 16-bit scale and a 4-bit zero point add to each of the 128 weights that share them."""

_MODELS = Path(__file__).with_name("data") / "models.toml"


@dataclass(frozen=True)
class Experts:
    """The routed experts of a mixture-of-experts target.

    num_layers: the layers that have them. intermediate_size: of one expert.
    """

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int
    num_layers: int

    def touched(self, num_tokens: float) -> float:
        """The experts of one layer that some of the tokens need, were each routed by chance.

        E * (1 - (1 - k / E) ** tokens); `num_tokens` may be an effective number.
        """
        untouched: float = (1 - self.num_experts_per_token / self.num_experts) ** num_tokens
        return self.num_experts * (1 - untouched)


@dataclass(frozen=True)
class TargetShape:
    """The sizes of a target that its speed depends on.

    bytes_per_weight: of the decoder's linear layers; the lm_head is read in 16 bits.
    intermediate_size: of the layers without experts.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    experts: Experts | None = None
    bytes_per_weight: float = 2.0

    @property
    def active_params(self) -> float:
        """The weights that one token is multiplied with."""
        per_token = self.experts.num_experts_per_token if self.experts else 0
        return self._shared_params + per_token * self.expert_params + self._head_params

    @property
    def num_params(self) -> float:
        """All weights but the embedding's."""
        num_experts = self.experts.num_experts if self.experts else 0
        return self._shared_params + num_experts * self.expert_params + self._head_params

    @property
    def expert_params(self) -> float:
        """One expert in all the layers that have experts; 0 for a dense target."""
        if self.experts is None:
            return 0
        return 3.0 * self.hidden_size * self.experts.intermediate_size * self.experts.num_layers

    @property
    def expert_bytes(self) -> float:
        return self.expert_params * self.bytes_per_weight

    @property
    def shared_bytes(self) -> float:
        """What every step reads, however many tokens it has: all but the routed experts."""
        return self._shared_params * self.bytes_per_weight + self._head_params * 2.0

    @property
    def kv_bytes_per_token(self) -> int:
        values = 2 * self.num_layers * self.num_key_value_heads * self.head_dim
        return values * BYTES_PER_KV_VALUE

    def step_bytes(self, num_tokens: float) -> float:
        """The weights read by a step of so many unrelated tokens."""
        touched = self.experts.touched(num_tokens) if self.experts else 0
        return self.shared_bytes + touched * self.expert_bytes

    @property
    def _shared_params(self) -> float:
        q, kv = (n * self.head_dim for n in (self.num_attention_heads, self.num_key_value_heads))
        attention = self.num_layers * self.hidden_size * (2 * q + 2 * kv)
        num_dense = self.num_layers - (self.experts.num_layers if self.experts else 0)
        router = self.experts.num_experts * self.experts.num_layers if self.experts else 0
        mlp = 3 * num_dense * self.intermediate_size
        return attention + self.hidden_size * (mlp + router)

    @property
    def _head_params(self) -> int:
        return self.vocab_size * self.hidden_size


@dataclass(frozen=True)
class DraftShape:
    """The weights of a draft: `pass_params` for each token, `fc_params` once a round."""

    pass_params: int
    fc_params: int
    kv_bytes_per_token: int

    @property
    def pass_bytes(self) -> int:
        return self.pass_params * BYTES_PER_DRAFT_WEIGHT

    @property
    def fc_bytes(self) -> int:
        return self.fc_params * BYTES_PER_DRAFT_WEIGHT


def draft_shape(config: DraftConfig) -> DraftShape:
    """The shape of a draft: the first layer's q, k and v read the embedding and the state."""
    hidden = config.hidden_size
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    layer = hidden * (2 * q + 2 * kv + 3 * config.intermediate_size)
    second_input = hidden * (q + 2 * kv)
    head = config.draft_vocab_size * hidden
    return DraftShape(
        pass_params=config.num_layers * layer + second_input + head,
        fc_params=config.num_taps * config.target_hidden_size * hidden,
        kv_bytes_per_token=2 * config.num_layers * kv * BYTES_PER_KV_VALUE,
    )


def usual_draft_shape(target: TargetShape, intermediate_size: int | None = None) -> DraftShape:
    """The draft that SpecForge trains for a target unless told otherwise: one of its layers,
    three taps, a vocabulary of 32,000. `intermediate_size`: None means the target's own.
    """
    hidden, head_dim = target.hidden_size, target.head_dim
    q, kv = target.num_attention_heads * head_dim, target.num_key_value_heads * head_dim
    mlp = 3 * (intermediate_size or target.intermediate_size)
    return DraftShape(
        pass_params=hidden * (3 * q + 4 * kv + mlp + 32000),
        fc_params=3 * hidden * hidden,
        kv_bytes_per_token=2 * kv * BYTES_PER_KV_VALUE,
    )


def target_shape(config: Mapping[str, Any], where: str = "target") -> TargetShape:
    """The shape of a target from its config.json; raises TargetError naming every bad field."""
    problems: list[Problem] = []
    outer = Fields(config, problems)
    fields = outer.section("text_config") if "text_config" in outer else outer
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    hidden, num_layers, heads, vocab_size = (fields.count(name) or 0 for name in names)
    experts = _experts(fields, num_layers)
    only_experts = experts is not None and experts.num_layers == num_layers
    shape = TargetShape(
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size", 1 if only_experts else None) or 0,
        num_layers=num_layers,
        num_attention_heads=heads,
        num_key_value_heads=fields.count("num_key_value_heads", heads or None) or 0,
        head_dim=fields.count("head_dim", (hidden // heads or None) if heads else None) or 0,
        vocab_size=vocab_size,
        experts=experts,
        bytes_per_weight=_bytes_per_weight(outer, problems),
    )
    if not problems:
        return shape
    lines = "\n".join(f"  {p.message}" for p in dict.fromkeys(problems))
    raise TargetError(
        f"{where}: config.json lacks what the cost of a step depends on\n{lines}",
        hint="--target takes the folder or hub id of the target model, with its own config.json.",
    )


def known_target(name: str) -> tuple[TargetShape, DraftShape]:
    """The shape of a published target, by its name without the owner, and of its usual draft.

    Raises NotFoundError for a model that data/models.toml does not list.
    """
    models = _known_models()
    if name not in models:
        raise NotFoundError(
            f"no shape of {name!r} ships with the package; there are {', '.join(sorted(models))}",
            hint="Give the target's folder or hub id: its config.json has the sizes.",
        )
    values = dict(models[name])
    intermediate = values.pop("draft_intermediate_size", None)
    if "experts" in values:
        values["experts"] = Experts(**values["experts"])
    target = TargetShape(**values)
    return target, usual_draft_shape(target, intermediate)


def _experts(fields: Fields, num_layers: int) -> Experts | None:
    """Layer i has experts if (i + 1) divides by decoder_sparse_step and is not in mlp_only_layers
    (transformers 5.19, modeling_qwen3_moe.py, Qwen3MoeDecoderLayer).
    """
    num_experts = fields.optional_count("num_experts")
    if num_experts is None:
        return None
    per_token = fields.count("num_experts_per_tok") or 0
    intermediate = fields.count("moe_intermediate_size") or 0
    step = fields.optional_count("decoder_sparse_step") or 1
    dense = set(fields.ids("mlp_only_layers") or ())
    with_experts = [i for i in range(num_layers) if (i + 1) % step == 0 and i not in dense]
    return Experts(num_experts, per_token, intermediate, len(with_experts))


def _bytes_per_weight(outer: Fields, problems: list[Problem]) -> float:
    section = outer.section("quantization_config")
    if not section.values:
        return 2.0
    method = section.text("quant_method") or "absent"
    num_bits = section.number("bits") or _group_bits(section) or NUM_BITS.get(method)
    if num_bits is None:
        expected = f"bits, or a quant_method of {', '.join(NUM_BITS)}"
        message = f"quantization_config has quant_method {method} and no bits; expected {expected}"
        problems.append(Problem("target-quantization", f"config.json: {message}"))
        return 2.0
    return num_bits / 8 + (SCALE_BYTES if num_bits < 8 else 0)


def _group_bits(section: Fields) -> float | None:
    """`num_bits` of the first group, as compressed-tensors writes it."""
    groups = section.section("config_groups")
    first = next(iter(groups.values), None)
    if first is None:
        return None
    return groups.section(first).section("weights").number("num_bits")


@cache
def _known_models() -> dict[str, dict[str, Any]]:
    table = tomllib.loads(_MODELS.read_text(encoding="utf-8"))
    return {
        name: {key: value for key, value in model.items() if key not in ("names", "source")}
        for model in table["model"]
        for name in model["names"]
    }
