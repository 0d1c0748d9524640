"""The examples carry the planner's choices: a new choice fails here until they are renewed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from eagle3_plugin.cli import app
from tests.launch.commands import Words

PAIRS = {
    "A": ("Qwen/Qwen3-4B-Instruct-2507", "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh"),
    "B": ("Qwen/Qwen3-VL-2B-Instruct", "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3"),
}
EXAMPLES = [
    (
        *("A", "sglang", 1),
        ("compose.yaml sglang", "kubernetes/sglang.yaml", "sglang-data.sh 0 python3"),
    ),
    ("A", "sglang", 2, ("sglang-tensor.sh 0 python3",)),
    ("B", "vllm", 1, ("compose.yaml vllm", "kubernetes/vllm.yaml", "vllm-data.sh 0 vllm")),
    ("A", "vllm", 2, ("vllm-tensor.sh 0 vllm", "vllm-ray.sh 0 vllm")),
]
"""pair, engine, number of RTX 4090 that share one copy, the commands planned for them."""


def plan(pair: str, engine: str, num_gpus: int) -> dict[str, Any]:
    """What `eagle3 plan` says for one to four requests at a time."""
    target, draft = PAIRS[pair]
    words = ["plan", "--target", target, "--draft", draft, "--engine", engine, "--json"]
    words += ["--gpu", "RTX 4090", "--num-gpus", str(num_gpus), "--concurrency", "1..4"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    planned: dict[str, Any] = json.loads(done.stdout)
    return planned


def settings_of(words: Words) -> tuple[int, int, int]:
    """num_steps, topk and num_draft_tokens, in the engine's way of saying them."""
    if "--speculative-config" in words:
        config = json.loads(words[words.index("--speculative-config") + 1])
        steps = config["num_speculative_tokens"]
        return steps, 1, steps + 1
    names = ("num-steps", "eagle-topk", "num-draft-tokens")
    steps, topk, tokens = (int(words[words.index(f"--speculative-{name}") + 1]) for name in names)
    return steps, topk, tokens


@pytest.mark.parametrize(("pair", "engine", "num_gpus", "names"), EXAMPLES)
def test_an_example_has_the_planners_choice(
    pair: str,
    engine: str,
    num_gpus: int,
    names: tuple[str, ...],
    commands: dict[str, tuple[str, Words]],
) -> None:
    planned = plan(pair, engine, num_gpus)
    choice = planned["choice"]
    expected = (choice["num_steps"], choice["topk"], choice["num_draft_tokens"])
    lines = {name: commands[name][1] for name in names}
    assert {name: settings_of(words) for name, words in lines.items()} == dict.fromkeys(
        names, expected
    )
    flags = dict(zip(planned["flags"][::2], planned["flags"][1::2], strict=True))
    for words in lines.values():
        assert {flag: words[words.index(flag) + 1] for flag in flags} == flags
