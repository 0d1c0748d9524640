"""The draft inside vLLM: its own classes, and only what they lack.

What stock vLLM 0.32 does right is inherited untouched. Added here: the canonical config decides
which biases exist; taps in any order; a vocabulary map over the full vocabulary; a loader that
names every missing, extra, misfit or non-finite tensor before the first request; and visual
embeddings where the draft was trained on them. What happens at images outside of the draft's own
classes is in `drafting.py`.

mypy does not see this file: vLLM ships no types and is not installed where mypy runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from vllm.config import CUDAGraphMode, VllmConfig
from vllm.logger import init_logger
from vllm.model_executor.layers.linear import ReplicatedLinear, RowParallelLinear
from vllm.model_executor.models.llama_eagle3 import Eagle3LlamaForCausalLM
from vllm.model_executor.models.qwen3_eagle3 import Eagle3Qwen3ForCausalLM
from vllm.model_executor.models.utils import (
    _merge_multimodal_embeddings,
    get_draft_quant_config,
    maybe_prefix,
)

from eagle3_plugin import __version__
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.engines.draft_config import CANONICAL_KEY, canonical_config
from eagle3_plugin.engines.names import is_our_target
from eagle3_plugin.engines.vllm.drafting import hook_drafting
from eagle3_plugin.engines.vllm.plugin import SUPPORTED
from eagle3_plugin.engines.vllm.runners import require_runner, served_image_inputs
from eagle3_plugin.engines.weights import Tensors, canonical_weights, with_ascending_taps
from eagle3_plugin.errors import EngineError

logger = init_logger("vllm.eagle3_plugin")
"""Named below vLLM's own logger, whose handler shows it; others' lines are not shown."""

Named = tuple[str, torch.Tensor]


class CanonicalDraft:
    """What both classes add to vLLM's own; mixed in before them.

    Beside a target that is no Qwen3 they add nothing: such pairs run as in stock vLLM.
    """

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        hf_config = vllm_config.speculative_config.draft_model_config.hf_config
        is_read = getattr(hf_config, CANONICAL_KEY, None) is not None
        if not is_read and is_our_target(vllm_config.model_config.hf_config.to_dict()):
            raise EngineError(
                "the draft's config did not pass through eagle3_plugin: its config hook is not in "
                "place in this process",
                hint="Set method to eagle3 in --speculative-config, and see `eagle3 plugins vllm`.",
            )
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.draft = canonical_config(hf_config) if is_read else None
        self.image_inputs = served_image_inputs(vllm_config)
        if self.draft is None:
            return
        if not vllm_config.use_v2_model_runner:
            hook_drafting(SUPPORTED)
        self._check_image_inputs(vllm_config)
        quant_config = get_draft_quant_config(vllm_config)
        for index, layer in enumerate(self.model.layers):
            at = maybe_prefix(prefix, f"model.layers.{index}.self_attn.o_proj")
            _fit_output_bias(layer.self_attn, self.draft, quant_config, at)
        if self.draft.fc_bias:
            self.model.fc = ReplicatedLinear(
                input_size=self.model.fc_input_size,
                output_size=self.draft.hidden_size,
                bias=True,
                params_dtype=vllm_config.model_config.dtype,
                quant_config=quant_config,
                prefix=maybe_prefix(prefix, "model.fc"),
                return_bias=False,
            )

    def _check_image_inputs(self, vllm_config: VllmConfig) -> None:
        """Refuses what would feed the draft wrongly, and says what is assumed of it."""
        inputs = self.image_inputs
        if inputs is None:
            return
        graphs = vllm_config.compilation_config.cudagraph_mode
        require_runner(
            inputs,
            is_v2=vllm_config.use_v2_model_runner,
            replays_prompts=graphs.mixed_mode() is CUDAGraphMode.FULL,
        )
        self.supports_multimodal_embeddings = inputs.embedding == "visual"
        compact = vllm_config.speculative_config.disable_padded_drafter_batch
        if self.supports_multimodal_embeddings and compact:
            raise EngineError(
                "disable_padded_drafter_batch is set, and vLLM then gives visual embeddings to "
                "other rows of the draft than those of their image",
                hint="Leave disable_padded_drafter_batch out of --speculative-config.",
            )
        for assumed in inputs.assumed:
            logger.warning(
                "eagle3_plugin: the draft does not say %s; assumed. Settle it with "
                "`eagle3 convert` and --image-embedding, --deepstack-tap.",
                assumed,
            )

    def embed_input_ids(
        self,
        input_ids: torch.Tensor,
        multimodal_embeddings: list[torch.Tensor] | None = None,
        is_multimodal: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The embeddings of the tokens, with the target's visual features in place of images.

        multimodal_embeddings: [tokens, hidden * (1 + deepstack levels)] of each image.
        is_multimodal: [tokens], shifted by one token as input_ids are (vLLM 0.32
            v1/worker/gpu_model_runner.py, `_gather_mm_embeddings`).
        """
        embeds = self.model.embed_input_ids(input_ids)
        if not multimodal_embeddings:
            return embeds
        merged = [features[..., : embeds.shape[-1]] for features in multimodal_embeddings]
        return _merge_multimodal_embeddings(embeds, merged, is_multimodal)

    def load_weights(self, weights: Iterable[Named]) -> None:
        """Loads the stored tensors of any dialect; raises DraftError naming all that do not fit."""
        if self.draft is None:
            return super().load_weights(weights)
        named = canonical_weights(self.draft, weights)
        super().load_weights(_as_vllm_loads(self.draft, named))
        served = f"taps {list(self.draft.taps)}"
        if self.image_inputs is not None:
            served += f"; {self.image_inputs}"
        logger.info("eagle3_plugin %s serves this draft as it was trained, %s", __version__, served)


class Eagle3LlamaDraft(CanonicalDraft, Eagle3LlamaForCausalLM):
    """A draft with Llama layers."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)


class Eagle3Qwen3Draft(CanonicalDraft, Eagle3Qwen3ForCausalLM):
    """A draft with Qwen3 layers (per-head q and k norms)."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)


def _fit_output_bias(attention, config: DraftConfig, quant_config, prefix: str) -> None:
    """An o_proj with a bias exactly when the draft has one (the stock classes decide otherwise)."""
    if (attention.o_proj.bias is not None) == config.attention_output_bias:
        return
    attention.o_proj = RowParallelLinear(
        config.num_attention_heads * config.head_dim,
        config.hidden_size,
        bias=config.attention_output_bias,
        quant_config=quant_config,
        prefix=prefix,
    )


def _as_vllm_loads(config: DraftConfig, named: Tensors) -> Iterator[Named]:
    """Canonical tensors in the order of columns and rows that vLLM computes in."""
    full_map = config.has_vocab_map and config.draft_vocab_size == config.vocab_size
    for name, tensor in with_ascending_taps(config, named).items():
        if name == "lm_head.weight" and full_map:
            yield name, _rows_in_target_order(tensor, named["d2t"])
        elif name != "d2t" or not full_map:
            yield name, tensor


def _rows_in_target_order(head: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    targets = torch.arange(len(offsets)) + offsets.to(torch.int64)
    ordered = torch.empty_like(head)
    ordered[targets] = head
    return ordered
