"""What we write as speculators, speculators 0.9.0 itself reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.convert import convert
from tests.drafts import draft_config, read, write_random
from tests.peers import importable

YARN = {"factor": 4.0, "original_max_position_embeddings": 256.0}


@pytest.mark.parametrize(
    ("changes", "layer_class", "rope"),
    [
        ({}, "LlamaConfig", {"rope_type": "default", "rope_theta": 1e6}),
        (
            {"decoder": "qwen3", "residual": "normed", "taps": (2, 18, 33)},
            "Qwen3Config",
            {"rope_type": "default", "rope_theta": 1e6},
        ),
        (
            {"rope": {"theta": 1e6, "type": "yarn", "parameters": YARN}, "feedback": "postnorm"},
            "LlamaConfig",
            {"rope_type": "yarn", "rope_theta": 1e6} | YARN,
        ),
    ],
)
def test_speculators_reads_the_config_that_we_write(
    changes: dict[str, Any], layer_class: str, rope: dict[str, Any], tmp_path: Path
) -> None:
    config = draft_config(**changes)
    draft = read(write_random(tmp_path / "source", config, "vllm"))
    convert(draft, tmp_path / "out", "speculators")

    with importable():
        from speculators import SpeculatorModelConfig

        found = SpeculatorModelConfig.from_pretrained(str(tmp_path / "out"))

    layer = found.transformer_layer_config
    assert type(found).__name__ == "Eagle3SpeculatorConfig"
    assert (type(layer).__name__, layer.rope_parameters) == (layer_class, rope)
    assert (layer.hidden_size, layer.head_dim, layer.vocab_size) == (64, 32, 512)
    assert found.norm_before_residual is (config.residual == "normed")
    assert found.norm_output is (config.feedback == "postnorm")
    taps = None if config.taps == "default" else list(config.taps)
    assert (found.eagle_aux_hidden_state_layer_ids, found.draft_vocab_size) == (taps, 128)
