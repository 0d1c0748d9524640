"""One server of each engine on this CPU, measured as `eagle3 tune` measures it.

The whole of `tune` beside an exhaustive sweep is tests/benchmarks/tune.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from eagle3_plugin.planning.profile import Counted, Timed
from eagle3_plugin.serving.compose import Engine, Served
from eagle3_plugin.serving.tune import Start, Todo
from eagle3_plugin.serving.tune_server import TuneServers, simulates
from eagle3_plugin.settings import chain
from eagle3_plugin.tiny import tiny_pair

pytestmark = [pytest.mark.engine, pytest.mark.slow]

WORDS = {
    "vllm": ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512"),
    "sglang": ("--dtype", "float32", "--max-total-tokens", "4096"),
}
HOW = {"vllm": "real", "sglang": "synthetic"}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_rounds_are_timed_and_counted_and_sglang_accepts_what_it_is_told(
    engine: Engine, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pair = tiny_pair("llama")
    python = str(repository / ".venvs" / engine / "bin" / "python")
    servers = TuneServers(
        Served(engine, python, str(pair.target), str(pair.draft), 0, "cpu"),
        num_gpus=1,
        words=WORDS[engine],
        prompts=[{"prompt_token_ids": list(ids)} for ids in pair.prompts[:4]],
        max_new_tokens=32,
        timeout_s=400,
        is_proved=True,
        waves_s=3,
    )
    measure = servers.measuring(
        tmp_path / "log", lambda settings, command: None, lambda seconds, line: None
    )
    accepts = 2 if simulates(engine, "cpu") else None
    one, two, counted = _in_turn(list(measure(Todo(Start(chain(3), accepts), (1, 2), True))))
    assert (one.num_requests, two.num_requests) == (1, 2)
    assert (one.how, two.how) == (HOW[engine], HOW[engine])
    assert len(one.round_s) >= 5
    assert 0.001 < one.median_s < 60
    if engine == "sglang":
        assert counted.accepted_by_position == (counted.num_rounds, 0, 0)
    else:
        assert counted.tokens_per_verify > 1.5


def _in_turn(found: list[Timed | Counted]) -> tuple[Timed, Timed, Counted]:
    counted, one, two = found
    assert isinstance(counted, Counted)
    assert isinstance(one, Timed)
    assert isinstance(two, Timed)
    return one, two, counted
