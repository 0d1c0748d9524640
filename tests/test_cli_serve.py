"""`eagle3 serve` as it is typed: the command that it would start, and what it refuses.

Servers that are really started: tests/serving/test_serve_*.py.
"""

from __future__ import annotations

import json
import mmap
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.loopback_hub import COMMIT, LoopbackHub, Repo
from tests.seeds import write_seed_a, write_seed_b
from tests.targets import QWEN3_4B, QWEN3_VL_2B
from tests.test_cli import Shell

TARGET_A, DRAFT_A = "Qwen/Qwen3-4B-Instruct-2507", "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh"
CARD_WORDS = [
    *("--dtype", "float16", "--mem-fraction-static", "0.7"),
    *("--cuda-graph-max-bs-decode", "16", "--cuda-graph-bs-decode", "1", "2", "3", "4"),
]
MODULES = {"sglang": "sglang.launch_server", "vllm": "vllm.entrypoints.openai.api_server"}


@pytest.fixture
def eagle3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with the shapes of both seeds and their targets."""
    folder = tmp_path_factory.mktemp("seeds")
    write_seed_a(folder / "draft-a")
    write_seed_b(folder / "draft-b")
    for name, config in (("target-a", QWEN3_4B), ("target-b", QWEN3_VL_2B)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    return folder


def _command(out: str) -> list[str]:
    """The words of the printed command, without its Python."""
    text = out[out.index("-m ") :].split("\n\n")[0]
    return shlex.split(text.replace("\\\n", " "))


def _flags(words: list[str]) -> dict[str, str]:
    at = [i for i, word in enumerate(words) if word.startswith("--")]
    ends = [*at[1:], len(words)]
    return {words[i]: " ".join(words[i + 1 : end]) for i, end in zip(at, ends, strict=True)}


def test_the_cards_command_of_seed_a_in_the_spelling_that_parses(
    eagle3: Shell, seeds: Path
) -> None:
    """Settings by --settings; what the card sets beyond them is the user's to say after --."""
    draft, target = seeds / "draft-a", seeds / "target-a"
    code, out, _ = eagle3(
        "serve", "sglang", "--target", target, "--draft", draft, "--gpu", "RTX 4090",
        "--settings", "5,4,16", "--dry-run", "--", *CARD_WORDS,
    )  # fmt: skip
    words = _command(out)
    assert code == 0
    assert words == [
        *("-m", "sglang.launch_server", "--model-path", str(target), "--port", "30000"),
        *("--enable-metrics", "--max-running-requests", "16"),
        *("--speculative-algorithm", "EAGLE3", "--speculative-draft-model-path", str(draft)),
        *("--speculative-num-steps", "5", "--speculative-eagle-topk", "4"),
        *("--speculative-num-draft-tokens", "16"),
        *CARD_WORDS,
    ]
    assert "settings 5,4,16: as asked" in out
    assert "note: --mem-fraction-static 0.7 after -- replaces our --mem-fraction-static 0." in out
    assert "note: --cuda-graph-max-bs-decode 16 after -- replaces our --cuda-graph" in out


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
@pytest.mark.parametrize("seed", ["a", "b"])
def test_without_settings_the_choice_is_its_own_with_the_reason(
    eagle3: Shell, seeds: Path, seed: str, engine: str
) -> None:
    code, out, _ = eagle3(
        "serve", engine, "--target", seeds / f"target-{seed}", "--draft", seeds / f"draft-{seed}",
        "--gpu", "RTX 4090", "--dry-run",
    )  # fmt: skip
    words = _command(out)
    assert code == 0
    assert "is predicted at " in out
    assert "served with the plugin" in out
    assert words[:2] == ["-m", MODULES[engine]]
    flags = _flags(words)
    if engine == "vllm":
        config = json.loads(flags["--speculative-config"])
        assert config["method"] == "eagle3"
        assert config["model"] == str(seeds / f"draft-{seed}")
        assert f"settings {config['num_speculative_tokens']},1," in out
        assert flags["--max-num-seqs"] == "16"
    else:
        steps, topk = flags["--speculative-num-steps"], flags["--speculative-eagle-topk"]
        assert f"settings {steps},{topk},{flags['--speculative-num-draft-tokens']}: " in out
        assert flags["--max-running-requests"] == flags["--cuda-graph-max-bs-decode"] == "16"


@pytest.mark.slow
def test_a_pair_by_its_hub_ids_is_checked_and_named_by_them(seeds: Path, tmp_path: Path) -> None:
    """Real HTTP: the draft's config, headers and small tensors are fetched, and no weights."""
    weights = seeds / "draft-a" / "model.safetensors"
    with weights.open("rb") as file:
        data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        config = (seeds / "draft-a" / "config.json").read_bytes()
        repos = {
            DRAFT_A: Repo({COMMIT: {"config.json": config, "model.safetensors": data}}),
            TARGET_A: Repo({COMMIT: {"config.json": json.dumps(QWEN3_4B).encode()}}),
        }
        with LoopbackHub(repos) as hub:
            done = _typed(tmp_path, HF_ENDPOINT=hub.url)
            assert sum(hub.sent.values()) < 2_000_000
    assert done.returncode == 0, done.stderr
    flags = _flags(_command(done.stdout))
    assert "check: ok" in done.stdout
    assert flags["--model-path"] == TARGET_A
    assert flags["--speculative-draft-model-path"] == DRAFT_A
    assert float(flags["--mem-fraction-static"]) == pytest.approx(0.7, abs=0.05)


