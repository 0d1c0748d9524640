"""The entry point `vllm.general_plugins: eagle3`, run by vLLM in each of its processes.

Three things are registered: our draft classes under every architecture name seen in the wild; what
the V2 runner lacks for drafts beside images (`runners.py`); and a reader for draft configs. vLLM
builds its SpeculativeConfig from the draft's config.json; while it does so for an EAGLE-3 draft
that we read, `get_config` answers with the canonical config instead. Two ways were weighed.
Rewriting the config when the model is built needs no hook, but errors come after the target is
loaded, a layout that vLLM cannot parse never gets there, and the key of vLLM's compile cache would
not see the taps. So the config is replaced at birth.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from eagle3_plugin.engines.draft_config import hugging_face_config, is_read
from eagle3_plugin.engines.names import DRAFT_NAMES, QWEN3_NAMES, is_our_target
from eagle3_plugin.engines.vllm.draft_config import ARCHITECTURES, engine_config
from eagle3_plugin.engines.vllm.runners import with_our_gaps
from eagle3_plugin.engines.wrap import require, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = "eagle3_plugin.engines.vllm.models"
SUPPORTED = "vLLM 0.32"
V2_GAPS = "_get_v2_model_runner_unsupported_features"

_target_of: ContextVar[dict[str, Any] | None] = ContextVar("eagle3_target", default=None)


def register() -> None:
    """Register the draft classes and the config reader; safe to call any number of times."""
    import vllm
    import vllm.config.model as model_config
    from vllm.config import SpeculativeConfig, VllmConfig
    from vllm.model_executor.models import ModelRegistry

    for name, class_name in class_names().items():
        ModelRegistry.register_model(name, f"{MODELS}:{class_name}")
    for holder, name, around in (
        (SpeculativeConfig, "__post_init__", _while_reading_drafts),
        (model_config, "get_config", _answer_for_drafts),
        (VllmConfig, V2_GAPS, with_our_gaps),
    ):
        require(holder, name, f"vLLM {vllm.__version__}", SUPPORTED)
        wrap(holder, name, around)


def class_names() -> dict[str, str]:
    """Architecture name -> our class, for every name that a draft has been published under."""
    wild = {n: "Eagle3Qwen3Draft" if n in QWEN3_NAMES else "Eagle3LlamaDraft" for n in DRAFT_NAMES}
    return wild | {own: own for own in ARCHITECTURES.values()}


def _while_reading_drafts(original: Callable[..., Any], self: Any, *args: Any) -> Any:
    """SpeculativeConfig.__post_init__, remembering the target while the draft's config is read."""
    target = getattr(self, "target_model_config", None)
    if self.method != "eagle3" or self.model is None or target is None:
        return original(self, *args)
    config = target.hf_config.to_dict()
    if not is_our_target(config):
        return original(self, *args)
    with _target(config):
        return original(self, *args)


@contextmanager
def _target(config: dict[str, Any]) -> Iterator[None]:
    token = _target_of.set(config)
    try:
        yield
    finally:
        _target_of.reset(token)


def _answer_for_drafts(
    original: Callable[..., Any],
    model: Any,
    trust_remote_code: bool,
    revision: str | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """vLLM's get_config, with the canonical config for an EAGLE-3 draft that we read."""
    target = _target_of.get()
    if target is None or not is_read(str(model), revision):
        return original(model, trust_remote_code, revision, *args, **kwargs)
    from vllm.transformers_utils.config import patch_rope_parameters

    config = hugging_face_config(str(model), revision, target, engine_config)
    override = kwargs.get("hf_overrides_fn")
    config = override(config) if override is not None else config
    patch_rope_parameters(config)
    return config
