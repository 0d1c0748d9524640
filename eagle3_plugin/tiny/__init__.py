"""Small real pairs (Qwen3 target, EAGLE-3 draft) that demo and tests run on.

Trained on this machine the first time, in about three minutes on two quiet cores, and cached.
Importing this loads no torch, and neither does asking for a pair that is cached.
"""

from __future__ import annotations

from eagle3_plugin.tiny.recipes import DraftRecipe, TargetRecipe
from eagle3_plugin.tiny.text import TinyPair, make_pair, tiny_moe_pair, tiny_pair
from eagle3_plugin.tiny.variants import VARIANTS
from eagle3_plugin.tiny.vl import VlPair, tiny_vl_pair
from eagle3_plugin.tiny.vl_variants import VL_VARIANTS

__all__ = [
    "VARIANTS",
    "VL_VARIANTS",
    "DraftRecipe",
    "TargetRecipe",
    "TinyPair",
    "VlPair",
    "make_pair",
    "tiny_moe_pair",
    "tiny_pair",
    "tiny_vl_pair",
]
