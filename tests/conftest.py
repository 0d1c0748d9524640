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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start engines come first, then slow ones: a long last one leaves a core idle.

    The Makefile has xdist keep this order.
    """
    weights = dict.fromkeys((item.path for item in items), 0)
    for item in items:
        for weight, name in enumerate(("slow", "engine"), start=1):
            if item.get_closest_marker(name):
                weights[item.path] = max(weights[item.path], weight)
    items.sort(key=lambda item: -weights[item.path])


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
