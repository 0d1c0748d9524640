"""`eagle3 bench` with real engines on this CPU and the tiny pair: both cards' protocols, resumed.

Four conversations of each set; files of the sets' schemas in place of the sets. Outputs have to be
equal to the baseline's token by token, and answers and counters have to tell the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eagle3_plugin.measuring.result import Result, read_result
from eagle3_plugin.planning.acceptance_sources import parse_acceptance
from eagle3_plugin.planning.cards import find_card
from eagle3_plugin.planning.measured import read_measured
from eagle3_plugin.settings import Settings
from eagle3_plugin.tiny import tiny_pair

pytestmark = [pytest.mark.engine, pytest.mark.slow]

WORDS = {
    "vllm": ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512"),
    "sglang": ("--dtype", "float32", "--max-total-tokens", "4096", "--max-running-requests", "4"),
}
ROWS = {
    "mt-bench-en": {
        "question_id": 81,
        "category": "writing",
        "turns": ["Write a class.", "Go on."],
    },
    "mt-bench-zh": {"question_id": 81, "category": "writing", "turns": ["写一个类。", "继续。"]},
    "humaneval": {"task_id": "HumanEval/0", "prompt": "def add(a, b):\n    return"},
    "math-500": {"problem": "What is 1 + 1?", "answer": "2"},
    "gsm8k": {"question": "Three eggs and two eggs?", "answer": "#### 5"},
    "c-eval": {"question": "哪个？", "A": "甲", "B": "乙", "C": "丙", "D": "丁"},
    "cmmlu": {"Question": "哪个？", "A": "甲", "B": "乙", "C": "丙", "D": "丁"},
}
SERVERS = {
    ("A", "sglang"): ["baseline", "5,4,16"],
    ("A", "vllm"): ["baseline", "5,1,6"],
    ("B", "sglang"): ["baseline", "4,1,5", "8,1,9"],
    ("B", "vllm"): ["baseline", "4,1,5", "8,1,9"],
}


def _sets(folder: Path, letter: str) -> str:
    """Files of the schemas of the card's sets, as --sets takes them."""
    given = []
    for name in find_card(letter).sets.values():
        path = folder / f"{name}.jsonl"
        path.write_text(f"{json.dumps(ROWS[name], ensure_ascii=False)}\n" * 4, encoding="utf-8")
        given.append(f"{name}={path}")
    return ",".join(given)


def _bench(folder: Path, engine: str, letter: str, *more: str) -> tuple[str, Result]:
    pair = tiny_pair("llama")
    python = Path(__file__).parents[2] / ".venvs" / engine / "bin" / "python"
    words = [
        *(sys.executable, "-m", "eagle3_plugin.cli", "bench", engine, "--card", letter),
        *(
            "--target",
            str(pair.target),
            "--draft",
            str(pair.draft),
            "--sets",
            _sets(folder, letter),
        ),
        *("--limit", "4", "--max-new-tokens", "24", "--device", "cpu", "--python", str(python)),
        *("--out", str(folder / "r.json"), *more, "--", *WORDS[engine]),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, read_result(folder / "r.json")


@pytest.mark.parametrize(
    ("letter", "engine"),
    [
        ("A", "sglang"),
        ("B", "vllm"),
        pytest.param("A", "vllm", marks=pytest.mark.matrix),
        pytest.param("B", "sglang", marks=pytest.mark.matrix),
    ],
)
def test_a_cards_protocol_runs_to_its_end_and_shows_the_card_beside_ours(
    letter: str, engine: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    card = find_card(letter)
    out, found = _bench(tmp_path, engine, letter)
    assert [server.name for server in found.servers] == SERVERS[letter, engine]
    assert not found.is_partial
    assert found.problems == ()
    for equality in found.equality:
        assert equality.compared_by == "token_ids"
        assert equality.num_compared == equality.num_equal > 0
    for cell in found.cells:
        assert cell.num_conversations == 4
        told = cell.acceptance.num_rounds if cell.acceptance else None
        assert told == cell.num_rounds_counted
        assert cell.acceptance_from == ("answers" if cell.server != "baseline" else None)
    assert found.card is not None
    assert all(figure.found is not None for figure in found.card.figures)
    assert len(found.card.figures) == 4 + 12 if letter == "A" else 12
    assert card.draft in out
    assert found.provenance.machine.device == "cpu"
    assert len(found.provenance.target.files) > 3
    assert found.provenance.chat.template_sha256 is not None
    settings = SERVERS[letter, engine][-1]
    planned = parse_acceptance(str(tmp_path / "r.json"))
    assert planned.tokens_per_verify(Settings.parse(settings)).expected is not None
    if letter == "B":
        speeds = read_measured(tmp_path / "r.json").speeds(1)
        assert {"off", "4,1,5", "8,1,9"} <= {str(s.choice) for s in speeds if s.is_measured}
    for summary in found.summaries:
        ratio = summary.ratios.get("tokens_per_s_per_conversation")
        total = summary.estimates.get("tokens_per_verify")
        if ratio and total and summary.set in ("all", "mt-bench-en"):
            shown = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
            figure = f"{engine}, {summary.server}, {summary.set}, {summary.concurrency} at a time"
            record_property("figure", f"{figure}: {shown}, {total.value:.2f} tokens per verify")
