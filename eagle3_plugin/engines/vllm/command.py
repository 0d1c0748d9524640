"""The command line of vLLM's OpenAI-compatible server, its environment on a CPU, and its log."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from eagle3_plugin.errors import EngineError

CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_PLUGINS": "eagle3",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""For small models on a CPU: 1 GiB of KV cache, only our plugin, nothing fetched."""

SERVED = re.compile(r"eagle3_plugin \S+ serves this draft as it was trained")
"""What `models.py` logs once it holds a draft."""

Schedule = Sequence[tuple[int, int, int]]
"""(first batch size, last batch size, draft tokens): vLLM's
`num_speculative_tokens_per_batch_size`, ranges inclusive."""


def speculative_config(
    draft: str, num_speculative_tokens: int, schedule: Schedule | None = None
) -> str:
    """The value of --speculative-config. `method` is always given: vLLM else guesses by path."""
    values: dict[str, Any] = {
        "method": "eagle3",
        "model": draft,
        "num_speculative_tokens": num_speculative_tokens,
    }
    if schedule is not None:
        values["num_speculative_tokens_per_batch_size"] = [list(entry) for entry in schedule]
    return json.dumps(values)


def server_command(
    python: str,
    target: str,
    port: int,
    *,
    draft: str | None = None,
    num_speculative_tokens: int = 3,
    schedule: Schedule | None = None,
    flags: Sequence[str] = (),
) -> list[str]:
    """The command of a server for `target`, with the draft if one is given."""
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", target]
    command += ["--port", str(port), *flags]
    if draft is not None:
        config = speculative_config(draft, num_speculative_tokens, schedule)
        command += ["--speculative-config", config]
    return command


def serve_line(target: str, draft: str, num_speculative_tokens: int = 3) -> str:
    """What a user types to serve this pair."""
    config = speculative_config(draft, num_speculative_tokens)
    return f"vllm serve {shlex.quote(target)} --speculative-config {shlex.quote(config)}"


def require_served(log_text: str) -> None:
    """Raises EngineError unless a server's log says that our class holds the draft."""
    if SERVED.search(log_text):
        return
    raise EngineError(
        "vLLM serves this draft as stock: its log does not name our class; expected the line that "
        "eagle3_plugin writes there when its class holds a draft",
        hint="See `eagle3 plugins vllm`. Leave VLLM_PLUGINS unset or name eagle3 in it, leave "
        "VLLM_LOGGING_LEVEL at INFO, and serve a Qwen3 target.",
    )
