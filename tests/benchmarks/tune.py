"""What `eagle3 tune` chooses beside an exhaustive sweep of the same run, on this CPU.

    python -m tests.benchmarks.tune ENGINE [ROUNDS]

`tune` starts its own servers, ROUNDS times (2). The sweep starts one server for each of SETTINGS
and one without a draft, all at once, and then times them in turn, so that what else the machine
does falls on all alike; the speed of a setting is its median over the turns. A chain that the sweep
leaves out counts as the nearest that it has. Printed: the settings that tune chose in each round,
and its share of the best speed. Exit code 1 where a share is below 95 %. Needs 16 GB of memory.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

from eagle3_plugin.planning.profile import Counted, Timed, cpu_name
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.serving.compose import Engine, Served
from eagle3_plugin.serving.profile_file import opened
from eagle3_plugin.serving.tune import Start, Todo, tune
from eagle3_plugin.serving.tune_server import TuneServers, simulates
from eagle3_plugin.serving.waves import MOST_S
from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.show_tune import progress_line
from eagle3_plugin.tiny import tiny_pair
from tests.tuned import SUBJECT

ROOT = Path(__file__).resolve().parents[2]
LOAD = 1
NUM_PROMPTS = 16
MAX_NEW_TOKENS = 64
MIN_SHARE = 0.95
NUM_TURNS, TURN_S = 8, 5
CHAINS = tuple(map(chain, (1, 2, 3, 5, 7)))
TREES: Mapping[Engine, tuple[Settings, ...]] = {"vllm": (), "sglang": (Settings(3, 4, 8),)}
WORDS: Mapping[Engine, tuple[str, ...]] = {
    "vllm": ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512",
             "--no-enable-prefix-caching"),
    "sglang": ("--dtype", "float32", "--max-total-tokens", "8192", "--disable-radix-cache"),
}  # fmt: skip

Speeds = dict[Choice, list[float]]


def main(engine: Engine, num_rounds: int) -> int:
    """1 where a choice of tune is too far from the best of the sweep."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        tuned = [_tuned(engine, Path(folder) / f"{number}.json") for number in range(num_rounds)]
        swept = _sweep(engine, Path(folder))
    medians = {choice: statistics.median(speeds) for choice, speeds in swept.items()}
    for choice, speed in sorted(medians.items(), key=lambda item: -item[1]):
        spread = ", ".join(f"{value:.1f}" for value in swept[choice])
        print(f"{choice!s:8} {speed:7.1f} tokens/s (turns: {spread})")
    shares = [medians[choice] / max(medians.values()) for choice in tuned]
    for choice, share in zip(tuned, shares, strict=True):
        print(f"tune chose {choice}: {share:.1%} of the best ({cpu_name()})")
    return int(min(shares) < MIN_SHARE)


def _servers(engine: Engine, waves_s: float) -> TuneServers:
    pair = tiny_pair("llama")
    python = str(ROOT / ".venvs" / engine / "bin" / "python")
    return TuneServers(
        Served(engine, python, str(pair.target), str(pair.draft), 0, "cpu"),
        num_gpus=1,
        words=WORDS[engine],
        prompts=[{"prompt_token_ids": list(ids)} for ids in pair.prompts[:NUM_PROMPTS]],
        max_new_tokens=MAX_NEW_TOKENS,
        timeout_s=600,
        is_proved=True,
        waves_s=waves_s,
    )


def _tuned(engine: Engine, path: Path) -> Choice:
    servers = _servers(engine, MOST_S)
    measure = servers.measuring(path.with_suffix(".log"), lambda *given: None, lambda *given: None)
    with opened(path, SUBJECT) as file:
        found = tune(
            file,
            (LOAD,),
            TREES[engine],
            measure,
            lambda progress: print(progress_line(progress), flush=True),
            simulates=simulates(engine, "cpu"),
        )
    return _listed(found.best(LOAD))


def _listed(choice: Choice) -> Choice:
    """The choice itself; where the sweep leaves it out, the nearest chain that it has."""
    if choice is OFF or choice in CHAINS or not choice.is_chain:
        return choice
    return min(CHAINS, key=lambda settings: abs(settings.num_steps - choice.num_steps))


def _sweep(engine: Engine, folder: Path) -> Speeds:
    """Tokens per second of each setting in each turn, with its own acceptance."""
    servers = _servers(engine, TURN_S)
    choices: tuple[Choice, ...] = (OFF, *CHAINS, *TREES[engine])
    running = {choice: _timings(servers, choice, folder) for choice in choices}
    tokens = {choice: next(found) for choice, found in running.items()}
    speeds: Speeds = {choice: [] for choice in choices}
    for turn in range(NUM_TURNS):
        for choice in choices:
            speeds[choice].append(LOAD * tokens[choice] / next(running[choice]))
        print(f"sweep: turn {turn + 1} of {NUM_TURNS}", flush=True)
    for found in running.values():
        found.close()
    return speeds


def _timings(servers: TuneServers, choice: Choice, folder: Path) -> Generator[float]:
    """Tokens per verify once the server is there, then the time of a round as often as asked."""
    start = Start(choice)
    log = folder / f"sweep {choice}.log"
    measure = servers.measuring(log, lambda *given: None, lambda *given: None)
    found = measure(Todo(start, (LOAD,) * (NUM_TURNS + 1), start.counts))
    first = next(found)
    print(f"sweep: {choice} runs", flush=True)
    yield first.tokens_per_verify if isinstance(first, Counted) else 1.0
    for timed in found:
        assert isinstance(timed, Timed)
        yield statistics.median(timed.round_s)


if __name__ == "__main__":
    given = sys.argv[1:]
    if not given or given[0] not in ("vllm", "sglang"):
        raise SystemExit(__doc__)
    sys.exit(main("vllm" if given[0] == "vllm" else "sglang", int(given[1]) if given[1:] else 2))
