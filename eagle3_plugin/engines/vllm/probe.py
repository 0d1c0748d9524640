"""Proves, in a fresh process of the engine's environment, what the plugin registered.

`python -m eagle3_plugin.engines.vllm.probe` loads vLLM's plugins the way vLLM does and prints one
JSON object. Nothing is taken from what the plugin says of itself: names are resolved through
vLLM's registry, and the hooks are looked up where vLLM calls them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from typing import Any

GROUP = "vllm.general_plugins"


def main() -> int:
    """Print the report; exit 0 when everything is in place, 1 when something is not."""
    found = report()
    print(json.dumps(found))
    return 0 if found["ok"] else 1


def report() -> dict[str, Any]:
    """What is registered with vLLM in this process."""
    import vllm
    import vllm.config.model as model_config
    from vllm.config import SpeculativeConfig, VllmConfig
    from vllm.plugins import load_general_plugins

    from eagle3_plugin import __version__
    from eagle3_plugin.engines.vllm.drafting import hook_drafting, hooked
    from eagle3_plugin.engines.vllm.plugin import MODELS, SUPPORTED, V2_GAPS, class_names
    from eagle3_plugin.engines.wrap import is_wrapped

    load_general_plugins()
    names = {name: _resolved(name) for name in class_names()}
    wrong = [n for n, c in class_names().items() if names[n] != f"{MODELS}:{c}"]
    if not wrong:
        hook_drafting(SUPPORTED)  # as our classes do when one is built
    hooks = {
        "SpeculativeConfig.__post_init__": is_wrapped(SpeculativeConfig, "__post_init__"),
        "get_config": is_wrapped(model_config, "get_config"),
        f"VllmConfig.{V2_GAPS}": is_wrapped(VllmConfig, V2_GAPS),
        **hooked(),
    }
    entry_points = importlib.metadata.entry_points(group=GROUP)
    return {
        "schema": 1,
        "engine": "vllm",
        "engine_version": vllm.__version__,
        "plugin_version": __version__,
        "entry_points": {e.name: e.value for e in entry_points},
        "VLLM_PLUGINS": os.environ.get("VLLM_PLUGINS"),
        "architectures": names,
        "hooks": hooks,
        "ok": not wrong and all(hooks.values()),
    }


def _resolved(name: str) -> str:
    """`module:class` that vLLM's registry gives for an architecture, or `unknown`."""
    from vllm.model_executor.models import ModelRegistry

    model = ModelRegistry.models.get(name)
    if model is None:
        return "unknown"
    model_cls = model.load_model_cls()
    return f"{model_cls.__module__}:{model_cls.__name__}"


if __name__ == "__main__":
    sys.exit(main())
