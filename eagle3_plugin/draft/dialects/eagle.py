"""SafeAILab/EAGLE's own checkpoints: no Eagle3 name, no tap ids, usually a .bin file.

The trainer captures boundaries 2, n // 2 and n - 3 in its code (eagle/model/modeling_qwen3_kv.py
:582 at cb7e084); nothing in the config can change them.
"""

from __future__ import annotations

from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.dialects.sglang import read_taps
from eagle3_plugin.draft.dialects.shape import Stored

__all__ = ["NAME", "NORM_OUTPUT_IS_AMBIGUOUS", "TITLE", "evidence", "read_taps"]

NAME = "eagle"
TITLE = "SafeAILab/EAGLE"
NORM_OUTPUT_IS_AMBIGUOUS = True


def evidence(stored: Stored) -> list[str]:
    name = architecture_of(stored.config)
    if name not in ("LlamaForCausalLM", "Qwen3ForCausalLM") or "fc.weight" not in stored.shapes:
        return []
    return [f"architectures is {name}, yet the weights have an fc and a draft layer"]
