from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.acceptance import from_rates
from eagle3_plugin.planning.picture import BOTTOM, HEIGHT, TOP, WIDTH, best_series, blocks, svg
from eagle3_plugin.planning.plan import plan
from eagle3_plugin.settings import Settings
from tests.planned import SEED_B, asked

SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str) -> ET.Element:
    return ET.fromstring(text)


def test_the_chosen_settings_come_first_and_no_more_than_four_are_drawn() -> None:
    found = best_series(plan(asked(last=32)))

    assert found[0].settings == Settings(5, 4, 16)
    assert len(found) == 4
    assert [n for n, _ in found[0].middle] == [1, 2, 4, 8, 16, 32]


def test_blocks_rise_from_no_gain_to_the_best() -> None:
    assert blocks([0.7, 1.0, 1.5, 2.0]) == ("▁", "▁", "▅", "█")
    assert blocks([0.7, 0.9]) == ("▁", "▁")


def test_the_picture_has_a_line_and_a_name_for_each_and_follows_the_scheme() -> None:
    made = plan(asked(SEED_B, "H20", last=64))
    root = drawn(svg(made))
    lines = root.findall(f"{SVG}polyline")
    names = [t.text for t in root.findall(f"{SVG}text") if "name" in t.get("class", "")]

    assert len(lines) == len(names) == 4
    assert set(names) == {str(s.settings) for s in best_series(made)}
    assert "@media(prefers-color-scheme:dark)" in (root.findtext(f"{SVG}style") or "")
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"


def test_all_that_is_drawn_lies_inside_and_names_lie_apart() -> None:
    root = drawn(svg(plan(asked(SEED_B, "H20", last=64))))
    places = [
        tuple(map(float, pair.split(",")))
        for line in root.findall(f"{SVG}polyline")
        for pair in (line.get("points") or "").split()
    ]
    names = sorted(
        float(t.get("y", "0")) for t in root.findall(f"{SVG}text") if "name" in t.get("class", "")
    )

    assert all(0 <= x <= WIDTH and TOP <= y <= BOTTOM for x, y in places)
    assert min(b - a for a, b in pairwise(names)) >= 18


def test_names_cannot_break_the_picture() -> None:
    made = plan(asked(last=4))
    named = replace(
        made, asked=replace(made.asked, pair=replace(made.asked.pair, target_name="<&>"))
    )

    assert drawn(svg(named)).tag == f"{SVG}svg"


def test_where_off_wins_the_losing_settings_are_drawn() -> None:
    made = plan(asked(last=4, acceptance=from_rates([0.05], "a bad draft", num_rounds=10000)))

    assert len(best_series(made)) == 4
    assert drawn(svg(made)).findall(f"{SVG}polyline")


def test_one_load_makes_no_picture() -> None:
    with pytest.raises(UsageError, match="has one load; expected a range"):
        svg(plan(asked()))
