"""Whether `--sweep-taps` finds the taps of drafts trained with other seeds.

    python -m tests.benchmarks.sweep_seeds [SEEDS]

Each seed trains a `late_taps` draft (boundaries 1, 4, 7) with the full recipe on the tiny target,
about 150 CPU seconds, and sweeps its taps on all held-out prompts. Not part of `make test`, which
sweeps the two cached drafts over ten draws of prompts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.reference import read_weights
from eagle3_plugin.draft.score import draft_for
from eagle3_plugin.draft.sweep import sweep_taps
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.hub import resolve
from eagle3_plugin.tiny import tiny_pair
from eagle3_plugin.tiny.recipes import DENSE, DRAFTS, as_json
from eagle3_plugin.tiny.variants import draft_config

VARIANT = "late_taps"
TRAIN = """
import json, sys
from pathlib import Path
import torch
import eagle3_plugin.tiny.train_draft as trainer
from eagle3_plugin.tiny.worker import make_draft
job = json.loads(sys.argv[1])
trainer.SEED = job["seed"]
torch.set_num_threads(1)
make_draft(job, Path(job["out"]))
"""


def main() -> None:
    num_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    pair = tiny_pair(VARIANT)
    target = TargetModel.load(pair.target, dtype=torch.float32, device="cpu")
    found = [sweep(target, seed) for seed in range(1, num_seeds + 1)]
    print(f"right in {sum(found)} of {num_seeds} seeds")


def sweep(target: TargetModel, seed: int) -> bool:
    """Trains with that seed and says whether the sweep's best taps are the trained ones."""
    config = draft_config(VARIANT, DENSE)
    with tempfile.TemporaryDirectory() as folder:
        draft = read_draft(Checkpoint.open(resolve(str(train(seed, Path(folder))))))
        module = draft_for(target, draft.config, read_weights(draft), draft.vocab_map)
        prompts = [Prompt("prompt_token_ids", p) for p in tiny_pair(VARIANT).prompts]
        result = sweep_taps(target, module, prompts, chain=3, max_new_tokens=128, ignore_end=True)
    best, second = result.ranking[:2]
    lead = f"{result.margin_nats:.3f} nats before {list(second.taps)}"
    print(f"seed {seed}: {list(best.taps)}, {lead}", flush=True)
    return best.taps == config.taps


def train(seed: int, folder: Path) -> Path:
    """The folder of a draft trained with that seed."""
    job = {
        "seed": seed,
        "out": str(folder),
        "recipe": as_json(DRAFTS["good"]),
        "config": draft_config(VARIANT, DENSE).model_dump(mode="json"),
        "target": str(tiny_pair(VARIANT).target.parent),
    }
    command = [sys.executable, "-c", TRAIN, json.dumps(job)]
    done = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    if done.wait() != 0:
        raise SystemExit(f"training with seed {seed} failed")
    return folder / "draft"


if __name__ == "__main__":
    main()
