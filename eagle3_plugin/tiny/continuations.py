"""What the trained target writes: the drafts' training data, and their taps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from eagle3_plugin.tiny.parallel import Worker
from eagle3_plugin.tiny.recipes import NEW_TOKENS, NUM_HELD_OUT_PROMPTS, PROMPT_TOKENS, SEED
from eagle3_plugin.tiny.target import Progress

GENERATION_BATCH = 128
TAPS_BATCH = 32


@dataclass(frozen=True)
class States:
    """What a draft is trained on, for sequences [B, T].

    taps: [B, T, num_taps * hidden]; last: [B, T, hidden], the target's normed last state.
    """

    taps: Tensor
    last: Tensor


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tensor]:
    """The token ids of each text."""
    return [torch.tensor(tokenizer.encode(text).ids) for text in texts]


def training_prompts(text: Tensor, count: int) -> Tensor:
    """[count, PROMPT_TOKENS]: windows of the training text at random places."""
    random = torch.Generator().manual_seed(SEED + 1)
    starts = torch.randint(len(text) - PROMPT_TOKENS, (count,), generator=random)
    return torch.stack([text[at : at + PROMPT_TOKENS] for at in starts.tolist()])


def held_out_prompts(texts: Sequence[Tensor]) -> Tensor:
    """[NUM_HELD_OUT_PROMPTS, PROMPT_TOKENS]: from the middle of each held-out file."""
    middles = [(text, len(text) // 2) for text in texts if len(text) >= 4 * PROMPT_TOKENS]
    prompts = [text[at : at + PROMPT_TOKENS] for text, at in middles]
    return torch.stack(prompts[:NUM_HELD_OUT_PROMPTS])


@torch.no_grad()
def write_continuations(
    model: PreTrainedModel, prompts: Tensor, worker: Worker, progress: Progress
) -> Tensor:
    """This worker's share of the prompts, each followed by its NEW_TOKENS greedy tokens."""
    batches = torch.split(prompts, GENERATION_BATCH)
    done = []
    for index in worker.share(range(len(batches))):
        done.append(continue_greedily(model, batches[index]))
        progress(len(done))
    return torch.cat(done) if done else prompts.new_empty(0, PROMPT_TOKENS + NEW_TOKENS)


@torch.no_grad()
def continue_greedily(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The prompts [B, T], each followed by its NEW_TOKENS greedy tokens."""
    written = [ids]
    cache = None
    for _ in range(NEW_TOKENS):
        out = model(input_ids=written[-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        written.append(out.logits[:, -1].argmax(-1, keepdim=True))
    return torch.cat(written, dim=1)


@torch.no_grad()
def read_states(model: PreTrainedModel, ids: Tensor, taps: Sequence[int]) -> States:
    """The states of a target at those boundaries; each below its number of layers."""
    parts = []
    for batch in torch.split(ids, TAPS_BATCH):
        out = model.model(input_ids=batch, use_cache=False, output_hidden_states=True)
        parts.append(
            (torch.cat([out.hidden_states[k] for k in taps], dim=-1), out.last_hidden_state)
        )
    tap_parts, last_parts = zip(*parts, strict=True)
    return States(torch.cat(tap_parts), torch.cat(last_parts))
