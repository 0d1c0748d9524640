"""The entry point `sglang.srt.plugins: eagle3`, run by SGLang in each of its processes.

Three things are registered: our draft class, a reader for draft configs, and what `images.py` puts
around SGLang's workers. SGLang reads the
draft's config.json several times: in the main process while it resolves the server's arguments,
and in each scheduler when it sizes the KV cache, captures the taps and builds the draft. While it
does so for an EAGLE-3 draft that we read, `get_config` answers with the canonical config instead.

SGLang logs what a plugin raises and goes on as stock. So what is registered is proved from outside
(`eagle3 plugins sglang`), and a served draft is named in the log by the class that holds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from eagle3_plugin.engines.draft_config import hugging_face_config, is_read
from eagle3_plugin.engines.names import is_our_target
from eagle3_plugin.engines.sglang.draft_config import (
    ARCHITECTURE,
    ROPE_NAMES,
    apply_overrides,
    engine_config,
)
from eagle3_plugin.engines.wrap import require, wrap

MODELS = "eagle3_plugin.engines.sglang.models"
SUPPORTED = "SGLang 0.5.23"
ALGORITHM = "EAGLE3"


@dataclass(frozen=True)
class Pair:
    """The draft that is being read, and the config.json of its target."""

    draft: str
    revision: str | None
    target: dict[str, Any]


_pair: ContextVar[Pair | None] = ContextVar("eagle3_pair", default=None)


def register() -> None:
    """Register the draft class and put ours around SGLang's; safe to call any number of times."""
    from sglang.srt.models.registry import ModelRegistry

    wrap_readers()
    ModelRegistry.register(MODELS, overwrite=True, strict=True)
    wrap_workers()


def wrap_readers() -> None:
    """Put our reader where SGLang reads configs; safe to call any number of times."""
    for holder, name, around in readers():
        require(holder, name, f"SGLang {_version()}", SUPPORTED)
        wrap(holder, name, around)


def wrap_workers() -> None:
    """Put ours around what SGLang gives a draft of an image; safe to call any number of times."""
    for holder, name, around in workers():
        require(holder, name, f"SGLang {_version()}", SUPPORTED)
        wrap(holder, name, around)


def readers() -> list[tuple[Any, str, Callable[..., Any]]]:
    """(holder, name, our function around it) of every place that matters.

    Arguments are resolved by `resolve_once`, before SGLang 0.5.20 by `__post_init__`. Two modules
    have a `get_config` of their own: the one that ModelConfig calls and the one that the argument
    hooks import it from.
    """
    import sglang.srt.configs.model_config as model_config
    import sglang.srt.utils.hf_transformers_utils as transformers_utils
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.server_args import ServerArgs

    resolve = "resolve_once" if hasattr(ServerArgs, "resolve_once") else "__post_init__"
    return [
        (ServerArgs, resolve, _while_resolving),
        (ModelConfig, "from_server_args", _while_reading),
        (model_config, "get_config", _answer_for_drafts),
        (transformers_utils, "get_config", _answer_for_drafts),
    ]


def workers() -> list[tuple[Any, str, Callable[..., Any]]]:
    """As `readers`, of what runs the models; images.py says what is changed there."""
    from sglang.srt.model_executor.model_runner import ModelRunner
    from sglang.srt.speculative.eagle_worker_v2 import EagleDraftWorker

    from eagle3_plugin.engines.sglang.images import prefill_as_trained, tap_as_trained

    return [
        (EagleDraftWorker, "_draft_extend_for_prefill", prefill_as_trained),
        (ModelRunner, "init_attention_backends", tap_as_trained),
    ]


def _version() -> str:
    import sglang

    module: ModuleType = sglang
    return str(getattr(module, "__version__", "of unknown version"))


def _while_resolving(original: Callable[..., Any], self: Any) -> Any:
    """ServerArgs.resolve_once, remembering the pair meanwhile."""
    with _reading(self):
        return original(self)


def _while_reading(
    original: Callable[..., Any], server_args: Any, *args: Any, **kwargs: Any
) -> Any:
    """ModelConfig.from_server_args, remembering the pair meanwhile."""
    with _reading(server_args):
        return original(server_args, *args, **kwargs)


@contextmanager
def _reading(server_args: Any) -> Iterator[None]:
    token = _pair.set(_pair_of(server_args))
    try:
        yield
    finally:
        _pair.reset(token)


def _pair_of(server_args: Any) -> Pair | None:
    """The pair that a server was started with; None when it is none of ours."""
    algorithm, draft = server_args.speculative_algorithm, server_args.speculative_draft_model_path
    if algorithm is None or algorithm.upper() != ALGORITHM or draft is None:
        return None
    target = _target_config(server_args.model_path, server_args.revision)
    target = overridden(target, json.loads(server_args.json_model_override_args))
    if not is_our_target(target):
        return None
    return Pair(str(draft), server_args.speculative_draft_model_revision, target)


def _target_config(model: str, revision: str | None) -> dict[str, Any]:
    from eagle3_plugin.draft.checkpoint import CONFIG, read_config
    from eagle3_plugin.hub import resolve

    return read_config(resolve(model, revision=revision), CONFIG)


def overridden(target: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The target's config.json as SGLang serves it: a nested config is changed, not replaced.

    So is a rope, whichever of its two names it goes by.
    """
    nested = {k: target[k] | v for k, v in overrides.items() if _is_nested(target.get(k), v)}
    found = target | overrides | nested
    if any(isinstance(overrides.get(name), dict) for name in ROPE_NAMES):
        parts = [given.get(name) or {} for given in (target, overrides) for name in ROPE_NAMES]
        found = {k: v for k, v in found.items() if k not in ROPE_NAMES}
        found[ROPE_NAMES[0]] = {k: v for part in parts for k, v in part.items()}
    return found


def _is_nested(value: Any, override: Any) -> bool:
    return isinstance(value, dict) and isinstance(override, dict)


def _answer_for_drafts(original: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
    """SGLang's get_config, with the canonical config for an EAGLE-3 draft that we read."""
    pair = _pair.get()
    if pair is None or str(model) != pair.draft or not is_read(pair.draft, pair.revision):
        return original(model, *args, **kwargs)
    config = hugging_face_config(pair.draft, pair.revision, pair.target, engine_config)
    assert config.architectures == [ARCHITECTURE]
    apply_overrides(config, kwargs.get("model_override_args") or {})
    return config
