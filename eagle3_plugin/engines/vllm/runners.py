"""Which of vLLM's two model runners can feed a draft at images as it was trained.

vLLM 0.32 runs V2 by default on a GPU. Its drafter (v1/worker/gpu/spec_decode/target_dependent_ar)
copies one position for each token, the sequence index, and knows no M-RoPE; it fetches taps after
the visual add only; and whether its visual embeddings are right has not been seen, as V2 needs
Triton and a GPU. `drafting.py` mends V1. So pairs that need more than V2 has are sent to V1, by the
list of what V2 lacks that vLLM itself asks for, which also logs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.engines.draft_config import CANONICAL_KEY, canonical_config
from eagle3_plugin.engines.vllm.image_inputs import ImageInputs, image_inputs
from eagle3_plugin.errors import EngineError

MODALITIES = ("image", "video")


def v2_gaps(inputs: ImageInputs) -> list[str]:
    """What the V2 runner lacks for such inputs, in words; empty if it has all."""
    gaps = {
        "M-RoPE positions of EAGLE-3 drafts": inputs.axes == 3,
        "visual embeddings of EAGLE-3 drafts": inputs.embedding == "visual",
        "EAGLE-3 taps before the visual add": bool(inputs.taps_before),
    }
    return [gap for gap, is_needed in gaps.items() if is_needed]


def require_runner(inputs: ImageInputs, *, is_v2: bool, replays_prompts: bool) -> None:
    """Raises EngineError when the runner cannot give the draft these inputs.

    replays_prompts: prompts are run by full CUDA graphs, which leave no place between the target
        and its taps.
    """
    gaps = v2_gaps(inputs)
    if is_v2 and gaps:
        raise EngineError(
            f"vLLM's V2 model runner does not have what this draft needs: {', '.join(gaps)}",
            hint="Set VLLM_USE_V2_MODEL_RUNNER=0 or leave it unset; or serve text only, with "
            '--limit-mm-per-prompt \'{"image": 0, "video": 0}\'.',
        )
    if replays_prompts and inputs.taps_before:
        raise EngineError(
            f"cudagraph_mode FULL runs prompts as one CUDA graph; this draft needs its taps "
            f"{list(inputs.taps_before)} from before the visual add, which is inside of it",
            hint="Set cudagraph_mode to FULL_AND_PIECEWISE (vLLM's default) or PIECEWISE.",
        )


def with_our_gaps(original: Callable[..., list[str]], vllm_config: Any) -> list[str]:
    """VllmConfig._get_v2_model_runner_unsupported_features, with what our draft needs."""
    inputs = served_image_inputs(vllm_config)
    return original(vllm_config) + (v2_gaps(inputs) if inputs else [])


def served_image_inputs(vllm_config: Any) -> ImageInputs | None:
    """What our draft gets at images; None without a draft of ours or without images."""
    speculative = vllm_config.speculative_config
    draft = getattr(getattr(speculative, "draft_model_config", None), "hf_config", None)
    if getattr(draft, CANONICAL_KEY, None) is None or not _takes_images(vllm_config.model_config):
        return None
    target = target_from_config(vllm_config.model_config.hf_config.to_dict())
    return image_inputs(canonical_config(draft), target)


def _takes_images(model_config: Any) -> bool:
    limits = model_config.multimodal_config
    return limits is not None and any(limits.get_limit_per_prompt(m) for m in MODALITIES)
