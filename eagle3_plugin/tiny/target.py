"""Trains the tiny target: an ordinary Qwen3 (or Qwen3-MoE) folder comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from eagle3_plugin.tiny.optimizer import Optimizer, Schedule, SharedWeights
from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker
from eagle3_plugin.tiny.recipes import SEED, TargetRecipe
from eagle3_plugin.tiny.tokenizer import END_OF_TEXT, END_OF_TURN, write_tokenizer

Progress = Callable[[int], None]


def new_target(recipe: TargetRecipe, tokenizer: Tokenizer) -> PreTrainedModel:
    """An untrained model; what its layers add to the residual stream starts at zero."""
    sizes: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": recipe.hidden_size,
        "intermediate_size": recipe.intermediate_size,
        "num_hidden_layers": recipe.num_layers,
        "num_attention_heads": recipe.num_attention_heads,
        "num_key_value_heads": recipe.num_key_value_heads,
        "head_dim": recipe.head_dim,
        "max_position_embeddings": recipe.max_position_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": recipe.rope_theta},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END_OF_TURN),
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "attn_implementation": "eager",
    }
    torch.manual_seed(SEED)
    model = _moe(recipe, sizes) if recipe.num_experts else Qwen3ForCausalLM(Qwen3Config(**sizes))
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "down_proj")):
            nn.init.zeros_(parameter)
    return model


def train_target(
    model: PreTrainedModel,
    weights: SharedWeights,
    text: Tensor,
    recipe: TargetRecipe,
    worker: Worker,
    dtype: torch.dtype,
    progress: Progress,
) -> None:
    """Next-token training on random windows of `text` [tokens]; the model ends with the result."""
    schedule = Schedule(recipe.steps, recipe.matrix_rate, recipe.other_rate)
    optimizer = Optimizer(weights, worker, schedule, lambda name: "embed_tokens" in name)
    random = torch.Generator().manual_seed(SEED)
    cast(model, dtype)
    model.train()
    for step in range(recipe.steps):
        last = len(text) - recipe.sequence - 1
        starts = torch.randint(last, (recipe.batch,), generator=random)[worker.rank :: NUM_WORKERS]
        ids = torch.stack([text[at : at + recipe.sequence + 1] for at in starts.tolist()])
        optimizer.update(model, partial(_loss, model, ids))
        progress(step + 1)
    weights.load_into(model)
    model.eval()


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Casts the parameters only: rope's frequencies stay float32, as engines keep them."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)


def save_target(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """The folder that transformers, vLLM and SGLang load; weights in bfloat16.

    One with experts gets an lm_head of its own, as published Qwen3-MoE have: SGLang 0.5.23 does
    not read their tie flag, and would serve an lm_head that was never set.
    """
    cast(model, torch.bfloat16)
    if getattr(model.config, "num_experts", 0):
        _untie(model)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    config["torch_dtype"] = config["dtype"]
    if "num_local_experts" in config:
        config["num_experts"] = config["num_local_experts"]
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", _generation_config(tokenizer))
    write_tokenizer(tokenizer, folder)


def _untie(model: PreTrainedModel) -> None:
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False


def _generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    end_of_turn, end_of_text = (tokenizer.token_to_id(t) for t in (END_OF_TURN, END_OF_TEXT))
    return {
        "do_sample": False,
        "eos_token_id": [end_of_turn, end_of_text],
        "pad_token_id": end_of_text,
    }


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _moe(recipe: TargetRecipe, sizes: dict[str, Any]) -> PreTrainedModel:
    config = Qwen3MoeConfig(
        num_experts=recipe.num_experts,
        num_experts_per_tok=recipe.num_experts_per_token,
        moe_intermediate_size=recipe.intermediate_size,
        norm_topk_prob=True,
        **sizes,
    )
    return Qwen3MoeForCausalLM(config)


def _loss(model: PreTrainedModel, ids: Tensor) -> Tensor:
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
