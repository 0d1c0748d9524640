"""A target model run by transformers: greedy continuations, and its states at any boundary."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.errors import Eagle3Error, MissingExtraError, TargetError

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")
"""Without any of them transformers 5.19 makes an empty tokenizer and says nothing."""


@dataclass(frozen=True)
class Continuation:
    """What the target wrote greedily after a prompt.

    ids: [prompt + generated + overhang]; the overhang is what the target would have written
        next: it lets the last chain be judged in full.
    margins: [generated + overhang], best logit minus second best for each written token.
    """

    ids: Tensor
    num_prompt_tokens: int
    num_generated: int
    margins: Tensor


class TargetModel:
    """A causal language model of transformers, for one sequence at a time (batches change sums).

    model: any `AutoModelForCausalLM` whose decoder has `layers` and a final `norm`.
    end_ids: the ids after which an engine stops.
    """

    def __init__(self, model: Any, tokenizer: Callable[[], Any]) -> None:
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

    @classmethod
    def load(cls, folder: Path, *, dtype: torch.dtype, device: str) -> TargetModel:
        """The model of a folder; raises TargetError when it, or any of its weights, is missing."""
        transformers = _transformers()
        load = transformers.AutoModelForCausalLM.from_pretrained
        try:
            with _no_progress_bar(transformers):
                model, report = load(
                    folder, dtype=dtype, local_files_only=True, output_loading_info=True
                )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise TargetError(
                f"transformers cannot load the target {folder}: {_first_line(error)}",
                hint="Expected a folder with config.json and safetensors of a text model.",
            ) from error
        missing = sorted(report["missing_keys"])
        if missing:
            raise TargetError(
                f"the target {folder} lacks {len(missing)} tensors, among them {missing[:5]}",
                hint="Download the target again, all shards of it.",
            )
        model.to(device).eval()
        return cls(model, lambda: _load_tokenizer(transformers, folder))

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def encode(self, prompt: Prompt) -> Tensor:
        """The token ids [n] of a prompt, on the model's device."""
        if prompt.kind == "prompt_token_ids":
            ids: Any = prompt.value
        elif prompt.kind == "messages":
            ids = self._chat_ids(prompt)
        else:
            ids = self._tokenizer()(prompt.value)["input_ids"]
        if not ids:
            raise Eagle3Error(f"{prompt.where}: no tokens, expected at least one")
        if max(ids) >= self.vocab_size:
            raise Eagle3Error(
                f"{prompt.where}: token id {max(ids)}, expected ids below the target's "
                f"vocabulary of {self.vocab_size}"
            )
        return torch.tensor(ids, device=self.embed.device)

    @torch.inference_mode()
    def continue_greedily(
        self,
        prompt_ids: Tensor,
        max_new_tokens: int,
        *,
        overhang: int,
        end_ids: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> Continuation:
        """The greedy continuation, up to an end id, and `overhang` more tokens after it."""
        written: list[Tensor] = []
        margins: list[Tensor] = []
        fed, cache = prompt_ids[None], _transformers().DynamicCache(config=self.model.config)
        num_generated = max_new_tokens
        while len(written) < num_generated + overhang:
            out = self.model(fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
            best = out.logits[0, -1].topk(2)
            written.append(best.indices[:1])
            margins.append((best.values[0] - best.values[1])[None])
            fed = written[-1][None]
            is_inside = len(written) <= num_generated
            if is_inside and int(written[-1]) in end_ids:
                num_generated = len(written)
            if is_inside and progress is not None:
                progress(len(written))
        ids = torch.cat([prompt_ids, *written])
        return Continuation(ids, len(prompt_ids), num_generated, torch.cat(margins))

    @torch.inference_mode()
    def states(self, ids: Tensor, boundaries: Sequence[int]) -> dict[int, Tensor]:
        """The residual stream [tokens, hidden] at each boundary, from one pass over `ids`.

        Boundary k is caught as the input of layer k, and boundary n as the input of the final
        norm: the last of transformers' `hidden_states` is *after* that norm, so not the same.
        """
        kept: dict[int, Tensor] = {}
        with self._caught(boundaries, kept):
            self.decoder(ids[None], use_cache=False)
        return kept

    @contextmanager
    def _caught(self, boundaries: Sequence[int], kept: dict[int, Tensor]) -> Iterator[None]:
        readers = [*self.layers, self.decoder.norm]
        with ExitStack() as stack:
            for boundary in set(boundaries):
                hook = readers[boundary].register_forward_pre_hook(_catch(boundary, kept))
                stack.callback(hook.remove)
            yield

    def _chat_ids(self, prompt: Prompt) -> list[int]:
        tokenizer = self._tokenizer()
        if not tokenizer.chat_template:
            raise Eagle3Error(
                f"{prompt.where}: messages, but the target has no chat template",
                hint='Use prompts of the kind "prompt" or "prompt_token_ids".',
            )
        messages = [dict(message) for message in prompt.value]  # type: ignore[arg-type]
        try:
            ids: list[int] = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:  # a template is a program of the checkpoint's own
            text = f"{prompt.where}: the target's chat template: {_first_line(error)}"
            raise Eagle3Error(text, hint="See which roles the template knows.") from error
        return ids


def _catch(boundary: int, kept: dict[int, Tensor]) -> Callable[[nn.Module, Any], None]:
    def hook(_module: nn.Module, inputs: Any) -> None:
        kept[boundary] = inputs[0][0]

    return hook


def _end_ids(model: Any) -> tuple[int, ...]:
    """As engines have them: of generation_config.json, with config.json's where that has none."""
    found = model.generation_config.eos_token_id
    found = model.config.eos_token_id if found is None else found
    if found is None:
        return ()
    return tuple(found) if isinstance(found, list) else (found,)


def _load_tokenizer(transformers: ModuleType, folder: Path) -> Any:
    hint = 'Prompts of the kind "prompt_token_ids" need no tokenizer.'
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        found = f"the target {folder} has no tokenizer, expected one of {list(TOKENIZER_FILES)}"
        raise TargetError(found, hint=hint)
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a broken file raises whatever its parser raises
        raise TargetError(
            f"transformers cannot load the tokenizer of {folder}: {_first_line(error)}", hint=hint
        ) from error


@contextmanager
def _no_progress_bar(transformers: ModuleType) -> Iterator[None]:
    """Without transformers' own bar, which would break the lines of whoever shows another."""
    logging = transformers.utils.logging
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "scoring runs the target with transformers, which is not installed",
            hint="pip install 'eagle3-plugin[torch]'",
        ) from error
    return transformers


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
