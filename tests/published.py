"""Published checkpoints, one per dialect and vintage, and how each has to be read."""

from __future__ import annotations

from eagle3_plugin.draft.dialects.settle import Settle
from tests.published_configs import (
    DENSE_8B,
    DENSE_32B,
    GPT_OSS,
    INTERLEAVED,
    LAYER_2025,
    LAYER_2026,
    MOE_30B,
    MOE_235B,
    SMALL_4B,
    SPECFORGE,
    TAP_IDS,
    VL_2B,
    VL_ROPE,
    Published,
    Sizes,
    nested,
    speculators,
)

LMSYS_235B = SPECFORGE | MOE_235B.keys() | nested([1, 46, 90])
SPECFORGE_NAME = "architectures is LlamaForCausalLMEagle3"

PUBLISHED = {
    "SafeAILab's template": Published(
        {
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 2048,
            "model_type": "llama",
            "rms_norm_eps": 1e-06,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "use_cache": True,
            "draft_vocab_size": 32000,
        }
        | DENSE_8B.keys(),
        DENSE_8B.shapes(embedding=True, dtype="F16"),
        "eagle",
        ("architectures is LlamaForCausalLM, yet the weights have an fc and a draft layer",),
        DENSE_8B.canonical(
            max_position_embeddings=2048, rope={"theta": 10000.0}, embedding="own", dtype="F16"
        ),
        notes=("rope-theta-absent",),
    ),
    "SpecForge's default": Published(
        SPECFORGE | SMALL_4B.keys(),
        SMALL_4B.shapes(),
        "sglang",
        (SPECFORGE_NAME,),
        SMALL_4B.canonical(),
    ),
    "lmsys 235B, the same as SpecForge's config": Published(
        LMSYS_235B,
        MOE_235B.shapes(),
        "sglang",
        (SPECFORGE_NAME,),
        MOE_235B.canonical(taps=(2, 47, 91)),
    ),
    "SpecForge's 30B for EAGLE 3.1, once settled": Published(
        SPECFORGE
        | MOE_30B.keys()
        | {"max_position_embeddings": 2048, "fc_norm": True, "norm_output": True},
        MOE_30B.shapes() | {f"fc_norm.{tap}.weight": ("BF16", (2048,)) for tap in range(3)},
        "sglang",
        (SPECFORGE_NAME,),
        MOE_30B.canonical(
            max_position_embeddings=2048, fc_input_norm="per_tap", feedback="prenorm"
        ),
        settle=Settle(feedback="prenorm"),
    ),
    "SpecForge's pull request 431, output ids that start at 3": Published(
        SPECFORGE | SMALL_4B.keys() | nested([3, 17, 32]),
        SMALL_4B.shapes(),
        "sglang",
        (SPECFORGE_NAME,),
        SMALL_4B.canonical(taps=(4, 18, 33)),
    ),
    "SpecForge's Qwen2.5-VL": Published(
        SPECFORGE
        | Sizes(3584, 18944, 28, 4, 128, 152064).keys()
        | {
            "target_model_type": "qwen2_5_vl",
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "max_position_embeddings": 8192,
        },
        Sizes(3584, 18944, 28, 4, 128, 152064).shapes(),
        "sglang",
        (SPECFORGE_NAME,),
        Sizes(3584, 18944, 28, 4, 128, 152064).canonical(
            max_position_embeddings=8192, rope={"theta": 1e6, "mrope_section": (16, 24, 24)}
        ),
        notes=("mrope-interleaved-absent",),
    ),
    "AngelSlim 2025, head_dim 80": Published(
        SPECFORGE | Sizes(2560, 9728, 32, 8, 80).keys(),
        Sizes(2560, 9728, 32, 8, 80).shapes(),
        "sglang",
        (SPECFORGE_NAME,),
        Sizes(2560, 9728, 32, 8, 80).canonical(),
    ),
    "AngelSlim 2025, model_type of the target": Published(
        SPECFORGE | DENSE_8B.keys() | {"model_type": "qwen3"},
        DENSE_8B.shapes(),
        "sglang",
        (SPECFORGE_NAME,),
        DENSE_8B.canonical(),
        notes=("decoder-type",),
    ),
    "AngelSlim 2026, Qwen3-4B": Published(
        SPECFORGE
        | SMALL_4B.keys()
        | {"architectures": ["Eagle3LlamaForCausalLM"], "tie_word_embeddings": True},
        SMALL_4B.shapes(),
        "angelslim",
        ("architectures is Eagle3LlamaForCausalLM with tensors named midlayer.…",),
        SMALL_4B.canonical(),
        notes=("tie-flag", "taps-angelslim"),
    ),
    "AngelSlim 2026, Qwen3-VL-4B": Published(
        SPECFORGE
        | SMALL_4B.keys()
        | {
            "architectures": ["Eagle3LlamaForCausalLM"],
            "rope_scaling": {"type": "default", "rope_type": "default"} | INTERLEAVED,
            "rope_theta": 5000000,
            "max_position_embeddings": 262144,
            "tie_word_embeddings": True,
            "modal_type": "VLM",
            "image_token_id": 151655,
            "video_token_id": 151656,
        },
        SMALL_4B.shapes(),
        "angelslim",
        ("config.json has modal_type", "architectures is Eagle3LlamaForCausalLM"),
        SMALL_4B.canonical(max_position_embeddings=262144, rope=VL_ROPE),
        notes=("tie-flag", "taps-angelslim"),
    ),
    "AngelSlim 2026 with its own key of output ids": Published(
        SPECFORGE
        | SMALL_4B.keys()
        | {
            "architectures": ["Eagle3LlamaForCausalLM"],
            "aux_hidden_states_layer_ids": [1, 17, 32],
        },
        SMALL_4B.shapes(),
        "angelslim",
        (
            "config.json has aux_hidden_states_layer_ids",
            "architectures is Eagle3LlamaForCausalLM",
        ),
        SMALL_4B.canonical(taps=(2, 18, 33)),
    ),
    "MNN's Qwen3-VL-2B": Published(
        SPECFORGE
        | VL_2B.keys()
        | {
            "target_model_type": "qwen3_vl",
            "max_position_embeddings": 262144,
            "rope_theta": 5000000,
            "rope_scaling": {"rope_type": "default"} | INTERLEAVED,
            "tie_word_embeddings": True,
        },
        VL_2B.shapes(),
        "mnn",
        ("target_model_type is qwen3_vl", SPECFORGE_NAME),
        VL_2B.canonical(max_position_embeddings=262144, rope=VL_ROPE),
        notes=("tie-flag",),
    ),
    "RedHatAI's early Qwen3-32B": Published(
        speculators("Eagle3Speculator", DENSE_32B, LAYER_2025, norm_before_residual=True),
        DENSE_32B.shapes(layer="layers.0", embedding=True),
        "speculators",
        (
            "config.json has speculators_model_type",
            "config.json has speculators_config",
            "config.json has transformer_layer_config",
        ),
        DENSE_32B.canonical(residual="normed", embedding="own"),
    ),
    "speculators' later Eagle3DraftModel with boundaries": Published(
        speculators(
            "Eagle3DraftModel",
            DENSE_8B,
            LAYER_2026,
            norm_before_residual=True,
            norm_before_fc=False,
            fc_norm=False,
            norm_output=False,
            embed_requires_grad=False,
            **{TAP_IDS: [2, 18, 33]},
        ),
        DENSE_8B.shapes(layer="layers.0", embedding=True),
        "speculators",
        (
            "config.json has speculators_model_type",
            "config.json has speculators_config",
            "config.json has transformer_layer_config",
        ),
        DENSE_8B.canonical(taps=(2, 18, 33), residual="normed", embedding="own"),
    ),
    "nm-testing's conversion of lmsys 235B, once settled": Published(
        speculators(
            "Eagle3Speculator",
            MOE_235B,
            LAYER_2025,
            norm_before_residual=False,
            **{TAP_IDS: [1, 46, 90]},
        ),
        MOE_235B.shapes(layer="layers.0"),
        "speculators",
        (
            "config.json has speculators_model_type",
            "config.json has speculators_config",
            "config.json has transformer_layer_config",
        ),
        MOE_235B.canonical(taps=(2, 47, 91)),
        settle=Settle(ids="output"),
    ),
    "ModelOpt's Qwen3-235B-Thinking, output ids": Published(
        LMSYS_235B,
        MOE_235B.shapes(layer="layers.0", t2d=False),
        "modelopt",
        ("LlamaForCausalLMEagle3 with eagle_config, names layers.0.…, and no t2d",),
        MOE_235B.canonical(taps=(2, 47, 91)),
    ),
    "ModelOpt's gpt-oss-120b-v3, boundaries, once settled": Published(
        SPECFORGE
        | GPT_OSS.keys()
        | {
            "eagle_config": nested([24, 30, 36])["eagle_config"] | {"norm_before_fc": True},
            "rms_norm_eps": 1e-05,
            "rope_theta": 150000,
        },
        GPT_OSS.shapes(layer="layers.0", t2d=False) | {"input_norm.weight": ("BF16", (8640,))},
        "modelopt",
        ("LlamaForCausalLMEagle3 with eagle_config, names layers.0.…, and no t2d",),
        GPT_OSS.canonical(
            taps=(24, 30, 36),
            fc_input_norm="joint",
            rms_norm_eps=1e-05,
            rope={"theta": 150000.0},
        ),
        settle=Settle(ids="boundary"),
    ),
    "vLLM's flat spelling": Published(
        SPECFORGE
        | SMALL_4B.keys()
        | {"architectures": ["Eagle3LlamaForCausalLM"], TAP_IDS: [2, 18, 33]},
        SMALL_4B.shapes(layer="layers.0"),
        "vllm",
        (
            "architectures is Eagle3LlamaForCausalLM",
            "eagle_aux_hidden_state_layer_ids at the top level",
        ),
        SMALL_4B.canonical(taps=(2, 18, 33)),
    ),
    "SpecForge's file with boundaries added for vLLM": Published(
        SPECFORGE | SMALL_4B.keys() | {TAP_IDS: [2, 18, 33]},
        SMALL_4B.shapes(),
        "vllm",
        ("eagle_aux_hidden_state_layer_ids at the top level",),
        SMALL_4B.canonical(taps=(2, 18, 33)),
    ),
    "universal": Published(
        SPECFORGE | SMALL_4B.keys() | nested([1, 17, 32]) | {TAP_IDS: [2, 18, 33]},
        SMALL_4B.shapes(),
        "universal",
        ("tap ids both in eagle_config and at the top level",),
        SMALL_4B.canonical(taps=(2, 18, 33)),
    ),
}
