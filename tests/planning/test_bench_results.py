"""Acceptance from results of `eagle3 bench`, by the two examples and by counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.planning.acceptance_sources import from_json, parse_acceptance
from eagle3_plugin.settings import Settings

EXAMPLES = Path(__file__).parent.parent / "measuring"


def _result(**accepted: tuple[int, list[int]]) -> dict[str, Any]:
    """Servers by their settings with _ for commas, each with rounds and accepted by position."""
    names = {name.removeprefix("s").replace("_", ","): found for name, found in accepted.items()}
    return {
        "schema": 1,
        "servers": [{"name": "baseline", "settings": "off"}]
        + [{"name": f"server {text}", "settings": text} for text in names],
        "cells": [{"server": "baseline", "acceptance": None}]
        + [
            {
                "server": f"server {text}",
                "acceptance": {"num_rounds": rounds, "accepted_by_position": positions},
            }
            for text, (rounds, positions) in names.items()
            for _ in range(2)
        ],
    }


def test_the_longest_chain_gives_the_rates_and_each_server_its_own_total() -> None:
    given = _result(s3_1_4=(100, [60, 30, 15]), s1_1_2=(100, [70]), s3_4_8=(100, [80, 50, 30]))
    found = from_json(given, "r.json")
    assert found.basis == "measured"
    assert found.source == "r.json"
    assert found.tokens_per_verify(Settings(3, 1, 4)).expected == pytest.approx(2.05)
    assert found.tokens_per_verify(Settings(1, 1, 2)).expected == pytest.approx(1.7)
    assert found.tokens_per_verify(Settings(3, 4, 8)).expected == pytest.approx(2.6)
    assert found.tokens_per_verify(Settings(2, 1, 3)).expected == pytest.approx(1.9, abs=0.01)


def test_a_tree_alone_is_its_total() -> None:
    found = from_json(_result(s5_4_16=(100, [90, 60, 40, 20, 10])), "r.json")
    assert found.tokens_per_verify(Settings(5, 4, 16)).expected == pytest.approx(3.2)


@pytest.mark.parametrize(("name", "settings"), [("card", "5,4,16"), ("sets", "5,1,6")])
def test_a_result_is_named_by_its_file(name: str, settings: str) -> None:
    path = EXAMPLES / f"example_{name}.json"
    cells = json.loads(path.read_text())["cells"]
    counts = [cell["acceptance"] for cell in cells if cell["server"] == settings]
    total = 1 + sum(c["accepted_draft_tokens"] for c in counts) / sum(
        c["num_rounds"] for c in counts
    )
    found = parse_acceptance(str(path)).tokens_per_verify(Settings.parse(settings))
    assert found.expected == pytest.approx(total)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_result(), "r.json has no server that speculates with known settings; expected one"),
        ({"schema": 1, "cells": [{}], "servers": []}, "no server that speculates"),
        ({"schema": 1, "cells": 3, "servers": [{"name": "a", "settings": "3,1,4"}]},
         "r.json is no whole result of eagle3 bench: TypeError"),
    ],
)  # fmt: skip
def test_a_result_without_rounds_is_an_error(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Eagle3Error, match=message):
        from_json(given, "r.json")
