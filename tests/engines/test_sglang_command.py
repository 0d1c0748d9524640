"""The command, the environment and the log of SGLang's server, without starting one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eagle3_plugin.engines.sglang.command import (
    CPU_ENVIRONMENT,
    CPU_KERNELS,
    cpu_environment,
    require_served,
    serve_line,
    server_command,
)
from eagle3_plugin.errors import EngineError
from eagle3_plugin.settings import Settings

SERVED = (
    "[2026-11-22 04:30:31] eagle3_plugin 0.1.0 serves this draft as it was trained, taps [2, 4, 5]"
)
HINT = (
    "See `eagle3 plugins sglang`. Leave SGLANG_PLUGINS unset or name eagle3 in it, leave "
    "--log-level at info, and serve a Qwen3 target."
)


def test_the_command_of_a_tree_names_all_three_settings() -> None:
    command = server_command(
        "py", "T", 1234, draft="D", settings=Settings(3, 4, 8), flags=["--dtype", "float32"]
    )
    assert command == [
        *("py", "-m", "sglang.launch_server", "--model-path", "T", "--port", "1234"),
        *("--enable-metrics", "--dtype", "float32"),
        *("--speculative-algorithm", "EAGLE3", "--speculative-draft-model-path", "D"),
        *("--speculative-num-steps", "3", "--speculative-eagle-topk", "4"),
        *("--speculative-num-draft-tokens", "8"),
    ]


def test_without_a_draft_nothing_is_said_of_speculation() -> None:
    assert server_command("py", "T", 1) == [
        *("py", "-m", "sglang.launch_server", "--model-path", "T", "--port", "1"),
        "--enable-metrics",
    ]


def test_the_line_for_a_user_is_quoted() -> None:
    assert serve_line("my target", "org/draft") == (
        "python -m sglang.launch_server --model-path 'my target' --speculative-algorithm EAGLE3 "
        "--speculative-draft-model-path org/draft --speculative-num-steps 3 "
        "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4"
    )


def test_a_python_without_kernels_gets_ours_before_its_own_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    expected = {**CPU_ENVIRONMENT, "PYTHONPATH": f"{CPU_KERNELS}:/elsewhere"}
    assert cpu_environment(sys.executable) == expected
    monkeypatch.delenv("PYTHONPATH")
    assert cpu_environment(sys.executable)["PYTHONPATH"] == str(CPU_KERNELS)
    assert (CPU_KERNELS / "sgl_kernel" / "__init__.py").exists()


def test_a_python_with_kernels_of_its_own_keeps_them_and_does_not_import_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sgl_kernel.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "PYTHONPATH" not in cpu_environment(sys.executable)


def test_kernels_in_the_folder_where_it_is_called_are_none_of_the_pythons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sgl_kernel.py").touch()
    monkeypatch.chdir(tmp_path)
    assert cpu_environment(sys.executable)["PYTHONPATH"].startswith(str(CPU_KERNELS))


def test_no_python_there_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        cpu_environment("nowhere/python")
    assert caught.value.message == (
        "there is no Python at nowhere/python: No such file or directory"
    )
    assert caught.value.hint == "Give the Python of the engine's environment with --python."


def test_a_log_that_names_our_class_is_proof() -> None:
    require_served(f"before\n{SERVED}\nThe server is fired up and ready to roll!\n")


def test_the_class_writes_the_line_that_is_looked_for(repository: Path) -> None:
    source = (repository / "eagle3_plugin/engines/sglang/models/draft.py").read_text()
    assert '"eagle3_plugin %s serves this draft as it was trained, taps %s"' in source


def test_a_log_that_does_not_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        require_served("The server is fired up and ready to roll!\n")
    assert caught.value.message == (
        "SGLang serves this draft as stock: its log does not name our class; expected the line "
        "that eagle3_plugin writes there when its class holds a draft"
    )
    assert caught.value.hint == HINT


def test_a_plugin_that_failed_is_named_from_the_log() -> None:
    with pytest.raises(EngineError) as caught:
        require_served("[2026-11-22 04:30:31] Failed to execute general plugin: eagle3\nTraceback")
    assert caught.value.message == (
        "SGLang serves this draft as stock: its log says 'Failed to execute general plugin: "
        "eagle3'; expected the line that eagle3_plugin writes there when its class holds a draft"
    )
