"""`eagle3 serve sglang` with real SGLang on this CPU: started, tried, killed; and a real crash."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.process import free_port
from eagle3_plugin.tiny import tiny_pair
from tests.serving.fake_engine import family, serving, survivors

pytestmark = [pytest.mark.engine, pytest.mark.slow]

START_S = 400
WORDS = ["--dtype", "float32", "--max-total-tokens", "2048", "--disable-radix-cache"]


def _words(python: Path, port: int, settings: str, *theirs: str) -> list[str]:
    pair = tiny_pair("llama")
    return [
        *("sglang", "--target", str(pair.target), "--draft", str(pair.draft), "--device", "cpu"),
        *("--settings", settings, "--python", str(python), "--port", str(port), "--", *theirs),
    ]


def test_a_tree_is_served_and_a_killed_scheduler_ends_all_with_a_message(
    sglang_python: Path, tmp_path: Path
) -> None:
    port = free_port()
    words = _words(sglang_python, port, "3,4,8", *WORDS, "--max-running-requests", "4")
    with serving(words, tmp_path / "log", OMP_NUM_THREADS="1") as served:
        served.wait_for("(Ctrl-C stops it)", START_S)
        out = served.out.read_text()
        answer = Client.connect(f"http://127.0.0.1:{port}").completion(
            prompt_token_ids=list(tiny_pair("llama").prompts[0]), max_tokens=48, ignore_eos=True
        )
        processes = family(served.process.pid)
        scheduler = next(p for p, line in processes.items() if "sglang::scheduler" in line)
        os.kill(scheduler, signal.SIGKILL)
        error = served.error()
        assert survivors(list(processes)) == []
    assert "the plugin holds the draft: its line is in the engine's log" in out
    assert "test request answered: 8 tokens in " in out
    assert answer.acceptance is not None
    assert (answer.acceptance.tokens_per_verify or 0) > 1.5
    assert "serves this draft as it was trained, taps [2, 4, 5]" in served.err.read_text()
    assert error.startswith("error: the engine ended with exit code ")
    assert " while it served\n" in error
    assert "its last lines:\n" in error
    assert served.process.returncode == 1


def test_a_context_that_is_too_long_is_named_with_sglangs_flag(
    sglang_python: Path, tmp_path: Path
) -> None:
    words = _words(sglang_python, free_port(), "3,1,4", "--context-length", "999999")
    with serving(words, tmp_path / "log") as served:
        served.process.wait(timeout=START_S)
        error = served.error()
    assert "\ncause [context-length]: the asked context is longer than the model's own\n" in error
    assert "context_length (999999) is greater than the derived context_length (2048)" in error
    assert "\nhint: Ask for less with --context-length after --, or leave it out.\n" in error
