"""The draft inside SGLang: its own classes, and only what they lack.

What stock SGLang 0.5.23 does right is inherited untouched: fc and its norms, the feedback, the
vocabulary map, logits. Added here: q/k norms, biases, the residual from the normed state, layers
after the first, embeddings of the draft's own, an fc as wide as its input, taps in any order, ropes
scaled beside M-RoPE, and a loader that names every missing, extra, misfit or non-finite tensor
before the first request. What a draft gets of an image is in `images.py`.

mypy does not see this file: SGLang ships no types and is not installed where mypy runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from sglang.srt.layers.layernorm import RMSNorm
from sglang.srt.layers.linear import QKVParallelLinear, RowParallelLinear
from sglang.srt.models import llama_eagle3
from sglang.srt.models.llama import LlamaAttention
from sglang.srt.models.utils import apply_qk_norm
from sglang.srt.utils import add_prefix
from torch import nn

from eagle3_plugin import __version__
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.engines.draft_config import CANONICAL_KEY, canonical_config
from eagle3_plugin.engines.sglang.draft_config import TARGET_KEY
from eagle3_plugin.engines.sglang.models.rope import rotary
from eagle3_plugin.engines.sglang.plugin import wrap_workers
from eagle3_plugin.engines.weights import canonical_weights, with_ascending_taps
from eagle3_plugin.errors import EngineError

logger = logging.getLogger(__name__)

STACKED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
STACKED |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
"""Part of a tensor's name -> part of the parameter's that SGLang stacks it into."""


class Attention(LlamaAttention):
    """Llama's attention, with Qwen3's per-head norms on q and k."""

    def forward_prepare_native(self, positions, hidden_states):
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        q, k = apply_qk_norm(q, k, self.q_norm, self.k_norm, self.head_dim)
        q, k = self.rotary_emb(positions, q, k)
        return q, k, v

    def forward_prepare_npu(self, positions, hidden_states, forward_batch):
        return self.forward_prepare_native(positions, hidden_states)


class NormedLayer(llama_eagle3.LlamaDecoderLayer):
    """SGLang's first layer, with the normed state as the residual."""

    def forward(self, positions, embeds, hidden_states, forward_batch, residual):
        residual = self.hidden_norm(hidden_states)
        both = torch.cat([self.input_layernorm(embeds), residual], dim=-1)
        attended = self.self_attn(
            positions=positions, hidden_states=both, forward_batch=forward_batch
        )
        hidden_states, residual = self.post_attention_layernorm(attended, residual)
        return self.mlp(hidden_states), residual


class SquareModel(llama_eagle3.LlamaModel):
    """SGLang's draft model, where the taps are as wide as the state that is fed back.

    SGLang tells the two by their width, and skips fc for both; here the mode of the pass tells.
    """

    def forward(self, input_ids, positions, forward_batch, *args, **kwargs):
        spec_info = forward_batch.spec_info
        taps = spec_info.hidden_states
        if not forward_batch.forward_mode.is_decode():
            spec_info.hidden_states = self.fuse(taps)
        try:
            return super().forward(input_ids, positions, forward_batch, *args, **kwargs)
        finally:
            spec_info.hidden_states = taps

    def fuse(self, taps: torch.Tensor) -> torch.Tensor:
        if self.input_norm is not None:
            taps = self.input_norm(taps)
        if self.fc_norm is not None:
            chunks = taps.chunk(self.num_aux_hidden_states, dim=-1)
            taps = torch.cat([norm(x) for norm, x in zip(self.fc_norm, chunks, strict=True)], -1)
        return self.fc(taps)


