"""`eagle3 watch` as it is typed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from eagle3_plugin.cli_watch import watch
from eagle3_plugin.errors import EngineError, UsageError
from tests.planned import SEED_A
from tests.watching.conftest import FakeMetrics
from tests.watching.fixtures import SCORE, vllm_text

COMMAND = (
    "from eagle3_plugin import cli; from eagle3_plugin.cli_watch import watch; "
    "cli.app.command()(watch); cli.main()"
)


def watched(*words: str | Path) -> Result:
    app = typer.Typer()
    app.command()(watch)
    return CliRunner().invoke(app, [str(word) for word in words])


def start(*words: str | Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """The command in a process of its own, with a terminal of 100 columns where it has one."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "watch", *map(str, words)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
    )


def first_lines(process: subprocess.Popen[str], num: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(num)]


def without_speculation() -> str:
    text = vllm_text(1, (0, 0, 0), 0).splitlines()
    return "\n".join(line for line in text if "spec_decode" not in line)


@pytest.fixture
def score(tmp_path: Path) -> Path:
    path = tmp_path / "score.json"
    path.write_text(json.dumps(SCORE))
    return path


@pytest.mark.parametrize("flag", [("--alarm",), ("--webhook", "http://localhost/x")])
def test_an_alarm_needs_what_to_expect(flag: tuple[str, ...]) -> None:
    error = watched("http://localhost:1", *flag).exception
    assert isinstance(error, UsageError)
    assert error.message == (
        "an alarm needs what to expect, and there is neither --draft nor --expected"
    )
    assert error.hint == (
        "eagle3 score DRAFT --target TARGET --save, then eagle3 watch URL --draft DRAFT"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "t"), "--target is for the planner, which needs --draft beside it"),
        (
            ("--gpu", "L4", "--draft", "d"),
            "--gpu is for the planner, which needs --target and --draft beside it",
        ),
    ],
)
def test_the_planner_needs_the_pair(words: tuple[str, ...], message: str) -> None:
    error = watched("http://localhost:1", *words).exception
    assert isinstance(error, UsageError)
    assert error.message == message


def test_an_engine_without_speculation_has_nothing_to_alarm_about(
    fake: FakeMetrics, score: Path
) -> None:
    fake.texts["/metrics"] = without_speculation()
    error = watched(fake.url, "--expected", score, "--alarm").exception
    assert isinstance(error, EngineError)
    assert error.message == (
        f"{fake.url} runs without speculation; expected a draft whose acceptance can fall"
    )
    assert error.hint == "Start it with eagle3 serve, or leave --alarm and --webhook out."


def test_a_server_that_is_back_without_speculation_is_an_alarm(
    fake: FakeMetrics, score: Path
) -> None:
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    with start(fake.url, "--expected", score, "--interval", "0.2", "--alarm") as process:
        first_lines(process, 1)
        fake.texts["/metrics"] = without_speculation()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == (
        f"error: {fake.url} runs without speculation; expected a draft whose acceptance can fall\n"
        "hint: Start it with eagle3 serve, or leave --alarm and --webhook out.\n"
    )


def test_a_webhook_is_told_that_a_server_is_back_without_speculation(
    fake: FakeMetrics, score: Path
) -> None:
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    words = ("--expected", score, "--interval", "0.2", "--webhook", fake.url + "/hook")
    with start(fake.url, *words) as process:
        first_lines(process, 1)
        fake.texts["/metrics"] = without_speculation()
        first_lines(process, 20)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert [(each["settings"], each["trouble"], each["alarm"]) for each in fake.posted] == [
        (
            None,
            f"{fake.url} runs without speculation; expected a draft whose acceptance can fall",
            None,
        )
    ]


SHORTER = "\n".join(
    line for line in vllm_text(0, (0, 0, 0), 0).splitlines() if 'position="2"' not in line
)
"""A server that is back with a chain of 2."""

OF_CHAIN_3 = {
    **SCORE,
    "tokens_per_verify": {"3": 2.2},
    "acceptance_rate_conditional": [0.0],
}
"""A score that promises nothing of a chain of 2."""


def test_a_webhook_is_told_once_of_settings_that_nothing_is_expected_of(
    fake: FakeMetrics, tmp_path: Path
) -> None:
    (tmp_path / "s.json").write_text(json.dumps(OF_CHAIN_3))
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    words = ("--expected", tmp_path / "s.json", "--interval", "0.2", "--webhook", fake.url)
    with start(fake.url, *words) as process:
        first_lines(process, 1)
        fake.texts["/metrics"] = SHORTER
        lines = first_lines(process, 20)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    problem = "expects no accepted draft token at settings 2,1,3"
    assert len(fake.posted) == 1
    assert problem in fake.posted[0]["trouble"]
    assert problem in lines[-1]


def test_settings_that_nothing_is_expected_of_are_an_alarm(
    fake: FakeMetrics, tmp_path: Path
) -> None:
    (tmp_path / "s.json").write_text(json.dumps(OF_CHAIN_3))
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    words = ("--expected", tmp_path / "s.json", "--interval", "0.2", "--alarm")
    with start(fake.url, *words) as process:
        first_lines(process, 1)
        fake.texts["/metrics"] = SHORTER
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "expects no accepted draft token at settings 2,1,3" in err


