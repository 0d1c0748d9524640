"""Writes a trained draft as SpecForge 0.2.0 saves it, with the keys that engines add for variants.

Spelled out here by hand and not with the package's own dialects, so that they have something to
be tested on that they did not write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig, Rope, default_taps
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.sidecar import SIDECAR, new_sidecar

SHARED = {"embedding": "embed_tokens.weight", "lm_head": "lm_head.weight"}


def save_draft(draft: ReferenceDraft, target_num_layers: int, folder: Path) -> None:
    """config.json and model.safetensors (weights in bfloat16, d2t int64 offsets, t2d bool)."""
    config = draft.config
    folder.mkdir(parents=True)
    text = json.dumps(specforge_config(config, target_num_layers), indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n")
    tensors = {
        _stored_name(name, config.num_layers): value.detach().to(torch.bfloat16).contiguous()
        for name, value in draft.state_dict().items()
        if name not in _left_out(config)
    }
    save_file(tensors | _vocab_tensors(draft), folder / "model.safetensors", {"format": "pt"})


def save_sidecar(config: DraftConfig, folder: Path) -> None:
    """eagle3.json beside a saved draft: what config.json has no words for."""
    written = json.loads((folder / "config.json").read_text())
    kept = new_sidecar(config, written, {"source": "eagle3_plugin.tiny"})
    (folder / SIDECAR).write_text(json.dumps(kept, indent=2) + "\n")


def specforge_config(config: DraftConfig, target_num_layers: int) -> dict[str, Any]:
    """The config.json; tap ids are output ids (boundary - 1), and only there if not the default."""
    is_qwen3 = config.decoder == "qwen3"
    written: dict[str, Any] = {
        "architectures": ["Qwen3ForCausalLMEagle3" if is_qwen3 else "LlamaForCausalLMEagle3"],
        "model_type": config.decoder,
        "attention_bias": config.attention_bias,
        "attention_dropout": 0.0,
        "draft_vocab_size": config.draft_vocab_size,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": _rope_scaling(config.rope),
        "rope_theta": config.rope.theta,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
    return written | _variant_keys(config, target_num_layers)


def _variant_keys(config: DraftConfig, target_num_layers: int) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if config.lm_head == "target":
        keys["draft_vocab_size"] = None
    if config.hidden_size != config.target_hidden_size:
        keys["target_hidden_size"] = config.target_hidden_size
    if config.num_taps != 3:
        keys["num_aux_hidden_states"] = config.num_taps
    if config.residual == "normed":
        keys["norm_before_residual"] = True
    if config.fc_input_norm != "none":
        keys["norm_before_fc" if config.fc_input_norm == "joint" else "fc_norm"] = True
    if config.feedback == "postnorm":
        keys["norm_output"] = True
    taps = config.taps_for(target_num_layers)
    if taps != default_taps(target_num_layers):
        keys["eagle_config"] = {
            "eagle_aux_hidden_state_layer_ids": [boundary - 1 for boundary in taps],
            "use_aux_hidden_state": True,
        }
    return keys


def _rope_scaling(rope: Rope) -> dict[str, Any] | None:
    if rope.mrope_section is not None:
        kind = "default" if rope.mrope_interleaved else "mrope"
        scaling = {"type": kind, "rope_type": kind, "mrope_section": list(rope.mrope_section)}
        return scaling | ({"mrope_interleaved": True} if rope.mrope_interleaved else {})
    if rope.type == "default":
        return None
    parameters = {
        name: int(value) if name.endswith("embeddings") else value
        for name, value in rope.parameters.items()
    }
    return {"type": rope.type, "rope_type": rope.type, **parameters}


def _left_out(config: DraftConfig) -> set[str]:
    """What the checkpoint does not hold because it is the target's."""
    return {name for part, name in SHARED.items() if getattr(config, part) == "target"}


def _stored_name(name: str, num_layers: int) -> str:
    one_layer = num_layers == 1 and name.startswith("layers.0.")
    return name.replace("layers.0.", "midlayer.", 1) if one_layer else name


def _vocab_tensors(draft: ReferenceDraft) -> dict[str, Tensor]:
    ids = draft.vocab_map
    if ids is None:
        return {}
    in_draft = torch.zeros(draft.config.vocab_size, dtype=torch.bool)
    in_draft[ids] = True
    return {"d2t": ids - torch.arange(len(ids)), "t2d": in_draft}
