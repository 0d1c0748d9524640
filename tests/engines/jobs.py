"""Sends jobs to an engine's runner in its environment, and says what the oracle expects."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from eagle3_plugin.draft.chain import draft_chain, simulate_chain
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.encoded import Encoded
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.reference import ReferenceDraft, read_weights
from eagle3_plugin.draft.rows import Rows
from eagle3_plugin.draft.score import draft_for
from eagle3_plugin.draft.target_config import read_target
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.draft.tree import TreeRound, simulate_trees
from eagle3_plugin.hub import resolve
from eagle3_plugin.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RUNNERS = {
    "vllm": Path(__file__).with_name("vllm_runner.py"),
    "sglang": Path(__file__).with_name("sglang_runner.py"),
}
STAND_IN = ROOT / "eagle3_plugin" / "engines" / "sglang" / "cpu_kernels"
Ids = list[int]
JobPrompt = Ids | dict[str, Any]
"""Token ids, or {"ids": with one placeholder for each image, "images": paths}."""


@dataclass(frozen=True)
class Job:
    """One engine to start; see the runner for the fields."""

    target: Path
    draft: Path | None
    prompts: Sequence[JobPrompt]
    max_tokens: int
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "target": str(self.target),
            "draft": None if self.draft is None else str(self.draft),
            "prompts": list(self.prompts),
            "max_tokens": self.max_tokens,
            **self.options,
        }


def run_jobs(
    engine: str, jobs: list[Job], folder: Path, *, python: Path | None = None, timeout_s: int = 2400
) -> list[Any]:
    """The results of the jobs, in order; the runner's log is kept in `folder`.

    python: another interpreter than that of the engine's environment.
    """
    python = python or ROOT / ".venvs" / engine / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    jobs_path, results_path = folder / "jobs.json", folder / "results.json"
    jobs_path.write_text(json.dumps([job.to_json() for job in jobs]))
    with (folder / "log.txt").open("w") as log:
        command = [str(python), str(RUNNERS[engine]), str(jobs_path), str(results_path)]
        env = {**os.environ, "PYTHONPATH": str(STAND_IN)} if engine == "sglang" else None
        subprocess.run(command, stdout=log, stderr=log, check=True, timeout=timeout_s, env=env)
    results: list[Any] = json.loads(results_path.read_text())
    return results


@dataclass(frozen=True)
class Expected:
    """What the oracle does on one known text.

    drafts: for each start (index = number of generated tokens known - 1), the drafted ids;
    margins: the lead of each of them; matches: how many of them the target then writes.
    """

    drafts: list[Ids]
    margins: list[list[float]]
    matches: list[int]

    def rounds(self, max_tokens: int) -> list[int]:
        """The starts of the rounds that a greedy run makes until it has `max_tokens` tokens."""
        starts, known = [], 1
        while known < max_tokens:
            starts.append(known - 1)
            known += self.matches[known - 1] + 1
        return starts


def oracle(
    job: Job, outputs: list[Ids], *, settle: Settle | None = None, chain: int = 3
) -> list[Expected]:
    """The oracle's chains on what the engine wrote for each prompt, in float32."""
    target, module, taps = _load(job, settle)
    return [
        _chains(target, module, taps, prompt, output, chain)
        for prompt, output in zip(job.prompts, outputs, strict=True)
    ]


def oracle_trees(job: Job, outputs: list[Ids], shape: Settings) -> list[list[TreeRound]]:
    """The oracle's rounds with trees on what the engine wrote for each prompt, in float32."""
    target, module, taps = _load(job, None)
    return [
        _trees(target, module, taps, prompt, output, shape)
        for prompt, output in zip(job.prompts, outputs, strict=True)
    ]


def full_chain(job: Job, outputs: list[Ids], num_known: int, chain: int = 3) -> list[Ids]:
    """For each prompt, all ids that the oracle drafts when so many generated tokens are known."""
    target, module, taps = _load(job, None)
    drafted = []
    for prompt, output in zip(job.prompts, outputs, strict=True):
        known = _known(target, module, taps, prompt, output[:num_known])
        with torch.no_grad():
            drafted.append(draft_chain(module, known.taps, known.rows, chain))
    return drafted


def num_prompt_tokens(job: Job) -> list[int]:
    """The length of each prompt as the target runs it: every image takes several tokens."""
    target = TargetModel.load(job.target, dtype=torch.float32, device="cpu")
    return [len(_encoded(target, prompt).ids) for prompt in job.prompts]


def _encoded(target: TargetModel, prompt: JobPrompt) -> Encoded:
    if isinstance(prompt, list):
        return target.encode_ids(prompt)
    images = [Image.open(path).convert("RGB") for path in prompt["images"]]
    return target.encode_ids(prompt["ids"], images)


@dataclass(frozen=True)
class _Known:
    """taps and rows of prompt and output; the newest token has no taps, and rows go on beyond it.

    num_tokens: of both; num_prompt_tokens: of the prompt, its images expanded.
    """

    taps: Tensor
    rows: Rows
    num_tokens: int
    num_prompt_tokens: int


def _known(
    target: TargetModel,
    module: ReferenceDraft,
    taps: tuple[int, ...],
    prompt: JobPrompt,
    output: Ids,
    beyond: int = 0,
) -> _Known:
    encoded = _encoded(target, prompt)
    ids = torch.cat([encoded.ids, torch.tensor(output + [0] * beyond)])
    num_tokens = len(encoded.ids) + len(output)
    states = target.states(
        encoded, ids[: num_tokens - 1], taps, deepstack=module.config.deepstack_tap
    )
    wide = torch.cat([states[k] for k in taps], dim=-1)
    return _Known(wide, target.rows(encoded, ids, module), num_tokens, len(encoded.ids))


def _load(job: Job, settle: Settle | None) -> tuple[TargetModel, ReferenceDraft, tuple[int, ...]]:
    config = read_target(str(job.target))
    assert job.draft is not None
    draft = read_draft(
        Checkpoint.open(resolve(str(job.draft))),
        settle or Settle(target_num_layers=config.num_layers),
    )
    target = TargetModel.load(job.target, dtype=torch.float32, device="cpu")
    module = draft_for(target, draft.config, read_weights(draft), draft.vocab_map)
    return target, module, draft.config.taps_for(config.num_layers)


def _chains(
    target: TargetModel,
    module: ReferenceDraft,
    taps: tuple[int, ...],
    prompt: JobPrompt,
    output: Ids,
    chain: int,
) -> Expected:
    """With k generated tokens known a chain starts at row P + k - 2 (row t has token t's taps)."""
    known = _known(target, module, taps, prompt, output, beyond=chain)
    starts = torch.arange(known.num_prompt_tokens - 1, known.num_tokens - 1)
    with torch.no_grad():
        found = simulate_chain(module, known.taps, known.rows, starts, chain)
    return Expected(found.ids.tolist(), found.margins.tolist(), [int(n) for n in found.num_matches])


def _trees(
    target: TargetModel,
    module: ReferenceDraft,
    taps: tuple[int, ...],
    prompt: JobPrompt,
    output: Ids,
    shape: Settings,
) -> list[TreeRound]:
    known = _known(target, module, taps, prompt, output, beyond=shape.num_steps)
    starts = range(known.num_prompt_tokens - 1, known.num_tokens - 2)
    return simulate_trees(module, known.taps, known.rows, starts, shape)
