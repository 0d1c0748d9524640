"""The training jobs of the tiny Qwen3-VL pairs; they run in worker.py's process."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoProcessor, PreTrainedModel, Qwen3VLForConditionalGeneration

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.tiny import continuations
from eagle3_plugin.tiny.corpus import read_corpus
from eagle3_plugin.tiny.optimizer import SharedWeights
from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker, run_in_pair, shared_zeros
from eagle3_plugin.tiny.recipes import DENSE, NEW_TOKENS, PROMPT_TOKENS
from eagle3_plugin.tiny.running import (
    end_with_parent,
    print_progress,
    training_dtype,
    write_recipe,
)
from eagle3_plugin.tiny.specforge import save_draft, save_sidecar
from eagle3_plugin.tiny.target import cast
from eagle3_plugin.tiny.tokenizer import END_OF_TURN
from eagle3_plugin.tiny.train_draft import frequent_ids, new_draft, start_from, train_draft
from eagle3_plugin.tiny.vl_batches import Batch, dialogue_batch, text_batch
from eagle3_plugin.tiny.vl_dialogues import dialogues
from eagle3_plugin.tiny.vl_processor import write_processor
from eagle3_plugin.tiny.vl_prompts import write_prompts
from eagle3_plugin.tiny.vl_recipes import VlDraftRecipe, VlTargetRecipe
from eagle3_plugin.tiny.vl_sequences import training_sequences
from eagle3_plugin.tiny.vl_target import new_vl_target, save_vl_target, train_vl_target
from eagle3_plugin.tiny.vl_tower import train_tower
from eagle3_plugin.tiny.vl_variants import miswired

MODEL, DRAFT, CONTINUATIONS = "target", "draft", "continuations.safetensors"
PICTURES_BATCH = 32


def make_vl_target(job: dict[str, Any], out: Path) -> None:
    """Trains the target from the text target in `text`, and lets it continue training text."""
    recipe = VlTargetRecipe(**job["recipe"])
    text_home = Path(job["text"])
    tokenizer = Tokenizer.from_file(str(text_home / MODEL / "tokenizer.json"))
    text = torch.cat(continuations.encode(tokenizer, read_corpus().training))
    text = text[: DENSE.num_text_tokens]
    model = new_vl_target(recipe, text_home / MODEL, tokenizer)
    (out / MODEL).mkdir()
    write_processor(tokenizer, out / MODEL)
    model.config.save_pretrained(out / MODEL)
    processor = AutoProcessor.from_pretrained(out / MODEL)
    _train_target(model, processor, text, recipe, out)
    save_vl_target(model, out / MODEL)
    write_prompts(out, json.loads((text_home / "prompts.json").read_text()))
    write_recipe(out, {"target": asdict(recipe)})


def _train_target(
    model: PreTrainedModel, processor: Any, text: Tensor, recipe: VlTargetRecipe, out: Path
) -> None:
    tower, weights = SharedWeights(model.model.visual), SharedWeights(model)
    prompts = continuations.training_prompts(text, recipe.num_continuations)
    written = shared_zeros(len(prompts), PROMPT_TOKENS + NEW_TOKENS)

    def work(worker: Worker) -> None:
        end_with_parent(worker)
        dtype = training_dtype()
        progress = print_progress(worker, "train the vision tower", recipe.tower_steps)
        train_tower(model, tower, processor, recipe, worker, dtype, progress)
        worker.meet()
        for name, value in tower.values.items():
            weights.values[f"model.visual.{name}"].copy_(value)
        worker.meet()
        progress = print_progress(worker, "train the target on pictures", recipe.steps)
        train_vl_target(model, weights, processor, text, recipe, worker, dtype, progress)
        own = slice(worker.rank, None, NUM_WORKERS)
        progress = print_progress(worker, "let it write", 1)
        written[own] = continuations.continue_greedily(model, prompts[own]).float()
        progress(1)
        worker.meet()

    run_in_pair(work)
    save_file({"ids": written.to(torch.int16)}, out / CONTINUATIONS)


def make_vl_draft(job: dict[str, Any], out: Path) -> None:
    """Trains one draft for the target in `target`, from the draft in `start`."""
    recipe, config = VlDraftRecipe(**job["recipe"]), DraftConfig(**job["config"])
    home = Path(job["target"])
    model: Any = Qwen3VLForConditionalGeneration.from_pretrained(
        home / MODEL, attn_implementation="eager"
    )
    cast(model.eval().requires_grad_(False), training_dtype())
    processor = AutoProcessor.from_pretrained(home / MODEL)
    ids = load_file(home / CONTINUATIONS)["ids"].long()[: recipe.num_continuations]
    used = torch.cat([ids.flatten(), _answer_ids(processor)])
    vocab_map = frequent_ids(used, config.vocab_size, config.draft_vocab_size)
    draft = new_draft(config, model.lm_head.weight, vocab_map)
    start_from(draft, load_file(Path(job["start"]) / "model.safetensors"))
    weights = SharedWeights(draft)

    def work(worker: Worker) -> None:
        end_with_parent(worker)
        progress = print_progress(worker, "read the target's states", 1)
        own = ids[worker.rank :: NUM_WORKERS, : recipe.num_tokens]
        text = [text_batch(part) for part in torch.split(own, continuations.TAPS_BATCH)]
        images = _image_batches(model, processor, recipe.num_dialogues, worker)
        read = partial(training_sequences, model, vocab_map, num_tokens=recipe.num_tokens)
        data = read(config, text=text, images=images)
        unasked = [replace(batch, is_answer=torch.zeros_like(batch.is_answer)) for batch in text]
        others = miswired(config) if recipe.miswired_weight else []
        wrong = [read(other, text=unasked, images=images) for other in others]
        progress(1)
        progress = print_progress(worker, "train the draft", recipe.steps)
        train_draft(draft, weights, data, recipe, worker, progress, wrong, recipe.miswired_weight)

    run_in_pair(work)
    save_draft(draft, model.config.text_config.num_hidden_layers, out / DRAFT)
    if config.image_embedding != "unknown" or config.deepstack_tap != "unknown":
        save_sidecar(config, out / DRAFT)
    write_recipe(out, {"draft": asdict(recipe), "config": config.model_dump(mode="json")})


def _answer_ids(processor: Any) -> Tensor:
    """The ids of many answers: they belong into the draft's vocabulary, whatever it is shown."""
    answers = [one.answer + END_OF_TURN for one in islice(dialogues("words", held_out=False), 512)]
    return torch.tensor(processor.tokenizer("".join(answers))["input_ids"])


def _image_batches(
    model: PreTrainedModel, processor: Any, count: int, worker: Worker
) -> list[Batch]:
    """This worker's half of so many training dialogues."""
    source = dialogues(f"draft {worker.rank}", held_out=False)
    sizes = range(0, count // NUM_WORKERS, PICTURES_BATCH)
    return [dialogue_batch(model, processor, list(islice(source, PICTURES_BATCH))) for _ in sizes]
