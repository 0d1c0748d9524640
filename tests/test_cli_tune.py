"""`eagle3 tune` as it is typed: what it refuses, what it prints, and that it leaves no process.

Real engines are in tests/serving/test_tune_real.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.cli_tune import _next
from eagle3_plugin.planning.measured import Measured
from eagle3_plugin.planning.profile import cpu_name, profile_path
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving.compose import Served
from eagle3_plugin.serving.tune import Progress, Tuned
from eagle3_plugin.serving.tune_server import TuneServers
from eagle3_plugin.show_tune import duration, progress_line, show_tuned, tuned_json
from tests.seeds import write_seed_a
from tests.serving.fake_engine import family, survivors, write_fake
from tests.targets import QWEN3_4B
from tests.test_cli import Shell
from tests.tuned import SUBJECT, TIMES, measured, profile, timed, write


@pytest.fixture
def eagle3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A draft and its target, as shapes."""
    folder = tmp_path_factory.mktemp("pair")
    write_seed_a(folder / "draft")
    (folder / "target").mkdir()
    (folder / "target" / "config.json").write_text(json.dumps(QWEN3_4B))
    return "--target", str(folder / "target"), "--draft", str(folder / "draft")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sglang", "--device", "tpu"], "--device is 'tpu', expected gpu or cpu"),
        (["vllm", "--tree", "3,4,8"], "--tree with vllm; expected a tree, and SGLang"),
        (["sglang", "--tree", "3,1,4"], "--tree 3,1,4, a chain; expected a tree, and SGLang"),
        (["sglang", "--tree", "3,4"], "settings '3,4' are not three whole numbers"),
        (["sglang", "--concurrency", "x"], "--concurrency is 'x', expected a number of requests"),
        (["tensorrt"], "unknown engine 'tensorrt'; expected vllm or sglang"),
        (["sglang", "--", "--port", "1"], "--port after --; expected none of them"),
        (
            ["sglang", "--", "--speculative-num-steps", "3"],
            "--speculative-num-steps after --; expected nothing that sets speculation",
        ),
    ],
)
def test_wrong_use_is_exit_2(
    eagle3: Shell, pair: tuple[str, ...], words: list[str], message: str
) -> None:
    engine, *rest = words
    code, _, err = eagle3("tune", engine, *pair, "--python", sys.executable, *rest)
    assert code == 2
    assert f"error: {message}" in err


