"""What a draft for the tiny Qwen3-VL learns from: what its target writes, and its states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.tiny.continuations import States
from eagle3_plugin.tiny.train_draft import Sequences
from eagle3_plugin.tiny.vl_batches import Batch


@dataclass(frozen=True)
class Seen:
    """What the target makes of a batch.

    embeds: [B, T, hidden], each token's embedding, the visual feature where an image is.
    is_written: [B, T], the answers that the target would write itself, word for word.
    """

    states: States
    embeds: Tensor
    is_written: Tensor


@torch.no_grad()
def see(model: PreTrainedModel, batch: Batch, taps: Sequence[int], deepstack: str) -> Seen:
    """One pass of the target.

    taps: each below its number of layers. deepstack: the DraftConfig's `deepstack_tap`.
    A dialogue is the target's own greedy continuation where its best token is the answer's at
    every place, which this pass shows; nothing needs to be generated.
    """
    kept: dict[int, Tensor] = {}
    with _caught(model, {0, *taps}, kept, deepstack):
        last = model.model(**batch.inputs()).last_hidden_state
    best = nn.functional.pad((last[:, :-1] @ model.lm_head.weight.T).argmax(dim=-1), (1, 0))
    is_right = (best == batch.ids) | ~batch.is_answer
    is_written = batch.is_answer & is_right.all(dim=1, keepdim=True)
    return Seen(States(torch.cat([kept[k] for k in taps], dim=-1), last), kept[0], is_written)


def training_sequences(
    model: PreTrainedModel,
    vocab_map: Tensor,
    config: DraftConfig,
    *,
    text: Sequence[Batch],
    images: Sequence[Batch],
    num_tokens: int,
) -> Sequences:
    """The data of one worker, each sequence cut or padded to `num_tokens`.

    text: what the target wrote, of which every token counts. images: dialogues, of which those
    answers count that the target would write.
    """
    taps = config.taps_for(model.config.text_config.num_hidden_layers)
    parts = []
    for batch in (*text, *images):
        seen = see(model, batch, taps, config.deepstack_tap)
        counted = seen.is_written if len(batch.grids) else batch.is_answer
        parts.append((batch.ids, seen.states.taps, seen.states.last, seen.embeds, counted))
    columns = zip(*parts, strict=True)
    ids, tapped, last, embeds, counted = (
        torch.cat([_fitted(part, num_tokens) for part in column]) for column in columns
    )
    positions = torch.cat(
        [_fitted(b.positions.movedim(0, -1), num_tokens) for b in (*text, *images)]
    )
    return Sequences(
        ids,
        States(tapped, last),
        model.lm_head.weight[vocab_map],
        embeds if config.image_embedding == "visual" else None,
        positions.movedim(-1, 0) if config.rope.mrope_section else None,
        counted,
    )


def _fitted(values: Tensor, num_tokens: int) -> Tensor:
    """[B, T, …] cut, or padded with zeros, to [B, num_tokens, …]."""
    values = values[:, :num_tokens]
    padded = values.new_zeros(len(values), num_tokens, *values.shape[2:])
    padded[:, : values.shape[1]] = values
    return padded


@contextmanager
def _caught(
    model: PreTrainedModel, boundaries: set[int], kept: dict[int, Tensor], deepstack: str
) -> Iterator[None]:
    """Keeps the state at each boundary: the input of layer k; before a deepstack add, the output
    of layer k - 1."""
    layers = model.model.language_model.layers
    num_added = len(model.config.vision_config.deepstack_visual_indexes)
    with ExitStack() as stack:
        for boundary in boundaries:
            if deepstack == "before" and 1 <= boundary <= num_added:
                hook = layers[boundary - 1].register_forward_hook(_keep_output(boundary, kept))
            else:
                hook = layers[boundary].register_forward_pre_hook(_keep_input(boundary, kept))
            stack.callback(hook.remove)
        yield


def _keep_input(boundary: int, kept: dict[int, Tensor]) -> Any:
    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept[boundary] = inputs[0]

    return hook


def _keep_output(boundary: int, kept: dict[int, Tensor]) -> Any:
    def hook(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept[boundary] = output

    return hook
