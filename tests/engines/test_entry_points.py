"""Both engines find an entry point named eagle3; SGLang's says that it changes nothing yet."""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path

import pytest

from eagle3_plugin.engines.sglang.plugin import register


def test_both_engines_find_a_plugin_named_eagle3(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {
        "vllm.general_plugins": {"eagle3": "eagle3_plugin.engines.vllm.plugin:register"},
        "sglang.srt.plugins": {"eagle3": "eagle3_plugin.engines.sglang.plugin:register"},
    }


def test_in_sglang_the_plugin_says_that_it_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        register()
        register()
    assert len(caplog.messages) == 2
    assert "has no plugin for SGLang: drafts are read as stock SGLang" in caplog.messages[0]
