"""The cache of trained pairs: same recipe, same bytes; a killed run costs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import Eagle3Error, MissingExtraError
from eagle3_plugin.tiny import cache, make_pair, recipes
from eagle3_plugin.tiny.recipes import DENSE, DRAFTS, DraftRecipe, TargetRecipe

SMALL = replace(
    DENSE, hidden_size=64, intermediate_size=64, steps=3, num_continuations=4, num_text_tokens=5000
)
SHORT = DraftRecipe(steps=2, num_early_steps=1, batch=4, num_continuations=4)

CODE = """
import json, sys
from eagle3_plugin.tiny import DraftRecipe, TargetRecipe, make_pair
target, draft = map(json.loads, sys.argv[1:])
print(make_pair(TargetRecipe(**target), DraftRecipe(**draft), "llama").draft)
"""


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "recipe.json" and file.suffix != ".lock"
    }


def _start(folder: Path, target: TargetRecipe) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, json.dumps(asdict(target)), json.dumps(asdict(SHORT))],
        env=os.environ | {cache.ENVIRONMENT: str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _trainers(folder: Path) -> list[int]:
    """The processes that train into that folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if cache.WORKER.encode() in command and str(folder).encode() in command:
            found.append(int(process.name))
    return found


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name in ("first", "second"):
        monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / name))
        make_pair(SMALL, SHORT, "qwen3_everything", quiet=True)
        made.append(_hashes(tmp_path / name / "tiny"))
    assert made[0] == made[1]
    assert sum(name.endswith("model.safetensors") for name in made[0]) == 2


@pytest.mark.slow
def test_a_killed_training_leaves_nothing_finished_and_the_next_run_works(tmp_path: Path) -> None:
    long = replace(SMALL, steps=100_000)
    killed = _start(tmp_path, long)
    assert killed.stderr is not None
    assert killed.stderr.readline() == "train the target: 100000 steps\n"
    assert len(_trainers(tmp_path)) == 2
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    deadline = time.monotonic() + 30
    while _trainers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _trainers(tmp_path) == []
    left = {path.suffix for path in (tmp_path / "tiny").iterdir()}
    assert left == {".lock", ".partial"}
    (partial,) = (tmp_path / "tiny").glob("*.partial")
    key = partial.name.removesuffix(".partial")
    short = cache.ensure(
        tmp_path / "tiny" / key, {"job": "target", "recipe": asdict(SMALL)}, lambda *_: None
    )
    assert (short / "target" / "model.safetensors").is_file()
    assert list((tmp_path / "tiny").glob("*.partial")) == []


@pytest.mark.slow
def test_two_runs_at_once_train_once(tmp_path: Path) -> None:
    both = [_start(tmp_path, SMALL) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert outputs[0][0] == outputs[1][0] != ""
    said = "".join(errors for _, errors in outputs)
    assert said.count("train the target") == 1
    assert said.count("train the draft") == 1


@pytest.mark.slow
def test_a_copy_that_appeared_while_training_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "result"

    def copy_in(what: str, done: int, total: int) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "recipe.json").write_text("copied")

    cache.ensure(folder, {"job": "target", "recipe": asdict(SMALL)}, copy_in)
    assert [file.name for file in folder.iterdir()] == ["recipe.json"]
    assert (folder / "recipe.json").read_text() == "copied"
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.slow
def test_a_failed_training_says_why_and_caches_nothing(tmp_path: Path) -> None:
    job: dict[str, Any] = {"job": "target", "recipe": {"num_wheels": 4}}
    with pytest.raises(Eagle3Error, match="unexpected keyword argument 'num_wheels'") as caught:
        cache.ensure(tmp_path / "result", job, lambda *_: None)
    assert caught.value.message.startswith("training the tiny pair ended with status 1")
    assert caught.value.hint == "Nothing was cached; run the same command again."
    assert not (tmp_path / "result").exists()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, "/data/pairs")
    assert cache.cache_folder() == Path("/data/pairs/tiny")
    monkeypatch.delenv(cache.ENVIRONMENT)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/someone/.cache")
    assert cache.cache_folder() == Path("/home/someone/.cache/eagle3/tiny")


def test_another_number_in_a_recipe_is_another_result() -> None:
    draft = asdict(DRAFTS["good"])
    keys = {recipes.cache_key(draft), recipes.cache_key({**draft, "steps": 1})}
    assert len(keys) == 2
    assert recipes.cache_key(draft) == recipes.cache_key(dict(reversed(draft.items())))


def test_training_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(recipes, "version", not_installed)
    with pytest.raises(MissingExtraError) as caught:
        recipes.cache_key({})
    assert caught.value.message == "training a tiny pair needs torch, which is not installed"
    assert caught.value.hint == "pip install 'eagle3-plugin[torch]'"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("sse2 avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("avx2", "float32")],
)
def test_bfloat16_is_used_where_the_cpu_multiplies_it(
    tmp_path: Path, flags: str, expected: str
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: {flags}\n")
    assert recipes.precision(info) == expected
