"""What has to be right before a start: the environment, and the draft in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving.preflight import Installed, installed, preflight
from tests.drafts import draft_config, write_random
from tests.test_cli import TARGET

BOTH = Installed("0.5.23", "0.1.0")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A draft that stock SGLang would misread, and its target."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(TARGET))
    draft = write_random(tmp_path / "draft", draft_config(decoder="qwen3", taps=(3, 4, 7)))
    return str(draft), str(target)


def test_an_environment_says_what_it_has() -> None:
    found = installed("sglang", sys.executable)
    assert found.engine is None
    assert found.plugin is not None


def test_a_python_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        installed("vllm", str(tmp_path / "python"))
    assert caught.value.message == (
        f"there is no Python at {tmp_path}/python: No such file or directory"
    )
    assert caught.value.hint == "Give the Python of the engine's environment with --python."


def test_a_program_that_is_no_python_is_an_error() -> None:
    with pytest.raises(EngineError, match=r"^false does not run Python: exit code 1"):
        installed("vllm", "false")


def test_a_python_that_hangs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr("eagle3_plugin.serving.preflight.TIMEOUT_S", 0.2)
    with pytest.raises(EngineError, match=r"did not say within 0.2 s what is installed there"):
        installed("vllm", str(slow))


def test_with_the_plugin_the_draft_is_sound(pair: tuple[str, str]) -> None:
    flight = preflight(*pair, "sglang", BOTH, needs_engine=True)
    assert (flight.ok, flight.plugin, flight.problems) == (True, True, ())


def test_without_the_engine_only_a_dry_run_is_possible(pair: tuple[str, str]) -> None:
    nothing = Installed(None, None)
    assert preflight(*pair, "sglang", nothing, needs_engine=False).ok
    (problem,) = preflight(*pair, "sglang", nothing, needs_engine=True).problems
    assert problem.id == "engine-missing"
    assert problem.message == (
        "sglang is not installed in this environment; expected one that has it"
    )
    assert problem.hint == (
        "Install it, or name the Python of an environment that has it: --python PYTHON "
        "(pip install sglang eagle3-plugin)"
    )


def test_without_the_plugin_the_draft_is_judged_as_stock(pair: tuple[str, str]) -> None:
    flight = preflight(*pair, "sglang", Installed("0.5.23", None), needs_engine=True)
    assert not flight.plugin
    (problem,) = flight.problems
    assert problem.message == (
        "eagle3-plugin is not installed beside sglang: the draft would be served as stock; "
        "expected both in one environment"
    )
    assert flight.num_errors > 1  # stock SGLang drops the q and k norms


@pytest.mark.parametrize(("value", "ok"), [("other", False), ("", False), ("other, eagle3", True)])
def test_the_engines_own_list_of_plugins_is_read(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, value: str, ok: bool
) -> None:
    monkeypatch.setenv("SGLANG_PLUGINS", value)
    flight = preflight(*pair, "sglang", BOTH, needs_engine=True)
    assert flight.plugin == ok
    if not ok:
        assert flight.problems[0].message == (
            f"SGLANG_PLUGINS is {value!r}, so sglang will not load our plugin; expected it unset "
            "or with eagle3 in it"
        )


def test_the_actors_of_ray_would_serve_the_draft_as_stock(pair: tuple[str, str]) -> None:
    flight = preflight(*pair, "sglang", BOTH, needs_engine=True, words=("--use-ray",))
    assert not flight.plugin
    assert flight.problems[0].message == (
        "--use-ray: SGLang's Ray actors load no plugin (0.5.23 srt/ray), so the draft would be "
        "served as stock; expected SGLang's own processes"
    )
