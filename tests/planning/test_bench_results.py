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


def _loop(server: str, concurrency: int, answers_s: list[float], rounds: int = 0) -> dict[str, Any]:
    """Clients in step: each answer has 101 tokens, the first after half a second."""
    counts = {"num_rounds": rounds, "accepted_by_position": [rounds // 2, rounds // 4, 10]}
    requests, begin_s = [], 0.0
    for place, request_s in enumerate(answers_s):
        requests.append({
            "begin_s": begin_s, "time_to_first_token_s": 0.5, "request_s": request_s,
            "num_tokens": 101, "counts": counts if rounds else None,
        })  # fmt: skip
        begin_s += request_s if place % concurrency == concurrency - 1 else 0.0
    total = {name: _times(len(answers_s), value) for name, value in counts.items()}
    acceptance = total if rounds else None
    return {
        "server": server, "concurrency": concurrency, "acceptance": acceptance, "requests": requests
    }  # fmt: skip


def _times(number: int, value: Any) -> Any:
    return [number * v for v in value] if isinstance(value, list) else number * value


def _twice(*waves_s: float) -> list[float]:
    return [request_s for request_s in waves_s for _ in range(2)]


BASE_S = _twice(1.5, 2.0, 2.5, 3.0, 1.0)
CHAIN_S = _twice(1.0, 1.5, 2.0, 1.25, 1.75)
"""Five waves of two answers. Median rounds: 1.5 s of 100 steps, and 1 s of 50 rounds."""


def _whole(folder: Path, **changes: Any) -> Path:
    """A loop without speculation and one with a chain of 3: ten answers each, two at a time."""
    given = json.loads((EXAMPLES / "example_sets.json").read_text()) | {"is_partial": False}
    given["servers"] = [s for s in given["servers"] if s["name"] != "5,1,6"]
    given["cells"] = [_loop("baseline", 2, BASE_S), _loop("3,1,4", 2, CHAIN_S, 50)]
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
    assert (off.total_s, on.total_s) == pytest.approx((0.015, 0.02))
    assert [(s.choice, s.is_measured) for s in found.speeds(2)] == [
        (Settings(3, 1, 4), True),
        (OFF, True),
    ]
    per_verify = 1 + (25 + 12 + 10) / 50
    assert [s.tokens_per_s for s in found.speeds(2)] == pytest.approx(
        [2 * per_verify / 0.02, 2 / 0.015]
    )


def test_one_loop_has_an_error_of_its_times_from_five_waves(tmp_path: Path) -> None:
    timed = {t.settings: t for t in read_measured(_whole(tmp_path)).profile.timed}
    assert timed["off"].round_s == pytest.approx((0.01, 0.015, 0.02, 0.025, 0.005))
    assert timed["3,1,4"].round_s == pytest.approx((0.01, 0.02, 0.03, 0.015, 0.025))
    assert timed["off"].relative_error == pytest.approx(2.0)
    assert timed["3,1,4"].relative_error == pytest.approx(1.0)


def test_answers_that_do_not_say_their_rounds_share_those_of_the_loop(tmp_path: Path) -> None:
    chain = _loop("3,1,4", 2, CHAIN_S, 50)
    chain["requests"] = [{**r, "counts": None} for r in chain["requests"]]
    found = read_measured(_whole(tmp_path, cells=[_loop("baseline", 2, BASE_S), chain]))
    (on,) = [t for t in found.profile.timed if t.settings == "3,1,4"]
    assert on.round_s == pytest.approx((0.01, 0.02, 0.03, 0.015, 0.025))


def test_short_loops_have_their_waves_together(tmp_path: Path) -> None:
    cells = [
        loop
        for waves in (2, 3)
        for loop in (
            _loop("baseline", 2, _twice(1.5) * waves),
            _loop("3,1,4", 2, _twice(1.0) * waves, 50),
        )
    ]
    timed = {t.settings: t for t in read_measured(_whole(tmp_path, cells=cells)).profile.timed}
    assert timed["off"].round_s == pytest.approx((0.01,) * 5)
    assert timed["3,1,4"].round_s == pytest.approx((0.01,) * 5)


TAIL_S = [*[1.0] * 9, 6.0]
"""Two at a time until the last answer runs alone: 15 s of answers in 10 s."""


@pytest.mark.parametrize(
    ("cells", "counts"),
    [
        ([_loop("baseline", 2, BASE_S[:8]), _loop("3,1,4", 2, CHAIN_S, 50)],
         "off has 4 at 2, 3,1,4 has 5 at 2"),
        ([_loop("baseline", 2, BASE_S), _loop("3,1,4", 2, TAIL_S, 50)],
         "off has 5 at 2, 3,1,4 has 0 at 2"),
        ([_loop("baseline", 2, BASE_S), _loop("3,1,4", 1, CHAIN_S, 50)],
         "off has 5 at 2, 3,1,4 has 5 at 1"),
        ([_loop("baseline", 8, [1.5] * 7), _loop("3,1,4", 2, CHAIN_S, 50)],
         "off has 0 at 8, 3,1,4 has 5 at 2"),
    ],
)  # fmt: skip
def test_too_few_waves_are_no_profile(
    tmp_path: Path, cells: list[dict[str, Any]], counts: str
) -> None:
    with pytest.raises(Eagle3Error, match="times too few waves of answers") as raised:
        read_measured(_whole(tmp_path, cells=cells))
    assert f"error of its rounds: {counts}; expected at least 5 without" in raised.value.message
    assert "from loops in which 90% of that number ran in the mean" in raised.value.message
    assert raised.value.hint == (
        "Bench more conversations: ten times --concurrency or more in each set; or measure with "
        "eagle3 tune."
    )


def test_a_load_that_ran_below_itself_is_left_out(tmp_path: Path) -> None:
    cells = [
        _loop("baseline", 1, BASE_S), _loop("3,1,4", 1, CHAIN_S, 50),
        _loop("baseline", 2, TAIL_S), _loop("3,1,4", 2, CHAIN_S, 50),
    ]  # fmt: skip
    assert read_measured(_whole(tmp_path, cells=cells)).loads == (1,)


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