def test_a_dry_run_without_the_hub_says_that_nothing_was_checked(tmp_path: Path) -> None:
    done = _typed(tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert f"warning [not-checked] {DRAFT_A} is not in the cache" in done.stdout
    assert "settings 5,4,16: as asked" in done.stdout
    assert f"--speculative-draft-model-path {DRAFT_A}" in done.stdout


def _typed(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The issue's own command, in a fresh process."""
    words = ["serve", "sglang", "--target", TARGET_A, "--draft", DRAFT_A, "--gpu", "RTX 4090"]
    return subprocess.run(
        [sys.executable, "-m", "eagle3_plugin.cli", *words, "--settings", "5,4,16", "--dry-run"],
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_dry_run_starts_and_writes_nothing(
    eagle3: Shell, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = eagle3(
        "serve", "sglang", "--target", seeds / "target-b", "--draft", seeds / "draft-b",
        "--gpu", "RTX 4090", "--concurrency", "1..256", "--dry-run",
    )  # fmt: skip
    assert code == 0
    assert "schedule: eagle3-sglang-30000.adaptive.json will hold { " in out
    assert "--speculative-adaptive-config eagle3-sglang-30000.adaptive.json" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--device", "tpu"], "--device is 'tpu', expected gpu or cpu", ""),
        (
            ["--device", "cpu"],
            "--device cpu has no plan: plans are made for GPUs; expected --settings and no --gpu",
            "For example --settings 3,1,4; or measure this machine with eagle3 tune.",
        ),
        (
            ["--settings", "3,1,4", "--acceptance", "typical"],
            "--acceptance is for a plan, and --settings takes the place of one; give one of the",
            "",
        ),
        (
            ["--settings", "3,1,4", "--profile", "tuned.json"],
            "--profile is for a plan, and --settings takes the place of one; give one of the two",
            "",
        ),
        (
            ["--settings", "3,1,4", "--concurrency", "4", "--context-tokens", "99"],
            "--concurrency, --context-tokens with --settings share out the memory of a GPU; "
            "expected --gpu too",
            'Add for example --gpu "RTX 4090", or leave them out.',
        ),
        (["--settings", "3,1"], "settings '3,1' are not three whole numbers", ""),
        (["--dry-run"], "neither nvidia-smi nor rocm-smi shows a GPU on this machine", "--gpu"),
        (["--dry-run", "--gpu", "RTX 4090", "--", "--port", "x"], "the port is 'x'", "own"),
    ],
)
def test_wrong_use_is_exit_2_with_what_to_do(
    eagle3: Shell, seeds: Path, words: list[str], message: str, hint: str
) -> None:
    pair = ["--target", str(seeds / "target-a"), "--draft", str(seeds / "draft-a")]
    code, _, err = eagle3("serve", "sglang", *pair, *words)
    assert code == 2
    assert f"error: {message}" in err
    assert hint in err


def test_tls_is_refused_and_its_command_still_printed(eagle3: Shell, seeds: Path) -> None:
    words = (
        *("serve", "sglang", "--target", seeds / "target-a", "--draft", seeds / "draft-a"),
        *("--settings", "3,1,4", "--python", sys.executable),
    )
    tls = ("--", "--ssl-certfile", "c.pem", "--ssl-keyfile", "k.pem")
    code, out, err = eagle3(*words, *tls)
    assert (code, out) == (2, "")
    assert "error: --ssl-certfile, --ssl-keyfile after --; expected a server that answers" in err
    assert "put a reverse proxy before the server" in err
    code, out, _ = eagle3(*words, "--force", "--dry-run", *tls)
    assert code == 0
    assert _flags(_command(out))["--ssl-keyfile"] == "k.pem"


def test_an_engine_that_is_not_installed_is_an_error(
    eagle3: Shell, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pair = ["--target", str(seeds / "target-a"), "--draft", str(seeds / "draft-a")]
    code, _, err = eagle3("serve", "vllm", *pair, "--settings", "3,1,4")
    assert code == 1
    assert "error: vllm is not installed here, and there is no .venvs/vllm" in err
    assert "hint: Name the Python of its environment with --python." in err


def test_without_the_hub_a_real_start_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eagle3_plugin.cli", "serve", "vllm", "--target", TARGET_A]
    done = subprocess.run(
        [*command, "--draft", DRAFT_A, "--settings", "3,1,4", "--python", sys.executable],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "is not in the cache" in done.stderr


def test_the_schedule_of_sglang_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    from eagle3_plugin.cli_serve import _write_adaptive
    from eagle3_plugin.errors import OutputError

    with pytest.raises(OutputError) as caught:
        _write_adaptive((tmp_path / "missing" / "x.json", "{}"))
    assert caught.value.message == (
        f"SGLang's schedule {tmp_path}/missing/x.json cannot be written: No such file or "
        "directory; expected a folder that exists, the log's"
    )
