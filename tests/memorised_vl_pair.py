"""A draft that learns by heart what a random Qwen3-VL target writes about a few pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig, Rope
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from eagle3_plugin.draft.rows import Rows
from eagle3_plugin.draft.target_model import Continuation, TargetModel
from tests import drafts
from tests.engines.random_target import picture
from tests.vl_prompts import image, text, user

CHAIN = 3
NUM_NEW_TOKENS = 24
TAPS = (2, 4, 6)
"""The lowest lies among the layers that add visual features."""


def draft_config(**changes: Any) -> DraftConfig:
    """A draft with M-RoPE that shares the target's embedding and vocabulary."""
    rope = Rope(theta=1e6, mrope_section=(6, 5, 5), mrope_interleaved=True)
    full = {"draft_vocab_size": 512, "has_vocab_map": False, "taps": TAPS}
    return drafts.draft_config(rope=rope, **full, **changes)


def image_prompts(folder: Path, count: int) -> list[Prompt]:
    """One question about `count` pictures of several sizes."""
    return [_prompt(folder, number) for number in range(count)]


def _prompt(folder: Path, number: int) -> Prompt:
    width, height = 64 + 32 * (number % 3), 64 + 32 * (number % 2)
    file = picture(folder / f"{number}.png", width=width, height=height, seed=number)
    uri = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    return Prompt("messages", (user(image(uri), text("?")),), where=f"picture {number}")


def train_draft(
    target: TargetModel, config: DraftConfig, prompts: Sequence[Prompt], num_steps: int
) -> ReferenceDraft:
    torch.manual_seed(0)
    draft = ReferenceDraft(config, None)
    draft.embed_tokens.weight = torch.nn.Parameter(target.embed.clone(), requires_grad=False)
    data = [_data(target, draft, prompt) for prompt in prompts]
    optimizer = torch.optim.Adam(draft.parameters(), lr=3e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        losses = [training_loss(draft, *one) for one in data]
        torch.autograd.backward(torch.stack(losses).sum())
        optimizer.step()
    return draft


def _data(target: TargetModel, draft: ReferenceDraft, prompt: Prompt) -> tuple[Tensor, Rows, int]:
    """Taps, rows and the number of prompt tokens."""
    encoded = target.encode(prompt)
    written = target.continue_greedily(encoded, NUM_NEW_TOKENS, overhang=CHAIN, end_ids=())
    return taps_of(target, draft, written), rows_of(target, draft, written), len(encoded.ids)


def taps_of(target: TargetModel, draft: ReferenceDraft, text: Continuation) -> Tensor:
    place = draft.config.deepstack_tap
    states = target.states(text.prompt, text.ids.clone(), TAPS, deepstack=place)
    return torch.cat([states[k] for k in TAPS], dim=-1).clone()


def rows_of(target: TargetModel, draft: ReferenceDraft, text: Continuation) -> Rows:
    rows = target.rows(text.prompt, text.ids.clone(), draft)
    return Rows(*(None if part is None else part.clone() for part in vars(rows).values()))  # type: ignore[arg-type]


def training_loss(draft: ReferenceDraft, taps: Tensor, rows: Rows, num_prompt: int) -> Tensor:
    """Training-time test over three steps: cross entropy against what was written."""
    num_rows = len(rows.ids) - CHAIN - 1
    causal = torch.ones(num_rows, num_rows, dtype=torch.bool).tril()
    own = torch.eye(num_rows, dtype=torch.bool)
    hidden, cache, losses = draft.fuse(taps[None, :num_rows]), Cache(), []
    embeds = rows.embeddings(draft)[None]
    for step in range(CHAIN):
        mask = torch.cat([causal] + [own] * step, dim=1)[None, None]
        positions = rows.positions[..., None, :num_rows] + step
        known = embeds[:, 1 + step : 1 + step + num_rows]
        normed, hidden = draft(known, hidden, positions, cache, mask)
        wanted = rows.ids[2 + step : 2 + step + num_rows][num_prompt - 1 :]
        logits = draft.logits(normed)[0, num_prompt - 1 :]
        losses.append(torch.nn.functional.cross_entropy(logits, wanted))
    return torch.stack(losses).sum()
