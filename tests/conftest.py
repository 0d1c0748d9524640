"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return ROOT


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of the environment that has real vLLM (`make setup` makes it)."""
    return ROOT / ".venvs" / "vllm" / "bin" / "python"
