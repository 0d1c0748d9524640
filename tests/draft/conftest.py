"""Fixtures of the tests of drafts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drafts import draft_config, write_random


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound small draft as SpecForge writes it."""
    return write_random(tmp_path / "draft", draft_config())
