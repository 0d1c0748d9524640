"""Proves, in a fresh process of the engine's environment, what the plugin registered.

`python -m eagle3_plugin.engines.sglang.probe` loads SGLang's plugins the way SGLang does and prints
one JSON object. SGLang logs what a plugin raises and goes on, so nothing is taken from what the
plugin says of itself: our class is looked up in SGLang's registry, our functions where SGLang calls
them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from typing import Any

GROUP = "sglang.srt.plugins"


def main() -> int:
    """Print the report; exit 0 when everything is in place, 1 when something is not."""
    found = report()
    print(json.dumps(found))
    return 0 if found["ok"] else 1


def report() -> dict[str, Any]:
    """What is registered with SGLang in this process."""
    import sglang
    from sglang.srt.plugins import load_plugins

    from eagle3_plugin import __version__
    from eagle3_plugin.engines.sglang.draft_config import ARCHITECTURE
    from eagle3_plugin.engines.sglang.plugin import MODELS, readers, workers
    from eagle3_plugin.engines.wrap import is_wrapped

    load_plugins()
    places = [*readers(), *workers()]
    names = {ARCHITECTURE: _resolved(ARCHITECTURE)}
    hooks = {f"{h.__name__}.{name}": is_wrapped(h, name) for h, name, _ in places}
    entry_points = importlib.metadata.entry_points(group=GROUP)
    right = names[ARCHITECTURE] == f"{MODELS}.draft:Eagle3Draft"
    return {
        "schema": 1,
        "engine": "sglang",
        "engine_version": sglang.__version__,
        "plugin_version": __version__,
        "entry_points": {e.name: e.value for e in entry_points},
        "SGLANG_PLUGINS": os.environ.get("SGLANG_PLUGINS"),
        "architectures": names,
        "hooks": hooks,
        "ok": right and all(hooks.values()),
    }


def _resolved(name: str) -> str:
    """`module:class` that SGLang's registry gives for an architecture, or `unknown`."""
    from sglang.srt.models.registry import ModelRegistry

    model_cls = ModelRegistry.models.get(name)
    return "unknown" if model_cls is None else f"{model_cls.__module__}:{model_cls.__name__}"


if __name__ == "__main__":
    sys.exit(main())