def test_an_engine_that_is_not_installed_is_an_error(
    eagle3: Shell, pair: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = eagle3("tune", "vllm", *pair)
    assert code == 1
    assert "error: vllm is not installed here, and there is no .venvs/vllm" in err


def test_an_environment_without_the_engine_ends_before_a_start(
    eagle3: Shell, pair: tuple[str, ...]
) -> None:
    code, out, err = eagle3("tune", "sglang", *pair, "--python", sys.executable, "--device", "cpu")
    assert code == 1
    assert "[engine-missing]" in out
    assert "error(s) in the check of this draft; expected none" in err


@pytest.mark.parametrize("verb", ["tune", "bench"])
def test_a_server_without_the_plugin_is_not_measured(
    eagle3: Shell, pair: tuple[str, ...], tmp_path: Path, verb: str
) -> None:
    """With --json what is wrong is in the error, as nothing else is printed."""
    fake = write_fake(tmp_path / "python")
    more = ("--settings", "3,1,4", "--out", str(tmp_path / "r.json")) if verb == "bench" else ()
    words = (*pair, *more, "--device", "cpu", "--python", str(fake), "--json")
    code, out, err = eagle3(verb, "sglang", *words, "--", "--use-ray")
    assert (code, out) == (1, "")
    assert "--use-ray: SGLang's Ray actors load no plugin" in err


@contextmanager
def _tuning(
    folder: Path, pair: tuple[str, ...], *traits: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """An `eagle3 tune` of a server that never becomes healthy, once it has started it."""
    fake, path = write_fake(folder / "python", *traits), folder / "p.json"
    words = [*pair, "--device", "cpu", "--python", str(fake), "--profile", str(path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "eagle3_plugin.cli", "tune", "sglang", *words],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    log = path.with_name("p.json.log")
    deadline = time.monotonic() + 60
    while process.poll() is None and not (log.exists() and "pids" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        yield process, path
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_tune_that_is_stopped_leaves_no_process_and_no_profile(
    tmp_path: Path, pair: tuple[str, ...], signum: int
) -> None:
    with _tuning(tmp_path, pair, "loading") as (process, path):
        processes = list(family(process.pid))
        process.send_signal(signum)
        process.wait(timeout=60)
        assert len(processes) >= 3
        assert survivors(processes) == []
    assert process.returncode == (130 if signum == signal.SIGINT else -signum)
    assert not path.exists()


def test_a_server_that_ends_is_an_error_with_its_last_words(
    tmp_path: Path, pair: tuple[str, ...]
) -> None:
    with _tuning(tmp_path, pair, "die no kernel") as (process, path):
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"error: the engine ended with exit code 1 after" in err
    assert b"no kernel" in err
    assert not path.exists()


def test_a_line_of_progress_says_what_is_left() -> None:
    assert progress_line(Progress("starting off", 0, 9, None)) == "[0 of 9] starting off"
    assert progress_line(Progress("off", 1, 9, 80.0)) == "[1 of 9, about 80 s left] off"
    assert duration(600) == "10 min"


def _tuned() -> Tuned:
    times = {("off", 1): 0.01, ("1,1,2", 1): 0.013, ("7,1,8", 1): 0.025}
    known = measured(times)
    return Tuned(known, ((1, known.speeds(1)),))


def test_the_result_names_each_speed_with_its_basis(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    show_tuned(_tuned(), tmp_path / "p.json")
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in lines}
    assert rows["off"] == ["100.0", "1.00x", "10.00", "0 %", "1.00", "measured"]
    assert rows["7,1,8"] == ["132.3", "1.32x", "25.00", "0 %", "3.31", "measured"]
    assert rows["4,1,5"] == ["163.8", "1.64x", "19.00", "5 %", "3.11", "between"]


def test_the_json_of_the_result_has_the_choice_that_was_run(tmp_path: Path) -> None:
    made = tuned_json(_tuned(), tmp_path / "p.json")
    assert made["schema"] == 1
    (load,) = made["loads"]
    assert (load["num_requests"], load["choice"]) == (1, "7,1,8")
    assert load["speeds"][-1] == {
        "settings": "off",
        "tokens_per_s": 100.0,
        "is_measured": True,
        "relative_error": 0.0,
    }
    assert load["not_told_apart"] == []


def test_a_run_that_may_be_as_fast_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Off is 100 tokens/s, and 7,1,8 132: apart at 10 % of error each, not at 20 %."""
    speeds = _tuned().speeds[0][1]
    for error, rivals in ((0.1, ()), (0.2, (OFF,))):
        unsure = tuple(replace(s, relative_error=error) for s in speeds)
        tuned = Tuned(_tuned().measured, ((1, unsure),))
        assert tuned.rivals(1) == rivals
        assert tuned_json(tuned, tmp_path / "p.json")["loads"][0]["not_told_apart"] == [
            str(choice) for choice in rivals
        ]
        show_tuned(tuned, tmp_path / "p.json")
        is_said = "fastest: 7,1,8 (not told apart by these errors: off)" in capsys.readouterr().out
        assert is_said is bool(rivals)


def _kept(
    pair: tuple[str, ...],
    times: Mapping[tuple[str, int], float] = TIMES,
    num_gpus: int = 1,
    **changes: str,
) -> Path:
    """A profile of that pair on this CPU, where tune keeps it; changes: of its subject."""
    subject = {"target": pair[1], "draft": pair[3], "device": "cpu", "hardware": cpu_name()}
    made = SUBJECT.model_copy(update={**subject, "num_gpus": num_gpus, **changes})
    path = profile_path(made.engine, made.target, made.draft, made.hardware, num_gpus)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, profile(times, subject=made))


def test_serve_and_plan_prefer_what_was_measured_on_this_cpu(
    eagle3: Shell, pair: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    path = _kept(pair)
    words = ("--device", "cpu", "--concurrency", "1", "--dry-run", "--python", sys.executable)
    code, out, err = eagle3("serve", "sglang", *pair, *words, "--force")
    assert (code, err) == (0, "")
    assert "settings 3,1,4: is predicted at 1.93x" in out
    assert "(measured)" in out
    code, out, _ = eagle3("plan", *pair, "--engine", "sglang", "--profile", path)
    assert code == 0
    assert "3,1,4 is predicted at 1.93x" in out
    assert "profile     " in out
    assert "modelled" not in out


def test_serve_takes_a_profile_that_is_kept_elsewhere(
    eagle3: Shell, pair: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path / "cache"))
    changes = {"target": pair[1], "draft": pair[3]}
    path = write(tmp_path / "tuned.json", profile(subject=SUBJECT.model_copy(update=changes)))
    words = ("--gpu", "RTX 4090", "--concurrency", "1", "--dry-run", "--force")
    code, out, err = eagle3("serve", "sglang", *pair, *words, "--profile", path)
    assert (code, err) == (0, "")
    assert "settings 3,1,4: is predicted at 1.93x" in out
    assert "(measured)" in out


FROM_4 = {
    (settings, 4 * num_requests): seconds for (settings, num_requests), seconds in TIMES.items()
}


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_serve_and_plan_take_a_profile_that_begins_above_one_request(
    eagle3: Shell,
    pair: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    path = _kept(pair, {**FROM_4, ("7,1,8", 16): 0.2, ("3,1,4", 16): 0.1}, engine=engine)
    words = ("--device", "cpu", "--concurrency", "4..16", "--dry-run", "--python", sys.executable)
    code, out, err = eagle3("serve", engine, *pair, *words, "--force")
    assert (code, err) == (0, "")
    assert "draft tokens by requests at a time: 1 to 4: 3, " in out
    loads = ("--profile", path, "--concurrency", "4..16")
    code, out, err = eagle3("plan", *pair, "--engine", engine, *loads)
    assert (code, err) == (0, "")
    assert "│ 1 to 4" in out


@pytest.mark.parametrize("verb", ["plan", "serve"])
def test_a_kept_profile_that_says_nothing_of_the_loads_is_named(
    eagle3: Shell,
    pair: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    path = _kept(pair, device="gpu", hardware=SUBJECT.hardware)
    asked = ("--gpu", "RTX 4090", "--concurrency", "1..16")
    more = {"plan": ("--engine", "sglang"), "serve": ("--dry-run", "--force")}[verb]
    code, out, err = eagle3(verb, *(("sglang",) if verb == "serve" else ()), *pair, *asked, *more)
    assert (code, err) == (0, "")
    said = "".join(out.split())
    assert f"thekeptprofile{path}isnotused:itwasmeasuredat1,4requestsatatime," in said
    assert "modelled" in out


def _next_of(engine: str, *words: str, **changes: Any) -> str:
    """What tune prints as the next command after that measurement."""
    device = changes.pop("device", "gpu")
    servers = TuneServers(
        Served(engine, "py", "org/T", "my folder/D", 0, device),  # type: ignore[arg-type]
        num_gpus=changes.pop("num_gpus", 1),
        words=words,
        prompts=({"prompt": "a"},),
        max_new_tokens=16,
        timeout_s=60,
        is_proved=True,
    )
    given: dict[str, Any] = {"concurrency": "1..16", "python": None, "profile": None}
    return _next(servers, **given | changes)


@pytest.mark.parametrize(
    ("made", "command"),
    [
        (
            _next_of("sglang"),
            "eagle3 serve sglang --target org/T --draft 'my folder/D' --concurrency 1..16",
        ),
        (
            _next_of("vllm", concurrency=" 4 .. 8 ", num_gpus=2, device="cpu", python="p/py"),
            "eagle3 serve vllm --target org/T --draft 'my folder/D' --concurrency 4..8 "
            "--num-gpus 2 --device cpu --python p/py",
        ),
        (
            _next_of(
                "vllm", "--max-model-len", "512", "--hf-token", "abcdefgh", profile=Path("a b.json")
            ),
            "eagle3 serve vllm --target org/T --draft 'my folder/D' --concurrency 1..16 "
            "--profile 'a b.json' -- --max-model-len 512 --hf-token ***",
        ),
    ],
)
def test_the_next_command_is_for_what_was_measured(made: str, command: str) -> None:
    assert made == command


def test_the_next_command_takes_the_profile_of_its_loads_and_gpus(
    eagle3: Shell, pair: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tune at 4 requests and with two devices: another file, and no load of 1."""
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path))
    only_4 = {at: seconds for at, seconds in TIMES.items() if at[1] == 4}
    _kept(pair, only_4, num_gpus=2)
    words = ("--concurrency", "4", "--num-gpus", "2", "--device", "cpu")
    code, out, err = eagle3("serve", "sglang", *pair, *words, "--dry-run", "--force")
    assert (code, err) == (0, "")
    assert "(measured)" in out
    assert "--tp-size 2" in out


def test_a_profile_beside_measurements_from_a_csv_is_refused(eagle3: Shell, tmp_path: Path) -> None:
    code, _, err = eagle3("plan", "--from-measurements", "x.csv", "--profile", tmp_path / "p.json")
    assert code == 2
    assert "expected --probe, --evaluate and --json beside it only" in err


def test_synthetic_times_are_no_run_of_their_own() -> None:
    made = profile()
    only = made.model_copy(update={"timed": (timed("7,1,8", 1, 0.02, how="synthetic"),)})
    assert not Measured(only, "file.json").has_real(measured().choices[-1], 1)
