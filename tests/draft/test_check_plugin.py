"""What the check says of the plugin: which pairs it takes over, and where else a draft can go."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.check import plugin_reads, plugin_serves
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.rules.stock import PLUGIN_NAMES
from eagle3_plugin.engines import names
from eagle3_plugin.engines.vllm.image_inputs import image_inputs
from tests.draft.check_cases import Trip, opened, run, target_config
from tests.drafts import draft_config, write_random


def test_what_the_sglang_plugin_mends_is_told_with_what_stock_sglang_would_need(
    tmp_path: Path,
) -> None:
    path = write_random(tmp_path / "draft", draft_config(residual="normed"))
    report = run(Trip("", {}), path, "sglang+plugin")
    assert report.to_json() == {
        "schema": 1,
        "ok": True,
        "engine": "sglang",
        "engine_version": "0.5.23",
        "plugin": True,
        "findings": [
            {
                "id": "residual-misread",
                "severity": "info",
                "found": "the first residual is raw to SGLang 0.5.23",
                "expected": "normed, as trained",
                "remedy": "Nothing to do with the plugin. Without it: stock SGLang cannot run it.",
                "stock": "Stock SGLang 0.5.23 does not know the field: always raw, in silence.",
                "with_plugin": "The plugin reads it as it was trained.",
            }
        ],
    }


NORMED = {"residual": "normed", "taps": (2, 4, 6)}


@pytest.mark.parametrize(
    ("draft", "target", "column", "remedy"),
    [
        (NORMED, {}, "sglang",
         "Serve the draft with the plugin (no conversion needed): stock SGLang cannot run it."),
        (NORMED | {"taps": (2, 4, 8)}, {}, "sglang",
         "Serve the draft in vLLM, with the plugin: SGLang cannot run it."),
        (NORMED, {"model_type": "llama"}, "sglang",
         "Use another draft: stock SGLang cannot run it, and the plugin leaves the pair to it."),
        ({"fc_bias": True}, {}, "vllm",
         "Serve the draft with the plugin (no conversion needed): stock vLLM cannot run it."),
        ({"fc_bias": True}, {}, "vllm+plugin",
         "Nothing to do with the plugin. Without it: stock vLLM cannot run it."),
        ({"embedding": "own"}, {}, "sglang",
         "If the embedding is not a copy of the target's, serve the draft with the plugin."),
        ({"embedding": "own"}, {"model_type": "llama"}, "sglang",
         "If the embedding is not a copy of the target's, serve the draft in vLLM."),
        ({"embedding": "own"}, {}, "sglang+plugin",
         "Nothing to do with the plugin. Without it: right only if the embedding is a copy of the "
         "target's."),
        ({}, {"max_position_embeddings": 2048}, "sglang", "Serve with --context-length 1024, or "
         "set SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1."),
        ({}, {"max_position_embeddings": 2048}, "sglang+plugin",
         "Expect less beyond the length that the draft was trained on."),
    ],
)  # fmt: skip
def test_a_draft_that_no_conversion_mends_is_sent_where_it_runs(
    draft: dict[str, Any], target: dict[str, Any], column: str, remedy: str, tmp_path: Path
) -> None:
    path = write_random(tmp_path / "draft", draft_config(**draft), "universal")
    report = run(Trip("", {}, target=target), path, column)
    assert remedy in {f.remedy for f in report.findings}


@pytest.mark.parametrize("engine", ["vLLM", "SGLang"])
def test_a_pair_that_the_plugin_leaves_to_the_engine_is_judged_as_stock(
    engine: str, tmp_path: Path
) -> None:
    path = write_random(tmp_path / "draft", draft_config(dtype="F32"))
    trip = Trip("", {}, target={"model_type": "llama"})
    report = run(trip, path, f"{engine.lower()}+plugin")
    left = report.findings[0]
    assert (left.id, left.found) == (
        "plugin-not-ours",
        f"the plugin leaves a target of type 'llama' to {engine}",
    )
    assert left.remedy == f"Go by what is said here of stock {engine}."
    said = {f.with_plugin for f in report.findings}
    assert said == {f"As stock {engine}: the plugin leaves this pair to it."}


def test_answers_that_no_dialect_can_hold_are_to_be_written_by_hand(tmp_path: Path) -> None:
    path = write_random(tmp_path / "draft", draft_config(fc_bias=True))
    trip = Trip("", {}, settle=Settle(taps=(3, 4, 6)))
    found = {f.id: f.remedy for f in run(trip, path, "sglang+plugin").findings}
    assert found["answers-not-in-files"] == (
        "Mend config.json: no dialect's stock engine reads this draft, so none is written."
    )


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
    assert plugin_serves(opened(path), None)
    for kind in ("qwen3", "qwen3_moe", "qwen3_vl", "qwen2", "llama", ""):
        taken = plugin_serves(opened(path), target_config(model_type=kind))
        assert taken == names.is_our_target({"model_type": kind})


def test_unknown_image_inputs_are_judged_as_the_engines_take_them(tmp_path: Path) -> None:
    beside = {"is_multimodal": True, "deepstack_layers": (0, 1, 2)}
    unknown = image_inputs(draft_config(), target_config(**beside))
    assert unknown is not None
    assert (unknown.embedding, unknown.taps_before) == ("placeholder", ())
    path = write_random(tmp_path / "draft", draft_config())
    told = Settle(image_embedding="placeholder", deepstack_tap="after")
    report = run(Trip("", {}, target=beside, settle=told), path, "vllm+plugin")
    assert "answers-not-in-files" not in {finding.id for finding in report.findings}
