from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict

import pytest

from eagle3_plugin.planning import probe_fit
from eagle3_plugin.planning.measurements import Group, read_points
from eagle3_plugin.planning.probe_constants import PATH, ProbeConstants, probe_constants
from eagle3_plugin.planning.probe_fitting import DATA, Totals, fit, read_published

GROUPS: tuple[Group, ...] = read_points(DATA / "specbundle_sweep.csv")


@pytest.fixture(scope="module")
def published() -> Mapping[str, list[Totals]]:
    return read_published(DATA / "published_acceptance.csv")


@pytest.fixture(scope="module")
def constants(published: Mapping[str, list[Totals]]) -> ProbeConstants:
    return fit(GROUPS, published)


@pytest.fixture(scope="module")
def left_out(published: Mapping[str, list[Totals]]) -> Mapping[str, ProbeConstants]:
    rest = probe_fit.leave_one_out(GROUPS)
    return {target: fit(groups, published) for target, groups in rest.items()}


def test_the_shipped_constants_are_those_that_the_data_give(constants: ProbeConstants) -> None:
    assert asdict(probe_constants()) == pytest.approx(asdict(constants), abs=5e-5)


def test_the_file_of_constants_is_as_the_script_writes_it(constants: ProbeConstants) -> None:
    assert PATH.read_text(encoding="utf-8") == probe_fit.toml_text(constants)
    assert list(tomllib.loads(probe_fit.toml_text(constants))) == ["constants"]


def test_only_write_writes(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    constants: ProbeConstants,
) -> None:
    path = tmp_path_factory.mktemp("fit") / "constants.toml"
    monkeypatch.setattr(probe_fit, "PATH", path)
    monkeypatch.setattr(probe_fit, "fit", lambda groups, published: constants)

    probe_fit.main([])
    assert not path.exists()
    probe_fit.main(["--write"])
    assert path.read_text() == probe_fit.toml_text(constants)
    assert "the model, leave-one-target-out" in capsys.readouterr().out


@pytest.mark.slow
def test_targets_that_the_fit_never_saw_lose_less_than_by_any_simpler_rule(
    left_out: Mapping[str, ProbeConstants],
) -> None:
    found = {row.name: row for row in probe_fit.regrets(GROUPS, left_out)}
    model = found.pop("the model, leave-one-target-out")

    assert (len(left_out), model.num_groups) == (5, 44)
    assert (model.mean <= 0.008, model.percentile_90 <= 0.035) == (True, True)
    simpler = [row.mean for name, row in found.items() if not name.startswith("floor")]
    assert all(model.mean < mean for mean in simpler)


@pytest.mark.slow
def test_chains_of_unseen_targets_are_predicted_within_a_few_percent(
    left_out: Mapping[str, ProbeConstants],
) -> None:
    found = probe_fit.errors(GROUPS, left_out)

    assert found["mean error in %: tokens per verify, chains"] < 0.02
    assert found["mean error in %: round time, chains"] < 0.03


def test_the_sweep_has_five_targets_at_five_settings() -> None:
    # SpecForge's SpecBundle dashboard, as copied: 220 rows.
    assert sum(len(group.points) for group in GROUPS) == 220
    assert len({group.key.target for group in GROUPS}) == 5
    assert {len(group.points) for group in GROUPS} == {5}
