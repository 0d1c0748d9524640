from __future__ import annotations

import pytest

from eagle3_plugin.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (211.18, "211"),
        (12345.0, "12,300"),
        (999.6, "1,000"),
        (0.012345, "0.0123"),
        (2.0, "2.00"),
        (0.0, "0"),
        (-0.6931, "-0.693"),
        (1.5e-8, "1.50e-08"),
        (None, "-"),
    ],
)
def test_a_number_has_three_significant_digits(value: float | None, text: str) -> None:
    assert numbers.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (0.0000123, "12.3 µs"),
        (0.0123, "12.3 ms"),
        (1.234, "1.23 s"),
        (119.0, "119 s"),
        (751.0, "13 min"),
        (9000.0, "2 h 30 min"),
        (None, "-"),
    ],
)
def test_a_time_has_the_unit_that_suits_it(value: float | None, text: str) -> None:
    assert numbers.seconds(value) == text


def test_shares_ratios_and_changes_have_their_signs() -> None:
    assert numbers.share(0.6421) == "64.2 %"
    assert numbers.ratio(1.918) == "1.92x"
    assert [numbers.change(v) for v in (0.195, -0.0266, 0.0, None)] == [
        "+19.5 %",
        "−2.66 %",
        "±0 %",
        "-",
    ]


def test_sizes_are_in_powers_of_a_thousand() -> None:
    assert [numbers.num_bytes(n) for n in (0, 999, 1000, 436858112, 7 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.00 kB",
        "437 MB",
        "7,000 TB",
    ]


def test_numbers_of_an_axis_lose_their_last_zeros_only() -> None:
    found = [numbers.tick(text) for text in ("2.50x", "1.00x", "30.0 ms", "100 %", "1,200", "0.05")]
    assert found == ["2.5x", "1x", "30 ms", "100 %", "1,200", "0.05"]


def test_the_exact_form_keeps_all_digits() -> None:
    assert numbers.exact(2.4305121237745437) == "2.4305121237745437"
    assert numbers.exact(None) == "not measured"
