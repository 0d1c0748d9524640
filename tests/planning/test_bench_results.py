"""Acceptance from results of `eagle3 bench`, by the two examples and by counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.planning.acceptance_sources import from_json, parse_acceptance
from eagle3_plugin.planning.measured import read_measured
from eagle3_plugin.planning.settings import OFF
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


def _answer(request_s: float, num_tokens: int) -> dict[str, Any]:
    return {"time_to_first_token_s": 0.5, "request_s": request_s, "num_tokens": num_tokens}


def _whole(folder: Path, **changes: Any) -> Path:
    """Two loops without speculation and two with a chain of 3, of two answers each."""
    given = json.loads((EXAMPLES / "example_sets.json").read_text()) | {"is_partial": False}
    given["servers"] = [s for s in given["servers"] if s["name"] != "5,1,6"]
    counts = {"num_rounds": 50, "accepted_by_position": [25, 15, 10]}
    given["cells"] = [
        {"server": "baseline", "concurrency": 2, "acceptance": None, "requests": r}
        for r in ([_answer(1.5, 101), _answer(1.5, 101)], [_answer(2.5, 101), _answer(2.5, 101)])
    ] + [
        {"server": "3,1,4", "concurrency": 2, "acceptance": counts, "requests": r}
        for r in ([_answer(1.0, 51), _answer(1.0, 51)], [_answer(1.5, 51), _answer(1.5, 51)])
    ]
    path = folder / "result.json"
    path.write_text(json.dumps(given | changes))
    return path


def test_a_result_is_a_measured_profile_too(tmp_path: Path) -> None:
    found = read_measured(_whole(tmp_path))
    subject = found.profile.subject
    assert (subject.engine, subject.device, subject.num_prompts) == ("vllm", "gpu", 12)
    assert found.loads == (2,)
    off, on = found.cost(OFF, 2), found.cost(Settings(3, 1, 4), 2)
    assert off is not None
    assert on is not None
    assert (off.total_s, on.total_s) == pytest.approx((0.015, 0.03))
    assert [(s.choice, s.is_measured) for s in found.speeds(2)] == [
        (OFF, True),
        (Settings(3, 1, 4), True),
    ]
    assert [s.tokens_per_s for s in found.speeds(2)] == pytest.approx([2 / 0.015, 2 * 2 / 0.03])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_partial": True}, "is a part of a run, or of servers that it did not start"),
        ({"cells": [{"server": "3,1,4"}]}, "is no whole result of eagle3 bench: KeyError"),
        ({"servers": [{"name": "3,1,4", "settings": "unknown"}]}, "is no whole result"),
    ],
)
def test_a_result_that_is_not_whole_is_no_profile(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = _whole(tmp_path, **changes)
    with pytest.raises(Eagle3Error, match=message):
        read_measured(path)
