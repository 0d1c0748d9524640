"""Both engines find an entry point named eagle3."""

from __future__ import annotations

import tomllib
from pathlib import Path


def test_both_engines_find_a_plugin_named_eagle3(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {
        "vllm.general_plugins": {"eagle3": "eagle3_plugin.engines.vllm.plugin:register"},
        "sglang.srt.plugins": {"eagle3": "eagle3_plugin.engines.sglang.plugin:register"},
    }
