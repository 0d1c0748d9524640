from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eagle3_plugin.draft.check import Report, check, plugin_reads, rules_table
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.rules import RULES
from eagle3_plugin.draft.rules.stock import PLUGIN_NAMES, read_as_sglang, read_as_vllm
from eagle3_plugin.draft.target_config import target_from_config
from eagle3_plugin.engines import names
from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.hub import FolderSource, resolve
from tests.draft.check_cases import TAP_IDS, TRIPS, Trip, target_config
from tests.drafts import draft_config, write_random
from tests.stored import draft_shapes, load_tensors, save_tensors, write_sparse

COLUMNS = ("vllm", "vllm+plugin", "sglang")


def opened(folder: Path) -> Checkpoint:
    return Checkpoint.open(resolve(str(folder)))


def written(trip: Trip, folder: Path) -> Path:
    path = folder / trip.folder
    if not path.exists():
        write_random(path, draft_config(**trip.draft), trip.dialect, config_changes=trip.fields)
        if trip.edit is not None:
            trip.edit(path)
    return path


def run(trip: Trip, path: Path, column: str, settle: Settle | None = None) -> Report:
    """The report on a folder in one engine, with a case's target, answers and releases."""
    return check(
        opened(path),
        None if trip.target is None else target_config(**trip.target),
        "sglang" if column == "sglang" else "vllm",
        plugin=column == "vllm+plugin",
        settle=trip.settle if settle is None else settle,
        engine_version=trip.versions[column == "sglang"],
    )


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
            assert finding.found and finding.expected
            assert finding.stock.startswith("Stock ")
            assert finding.with_plugin.endswith(".")
            assert finding.remedy or finding.severity != "error", finding.id


@pytest.mark.parametrize("column", ["vllm", "sglang"])
@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)
def test_a_convert_command_that_a_remedy_names_mends_what_it_promises(
    trip: Trip, column: str, tmp_path: Path
) -> None:
    path = written(trip, tmp_path)
    for finding in run(trip, path, column).findings:
        command = re.match(r"Run: eagle3 convert (.+) (OUT) --to (\w+)", finding.remedy)
        if command is None:
            continue
        target = None if trip.target is None else target_config(**trip.target)
        layers = target.num_layers if target else None
        settle = dataclasses.replace(trip.settle, target_num_layers=layers)
        out = tmp_path / finding.id
        convert(read_draft(opened(path), settle), out, command[3], target=target)
        mended = run(trip, out, column, Settle())
        assert finding.id not in {f.id for f in mended.findings}


def test_each_rule_has_a_case_that_trips_it() -> None:
    tripped = {rule for trip in TRIPS for rule in trip.expected}
    assert {rule.id for rule in RULES} - tripped == {"plugin-missing"}


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
    sources = [p for p in (repository / "eagle3_plugin" / "draft").rglob("*.py")]
    reported = {
        id for p in sources if p.parent.name != "rules" for id in pattern.findall(p.read_text())
    }
    assert len(reported) > 40
    assert reported - {rule.id for rule in RULES} - set(told_elsewhere) == set()
    assert {r for r in told_elsewhere.values() if r} <= {rule.id for rule in RULES}


def test_the_plugin_for_sglang_is_not_claimed_to_exist(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config())
    report = check(
        opened(path), target_config(), "sglang",
        plugin=True, settle=Settle(), engine_version="0.5.23",
    )  # fmt: skip
    assert not report.ok
    assert report.to_json() == {
        "schema": 1,
        "ok": False,
        "engine": "sglang",
        "engine_version": "0.5.23",
        "plugin": True,
        "findings": [
            {
                "id": "plugin-missing",
                "severity": "error",
                "found": "this release of eagle3_plugin has no SGLang plugin",
                "expected": "vLLM, or SGLang without the plugin",
                "remedy": "Check with --stock, or with --engine vllm.",
                "stock": "Stock SGLang 0.5.23 is judged as if no plugin were asked for.",
                "with_plugin": "Not possible: this release of eagle3_plugin has no SGLang plugin.",
            }
        ],
    }


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
            "with_plugin": "The vLLM plugin reads it as it was trained.",
        }
    ]


