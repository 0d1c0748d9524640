"""The command line that starts SGLang's server, its environment on a CPU, and a look at its log."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from eagle3_plugin.engines.interpreter import ask
from eagle3_plugin.errors import EngineError
from eagle3_plugin.settings import Settings, chain

CPU_ENVIRONMENT = {
    "SGLANG_USE_CPU_ENGINE": "1",
    "SGLANG_PLUGINS": "eagle3",
    "TORCH_COMPILE_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""For small models on a CPU: only our plugin, nothing fetched, nothing compiled for 30 s."""

CPU_FLAGS = (
    *("--device", "cpu", "--attention-backend", "torch_native"),
    *("--prefill-attention-backend", "intel_amx", "--decode-attention-backend", "intel_amx"),
    *("--disable-cuda-graph", "--mem-fraction-static", "0.1", "--sleep-on-idle"),
)
"""intel_amx twice: alone as --attention-backend it falls back to one that refuses EAGLE-3. Without
--sleep-on-idle an idle scheduler takes a whole core."""

CPU_KERNELS = Path(__file__).with_name("cpu_kernels")
"""The folder with our stand-in for SGLang's CPU kernels, which are on no package index."""

HAS_KERNELS = "import importlib.util as u, sys; sys.exit(u.find_spec('sgl_kernel') is None)"
CHAIN_3 = chain(3)
SERVED = re.compile(r"eagle3_plugin \S+ serves this draft as it was trained")
"""What `models/draft.py` logs once it holds a draft."""
PLUGIN_FAILED = re.compile(r"Failed to (?:load|execute general) plugin.*")
"""What SGLang logs when a plugin raised (0.5.23 plugins/__init__.py:84,136)."""


def server_command(
    python: str,
    target: str,
    port: int,
    *,
    draft: str | None = None,
    settings: Settings = CHAIN_3,
    flags: Sequence[str] = (),
) -> list[str]:
    """The command of a server for `target`, with the draft if one is given.

    Metrics are on: `eagle3 bench` checks what the answers say against them.
    """
    command = [python, "-m", "sglang.launch_server", "--model-path", target]
    command += ["--port", str(port), "--enable-metrics", *flags]
    return command if draft is None else command + speculative_flags(draft, settings)


def serve_line(target: str, draft: str, settings: Settings = CHAIN_3) -> str:
    """What a user types to serve this pair."""
    words = ["python", "-m", "sglang.launch_server", "--model-path", target]
    return shlex.join(words + speculative_flags(draft, settings))


def speculative_flags(draft: str, settings: Settings) -> list[str]:
    """The flags that name the draft and how it drafts; none of them is left to SGLang to guess."""
    return [
        *("--speculative-algorithm", "EAGLE3", "--speculative-draft-model-path", draft),
        *("--speculative-num-steps", str(settings.num_steps)),
        *("--speculative-eagle-topk", str(settings.topk)),
        *("--speculative-num-draft-tokens", str(settings.num_draft_tokens)),
    ]


def cpu_environment(python: str) -> dict[str, str]:
    """The variables for a CPU: with our kernels on the path if that Python has none of its own.

    A fresh process is asked, so that nothing is imported here. Raises EngineError without a Python.
    """
    words = ["-P", "-c", HAS_KERNELS]
    if ask(python, words, what="whether it has sgl_kernel", timeout_s=60).returncode == 0:
        return dict(CPU_ENVIRONMENT)
    path = [str(CPU_KERNELS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**CPU_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path)}


def require_served(log_text: str) -> None:
    """Raises EngineError unless a server's log says that our class holds the draft.

    SGLang logs what a plugin raises and goes on as stock, so a healthy server proves nothing.
    """
    if SERVED.search(log_text):
        return
    failed = PLUGIN_FAILED.search(log_text)
    raise EngineError(
        "SGLang serves this draft as stock: "
        + (f"its log says {failed[0]!r}" if failed else "its log does not name our class")
        + "; expected the line that eagle3_plugin writes there when its class holds a draft",
        hint="See `eagle3 plugins sglang`. Leave SGLANG_PLUGINS unset or name eagle3 in it, leave "
        "--log-level at info, and serve a Qwen3 target.",
    )
