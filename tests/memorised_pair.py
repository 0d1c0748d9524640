"""A small random Qwen3 target, and a draft that learns its continuations by heart in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from eagle3_plugin.draft.target_model import TargetModel

CHAIN = 3
NUM_NEW_TOKENS = 40
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,  # wide enough for texts that do not repeat at once
    "eos_token_id": None,
}
PROMPTS = tuple(
    Prompt("prompt_token_ids", tuple(range(i, i + 8)), "even" if i % 2 == 0 else "odd")
    for i in range(6)
)


def write_target(folder: Path) -> Path:
    """A checkpoint folder in several shards."""
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**SIZES)).save_pretrained(folder, max_shard_size="200KB")
    return folder


def train_draft(target: TargetModel, config: DraftConfig, num_steps: int) -> ReferenceDraft:
    """Trained on the texts after `PROMPTS`: right often, but not always."""
    torch.manual_seed(0)
    draft = ReferenceDraft(config, torch.arange(config.draft_vocab_size))
    draft.embed_tokens.weight = torch.nn.Parameter(target.embed.clone(), requires_grad=False)
    boundaries = config.taps_for(target.num_layers)
    texts = [continue_by_hand(target.model, prompt, NUM_NEW_TOKENS) for prompt in PROMPTS]
    taps = torch.stack([taps_by_hand(target.model, text, boundaries) for text in texts])
    optimizer = torch.optim.Adam(draft.parameters(), lr=3e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.autograd.backward(training_loss(draft, taps, torch.stack(texts)))
        optimizer.step()
    return draft


def training_loss(draft: ReferenceDraft, taps: Tensor, ids: Tensor) -> Tensor:
    """Training-time test over three steps: cross entropy against the text."""
    num_rows = ids.shape[1] - CHAIN - 1
    causal = torch.ones(num_rows, num_rows, dtype=torch.bool).tril()
    own = torch.eye(num_rows, dtype=torch.bool)
    hidden, cache, losses = draft.fuse(taps[:, :num_rows]), Cache(), []
    for step in range(CHAIN):
        mask = torch.cat([causal] + [own] * step, dim=1)[None, None]
        embeds = draft.embed_tokens(ids[:, 1 + step : 1 + step + num_rows])
        positions = (torch.arange(num_rows) + step)[None]
        normed, hidden = draft(embeds, hidden, positions, cache, mask)
        wanted = ids[:, 2 + step : 2 + step + num_rows]
        wanted = wanted.where(wanted < draft.config.draft_vocab_size, -100)
        losses.append(torch.nn.functional.cross_entropy(draft.logits(normed).mT, wanted))
    return torch.stack(losses).sum()


@torch.no_grad()
def continue_by_hand(model: Any, prompt: Prompt, num_tokens: int) -> Tensor:
    """The greedy text without a KV cache: one whole pass for each token."""
    ids = torch.tensor(prompt.value)
    for _ in range(num_tokens):
        ids = torch.cat([ids, model(ids[None]).logits[0, -1:].argmax(-1)])
    return ids


@torch.no_grad()
def taps_by_hand(model: Any, ids: Tensor, taps: Sequence[int]) -> Tensor:
    """[tokens, 3 * 64]; the last boundary is caught by a hook, for transformers norms it."""
    seen: list[Tensor] = []
    hook = model.model.layers[5].register_forward_hook(lambda _m, _i, out: seen.append(out))
    states = model(ids[None], output_hidden_states=True).hidden_states
    hook.remove()
    boundaries = [*states[:6], seen[0]]
    return torch.cat([boundaries[k] for k in taps], dim=-1)[0]
