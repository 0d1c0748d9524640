"""The commands under launch/, collected once."""

from __future__ import annotations

import pytest

from tests.launch.commands import Words, engine_commands


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Words]]:
    """Name of each command -> (engine, the words that the engine's parser reads)."""
    return engine_commands(tmp_path_factory.mktemp("stand-ins"))
