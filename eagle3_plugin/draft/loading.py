"""A target's model, tokenizer and image processor, as transformers loads them from a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from eagle3_plugin.errors import MissingExtraError, TargetError

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")
"""Without any of them transformers 5.19 makes an empty tokenizer and says nothing."""

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def load_model(folder: Path, vision_types: Sequence[str], dtype: torch.dtype, device: str) -> Any:
    """The model of a folder; raises TargetError when it, or any of its weights, is missing.

    vision_types: the model types that are loaded with their vision tower.
    """
    transformers = _transformers()
    try:
        with _no_progress_bar(transformers):
            model, report = _class_of(transformers, folder, vision_types).from_pretrained(
                folder, dtype=dtype, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise TargetError(
            f"transformers cannot load the target {folder}: {first_line(error)}",
            hint="Expected a folder with config.json and safetensors of a text model or Qwen3-VL.",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise TargetError(
            f"the target {folder} lacks {len(missing)} tensors, among them {missing[:5]}",
            hint="Download the target again, all shards of it.",
        )
    return model.to(device).eval()


def new_cache(model: Any) -> Any:
    """An empty KV cache."""
    return _transformers().DynamicCache(config=model.config)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder; raises TargetError when there is none, or a broken one."""
    hint = 'Prompts of the kind "prompt_token_ids" need no tokenizer.'
    _check_files(folder, "tokenizer", TOKENIZER_FILES, hint)
    try:
        return _transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a broken file raises whatever its parser raises
        raise TargetError(
            f"transformers cannot load the tokenizer of {folder}: {first_line(error)}", hint=hint
        ) from error


def load_processor(folder: Path) -> Any:
    """The processor of a folder, for images; raises TargetError when it cannot be had."""
    hint = "Download these files of the target too."
    _check_files(folder, "image processor", PROCESSOR_FILES, hint)
    try:
        return _transformers().AutoProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above; ImportError where torchvision is missing
        raise TargetError(
            f"transformers cannot load the image processor of {folder}: {first_line(error)}",
            hint="It needs pillow and torchvision: pip install pillow torchvision",
        ) from error


def first_line(error: Exception) -> str:
    """What another library says, in one line."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _check_files(folder: Path, what: str, files: tuple[str, ...], hint: str) -> None:
    if not any((folder / file).is_file() for file in files):
        found = f"the target {folder} has no {what}, expected one of {list(files)}"
        raise TargetError(found, hint=hint)


def _class_of(transformers: ModuleType, folder: Path, vision_types: Sequence[str]) -> Any:
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type in vision_types:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


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
