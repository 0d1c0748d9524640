"""The command line that starts vLLM's OpenAI-compatible server, and its environment on a CPU."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_PLUGINS": "eagle3",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""For small models on a CPU: 1 GiB of KV cache, only our plugin, nothing fetched."""


def speculative_config(draft: str, num_speculative_tokens: int) -> str:
    """The value of --speculative-config. `method` is always given: vLLM else guesses by path."""
    return json.dumps(
        {"method": "eagle3", "model": draft, "num_speculative_tokens": num_speculative_tokens}
    )


def server_command(
    python: str,
    target: str,
    port: int,
    *,
    draft: str | None = None,
    num_speculative_tokens: int = 3,
    flags: Sequence[str] = (),
) -> list[str]:
    """The command of a server for `target`, with the draft if one is given."""
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", target]
    command += ["--port", str(port), *flags]
    if draft is not None:
        command += ["--speculative-config", speculative_config(draft, num_speculative_tokens)]
    return command


def serve_line(target: str, draft: str, num_speculative_tokens: int = 3) -> str:
    """What a user types to serve this pair."""
    config = speculative_config(draft, num_speculative_tokens)
    return f"vllm serve {shlex.quote(target)} --speculative-config {shlex.quote(config)}"
