"""Trains the tiny Qwen3-VL target on dialogues about pictures, from the tiny text target."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from eagle3_plugin.tiny.optimizer import Optimizer, Schedule, SharedWeights
from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker
from eagle3_plugin.tiny.recipes import SEED
from eagle3_plugin.tiny.target import Progress, cast
from eagle3_plugin.tiny.vl_batches import Batch, dialogue_batch, text_batch
from eagle3_plugin.tiny.vl_dialogues import dialogues
from eagle3_plugin.tiny.vl_processor import FRAMES, MERGE, PATCH
from eagle3_plugin.tiny.vl_recipes import VlTargetRecipe
from eagle3_plugin.tiny.vl_tower import is_no_matrix

POSITION_STD = 1.0
"""Of the tower's learned positions at the start: about as large as its embedded patches."""
SECTION = (6, 5, 5)
"""M-RoPE frequencies of time, height and width, of head_dim / 2; interleaved as in Qwen3-VL."""


_SHARED_FIELDS = """
    vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim hidden_act max_position_embeddings rms_norm_eps bos_token_id
    eos_token_id pad_token_id tie_word_embeddings
"""
_SHARED = tuple(_SHARED_FIELDS.split())
_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def new_vl_target(
    recipe: VlTargetRecipe, text_target: Path, tokenizer: Tokenizer
) -> PreTrainedModel:
    """A Qwen3-VL with the text target's weights and a new vision tower."""
    torch.manual_seed(SEED)
    config = _config(recipe, json.loads((text_target / "config.json").read_text()), tokenizer)
    model = Qwen3VLForConditionalGeneration(config)
    weights = load_file(text_target / "model.safetensors")
    named = {name.removeprefix("model."): value for name, value in weights.items()}
    model.model.language_model.load_state_dict(named)
    model.tie_weights()
    nn.init.normal_(model.model.visual.pos_embed.weight, std=POSITION_STD)
    return model


def train_vl_target(
    model: PreTrainedModel,
    weights: SharedWeights,
    processor: Any,
    text: Tensor,
    recipe: VlTargetRecipe,
    worker: Worker,
    dtype: torch.dtype,
    progress: Progress,
) -> None:
    """Trains on dialogues and on windows of `text` [tokens]; the model ends with the result."""
    schedule = Schedule(recipe.steps, recipe.matrix_rate, recipe.other_rate)
    optimizer = Optimizer(weights, worker, schedule, is_no_matrix)
    batches = _batches(model, processor, text, recipe, worker)
    cast(model, dtype)
    model.train()
    for step in range(recipe.steps):
        optimizer.update(model, partial(_loss, model, next(batches)))
        progress(step + 1)
    weights.load_into(model)
    model.eval()


def save_vl_target(model: PreTrainedModel, folder: Path) -> None:
    """config.json, generation_config.json and the weights in bfloat16, tied as in Qwen3-VL-2B."""
    cast(model, torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[model.config.text_config.eos_token_id, model.config.text_config.pad_token_id],
        pad_token_id=model.config.text_config.pad_token_id,
    )
    model.save_pretrained(folder)


def _batches(
    model: PreTrainedModel, processor: Any, text: Tensor, recipe: VlTargetRecipe, worker: Worker
) -> Iterator[tuple[Batch, Batch]]:
    """This worker's part of each step: dialogues, and plain text."""
    random = torch.Generator().manual_seed(SEED + worker.rank)
    early = dialogues(f"early {worker.rank}", held_out=False, kinds={"one image": 1.0})
    late = dialogues(f"late {worker.rank}", held_out=False)
    last, num_windows = len(text) - recipe.text_tokens, recipe.text_batch // NUM_WORKERS
    for step in range(recipe.steps):
        source = early if step < recipe.num_early_steps else late
        starts = torch.randint(last, (num_windows,), generator=random).tolist()
        windows = torch.stack([text[at : at + recipe.text_tokens] for at in starts])
        shown = list(islice(source, recipe.batch // NUM_WORKERS))
        yield dialogue_batch(model, processor, shown), text_batch(windows)


def _loss(model: PreTrainedModel, batches: tuple[Batch, Batch]) -> Tensor:
    with_pictures, plain = batches
    return answer_loss(model, with_pictures) + answer_loss(model, plain) / 2


def answer_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The mean cross entropy of the tokens that count."""
    states = model.model(**batch.inputs()).last_hidden_state
    wanted = batch.is_answer[:, 1:]
    logits = model.lm_head(states[:, :-1][wanted]).float()
    return nn.functional.cross_entropy(logits, batch.ids[:, 1:][wanted])


def _config(recipe: VlTargetRecipe, text: dict[str, Any], tokenizer: Tokenizer) -> Qwen3VLConfig:
    """The text target's sizes with M-RoPE, and a tower of the recipe's."""
    rope = text["rope_parameters"] | {"mrope_section": list(SECTION), "mrope_interleaved": True}
    vision = {
        "depth": recipe.vision_layers,
        "hidden_size": recipe.vision_hidden_size,
        "intermediate_size": recipe.vision_intermediate_size,
        "num_heads": recipe.vision_heads,
        "patch_size": PATCH,
        "temporal_patch_size": FRAMES,
        "spatial_merge_size": MERGE,
        "out_hidden_size": text["hidden_size"],
        "num_position_embeddings": recipe.vision_positions,
        "deepstack_visual_indexes": list(range(recipe.vision_layers)),
    }
    fields: dict[str, Any] = {
        "text_config": {name: text[name] for name in _SHARED} | {"rope_parameters": rope},
        "vision_config": vision,
        "tie_word_embeddings": True,
        "attn_implementation": "eager",
        **{name: tokenizer.token_to_id(token) for name, token in _TOKENS.items()},
    }
    return Qwen3VLConfig(**fields)