def test_answers_are_part_of_the_command_that_a_remedy_names(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config(taps=(2, 4, 6)))
    trip = Trip("", {}, settle=Settle(taps=(3, 4, 6), residual="raw"))
    remedies = {f.id: f.remedy for f in run(trip, path, "vllm+plugin").findings}
    flags = "--target TARGET --taps 3,4,6 --residual raw; then serve OUT."
    assert remedies == {
        "answers-not-in-files": f"Run: eagle3 convert {path} OUT --to vllm {flags}",
        "taps-misread": f"Run: eagle3 convert {path} OUT --to universal {flags}",
    }


def test_errors_come_first(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config(residual="normed", embedding="own"))
    trip = Trip("", {}, target={"max_position_embeddings": 2048, "rope": {"theta": 5e6}})
    severities = [f.severity for f in run(trip, path, "sglang").findings]
    assert severities == ["error", "error", "warning", "warning"]


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


def test_the_plugin_takes_over_what_its_entry_point_takes_over(tmp_path: Path) -> None:
    assert set(PLUGIN_NAMES) == {*names.DRAFT_NAMES, *names.PLAIN_NAMES}
    path = write_random(tmp_path / "draft", draft_config())
    configs: list[dict[str, Any]] = [
        {"architectures": ["LlamaForCausalLMEagle3"]},
        {"architectures": ["Eagle3DeepseekV2ForCausalLM"]},
        {"speculators_model_type": "eagle3"},
        {"speculators_model_type": "peagle", "architectures": ["Eagle3DraftModel"]},
        {},
        {"architectures": "LlamaForCausalLMEagle3"},
    ]
    for config in configs:
        taken = plugin_reads(dataclasses.replace(opened(path), config=config))
        assert taken == names.is_ours(config)


def test_a_sound_eagle3_json_settles_what_the_config_leaves_open(tmp_path: Path) -> None:
    source = write_random(
        tmp_path / "draft", draft_config(feedback="postnorm"), config_changes={"norm_output": True}
    )
    told = Settle(feedback="postnorm", target_num_layers=8)
    convert(read_draft(opened(source), told), tmp_path / "out", "universal", target=target_config())
    assert run(Trip("", {}), tmp_path / "out", "sglang").findings == ()
    assert run(Trip("", {}), tmp_path / "out", "vllm+plugin").findings == ()
    ids = [f.id for f in run(Trip("", {}), source, "vllm+plugin").findings]
    assert ids == ["norm-output-ambiguous"]


def test_a_big_tensor_is_sampled_over_its_whole_length_and_the_finding_says_so(
    tmp_path: Path,
) -> None:
    config = draft_config(draft_vocab_size=16384, vocab_size=16385)
    path = write_random(tmp_path / "draft", config)
    table = load_tensors(path)
    dtype, shape, data = table["lm_head.weight"]
    infinity = b"\x80\x7f"
    save_tensors(path, table | {"lm_head.weight": (dtype, shape, data[:-2] + infinity)})
    report = run(Trip("", {}, target={"vocab_size": 16385}), path, "vllm")
    assert [(f.id, f.found) for f in report.findings] == [
        (
            "tensor-not-finite",
            "lm_head.weight: 1 of a sample of 262144 values are NaN or infinite",
        ),
        ("weights-not-read", "1 big tensors were looked at in a sample of 512 KiB each"),
    ]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("BF16", b"\x80\xff"), ("F16", b"\x01\x7c"), ("F32", b"\0\0\x80\x7f"),
     ("F64", b"\0\0\0\0\0\0\xf8\x7f")],
)  # fmt: skip
def test_values_that_are_not_finite_are_seen_in_every_type(
    tmp_path: Path, dtype: str, value: bytes
) -> None:
    path = write_random(tmp_path / "draft", draft_config(dtype=dtype))
    table = load_tensors(path)
    _, shape, data = table["norm.weight"]
    save_tensors(path, table | {"norm.weight": (dtype, shape, value + data[len(value) :])})
    found = [f.found for f in run(Trip("", {}), path, "vllm").findings if f.severity == "error"]
    assert found == ["norm.weight: 1 of 64 values are NaN or infinite"]