def test_a_draft_without_a_score_is_watched_with_a_warning(
    fake: FakeMetrics, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    fake.texts["/metrics"] = vllm_text(1, (0, 0, 0), 0)
    with start(fake.url, "--draft", tmp_path) as process:
        [line] = first_lines(process, 1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        err = process.stderr.read()
    assert "first reading | no round in the window" in line
    assert err == (
        f"warning: {tmp_path} has no eagle3.json; expected the acceptance that a score keeps "
        "there\nhint: eagle3 score DRAFT --target TARGET --save\n"
    )
    assert process.returncode == 130


def test_json_is_a_document_a_line_with_expectation_and_plan(
    fake: FakeMetrics, score: Path
) -> None:
    target, draft = SEED_A
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    words = ("--expected", score, "--target", target, "--draft", draft, "--gpu", "RTX 4090")
    with start(fake.url, *words, "--interval", "0.2", "--json") as process:
        first = json.loads(first_lines(process, 1)[0])
        fake.texts["/metrics"] = vllm_text(1000, (600, 400, 200), 40)
        later = [json.loads(line) for line in first_lines(process, 20)]
        process.send_signal(signal.SIGINT)
    assert first["expected"]["tokens_per_verify"] == pytest.approx(2.2)
    assert first["expected"]["healthy_from_tokens_per_verify"] == pytest.approx(1.96)
    assert (first["planner"], first["window_s"]) == (None, None)
    plan = later[-1]["planner"]
    assert (plan["num_requests"], plan["problem"]) == (2, None)
    assert later[-1]["tokens_per_verify"] == 2.2


def test_an_alarm_ends_with_exit_code_1_and_its_reason(fake: FakeMetrics, score: Path) -> None:
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    words = ("--expected", score, "--slack", "replay", "--interval", "0.2", "--alarm")
    with start(fake.url, *words) as process:
        first_lines(process, 1)
        fake.texts["/metrics"] = vllm_text(20000, (6000, 2000, 2000), 800)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ALARM 100.0 % of an alarm, from 800 requests, 20000 rounds" in out
    assert "error: acceptance fell: 1.50 tokens per verify over 20000 rounds" in err
    assert "hint: eagle3 check DRAFT --target TARGET --engine vllm" in err


def test_a_webhook_gets_the_alarm_and_the_watch_goes_on(fake: FakeMetrics, score: Path) -> None:
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    fake.statuses = [500]
    words = ("--expected", score, "--interval", "0.2", "--webhook", fake.url + "/hook")
    with start(fake.url, *words) as process:
        first_lines(process, 1)
        fake.texts["/metrics"] = vllm_text(20000, (2000, 0, 0), 800)
        first_lines(process, 20)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert [each["alarm"]["is_alarm"] for each in fake.posted] == [True]
    assert fake.posted[0]["alarm"]["tokens_per_verify"] == 1.1
    assert "warning: the webhook at 127.0.0.1 answered 500" in err


def test_a_server_that_is_gone_is_waited_for(fake: FakeMetrics) -> None:
    fake.texts["/metrics"] = vllm_text(10, (1, 1, 1), 1)
    with start(fake.url, "--interval", "0.2") as process:
        first_lines(process, 1)
        fake.close()
        lines = first_lines(process, 20)
        fake.open()
        lines += first_lines(process, 20)
        process.send_signal(signal.SIGINT)
    assert any("cannot be read: http://127.0.0.1" in line for line in lines)
    assert "running" in lines[-1]


def test_until_gone_ends_with_exit_code_1(fake: FakeMetrics) -> None:
    fake.texts["/metrics"] = vllm_text(10, (1, 1, 1), 1)
    with start(fake.url, "--interval", "0.2", "--until-gone") as process:
        first_lines(process, 1)
        fake.close()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "does not answer" in err


def test_ctrl_c_gives_the_terminal_back_as_it_was(fake: FakeMetrics, score: Path) -> None:
    """The cursor is hidden while the view is live, and shown again."""
    fake.texts["/metrics"] = vllm_text(0, (0, 0, 0), 0)
    ours, theirs = pty.openpty()
    with start(fake.url, "--expected", score, "--interval", "0.2", stdout=theirs) as process:
        os.close(theirs)
        shown = _read_until(ours, "Ctrl-C ends the watch")
        fake.texts["/metrics"] = vllm_text(1000, (600, 400, 200), 40)
        shown += _read_until(ours, "60.0 %")
        process.send_signal(signal.SIGINT)
        shown += _read_until(ours, None)
    os.close(ours)
    assert process.returncode == 130
    assert "vllm, settings 3,1,4" in shown
    assert "2.20 tokens per verify, expected 2.20, healthy from 1.96" in shown
    hidden, visible = shown.rfind("\x1b[?25l"), shown.rfind("\x1b[?25h")
    assert 0 <= hidden < visible


def _read_until(descriptor: int, text: str | None, within_s: float = 60) -> str:
    """What a terminal shows up to that text, or to its end."""
    seen, deadline = "", time.monotonic() + within_s
    while time.monotonic() < deadline and (text is None or text not in seen):
        try:
            data = os.read(descriptor, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data.decode(errors="replace")
    return seen
