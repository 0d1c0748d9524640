"""The small charts: places follow from the numbers, and all marks say theirs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from eagle3_plugin.planning.picture import DARK, DARK_LINES, LIGHT, LIGHT_LINES
from eagle3_plugin.report import numbers
from eagle3_plugin.report.lines import Axes, Point, Series, ends_of, lines
from eagle3_plugin.report.marks import Axis, around, cut, shape, style, text_width
from eagle3_plugin.report.ridges import NUM_DOTS, Ridge, percentile, ridges
from eagle3_plugin.report.rows import Mark, Row, rows


def titles(svg: ET.Element) -> list[str]:
    return [title.text or "" for title in svg.iter("title")]


def with_class(svg: ET.Element, name: str) -> list[ET.Element]:
    return [e for e in svg.iter() if name in e.get("class", "").split()]


def test_a_linear_axis_has_round_ends_and_ticks() -> None:
    axis = around([0.93, 2.43], 0, 100, 5)
    assert (axis.low, axis.high) == (0.5, 2.5)
    assert axis.ticks(5) == (0.5, 1.0, 1.5, 2.0, 2.5)
    assert axis.at(1.5) == 50


def test_an_axis_of_one_value_has_room_around_it() -> None:
    axis = around([3.0], 0, 100, 5)
    assert axis.low < 3 < axis.high


def test_a_logarithmic_axis_has_a_decade_as_long_as_the_next() -> None:
    axis = Axis(0.01, 1.0, 0, 100, log=True)
    assert axis.at(0.1) == pytest.approx(50)
    assert axis.ticks(7) == pytest.approx((0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0))
    assert axis.ticks(4) == pytest.approx((0.01, 0.1, 1.0))
    assert len(Axis(1e-6, 1e6, 0, 100, log=True).ticks(5)) <= 5


def test_a_long_name_keeps_its_two_ends() -> None:
    assert cut("short", 100) == "short"
    assert cut("Qwen3-4B-Instruct-2507", 64) == "Qwen3…2507"
    assert text_width("中文") == text_width("abcd")
    assert cut("中文多轮对话基准测试集合", 64) == "中文…集合"


def test_series_differ_in_shape_and_dash_and_not_in_colour_alone() -> None:
    assert [style(i) for i in (-1, 0, 3, 4)] == ["sb", "s0 d0", "s3 d0", "s0 d1"]
    assert len({shape(i) for i in range(4)}) == 4


def test_lines_have_a_mark_and_a_bar_for_each_point() -> None:
    points = (Point(1, 2.0, 1.9, 2.1, "one"), Point(4, 1.5, None, None, "four"))
    series = [Series(0, points)]
    assert ends_of(series, 1.0) == (1.0, 2.5)
    svg = lines(
        series, Axes("parallel", (1, 4), numbers.ratio, (1.0, 3.0), one=1.0), "what it shows"
    )

    assert svg.get("aria-label") == "what it shows"
    assert titles(svg) == ["one", "four"]
    assert len(with_class(svg, "bar")) == 1
    (line,) = svg.iter("polyline")
    ys = [float(pair.split(",")[1]) for pair in (line.get("points") or "").split()]
    assert ys == [94.0, 135.0]  # of 12 (3x) to 176 (1x): half, and a quarter of the way up
    assert len(with_class(svg, "one")) == 1


def test_numbers_beneath_many_places_do_not_run_into_each_other() -> None:
    points = tuple(Point(x, 0.5, None, None, "") for x in range(1, 65))
    svg = lines([Series(0, points)], Axes("position", range(1, 65), numbers.share, (0.0, 1.0)), "")
    texts = [t for t in svg.iter("text") if t.get("text-anchor") == "middle"][:-1]
    places = [float(t.get("x", "0")) for t in texts]
    assert texts[-1].text == "64"
    assert all(b - a >= 14 for a, b in pairwise(places))


def test_a_row_has_its_promise_as_a_hollow_diamond_above_what_came_out() -> None:
    marks = (Mark(None, 3.33, None, None, "card 3.33"), Mark(0, 3.0, 2.9, 3.1, "here 3.00"))
    svg = rows([Row("mt-bench", "−9.91 %", marks)], "tokens per verify", numbers.short, "said")

    assert titles(svg) == ["mt-bench", "card 3.33", "here 3.00"]
    assert len(with_class(svg, "promise")) == 1
    assert len(with_class(svg, "bar")) == 1
    assert [t.text for t in svg.iter("text")][-2:] == ["mt-bench", "−9.91 %"]


def test_a_row_without_marks_still_has_its_name() -> None:
    svg = rows([Row("gsm8k", "", ())], "speedup", numbers.ratio, "")
    assert "gsm8k" in [t.text for t in svg.iter("text")]


def test_few_requests_are_dots_and_many_a_histogram() -> None:
    few = ridges([Ridge(0, "3,1,4", tuple(range(1, NUM_DOTS + 1)))], "latency", "")
    many = ridges([Ridge(0, "3,1,4", tuple(range(1, NUM_DOTS + 2)))], "latency", "")
    assert (len(with_class(few, "dot")), len(with_class(few, "area"))) == (30, 0)
    assert (len(with_class(many, "dot")), len(with_class(many, "area"))) == (0, 1)
    assert "3,1,4: 31 requests" in titles(many)


@pytest.mark.parametrize(("last", "is_log"), [(1.9, False), (2.0, True)])
def test_the_axis_is_logarithmic_where_the_longest_takes_twenty_times_the_shortest(
    last: float, is_log: bool
) -> None:
    svg = ridges([Ridge(-1, "baseline", (0.1, last))], "latency", "")
    names = [t.text for t in svg.iter("text")]
    assert ("latency (logarithmic)" in names) is is_log


def test_requests_of_one_length_and_of_none_are_drawn() -> None:
    assert ridges([Ridge(-1, "baseline", (0.5,) * 40)], "latency", "").tag == "svg"
    assert ridges([Ridge(-1, "baseline", (0.0,))], "latency", "").tag == "svg"


def test_percentiles_lie_between_the_values_next_to_them() -> None:
    # numpy.quantile([1, 2, 3, 10], [0.5, 0.9, 0.99]), numpy 2.4
    found = [percentile((10, 1, 3, 2), share) for share in (0.5, 0.9, 0.99)]
    assert found == pytest.approx([2.5, 7.9, 9.79])


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio" and "relative luminance"."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("inks", "of_lines"), [(LIGHT, LIGHT_LINES), (DARK, DARK_LINES)])
def test_all_text_and_marks_stand_out_from_the_paper_as_wcag_aa_asks(
    inks: tuple[str, ...], of_lines: tuple[str, ...]
) -> None:
    ink, soft, _, paper = inks
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert min(contrast(colour, paper) for colour in (ink, soft, *of_lines)) >= 4.5
