"""What `eagle3 tune` chooses beside an exhaustive sweep of the same run, on this CPU.

    python -m tests.benchmarks.tune ENGINE [ROUNDS]

The sweep starts one server for each of SETTINGS (and without a draft) and times real runs; `tune`
starts its own. They take turns for ROUNDS rounds (2), and the speed of a setting is its best over
all rounds of the sweep: other processes can only slow it down. A chain that the sweep leaves out
counts as the nearest that it has. Printed: the
settings that tune chose in each round, and its share of the best speed. Exit code 1 where a share
is below 95 %. Needs a quiet machine: the times of a busy one differ by more than the settings.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from eagle3_plugin.planning.profile import Counted, cpu_name
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.serving.compose import Engine, Served
from eagle3_plugin.serving.profile_file import opened
from eagle3_plugin.serving.tune import Start, Todo, tune
from eagle3_plugin.serving.tune_server import TuneServers, simulates
from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.show_tune import progress_line
from eagle3_plugin.tiny import tiny_pair
from tests.tuned import SUBJECT

ROOT = Path(__file__).resolve().parents[2]
LOAD = 1
NUM_PROMPTS = 16
MAX_NEW_TOKENS = 64
MIN_SHARE = 0.95
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
    swept: Speeds = {}
    chosen: list[Choice] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_rounds):
            chosen.append(_tuned(engine, Path(folder) / f"{number}.json"))
            _sweep(engine, Path(folder), swept)
    best = {choice: max(speeds) for choice, speeds in swept.items()}
    for choice, speed in sorted(best.items(), key=lambda item: -item[1]):
        spread = ", ".join(f"{value:.1f}" for value in swept[choice])
        print(f"{choice!s:8} {speed:7.1f} tokens/s (rounds of the sweep: {spread})")
    shares = [best.get(choice, 0.0) / max(best.values()) for choice in chosen]
    for choice, share in zip(chosen, shares, strict=True):
        print(f"tune chose {choice}: {share:.1%} of the best ({cpu_name()})")
    return int(min(shares) < MIN_SHARE)


def _servers(engine: Engine) -> TuneServers:
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
    )


def _tuned(engine: Engine, path: Path) -> Choice:
    servers = _servers(engine)
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


def _sweep(engine: Engine, folder: Path, swept: Speeds) -> None:
    """Tokens per second of each setting: its own acceptance, the median of its waves."""
    servers = _servers(engine)
    measure = servers.measuring(folder / "sweep.log", lambda *given: None, lambda *given: None)
    choices: tuple[Choice, ...] = (OFF, *CHAINS, *TREES[engine])
    for choice in choices:
        start = Start(choice)
        tokens, round_s = 1.0, 0.0
        for found in measure(Todo(start, (LOAD,), start.counts)):
            if isinstance(found, Counted):
                tokens = found.tokens_per_verify
            else:
                round_s = statistics.median(found.round_s)
        swept.setdefault(choice, []).append(LOAD * tokens / round_s)
        print(f"sweep {choice}: {swept[choice][-1]:.1f} tokens/s", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    if not given or given[0] not in ("vllm", "sglang"):
        raise SystemExit(__doc__)
    sys.exit(main("vllm" if given[0] == "vllm" else "sglang", int(given[1]) if given[1:] else 2))
