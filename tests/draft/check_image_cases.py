"""Drafts for the rules about images, and about positions beside a target that takes them."""

from __future__ import annotations

from typing import Any

from eagle3_plugin.draft.dialects.settle import Settle
from tests.draft.check_cases import (
    ALL,
    IMAGES,
    MROPE,
    PROBLEM_TRIPS,
    SECTION,
    SETTING_TRIPS,
    WARNED,
    WEIGHT_TRIPS,
    Trip,
)
from tests.draft.check_stock_cases import FORM_TRIPS, MISREAD_TRIPS, PAIR_TRIPS

VLLM = {"mrope-v2-runner": "warning info - -", "image-key-slots": "warning info - -"}
ALWAYS = VLLM | {"chat-template-images": "- - info info"}
"""What is said of every draft with M-RoPE beside a target that takes images."""

UNKNOWN = ALWAYS | {"image-embedding-unknown": WARNED}
DEEPSTACK = IMAGES | {"deepstack_layers": (0, 1, 2)}
PLACEHOLDER = {"image_embedding": "placeholder"}
VISUAL = {"image_embedding": "visual"}
ONLY_PLUGIN = "- error - error"
YARN: dict[str, Any] = {
    "theta": 1e6, "type": "yarn", "mrope_section": (6, 5, 5), "mrope_interleaved": True,
    "parameters": {"factor": 4.0, "original_max_position_embeddings": 512},
}  # fmt: skip
LINEAR = YARN | {"type": "linear", "parameters": {"factor": 4.0}}

IMAGE_TRIPS = (
    Trip("1-D positions beside M-RoPE", {"positions-1d": WARNED}, target=MROPE),
    Trip("1-D positions beside a target that takes images",
         {name: UNKNOWN[name] for name in UNKNOWN if name != "mrope-v2-runner"}
         | {"positions-1d": WARNED}, target=IMAGES),
    Trip("a section in blocks beside an interleaved one", {"mrope-unlike-target": WARNED},
         draft={"rope": MROPE["rope"] | {"mrope_interleaved": False}}, target=MROPE),
    Trip("M-RoPE beside a target with 1-D positions", {"mrope-unlike-target": WARNED},
         draft=MROPE),
    Trip("M-RoPE that does not say whether it is interleaved",
         {"mrope-interleaved-absent": WARNED},
         fields={"rope_scaling": SECTION}, target=MROPE),
    Trip("M-RoPE scaled by yarn", {"mrope-scaling-dropped": "- - error info"},
         draft={"rope": YARN}, target={"rope": YARN}),
    Trip("M-RoPE scaled linearly",
         {"mrope-scaling-dropped": "- - error info", "mrope-scaling-refused": "error error - -"},
         draft={"rope": LINEAR}, target={"rope": LINEAR}),
    Trip("a target that takes images", UNKNOWN, draft=MROPE, target=IMAGES),
    Trip("trained on placeholders", ALWAYS | {"image-embedding-misread": "- - warning info"},
         draft=MROPE, target=IMAGES, sidecar=PLACEHOLDER),
    Trip("trained on visual features", ALWAYS | {"image-embedding-misread": "warning info - -"},
         draft=MROPE, target=IMAGES, sidecar=VISUAL),
    Trip("known image inputs beside a target for text", {}, sidecar=VISUAL),
    Trip("placeholders, as answered, which is what the plugin takes",
         ALWAYS | {"image-embedding-misread": "- - warning info"},
         draft=MROPE, target=IMAGES, settle=Settle(image_embedding="placeholder")),
    Trip("visual features, as answered",
         ALWAYS | {"image-embedding-misread": "warning info - -",
                   "answers-not-in-files": ONLY_PLUGIN},
         draft=MROPE, target=IMAGES, settle=Settle(image_embedding="visual")),
    Trip("an answer that eagle3.json contradicts",
         ALWAYS | {"image-inputs-conflict": ALL, "image-embedding-misread": "warning info - -"},
         draft=MROPE, target=IMAGES, sidecar=PLACEHOLDER, settle=Settle(image_embedding="visual")),
    Trip("visual features for a narrow draft", {"image-embedding-width": ALL},
         draft={"hidden_size": 32, "embedding": "own"}, settle=Settle(image_embedding="visual")),
    Trip("a narrow draft",
         UNKNOWN | {"narrow-draft": "warning warning - -", "image-narrow-draft": "- - error info"},
         draft=MROPE | {"hidden_size": 32, "embedding": "own"}, target=IMAGES),
    Trip("a tap where visual features are added", UNKNOWN | {"deepstack-unknown": WARNED},
         draft=MROPE, target=DEEPSTACK),
    Trip("a tap that was trained after the add", UNKNOWN,
         draft=MROPE, target=DEEPSTACK, sidecar={"deepstack_tap": "after"}),
    Trip("a tap that was trained before the add",
         UNKNOWN | {"deepstack-misread": "warning info warning info"},
         draft=MROPE, target=DEEPSTACK, sidecar={"deepstack_tap": "before"}),
    Trip("taps above the visual features", UNKNOWN,
         dialect="universal", draft=MROPE | {"taps": (4, 5, 6)}, target=DEEPSTACK),
    Trip("a Qwen3-VL-MoE", UNKNOWN | {"deepstack-unknown": WARNED}, draft=MROPE,
         target=DEEPSTACK | {"model_type": "qwen3_vl_moe", "num_experts": 8}),
    Trip("a release before Qwen3-VL",
         UNKNOWN | {"engine-version": WARNED, "engine-too-old": ALL}, draft=MROPE,
         target=IMAGES | {"model_type": "qwen3_vl"}, versions=("0.11.2", "0.5.10")),
    Trip("images in a family that the plugin leaves alone",
         {name: both.replace("info", "warning") for name, both in UNKNOWN.items()}
         | {"chat-template-images": "- - info info", "plugin-not-ours": "- warning - warning"},
         draft=MROPE, target=IMAGES | {"model_type": "qwen2_5_vl"}),
)  # fmt: skip

TRIPS = (
    *SETTING_TRIPS, *PROBLEM_TRIPS, *WEIGHT_TRIPS, *FORM_TRIPS, *MISREAD_TRIPS, *PAIR_TRIPS,
    *IMAGE_TRIPS,
)  # fmt: skip
