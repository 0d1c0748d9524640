"""`eagle3 bench` as it is typed: what it refuses, what it writes, and its exit codes.

Real engines are in tests/measuring/test_bench_real.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eagle3_plugin.measuring.result import read_result
from tests.measuring.fake_server import Behaviour, serving
from tests.test_cli import Shell

URL = "http://127.0.0.1:9"
PAIR = ["--target", "T", "--draft", "D"]
SPECULATING = Behaviour(speculates=True)


@pytest.fixture
def eagle3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(f'{{"prompt_token_ids": [{i}]}}\n' for i in range(3, 9)))
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([URL, "--prompts", "f", "--humaneval", "3"], "--prompts and --humaneval are two sets"),
        ([URL, "--sets", "gsm8k", "--humaneval", "3"], "--humaneval beside --sets; expected one"),
        ([URL, *PAIR], "--target, --draft with the URL of a running server; expected vllm or"),
        ([URL, "--", "--dtype", "auto"], "words after -- with the URL of a running server"),
        (["vllm", *PAIR], "without --settings; expected them, or --card, or the URL of a server"),
        ([], "without vllm or sglang, --target, --draft, --settings; expected them"),
        (["vllm", "--baseline", URL], "--baseline without the URL of a server; expected both"),
        (["--card", "C"], "no card 'C' in this release"),
        (["--card", "A", "--settings", "3,1,4"], "--settings beside --card, which has its own"),
        (["--card", "A", "--prompts", "f"], "--prompts beside --card; expected one of the two"),
        ([URL, "--resume"], "--resume without --out; expected the result that was begun"),
        ([URL, "--concurrency", "1..4"], "--concurrency is '1..4', expected numbers of at least 1"),
        (
            [URL, "--top-p", "0.9", "--top-k", "20"],
            "--top-p 0.9, --top-k 20 at temperature 0, where the likeliest token is taken whatever",
        ),
        (
            [URL, "--temperature", "1", "--top-p", "0"],
            "--top-p 0 leaves no token; expected more than 0",
        ),
        (
            [URL, "--temperature", "1", "--top-k", "0"],
            "--top-k 0 leaves no token; expected at least 1, or -1 for all",
        ),
        ([URL, "--sets", "mmlu"], "no set 'mmlu'; expected one of humaneval"),
    ],
)
def test_wrong_use_is_exit_2(eagle3: Shell, words: list[str], message: str) -> None:
    code, out, err = eagle3("bench", *words)
    assert (code, out) == (2, "")
    assert f"error: {message}" in err


def test_a_result_is_not_written_over(eagle3: Shell, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    out.write_text("kept")
    code, _, err = eagle3("bench", URL, "--prompts", prompts, "--out", out)
    assert (code, out.read_text()) == (1, "kept")
    assert "exists, expected a name that is free" in err
    code, _, err = eagle3("bench", URL, "--prompts", prompts, "--out", tmp_path / "no" / "r.json")
    assert code == 1
    assert "is not a folder, expected one to write 'r.json' into" in err


def test_a_url_is_measured_beside_its_baseline(
    eagle3: Shell, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    with serving() as baseline, serving(SPECULATING) as server:
        words: list[str | Path] = [
            server.url,
            "--baseline",
            baseline.url,
            "--prompts",
            prompts,
            "--out",
            out,
        ]
        code, said, _ = eagle3("bench", *words, "--max-new-tokens", "16", "--concurrency", "1,2")
        found = read_result(out)
        assert eagle3("bench", *words, "--force", "--json")[0] == 0
    assert code == 0
    assert "result: " in said
    assert f"eagle3 report {out}" in said
    assert [(c.server, c.concurrency, c.num_tokens) for c in found.cells] == [
        ("baseline", 1, 96),
        ("baseline", 2, 96),
        ("server", 1, 96),
        ("server", 2, 96),
    ]
    assert not (tmp_path / "r.json.journal").exists()


def test_outputs_that_differ_are_exit_1(eagle3: Shell, prompts: Path) -> None:
    with serving() as baseline, serving(Behaviour(speculates=True, changes={(5, 2): 42})) as server:
        code, out, _ = eagle3(
            "bench", server.url, "--baseline", baseline.url, "--prompts", prompts, "--json"
        )
    assert code == 1
    assert json.loads(out)["equality"][0]["num_different"] == 1


def test_a_url_alone_has_no_ratio(eagle3: Shell, prompts: Path) -> None:
    with serving(SPECULATING) as server:
        code, out, _ = eagle3("bench", server.url, "--prompts", prompts, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["equality"] == []
    assert found["summaries"][0]["ratios"] == {}


def test_how_it_samples_is_sent_and_recorded(eagle3: Shell, prompts: Path) -> None:
    warm = ["--temperature", "0.7", "--top-p", "0.9", "--top-k", "20"]
    with serving() as server:
        _, out, _ = eagle3("bench", server.url, "--prompts", prompts, "--json", *warm)
        sent = {(b["temperature"], b["top_p"], b["top_k"]) for b in server.bodies}
    assert sent == {(0.7, 0.9, 20)}
    assert json.loads(out)["provenance"]["sampling"] == {
        "temperature": 0.7,
        "seed": 0,
        "max_tokens": 128,
        "ignore_eos": False,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


def test_temperature_on_a_cpu_is_wrong_use(eagle3: Shell, prompts: Path, tmp_path: Path) -> None:
    from tests.seeds import write_seed_a
    from tests.targets import QWEN3_4B

    write_seed_a(tmp_path / "draft")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "config.json").write_text(json.dumps(QWEN3_4B))
    fake = tmp_path / "python"
    fake.write_text(f'#!{sys.executable}\nprint(\'{{"engine": "0.32.0", "plugin": "0.1.0"}}\')\n')
    fake.chmod(0o755)
    words: list[str | Path] = ["vllm", "--settings", "3,1,4", "--device", "cpu", "--python", fake]
    words += ["--target", tmp_path / "target", "--draft", tmp_path / "draft"]
    words += ["--prompts", prompts]
    out: list[str | Path] = ["--out", tmp_path / "r.json"]
    code, _, err = eagle3("bench", *words, *out, "--temperature", "0.7")
    assert code == 2
    assert "error: --temperature 0.7 on a CPU: the verification of vLLM 0.32's CPU build" in err
    code, _, err = eagle3("bench", *words, *out, "--", "--port", "1")
    assert code == 2
    assert "error: --port after --; expected none of them: bench starts several servers" in err


def test_a_ctrl_c_writes_what_there_is_and_resume_adds_the_rest(
    prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    with serving() as baseline, serving(Behaviour(speculates=True, busy_s=0.4)) as server:
        words = [sys.executable, "-m", "eagle3_plugin.cli", "bench", server.url]
        words += ["--baseline", baseline.url, "--prompts", str(prompts), "--out", str(out)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ})
        deadline = time.monotonic() + 60
        while len(server.long_bodies) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        first = read_result(out)
        again = subprocess.run([*words, "--resume"], stdout=subprocess.PIPE, timeout=60)
    assert b"the same command with --resume" in said
    assert first.is_partial
    assert 1 <= first.cells[1].num_requests < 6
    assert again.returncode == 0
    assert [c.num_requests for c in read_result(out).cells] == [6, 6]
