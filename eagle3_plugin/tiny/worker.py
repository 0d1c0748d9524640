"""The process that trains: `python -m eagle3_plugin.tiny.worker JOB`, JOB as JSON.

It prints its progress as JSON lines, writes into the job's `out`, and ends when its standard
input does, so that it never outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.tiny import continuations
from eagle3_plugin.tiny.corpus import read_corpus
from eagle3_plugin.tiny.optimizer import SharedWeights
from eagle3_plugin.tiny.parallel import NUM_WORKERS, Worker, run_in_pair
from eagle3_plugin.tiny.recipes import DraftRecipe, TargetRecipe, as_json, precision
from eagle3_plugin.tiny.specforge import save_draft
from eagle3_plugin.tiny.target import Progress, cast, new_target, save_target, train_target
from eagle3_plugin.tiny.tokenizer import train_tokenizer
from eagle3_plugin.tiny.train_draft import Sequences, frequent_ids, new_draft, train_draft

MODEL, DRAFT, CONTINUATIONS, PROMPTS = (
    "target",
    "draft",
    "continuations.safetensors",
    "prompts.json",
)
RECIPE = "recipe.json"


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
        _end_with_parent(worker)
        progress = _progress(worker, "train the target", recipe.steps)
        train_target(model, weights, text, recipe, worker, _dtype(), progress)
        num_batches = -(-len(prompts) // continuations.GENERATION_BATCH // NUM_WORKERS)
        progress = _progress(worker, "let it write", num_batches)
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
    _write_recipe(out, {"target": as_json(recipe), "corpus": corpus.sha256})


def make_draft(job: dict[str, Any], out: Path) -> None:
    """Trains one draft on the continuations of a target that `make_target` made."""
    recipe, config = DraftRecipe(**job["recipe"]), DraftConfig(**job["config"])
    home = Path(job["target"])
    model = AutoModelForCausalLM.from_pretrained(home / MODEL, attn_implementation="eager")
    cast(model.eval().requires_grad_(False), _dtype())
    ids = load_file(home / CONTINUATIONS)["ids"].long()[: recipe.num_continuations]
    vocab_map = None
    if config.has_vocab_map:
        vocab_map = frequent_ids(ids, config.vocab_size, config.draft_vocab_size)
    draft = new_draft(config, model.model.embed_tokens.weight, vocab_map)
    weights = SharedWeights(draft)

    def work(worker: Worker) -> None:
        _end_with_parent(worker)
        data = _sequences(model, ids[worker.rank :: NUM_WORKERS], config, vocab_map)
        progress = _progress(worker, "train the draft", recipe.steps)
        train_draft(draft, weights, data, recipe, worker, progress)

    run_in_pair(work)
    save_draft(draft, model.config.num_hidden_layers, out / DRAFT)
    _write_recipe(out, {"draft": as_json(recipe), "config": config.model_dump(mode="json")})


JOBS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "target": make_target,
    "draft": make_draft,
}


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    JOBS[job["job"]](job, Path(job["out"]))


def _end_with_parent(worker: Worker) -> None:
    """Ends the first worker when standard input does; the second one ends with the first."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    if worker.rank == 0:
        threading.Thread(target=wait, daemon=True).start()


def _sequences(
    model: PreTrainedModel, ids: Tensor, config: DraftConfig, vocab_map: Tensor | None
) -> Sequences:
    taps = config.taps_for(model.config.num_hidden_layers)
    head = model.lm_head.weight
    states = continuations.read_states(model, ids, taps)
    return Sequences(ids, states, head if vocab_map is None else head[vocab_map])


def _progress(worker: Worker, what: str, total: int) -> Progress:
    """Prints each step of the first worker; the second one keeps silent."""

    def update(done: int) -> None:
        if worker.rank == 0:
            print(json.dumps([what, done, total]), flush=True)

    return update


def _dtype() -> torch.dtype:
    return getattr(torch, precision())  # type: ignore[no-any-return]


def _part(out: Path, rank: int) -> Path:
    return out / f"continuations-{rank}.safetensors"


def _write_recipe(out: Path, recipe: dict[str, Any]) -> None:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(u.ru_utime + u.ru_stime for u in used)
    text = json.dumps({**recipe, "precision": precision(), "cpu_s": round(cpu_s, 1)}, indent=2)
    (out / RECIPE).write_text(text + "\n")


if __name__ == "__main__":
    main()
