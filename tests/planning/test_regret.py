from __future__ import annotations

import numpy as np
import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.measurements import COLUMNS, Group, decide, parse_points
from eagle3_plugin.planning.regret import Regret, evaluate, group_regret, percentile, regret
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings, chain

PROBE = chain(3)


def groups(*rows: str) -> tuple[Group, ...]:
    return parse_points("\n".join((",".join(COLUMNS), *rows)), "points.csv")


def test_regret_is_the_share_of_the_best_speedup_that_is_missed() -> None:
    (group,) = groups("T,D,b,8,3,1,4,2.64,1000,1500", "T,D,b,8,5,1,6,3.0,1000,2000")

    found = [group_regret(group, choice, PROBE) for choice in (chain(5), PROBE, OFF)]

    assert found == [0.0, 0.25, 0.5]


def test_off_is_the_best_where_everything_loses() -> None:
    (group,) = groups("T,D,b,8,3,1,4,1.86,1000,750")

    assert (group_regret(group, OFF, PROBE), group_regret(group, PROBE, PROBE)) == (0.0, 0.25)


def test_what_was_not_measured_has_no_regret() -> None:
    unmeasured, empty = groups(
        "T,D,b,8,3,1,4,2.64,1000,1500", "T,D,b,8,5,1,6,,,", "T,D,c,8,3,1,4,,,"
    )

    assert group_regret(unmeasured, chain(5), PROBE) is None
    assert group_regret(unmeasured, None, PROBE) is None
    assert group_regret(empty, OFF, PROBE) is None
    assert regret("none", (empty,), lambda group: OFF, PROBE) is None


def test_the_choices_are_set_beside_the_default_and_each_fixed_setting() -> None:
    found = evaluate(
        given := groups(
            "T,D,math500,1,3,1,4,3.48,181.8,468.5",
            "T,D,math500,1,5,1,6,4.62,181.8,565.7",
            "T,D,math500,1,7,4,8,4.26,181.8,431.4",
        ),
        decide(given, PROBE),
    )

    assert {row.name: round(row.mean, 3) for row in found} == {
        "chosen": 0.0,
        "SGLang's default 3,1,4": 0.172,
        "always 3,1,4": 0.172,
        "always 5,1,6": 0.0,
        "always 7,4,8": 0.237,
        "always off": 0.679,
    }


def test_mean_percentile_and_worst_are_over_groups() -> None:
    given = groups(
        *(f"T,D,{n},8,3,1,4,2,100,{speed}" for n, speed in enumerate((100, 200, 400))),
        *(f"T,D,{n},8,5,1,6,2,100,400" for n in range(3)),
    )

    found = regret("always 3,1,4", given, lambda group: PROBE, PROBE)

    # 0.75, 0.5, 0
    assert found is not None
    assert found.to_json() == {
        "name": "always 3,1,4",
        "num_groups": 3,
        "mean": pytest.approx(1.25 / 3),
        "percentile_90": pytest.approx(0.7),
        "worst": 0.75,
    }
    assert isinstance(found, Regret)


@pytest.mark.parametrize("values", [[3.0], [4.0, 1.0, 2.0], [0.0, 0.5, 0.5, 9.0, 1.0, 7.0]])
@pytest.mark.parametrize("percent", [5, 50, 90, 100])
def test_percentiles_are_those_of_numpy(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(UsageError, match="a percentile of no values, expected at least one"):
        percentile([], 90)


def test_settings_of_a_tree_are_fixed_settings_too() -> None:
    given = groups("T,D,b,8,3,1,4,2.64,1000,1500", "T,D,b,8,5,4,16,3.0,1000,2000")

    found = regret("tree", given, lambda group: Settings(5, 4, 16), PROBE)

    assert found is not None
    assert found.mean == 0.0
