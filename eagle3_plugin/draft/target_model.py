"""A target run by transformers: greedy continuations, states at any boundary, a draft's rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from eagle3_plugin.draft.encoded import Encoded
from eagle3_plugin.draft.images import open_image
from eagle3_plugin.draft.loading import (
    first_line,
    load_model,
    load_processor,
    load_tokenizer,
    new_cache,
)
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.prompts.messages import template_messages
from eagle3_plugin.draft.rows import Rows, text_rows
from eagle3_plugin.draft.vision import VISION_TYPES, Vision
from eagle3_plugin.errors import Eagle3Error, TargetError

if TYPE_CHECKING:
    from PIL.Image import Image

    from eagle3_plugin.draft.reference import ReferenceDraft

Deepstack = Literal["after", "before", "unknown"]
"""Where the boundaries of the deepstack layers are caught: after or before the visual add.

Unknown is after, where both engines catch them."""


@dataclass(frozen=True)
class Continuation:
    """What the target wrote greedily after a prompt.

    prompt: what it was given.
    ids: [prompt + generated + overhang]; the overhang is what the target would have written
        next: it lets the last chain be judged in full.
    margins: [generated + overhang], best logit minus second best for each written token.
    """

    prompt: Encoded
    ids: Tensor
    num_generated: int
    margins: Tensor

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt.ids)


class TargetModel:
    """A language model of transformers, for one sequence at a time (batches change sums).

    model: any `AutoModelForCausalLM` whose decoder has `layers` and a final `norm`, or a Qwen3-VL.
    end_ids: the ids after which an engine stops. vision: None for a target that sees no images.
    """

    def __init__(
        self, model: Any, tokenizer: Callable[[], Any], processor: Callable[[], Any]
    ) -> None:
        self.model = model
        self.decoder: Any = model.get_decoder()
        if not hasattr(self.decoder, "layers") or not hasattr(self.decoder, "norm"):
            raise TargetError(
                f"{type(model).__name__} has no decoder with layers and a final norm",
                hint="Expected a text model of the Llama or Qwen family.",
            )
        self.layers: list[nn.Module] = list(self.decoder.layers)
        self.embed: Tensor = model.get_input_embeddings().weight
        self.lm_head: Tensor = model.get_output_embeddings().weight
        self.vocab_size, self.hidden_size = self.embed.shape
        self.end_ids = _end_ids(model)
        self._tokenizer = functools.cache(tokenizer)
        sees = model.config.model_type in VISION_TYPES
        self.vision = Vision(model, processor) if sees else None

    @classmethod
    def load(cls, folder: Path, *, dtype: torch.dtype, device: str) -> TargetModel:
        """The model of a folder; raises TargetError when it, or any of its weights, is missing."""
        model = load_model(folder, VISION_TYPES, dtype, device)
        return cls(model, lambda: load_tokenizer(folder), lambda: load_processor(folder))

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def num_deepstack(self) -> int:
        """The first so many layers add visual features to their output."""
        return 0 if self.vision is None else self.vision.num_deepstack

    def encode(self, prompt: Prompt) -> Encoded:
        """A prompt as the model runs it, on its device; images cut up but not yet seen."""
        self._check_sees(len(prompt.images), prompt.where)
        if prompt.kind == "prompt_token_ids":
            ids: Any = prompt.value
        elif prompt.kind == "messages":
            ids = self._chat_ids(prompt)
        else:
            ids = self._tokenizer()(prompt.value)["input_ids"]
        return self.encode_ids(ids, [open_image(one) for one in prompt.images], prompt.where)

    def encode_ids(
        self, ids: Sequence[int], images: Sequence[Image] = (), where: str = "prompt"
    ) -> Encoded:
        """A prompt of these ids, with one image placeholder for each image."""
        if not ids:
            raise Eagle3Error(f"{where}: no tokens, expected at least one")
        if max(ids) >= self.vocab_size:
            raise Eagle3Error(
                f"{where}: token id {max(ids)}, expected ids below the target's "
                f"vocabulary of {self.vocab_size}"
            )
        if self.vision is not None:
            return self.vision.encode(ids, images, where)
        self._check_sees(len(images), where)
        return Encoded(torch.tensor(ids, device=self.embed.device))

    @torch.inference_mode()
    def continue_greedily(
        self,
        prompt: Encoded,
        max_new_tokens: int,
        *,
        overhang: int,
        end_ids: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> Continuation:
        """The greedy continuation, up to an end id, and `overhang` more tokens after it."""
        written: list[Tensor] = []
        margins: list[Tensor] = []
        ids, cache = prompt.ids, new_cache(self.model)
        num_generated = max_new_tokens
        while len(written) < num_generated + overhang:
            best = self._next_logits(prompt, ids, cache).topk(2)
            written.append(best.indices[:1])
            margins.append((best.values[0] - best.values[1])[None])
            ids = torch.cat([ids, written[-1]])
            is_inside = len(written) <= num_generated
            if is_inside and int(written[-1]) in end_ids:
                num_generated = len(written)
            if is_inside and progress is not None:
                progress(len(written))
        return Continuation(prompt, ids, num_generated, torch.cat(margins))

    @torch.inference_mode()
    def states(
        self,
        prompt: Encoded,
        ids: Tensor,
        boundaries: Sequence[int],
        *,
        deepstack: Deepstack = "after",
    ) -> dict[int, Tensor]:
        """The residual stream [tokens, hidden] at each boundary, from one pass over `ids`.

        ids: the prompt and what was written after it. deepstack: whether boundary k of the layers
        that add visual features is the input of layer k, or the output of layer k - 1 before the
        add (as transformers 5.19 records it).
        Boundary k is caught as the input of layer k, and boundary n as the input of the final
        norm: the last of transformers' `hidden_states` is *after* that norm, so not the same.
        """
        kept: dict[int, Tensor] = {}
        with self._caught(boundaries, kept, self.num_deepstack if deepstack == "before" else 0):
            self.decoder(**self._inputs(prompt, ids, 0), use_cache=False)
        return kept

    @torch.no_grad()
    def rows(self, prompt: Encoded, ids: Tensor, draft: ReferenceDraft) -> Rows:
        """What `draft` is given for `ids`, the prompt and what was written after it.

        A draft with M-RoPE gets the target's 3-D positions, any other the indices. At image
        placeholders it gets their own embedding, and the target's visual feature only if it says
        `image_embedding: visual`; "unknown" is a placeholder, as SpecForge trains (core/eagle3.py
        at d3472dde, step 5.1). Text is the same for all.
        """
        if self.vision is None or prompt.images is None:
            return text_rows(ids)
        rows = text_rows(ids)
        if draft.config.rope.mrope_section is not None:
            rows = replace(rows, positions=prompt.positions(len(ids)))
        if draft.config.image_embedding == "visual":
            is_image = prompt.is_image(len(ids))
            embeds = draft.embed_tokens(ids)
            embeds[is_image] = self.vision.see(prompt.images).features[: int(is_image.sum())]
            rows = replace(rows, embeds=embeds)
        return rows

    def _next_logits(self, prompt: Encoded, ids: Tensor, cache: Any) -> Tensor:
        """The logits [vocab] after `ids`, of which the cache has all but the newest, or none."""
        inputs = self._inputs(prompt, ids, cache.get_seq_length())
        keep = {"past_key_values": cache, "use_cache": True}
        if prompt.images is None:
            logits: Tensor = self.model(**inputs, **keep, logits_to_keep=1).logits
        else:
            logits = self.model.lm_head(self.decoder(**inputs, **keep).last_hidden_state[:, -1:])
        return logits[0, -1]

    def _inputs(self, prompt: Encoded, ids: Tensor, start: int) -> dict[str, Any]:
        """What the decoder is given for ids[start:]: with images, embeddings and 3-D positions.

        The model's own merge of images into a text needs a placeholder for every image and no
        more, but a target may write one; and it keeps the last prompt's offset of positions.
        """
        if self.vision is None or prompt.images is None:
            return {"input_ids": ids[None, start:]}
        embeds = self.model.get_input_embeddings()(ids[None, start:])
        inputs: dict[str, Any] = {"position_ids": prompt.positions(len(ids))[:, None, start:]}
        if start == 0:
            is_image = prompt.is_image(len(ids))[None]
            seen = self.vision.see(prompt.images)
            count = int(is_image.sum())
            embeds[is_image] = seen.features[:count]
            inputs["visual_pos_masks"] = is_image
            inputs["deepstack_visual_embeds"] = [one[:count] for one in seen.deepstack]
        return {"inputs_embeds": embeds, **inputs}

    @contextmanager
    def _caught(
        self, boundaries: Sequence[int], kept: dict[int, Tensor], num_outputs: int
    ) -> Iterator[None]:
        """Keeps states; those of boundaries 1 to `num_outputs` as the output of a layer."""
        readers = [*self.layers, self.decoder.norm]
        with ExitStack() as stack:
            for boundary in set(boundaries):
                if 1 <= boundary <= num_outputs:
                    layer = self.layers[boundary - 1]
                    hook = layer.register_forward_hook(_catch_output(boundary, kept))
                else:
                    hook = readers[boundary].register_forward_pre_hook(_catch(boundary, kept))
                stack.callback(hook.remove)
            yield

    def _check_sees(self, num_images: int, where: str) -> None:
        if num_images and self.vision is None:
            raise Eagle3Error(
                f"{where}: {num_images} image(s), but {type(self.model).__name__} sees none",
                hint="Score image prompts with a Qwen3-VL target.",
            )

    def _chat_ids(self, prompt: Prompt) -> list[int]:
        tokenizer = self._tokenizer()
        template = tokenizer.chat_template
        if prompt.images and self.vision is not None:
            template = self.vision.processor().chat_template or template
        if not template:
            raise Eagle3Error(
                f"{prompt.where}: messages, but the target has no chat template",
                hint='Use prompts of the kind "prompt" or "prompt_token_ids".',
            )
        try:
            ids: list[int] = tokenizer.apply_chat_template(
                template_messages(prompt.value),
                chat_template=template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except Exception as error:  # a template is a program of the checkpoint's own
            text = f"{prompt.where}: the target's chat template: {first_line(error)}"
            raise Eagle3Error(text, hint="See which roles the template knows.") from error
        return ids


def _catch(boundary: int, kept: dict[int, Tensor]) -> Callable[[nn.Module, Any], None]:
    def hook(_module: nn.Module, inputs: Any) -> None:
        kept[boundary] = inputs[0][0]

    return hook


def _catch_output(boundary: int, kept: dict[int, Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept[boundary] = output[0]

    return hook


def _end_ids(model: Any) -> tuple[int, ...]:
    """As engines have them: of generation_config.json, with config.json's where that has none."""
    found = model.generation_config.eos_token_id
    found = model.config.get_text_config().eos_token_id if found is None else found
    if found is None:
        return ()
    return tuple(found) if isinstance(found, list) else (found,)
