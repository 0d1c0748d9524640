from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.check import Report, check
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.hub import resolve

from tests.draft.check_cases import TRIPS, Trip, target_config
from tests.drafts import draft_config, write_random


def run(trip: Trip, folder: Path, column: str) -> Report:
    """The report on a case's draft in one engine: vllm, vllm+plugin or sglang."""
    path = folder / trip.folder
    if not path.exists():
        write_random(path, draft_config(**trip.draft), trip.dialect, config_changes=trip.fields)
        if trip.edit is not None:
            trip.edit(path)
    return check(
        Checkpoint.open(resolve(str(path))),
        None if trip.target is None else target_config(**trip.target),
        "sglang" if column == "sglang" else "vllm",
        plugin=column == "vllm+plugin",
        settle=trip.settle,
        engine_version=trip.versions[column == "sglang"],
    )


@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)
def test_a_rule_is_tripped_where_it_should_be_and_nothing_else_is(
    trip: Trip, tmp_path: Path
) -> None:
    columns = ("vllm", "vllm+plugin", "sglang")
    found = {c: {f.id: f.severity for f in run(trip, tmp_path, c).findings} for c in columns}
    expected: dict[str, dict[str, Any]] = {c: {} for c in columns}
    for rule, severities in trip.expected.items():
        for column, severity in zip(columns, severities.split(), strict=True):
            if severity != "-":
                expected[column][rule] = severity
    assert found == expected
