"""The process that trains: `python -m eagle3_plugin.tiny.worker JOB`, JOB as JSON.

It prints its progress as JSON lines, writes into the job's `out`, and ends when its standard
input does, so that it never outlives the process that started it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.tiny import continuations, vl_jobs
from eagle3_plugin.tiny.corpus import read_corpus
from eagle3_plugin.tiny.optimizer import SharedWeights
from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker, run_in_pair
from eagle3_plugin.tiny.recipes import DraftRecipe, TargetRecipe, as_json
from eagle3_plugin.tiny.running import (
    end_with_parent,
    print_progress,
    training_dtype,
    write_recipe,
)
from eagle3_plugin.tiny.specforge import save_draft
from eagle3_plugin.tiny.target import cast, new_target, save_target, train_target
from eagle3_plugin.tiny.tokenizer import train_tokenizer
from eagle3_plugin.tiny.train_draft import Sequences, frequent_ids, new_draft, train_draft

MODEL, DRAFT, CONTINUATIONS, PROMPTS = (
    "target",
    "draft",
    "continuations.safetensors",
    "prompts.json",
)


def make_target(job: dict[str, Any], out: Path) -> None:
    """Trains tokenizer and target, and writes greedy continuations of training prompts."""
    recipe = TargetRecipe(**job["recipe"])
    corpus = read_corpus()
    tokenizer = train_tokenizer(corpus.training)
    text = torch.cat(continuations.encode(tokenizer, corpus.training))[: recipe.num_text_tokens]
    prompts = continuations.training_prompts(text, recipe.num_continuations)
    model = new_target(recipe, tokenizer)
    weights = SharedWeights(model)

    def work(worker: Worker) -> None:
        end_with_parent(worker)
        progress = print_progress(worker, "train the target", recipe.steps)
        train_target(model, weights, text, recipe, worker, training_dtype(), progress)
        num_batches = -(-len(prompts) // continuations.GENERATION_BATCH // NUM_WORKERS)
        progress = print_progress(worker, "let it write", num_batches)
        ids = continuations.write_continuations(model, prompts, worker, progress)
        save_file({"ids": ids}, _part(out, worker.rank))
        worker.meet()

    run_in_pair(work)
    ids = torch.cat([load_file(_part(out, rank))["ids"] for rank in range(NUM_WORKERS)])
    for rank in range(NUM_WORKERS):
        _part(out, rank).unlink()
    save_file({"ids": ids.to(torch.int16)}, out / CONTINUATIONS)
    save_target(model, tokenizer, out / MODEL)
    held_out = continuations.held_out_prompts(continuations.encode(tokenizer, corpus.held_out))
    (out / PROMPTS).write_text(json.dumps(held_out.tolist()) + "\n")
    write_recipe(out, {"target": as_json(recipe), "corpus": corpus.sha256})


def make_draft(job: dict[str, Any], out: Path) -> None:
    """Trains one draft on the continuations of a target that `make_target` made."""
    recipe, config = DraftRecipe(**job["recipe"]), DraftConfig(**job["config"])
    home = Path(job["target"])
    model = AutoModelForCausalLM.from_pretrained(home / MODEL, attn_implementation="eager")
    cast(model.eval().requires_grad_(False), training_dtype())
    ids = load_file(home / CONTINUATIONS)["ids"].long()[: recipe.num_continuations]
    vocab_map = None
    if config.has_vocab_map:
        vocab_map = frequent_ids(ids, config.vocab_size, config.draft_vocab_size)
    draft = new_draft(config, model.model.embed_tokens.weight, vocab_map)
    weights = SharedWeights(draft)

    def work(worker: Worker) -> None:
        end_with_parent(worker)
        data = _sequences(model, ids[worker.rank :: NUM_WORKERS], config, vocab_map)
        progress = print_progress(worker, "train the draft", recipe.steps)
        train_draft(draft, weights, data, recipe, worker, progress)

    run_in_pair(work)
    save_draft(draft, model.config.num_hidden_layers, out / DRAFT)
    write_recipe(out, {"draft": as_json(recipe), "config": config.model_dump(mode="json")})


JOBS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "target": make_target,
    "draft": make_draft,
    "vl_target": vl_jobs.make_vl_target,
    "vl_draft": vl_jobs.make_vl_draft,
}


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    JOBS[job["job"]](job, Path(job["out"]))


def _sequences(
    model: PreTrainedModel, ids: Tensor, config: DraftConfig, vocab_map: Tensor | None
) -> Sequences:
    taps = config.taps_for(model.config.num_hidden_layers)
    head = model.lm_head.weight
    states = continuations.read_states(model, ids, taps)
    return Sequences(ids, states, head if vocab_map is None else head[vocab_map])


def _part(out: Path, rank: int) -> Path:
    return out / f"continuations-{rank}.safetensors"


if __name__ == "__main__":
    main()
