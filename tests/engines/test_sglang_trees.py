"""Trees 3/4/8 and 5/4/16 in real SGLang, every variant, node by node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eagle3_plugin.settings import Settings
from tests.engines.sglang_parity import Runs, asked_for, cases, judged, run_variants

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TREES = [Settings(3, 4, 8), Settings(5, 4, 16)]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run_variants(asked_for(request), TREES[0], tmp_path_factory.mktemp("trees"), {})


@pytest.mark.parametrize(("variant", "shape"), cases(*TREES))
def test_sglang_drafts_the_oracles_trees(
    variant: str, shape: Settings, runs: Runs, record_property: Record
) -> None:
    record_property("figure", judged(variant, shape, runs))


def test_a_mixture_of_experts_target_runs_with_a_tree(runs: Runs, record_property: Record) -> None:
    record_property("figure", judged("moe", TREES[0], runs))
