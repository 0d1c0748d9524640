"""`eagle3 serve vllm` with real vLLM on this CPU: started, tried, orphaned; and a real crash."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from eagle3_plugin.serving.bench import bench
from eagle3_plugin.serving.process import free_port
from eagle3_plugin.tiny import tiny_pair
from tests.serving.fake_engine import family, serving, survivors

pytestmark = [pytest.mark.engine, pytest.mark.slow]

START_S = 400
WORDS = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--max-num-seqs", "4"]


def _words(python: Path, port: int, *theirs: str) -> list[str]:
    pair = tiny_pair("llama")
    return [
        *("vllm", "--target", str(pair.target), "--draft", str(pair.draft), "--device", "cpu"),
        *("--settings", "3,1,4", "--python", str(python), "--port", str(port), "--", *theirs),
    ]


def test_a_chain_is_served_and_nothing_outlives_a_killed_wrapper(
    vllm_python: Path, tmp_path: Path
) -> None:
    """One key of vLLM's config is the user's word."""
    port = free_port()
    theirs = [*WORDS, "-sc.num_speculative_tokens", "2"]
    with serving(
        _words(vllm_python, port, *theirs), tmp_path / "log", OMP_NUM_THREADS="1"
    ) as served:
        served.wait_for("(Ctrl-C stops it)", START_S)
        out = served.out.read_text()
        result = bench(
            f"http://127.0.0.1:{port}",
            [{"prompt_token_ids": list(tiny_pair("llama").prompts[0])}],
            max_tokens=48,
            ignore_eos=True,
        )
        processes = family(served.process.pid)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
        assert survivors(list(processes)) == []
    assert len(processes) >= 3
    assert "the plugin holds the draft: its line is in the engine's log" in out
    assert "test request answered: 8 tokens in " in out
    assert result.acceptance is not None
    assert result.acceptance.num_draft_tokens == 2 * result.acceptance.num_rounds
    assert (result.acceptance.tokens_per_verify or 0) > 1.5
    assert "serves this draft as it was trained, taps [2, 4, 5]" in served.err.read_text()


def test_a_context_that_is_too_long_is_named_with_vllms_flag(
    vllm_python: Path, tmp_path: Path
) -> None:
    words = _words(vllm_python, free_port(), "--max-model-len", "999999")
    with serving(words, tmp_path / "log") as served:
        served.process.wait(timeout=START_S)
        error = served.error()
    assert "\ncause [context-length]: the asked context is longer than the model's own\n" in error
    assert "max_model_len (999999) is greater than the derived max_model_len" in error
    assert "\nhint: Ask for less with --max-model-len after --, or leave it out.\n" in error
