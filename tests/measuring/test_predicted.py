"""What the planner says beforehand, of seed A on its card's GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eagle3_plugin.measuring.predicted import predictions
from eagle3_plugin.serving.compose import Device, Engine, Served
from eagle3_plugin.settings import Settings, chain
from tests.seeds import write_seed_a
from tests.targets import QWEN3_4B

TREE = Settings(5, 4, 16)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    write_seed_a(tmp_path / "draft")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "config.json").write_text(json.dumps(QWEN3_4B))
    return str(tmp_path / "target"), str(tmp_path / "draft")


def served(pair: tuple[str, str], engine: Engine, device: Device) -> Served:
    return Served(engine, "python", *pair, 0, device)


def test_a_known_gpu_has_a_prediction_for_each_of_the_settings_and_loads(
    pair: tuple[str, str],
) -> None:
    made = served(pair, "sglang", "gpu")
    found, why = predictions(made, "RTX 4090", 1, [chain(3), chain(5)], [1, 4])
    assert why is None
    assert {(p.server, p.concurrency, p.measure, p.basis) for p in found} == {
        (settings, load, "speedup", "modelled")
        for settings in ("3,1,4", "5,1,6")
        for load in (1, 4)
    }
    for p in found:
        assert p.low is not None
        assert p.high is not None
        assert 1 < p.low <= p.value <= p.high < 6


def test_a_cpu_without_a_profile_has_none_and_says_so(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAGLE3_CACHE", str(tmp_path / "cache"))
    assert predictions(served(pair, "vllm", "cpu"), "a CPU", 1, [chain(3)], [1]) == (
        (),
        "no prediction: plans are for GPUs, and no profile of eagle3 tune is kept here",
    )


def test_a_gpu_that_is_not_known_has_none_and_says_so(pair: tuple[str, str]) -> None:
    found, why = predictions(served(pair, "sglang", "gpu"), "RTX 0815", 1, [TREE], [1])
    assert found == ()
    assert why is not None
    assert why.startswith("no prediction: ")
    assert "RTX 0815" in why
