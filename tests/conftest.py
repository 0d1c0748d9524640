"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Tensors are small here, and two workers share two cores: threads would only wait for each other.
Set before torch is imported."""

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return ROOT


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of the environment that has real vLLM (`make setup` makes it)."""
    return ROOT / ".venvs" / "vllm" / "bin" / "python"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests measured: `record_property("figure", text)` in a test adds a line."""
    figures = [
        str(value)
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, value in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures, measured in this run")
        for figure in figures:
            terminalreporter.line(figure)