class FarSource(FolderSource):
    """A folder whose weights would have to be fetched."""

    def local(self, file: str) -> Path | None:
        return None if file.endswith(".safetensors") else super().local(file)

    def read(self, file: str, start: int = 0, length: int | None = None) -> bytes:
        with (self.folder / file).open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if length is None else length)


def test_weights_that_are_far_away_are_not_fetched_and_the_report_says_so(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config())
    report = check(
        Checkpoint.open(FarSource(path, "org/draft")), target_config(), "vllm",
        plugin=False, settle=Settle(), engine_version="0.32.0",
    )  # fmt: skip
    assert [(f.id, f.found) for f in report.findings] == [
        ("weights-not-read", "the weights are not on this machine: no value was looked at")
    ]


QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2560,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 262144, "rope_theta": 5000000,
    "tie_word_embeddings": True,
}  # fmt: skip
DRAFT_A = {
    "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_size": 2560,
    "intermediate_size": 9728, "num_hidden_layers": 1, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "draft_vocab_size": 32000,
    "max_position_embeddings": 40960, "rope_theta": 1000000, "rope_scaling": None,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("vllm", ["rope-unlike-target", "weights-not-read", "max-positions"]),
        ("sglang", ["max-positions", "rope-unlike-target", "weights-not-read"]),
    ],
)
def test_a_draft_of_the_first_seeds_size_is_checked_in_less_than_two_seconds(
    tmp_path: Path, engine: Any, expected: list[str]
) -> None:
    shapes = draft_shapes(
        hidden=2560, intermediate=9728, heads=32, kv_heads=8, head_dim=128, vocab=151936
    )
    path = write_sparse(tmp_path / "draft", DRAFT_A, shapes)
    assert (path / "model.safetensors").stat().st_size > 430_000_000
    start = time.process_time()
    report = check(
        opened(path), target_from_config(QWEN3_4B), engine,
        plugin=False, settle=Settle(), engine_version=None,
    )  # fmt: skip
    assert time.process_time() - start < 2
    assert [f.id for f in report.findings if f.id != "engine-version-unknown"] == expected


def test_the_table_has_a_line_for_each_rule() -> None:
    lines = rules_table().splitlines()
    assert lines[0] == (
        "| id | vLLM 0.32 | vLLM 0.32 with the plugin | SGLang 0.5.23 | what | source |"
    )
    assert len(lines) == 2 + len(RULES)
    ids = [line.split("`")[1] for line in lines[2:]]
    assert ids == sorted(ids)
    assert all(line.count(" | ") == 5 for line in lines[2:])
    row = "| `tie-flag` | info | info | error | tied by the flag, with an lm_head of its own in the"
    assert any(line.startswith(row) for line in lines)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 200) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
KEYS = (
    "architectures", "model_type", "hidden_size", "num_hidden_layers", "head_dim", "eagle_config",
    TAP_IDS, "draft_vocab_size", "target_hidden_size", "rope_theta", "rope_scaling",
    "rope_parameters", "norm_before_residual", "fc_norm", "norm_output", "attention_bias", "bias",
    "tie_word_embeddings", "speculators_config", "transformer_layer_config", "num_aux_layers",
    "num_aux_hidden_states", "speculators_model_type", "max_position_embeddings",
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON_VALUES, max_size=4))
def test_no_config_makes_the_check_fail_otherwise_than_with_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    if not path.exists():
        write_random(path, draft_config())
    checkpoint = opened(path)
    config = checkpoint.config | changes
    fuzzed = dataclasses.replace(checkpoint, config=config)
    for engine, plugin in (("vllm", False), ("vllm", True), ("sglang", False)):
        try:
            report = check(
                fuzzed, target_config(), engine, plugin=plugin, settle=Settle(),  # type: ignore[arg-type]
            )  # fmt: skip
            json.dumps(report.to_json())
        except Eagle3Error:
            pass
