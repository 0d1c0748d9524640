"""What a draft gets of an image inside SGLang: the embeddings and the tap that it was trained with.

Stock SGLang 0.5.23 gives every draft the target's merged embeddings at prefill
(speculative/eagle_worker_v2.py:960-1033), whatever the draft embeds and however narrow it is. Ids
at image positions are hashes there. Where a chunk of the prefill ends inside an image, the draft
gets the token that was sampled after the chunk. A tap at the entry of the first layers is taken
after the deepstack features are added (models/qwen3_vl.py:1254-1272).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.engines.draft_config import CANONICAL_KEY, canonical_config
from eagle3_plugin.errors import EngineError

logger = logging.getLogger(__name__)


class Span(NamedTuple):
    """Tokens of an image or a video, in a request's own positions, end excluded."""

    start: int
    end: int
    placeholder_id: int


class Cut(NamedTuple):
    """The visual token after a chunk: the index of its request, its position there, its id."""

    request: int
    position: int
    placeholder_id: int


def prefill_as_trained(
    original: Callable[..., Any],
    worker: Any,
    batch: Any,
    target_states: Tensor,
    next_ids: Tensor,
    target_embeds: Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """EagleDraftWorker._draft_extend_for_prefill, the draft given what it was trained with.

    target_embeds: [tokens, target_hidden], the target's input embeddings, None for text alone.
    """
    module = worker.draft_runner.model
    draft = getattr(module, "draft", None)
    if target_embeds is None or not isinstance(draft, DraftConfig):
        return original(worker, batch, target_states, next_ids, target_embeds, **kwargs)
    ids, is_visual = _placeholders(batch)
    embeds = module.model.embed_tokens(ids)
    cut = _cut_image(batch)
    tail: Any = nullcontext()
    if draft.image_embedding == "visual":
        embeds = torch.where(is_visual[:, None], target_embeds, embeds)
        if cut is not None:
            feature = _feature(worker.target_worker.model_runner.model, batch, cut)
            tail = _embedding(module.model.embed_tokens, cut.placeholder_id, feature)
    batch.input_ids = ids
    with _next_id(batch, cut), tail:
        return original(worker, batch, target_states, next_ids, embeds, **kwargs)


def tap_as_trained(original: Callable[..., Any], runner: Any, *args: Any, **kwargs: Any) -> Any:
    """ModelRunner.init_attention_backends, which also sets what the target captures."""
    config = getattr(runner.spec_aux_config.draft_model_config, "hf_config", None)
    if not runner.is_draft_worker and getattr(config, CANONICAL_KEY, None) is not None:
        _set_deepstack_tap(runner.model, canonical_config(config))
    return original(runner, *args, **kwargs)


def _set_deepstack_tap(target: Any, draft: Any) -> None:
    """Lets a Qwen3-VL target add the deepstack features after the capture, for a draft tapped so.

    SGLang has that order for training (`use_hf_deepstack_order`); sums then round in another order.
    draft: its config, with the taps written out.
    """
    decoder: Any = getattr(target, "model", None)
    added_after = getattr(decoder, "deepstack_embed_to_decoder_layer", ())
    inside = [tap for tap in draft.taps if tap - 1 in added_after]
    if not inside:
        return
    if not hasattr(decoder, "use_hf_deepstack_order"):
        raise EngineError(
            f"this SGLang cannot capture boundaries {inside} before the deepstack features, which "
            f"{type(decoder).__name__} adds there",
            hint="Use SGLang 0.5.23.",
        )
    if decoder.use_hf_deepstack_order and draft.deepstack_tap != "before":
        raise EngineError(
            f"with --rl-on-policy-target SGLang captures boundaries {inside} before the deepstack "
            f"features are added; the draft's deepstack tap is {draft.deepstack_tap}",
            hint="Serve without --rl-on-policy-target.",
        )
    decoder.use_hf_deepstack_order = draft.deepstack_tap == "before"
    guessed = ", taken as after" if draft.deepstack_tap == "unknown" else ""
    logger.info(
        "eagle3_plugin: taps %s of image tokens relative to the deepstack features: %s%s",
        *(inside, draft.deepstack_tap, guessed),
    )


def _placeholders(batch: Any) -> tuple[Tensor, Tensor]:
    """The ids of a prefill with a placeholder at each visual token, and where those are."""
    ids = batch.input_ids.clone()
    is_visual = torch.zeros_like(ids, dtype=torch.bool)
    first_row = 0
    lens = zip(batch.multimodal_inputs, batch.prefix_lens, batch.extend_lens, strict=True)
    for inputs, prefix, extend in lens:
        for span in _spans(inputs):
            begin, end = max(span.start, prefix), min(span.end, prefix + extend)
            if begin < end:
                rows = slice(first_row + begin - prefix, first_row + end - prefix)
                ids[rows] = span.placeholder_id
                is_visual[rows] = True
        first_row += extend
    return ids, is_visual


def _spans(inputs: Any) -> Iterator[Span]:
    """The spans of a request's MultimodalInputs, None for text."""
    for item in () if inputs is None else inputs.mm_items:
        found = inputs.video_token_id if item.is_video() else inputs.im_token_id
        for first, last in item.offsets or ():
            yield Span(first, last + 1, found)


def _cut_image(batch: Any) -> Cut | None:
    """Where a chunk of a prefill ends before a visual token; None where it does not."""
    requests = (i for i, request in enumerate(batch.reqs) if request is batch.chunked_req)
    index = next(requests, None)
    if index is None:
        return None
    following = batch.prefix_lens[index] + batch.extend_lens[index]
    spans = _spans(batch.multimodal_inputs[index])
    found = (s.placeholder_id for s in spans if s.start <= following < s.end)
    placeholder_id = next(found, None)
    return None if placeholder_id is None else Cut(index, following, placeholder_id)


@contextmanager
def _next_id(batch: Any, cut: Cut | None) -> Iterator[None]:
    """Meanwhile the batch names the placeholder as the id that follows its chunk.

    Of itself it names no visual token, and the draft gets the token sampled after the chunk
    (managers/schedule_batch.py:2438-2452).
    """
    kept = batch.chunked_req_next_prompt_token
    batch.chunked_req_next_prompt_token = kept if cut is None else cut.placeholder_id
    try:
        yield
    finally:
        batch.chunked_req_next_prompt_token = kept


@contextmanager
def _embedding(embed_tokens: torch.nn.Module, placeholder_id: int, value: Tensor) -> Iterator[None]:
    """Meanwhile the placeholder's embedding is `value` [1, hidden].

    SGLang looks up only the last token of each request here (models/llama_eagle3.py:216-227, and
    outside of graphs model_executor/runner/prefill_cuda_graph_runner.py:1897-1913).
    """

    def replace(_module: torch.nn.Module, inputs: Any, found: Tensor) -> Tensor:
        return torch.where((inputs[0] == placeholder_id)[:, None], value.to(found.dtype), found)

    handle = embed_tokens.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _feature(target: Any, batch: Any, cut: Cut) -> Tensor:
    """[1, hidden]: the target's embedding of the visual token that follows a chunk.

    SGLang has encoded the whole image for this chunk and keeps it, or encodes it again.
    """
    from sglang.srt.managers.mm_utils import embed_mm_inputs

    hashed = batch.reqs[cut.request].origin_input_ids[cut.position]
    embeds, _ = embed_mm_inputs(
        mm_inputs_list=[batch.multimodal_inputs[cut.request]],
        extend_prefix_lens=[cut.position],
        extend_seq_lens=[1],
        input_ids=torch.tensor([hashed], device=batch.input_ids.device),
        input_embedding=target.get_input_embeddings(),
        multimodal_model=target,
        use_deepstack=target.use_deepstack,
    )
    feature: Tensor = embeds
    return feature
