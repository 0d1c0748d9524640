"""The fit, and what it has to reach on published points: figures of issue and cards, not of it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from eagle3_plugin.planning import fit as module
from eagle3_plugin.planning.constants import PATH, CostConstants, fitted
from eagle3_plugin.planning.cost import baseline_step, round_cost
from eagle3_plugin.planning.fit import (
    HELD_OUT,
    Prediction,
    as_fit,
    constants_toml,
    fit_all,
    fit_constants,
    main,
    model_error,
    predicted_round_s,
    prior_constants,
)
from eagle3_plugin.planning.points import Point, read_points

SPECFORGE_339 = "https://github.com/sgl-project/SpecForge/issues/339"
ANGELSLIM_163 = "https://github.com/Tencent/AngelSlim/issues/163"


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return read_points(as_fit(prior_constants()))[0]


@pytest.fixture(scope="module")
def predictions(points: list[Point]) -> list[Prediction]:
    return fit_all(points)[1]


def of(points: Sequence[Point], source: str) -> list[Point]:
    return [p for p in points if p.source == source]


def test_dense_rounds_are_predicted_within_5_per_cent_when_their_source_is_left_out(
    predictions: list[Prediction],
) -> None:
    dense = [p for p in predictions if p.point.is_dense]
    sources = {p.point.source for p in dense}

    assert len(sources) == 4
    assert model_error(p.round_error for p in dense).mean <= 0.05
    for source in sources:
        errors = [p.round_error for p in dense if p.point.source == source]
        assert model_error(errors).mean <= 0.05, source


@pytest.mark.parametrize(
    ("num_requests", "tokens_per_verify", "speedup"),
    [(1, 3.33, 2.08), (4, 3.33, 1.94), (1, 3.27, 2.05), (4, 3.27, 1.91)],
)
def test_the_card_of_seed_a_is_predicted_within_7_per_cent_from_acceptance_alone(
    points: list[Point], num_requests: int, tokens_per_verify: float, speedup: float
) -> None:
    """The card's speedups; no row of it is in the fit, and its baseline is not used either."""
    first = of(points, HELD_OUT)[0]
    load = replace(first.load, num_requests=num_requests)
    step = baseline_step(first.target, first.machine, load)
    cost = round_cost(first.target, first.draft, first.machine, load, first.settings)

    predicted = tokens_per_verify * step.total_s / cost.total_s
    assert predicted == pytest.approx(speedup, rel=0.07)


def test_with_its_measured_baseline_seed_a_is_predicted_within_5_per_cent(
    points: list[Point],
) -> None:
    for point in of(points, HELD_OUT):
        assert predicted_round_s(point, fitted()) == pytest.approx(point.round_s, rel=0.05)


@pytest.mark.parametrize(("source", "num_rows"), [(SPECFORGE_339, 8), (ANGELSLIM_163, 4)])
def test_where_every_published_setting_loses_the_model_has_none_gain(
    points: list[Point], source: str, num_rows: int
) -> None:
    """AngelSlim's rows of one request; those above are in the next test."""
    rows = [p for p in of(points, source) if source == SPECFORGE_339 or p.load.num_requests == 1]

    assert len(rows) == num_rows
    for p in rows:
        given = (p.target, p.draft, p.machine, p.load)
        modelled = baseline_step(p.target, p.machine, p.load).total_s
        cost = round_cost(*given, p.settings).total_s
        assert p.tokens_per_verify * modelled / cost < 1
        assert p.tokens_per_verify * p.baseline_s / predicted_round_s(p, fitted()) < 1


def test_a_gain_is_not_certain_where_four_requests_lost(points: list[Point]) -> None:
    """AngelSlim 163, 4,4,16 at four requests: 0.939x measured; the baseline of 7.9 ms, which is
    slow for that machine, hides what speculation adds."""
    (row,) = [p for p in of(points, ANGELSLIM_163) if p.load.num_requests == 4]
    given = (row.target, row.draft, row.machine, row.load, row.settings)
    cost = round_cost(*given, baseline_s=row.baseline_s)

    assert row.tokens_per_verify * row.baseline_s / cost.high_s < 1


def test_the_rows_held_out_change_no_constant_that_ships(points: list[Point]) -> None:
    others = [p for p in points if p.source != HELD_OUT]
    slower = [replace(p, round_s=2 * p.round_s) for p in of(points, HELD_OUT)]

    assert fit_all([*others, *slower])[0].constants == fit_constants(others)


def test_known_constants_are_found_again(points: list[Point]) -> None:
    """Points made with constants one deviation away from the priors; priors then hold back."""
    truth = replace(prior_constants(), bandwidth_factor=1.3, pass_s=200e-6, tree_layer_s=30e-6)
    made = [
        replace(
            p,
            baseline_s=baseline_step(p.target, p.machine, p.load, fit=as_fit(truth)).total_s,
            round_s=predicted_round_s(p, as_fit(truth)),
        )
        for p in points
    ]
    made = [replace(p, round_s=predicted_round_s(p, as_fit(truth))) for p in made]
    found = fit_constants(made)

    assert found.bandwidth_factor == pytest.approx(1.3, abs=0.03)
    assert found.pass_s == pytest.approx(200e-6, abs=20e-6)
    assert found.tree_layer_s == pytest.approx(30e-6, abs=3e-6)


def test_without_points_the_priors_stay() -> None:
    assert asdict(fit_constants([])) == pytest.approx(asdict(prior_constants()))


def test_errors_are_summed_up_by_mean_and_ninth_decile() -> None:
    errors = [-0.1, 0.0, 0.01, -0.02, 0.03, 0.04, -0.05, 0.06, 0.07, 0.08, 0.09]

    found = model_error(errors)
    assert (found.mean, found.p90) == (0.05, 0.09)


def test_what_ships_is_what_the_fit_writes(points: list[Point]) -> None:
    """Within 0.1 %: the last digits of a least-squares solution depend on the library."""
    fit, predictions = fit_all(points)
    written = tomllib.loads(constants_toml(fit, predictions))
    shipped = tomllib.loads(PATH.read_text(encoding="utf-8"))

    assert CostConstants(**shipped["constants"]) == fitted().constants
    assert written["constants"] == pytest.approx(shipped["constants"], rel=1e-3)
    assert written["provenance"] == shipped["provenance"]
    assert written["error"]["max_requests"] == shipped["error"]["max_requests"] == 4
    for kind in ("dense", "other"):
        for name, values in shipped["error"][kind].items():
            assert written["error"][kind][name] == pytest.approx(values, abs=2e-3)
    assert HELD_OUT not in shipped["provenance"]


def test_the_script_reports_by_source_and_writes_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "constants.toml"
    monkeypatch.setattr(module, "PATH", path)
    main([])
    printed = capsys.readouterr().out

    assert not path.exists()
    for part in ("left out", "all: dense, one GPU", "SpecForge SpecBundle dashboard", "not used:"):
        assert part in printed
    main(["--write"])
    assert set(tomllib.loads(path.read_text(encoding="utf-8"))) == {
        "constants", "error", "provenance",
    }  # fmt: skip