class Eagle3Draft(llama_eagle3.LlamaForCausalLMEagle3):
    """A draft of either decoder: SGLang builds it, and it is then fitted to its canonical config.

    Fitting changes the class of a module that SGLang built, rather than building it twice.
    """

    def __init__(self, config, quant_config=None, prefix: str = ""):
        if getattr(config, CANONICAL_KEY, None) is None:
            raise EngineError(
                "the draft's config did not pass through eagle3_plugin: its reader is not in "
                "place in this process",
                hint="See `eagle3 plugins sglang`.",
            )
        super().__init__(config, quant_config, prefix)
        self.draft = canonical_config(config)
        self.sees_images = getattr(config, TARGET_KEY)["is_multimodal"]
        if self.sees_images:
            wrap_workers()
        if self.draft.num_taps * self.draft.target_hidden_size == self.draft.hidden_size:
            self.model.__class__ = SquareModel
        for index, layer in enumerate(self.model.layers):
            if self.draft.rope.type != "default":
                layer.self_attn.rotary_emb = rotary(self.draft, config.max_position_embeddings)
            _fit_layer(layer, index, self.draft, quant_config, add_prefix("model", prefix))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Loads the stored tensors of any dialect; raises DraftError naming all that do not fit."""
        named = canonical_weights(self.draft, weights)
        _require_places(self, [name for name in named if name not in ("d2t", "t2d")])
        super().load_weights(with_ascending_taps(self.draft, named).items())
        taps = list(self.draft.taps)
        logger.info(
            "eagle3_plugin %s serves this draft as it was trained, taps %s", __version__, taps
        )
        if self.sees_images:
            logger.info("eagle3_plugin: at image positions %s", _image_inputs(self.draft))

    def set_embed(self, embed) -> None:
        if self.draft.embedding == "target":
            super().set_embed(embed)

    def set_embed_and_head(self, embed, head) -> None:
        own = self.draft.embedding == "own"
        super().set_embed_and_head(self.model.embed_tokens.weight if own else embed, head)


def _image_inputs(draft: DraftConfig) -> str:
    embedded = {
        "visual": "the target's visual embeddings",
        "placeholder": "the embedding of the placeholder",
        "unknown": "the embedding of the placeholder (the draft does not say; SpecForge trains so)",
    }
    positions = "in the sequence" if draft.rope.mrope_section is None else "of three axes"
    return f"the draft gets {embedded[draft.image_embedding]}, at positions {positions}"


def _require_places(module: nn.Module, names: list[str]) -> None:
    """SGLang's own loader drops a tensor without a parameter in silence; here it is an error."""
    places = dict(module.named_parameters())
    homeless = [name for name in names if not {_place(name), f"model.{_place(name)}"} & set(places)]
    if homeless:
        raise EngineError(
            f"this SGLang has no place for {', '.join(homeless)}",
            hint="Use SGLang 0.5.23, or convert the draft with `eagle3 convert` after a check.",
        )


def _place(name: str) -> str:
    parts = name.split(".")
    return ".".join(STACKED.get(part, part) for part in parts)


def _fit_layer(layer, index: int, draft: DraftConfig, quant_config, prefix: str) -> None:
    _fit_biases(layer, draft, quant_config, prefix)
    if draft.decoder == "qwen3":
        layer.self_attn.__class__ = Attention
        layer.self_attn.q_norm = RMSNorm(draft.head_dim, eps=draft.rms_norm_eps)
        layer.self_attn.k_norm = RMSNorm(draft.head_dim, eps=draft.rms_norm_eps)
    if index == 0 and draft.residual == "normed":
        layer.__class__ = NormedLayer
    if index > 0:
        layer.hidden_norm = layer.input_layernorm


def _fit_biases(layer, draft: DraftConfig, quant_config, prefix: str) -> None:
    """SGLang's layer has no biases on q, k and v; o_proj gets one from flags of other meaning."""
    attention = layer.self_attn
    if draft.attention_bias:
        attention.qkv_proj = QKVParallelLinear(
            draft.hidden_size * (2 if layer.is_input_layer else 1),
            draft.head_dim,
            draft.num_attention_heads,
            draft.num_key_value_heads,
            bias=True,
            quant_config=quant_config,
            prefix=add_prefix("qkv_proj", prefix),
        )
    if (attention.o_proj.bias is not None) != draft.attention_output_bias:
        attention.o_proj = RowParallelLinear(
            draft.num_attention_heads * draft.head_dim,
            draft.hidden_size,
            bias=draft.attention_output_bias,
            quant_config=quant_config,
            prefix=add_prefix("o_proj", prefix),
        )


EntryClass = [Eagle3Draft]
