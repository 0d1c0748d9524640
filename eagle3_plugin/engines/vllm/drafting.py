"""Drafting in vLLM's V1 runner: positions and cache slots after images, chunks, early taps.

Stock vLLM 0.32 (v1/spec_decode/llm_base_proposer.py) takes a token's place in the KV cache and its
position for the same number once the first pass is over. With images they differ: M-RoPE positions
advance by the longer side of an image, places by its number of tokens. So draft steps 2 to K wrote
their keys over those of other tokens (`_update_positions_dependent_metadata`), and a draft with 1-D
positions was given the time axis of the target's (`_set_positions`). And where a prompt is run in
chunks, the draft's row of a chunk's last token got the prompt's last token for its next one
(`prepare_next_token_ids_padded`), with or without images.

The functions are wrapped when the first draft of ours is built, which is in the process that
drafts: to import vLLM's runner any earlier would cost every process some seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.engines.vllm.image_inputs import ImageInputs
from eagle3_plugin.engines.wrap import is_wrapped, require, wrap

FIRST_PASS = "set_inputs_first_pass"
NEXT_STEP = "_update_positions_dependent_metadata"
AFTER_LOADING = "_setup_eagle3_aux_hidden_state_outputs"


def hook_drafting(supported: str) -> None:
    """Puts ours around the V1 runner's functions; any number of times."""
    import vllm

    proposer, runner = _holders()
    hooks: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (proposer, FIRST_PASS, _first_pass),
        (proposer, NEXT_STEP, _next_step),
        (runner, AFTER_LOADING, _after_loading),
    )
    for holder, name, around in hooks:
        require(holder, name, f"vLLM {vllm.__version__}", supported)
        wrap(holder, name, around)


def hooked() -> dict[str, bool]:
    """Whether ours is around each of the functions, by their names in vLLM."""
    proposer, runner = _holders()
    places = ((proposer, FIRST_PASS), (proposer, NEXT_STEP), (runner, AFTER_LOADING))
    return {f"{holder.__name__}.{name}": is_wrapped(holder, name) for holder, name in places}


def _holders() -> tuple[Any, Any]:
    from vllm.v1.spec_decode.llm_base_proposer import SpecDecodeBaseProposer
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    return SpecDecodeBaseProposer, GPUModelRunner


def _first_pass(original: Callable[..., Any], proposer: Any, **inputs: Any) -> Any:
    """The first pass of a draft with 1-D positions gets sequence indices."""
    if _is_ours(proposer) and not proposer.uses_mrope:
        metadata, num_tokens = inputs["cad"], len(inputs["target_token_ids"])
        indices = sequence_indices(metadata.query_start_loc, metadata.seq_lens, num_tokens)
        axes = inputs["target_positions"].shape[:-1]
        inputs["target_positions"] = indices.expand(*axes, num_tokens)
    return original(proposer, **inputs)


def sequence_indices(starts: Tensor, lengths: Tensor, num_tokens: int) -> Tensor:
    """The place of each token in its sequence, [num_tokens].

    starts: [batch + 1], where the tokens of each request begin in the batch, and where all end;
    lengths: [batch], of each sequence, up to and with those tokens, which are its last.
    """
    counts = starts[1:] - starts[:-1]
    shift = (lengths - starts[1:]).repeat_interleave(counts, output_size=num_tokens)
    return torch.arange(num_tokens, device=starts.device) + shift


def _next_step(
    original: Callable[..., Tensor],
    proposer: Any,
    positions: Tensor,
    metadata: Any,
    *sizes: int,
) -> Tensor:
    """One more draft step: its slot by the sequence index, its position one further on each axis.

    The original is given the index for a position, and so finds the right slot.
    """
    if not (_is_ours(proposer) and proposer.uses_mrope):
        return original(proposer, positions, metadata, *sizes)
    advanced = positions + 1
    indices = (metadata.seq_lens - 1).to(positions.dtype)
    stepped = original(proposer, indices.expand(len(positions), -1), metadata, *sizes)
    stepped.copy_(advanced)
    return stepped


def _after_loading(original: Callable[..., None], runner: Any) -> None:
    """Once target and draft are there: the next tokens of chunks, and taps before the add."""
    original(runner)
    proposer = runner.drafter
    if getattr(proposer.model, "draft", None) is None:
        return
    chosen = proposer.prepare_next_token_ids_padded
    proposer.prepare_next_token_ids_padded = partial(_next_tokens, chosen, runner)
    inputs: ImageInputs | None = proposer.model.image_inputs
    if inputs is not None and inputs.taps_before:
        catch_before_add(runner.get_model(), inputs.taps_before)


def _next_tokens(
    original: Callable[..., tuple[Tensor, Tensor]], runner: Any, *inputs: Any, **named: Any
) -> tuple[Tensor, Tensor]:
    """The token after the last one that was run, of each request, also inside its prompt."""
    next_tokens, counts = original(*inputs, **named)
    batch = runner.input_batch
    inside = runner.discard_request_mask.np[: batch.num_reqs].nonzero()[0]
    ends = runner.optimistic_seq_lens_cpu[inside].tolist()
    known = [
        runner.requests[batch.req_ids[row]].get_token_id(end)
        for row, end in zip(inside, ends, strict=True)
    ]
    if known:
        next_tokens[inside] = torch.tensor(known, dtype=next_tokens.dtype).to(next_tokens.device)
    return next_tokens, counts


def catch_before_add(target: Any, taps: tuple[int, ...]) -> None:
    """Makes a Qwen3-VL return those taps as they are before the visual add.

    The target adds level k - 1 of the visual features to boundary k and then catches it (vLLM 0.32
    model_executor/models/qwen3_vl.py, Qwen3LLMModel.forward); here the level is taken off again.
    The layers are compiled, this function is not: catching earlier would need a copy of the model.
    """
    caught = sorted(target.language_model.model.aux_hidden_state_layers)
    levels = {caught.index(tap): tap - 1 for tap in taps}
    forward = target.forward

    def forward_before_add(*args: Any, **kwargs: Any) -> Any:
        num_tokens = getattr(target, "deepstack_input_embeds_num_tokens", 0)  # unset until an image
        added = {
            column: target.deepstack_input_embeds[level][:num_tokens].clone()
            for column, level in levels.items()
        }
        output = forward(*args, **kwargs)
        if num_tokens:
            _, aux_hidden_states = output
            for column, visual in added.items():
                aux_hidden_states[column][:num_tokens] -= visual
        return output

    target.forward = forward_before_add


def _is_ours(proposer: Any) -> bool:
    """Whether our class holds the draft, beside a target with M-RoPE positions."""
    draft: DraftConfig | None = getattr(proposer.model, "draft", None)
    return draft is not None and bool(proposer.vllm_config.model_config.uses_mrope)
