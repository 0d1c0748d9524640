"""MNN / taobao-mnn: SpecForge's layout from a fork that names the target's model type.

SpecForge's own configs for Qwen3-VL name it too, and mean the same. MNN's training configs say
tie_word_embeddings: true although the checkpoint has a reduced lm_head of its own; the weights
decide, and the flag is reported.
"""

from __future__ import annotations

from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.dialects.sglang import ARCHITECTURES, read_taps
from eagle3_plugin.draft.dialects.shape import Stored

__all__ = ["NAME", "NORM_OUTPUT_IS_AMBIGUOUS", "TITLE", "evidence", "read_taps"]

NAME = "mnn"
TITLE = "MNN, taobao-mnn"
NORM_OUTPUT_IS_AMBIGUOUS = True


def evidence(stored: Stored) -> list[str]:
    target = stored.config.get("target_model_type")
    if (
        not str(target).startswith("qwen3_vl")
        or architecture_of(stored.config) not in ARCHITECTURES
    ):
        return []
    return [f"target_model_type is {target}", f"architectures is {architecture_of(stored.config)}"]
