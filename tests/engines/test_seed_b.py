"""Seed B beside a target of Qwen3-VL-2B's width: an image is answered in both engines.

The draft is the folder as published (its tie flag and all), with zeros for weights: it always
drafts id 0, so this shows that the pair loads and runs, and nothing of acceptance.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.jobs import Job, run_jobs
from tests.engines.random_target import picture
from tests.engines.seed_b_target import (
    IMAGE_PAD,
    VISION_END,
    VISION_START,
    write_seed_b_target,
)
from tests.seeds import write_seed_b

pytestmark = [pytest.mark.engine, pytest.mark.slow]

OPTIONS = {
    "vllm": {
        "dtype": "bfloat16",
        "engine": {
            "max_model_len": 128,
            "max_num_seqs": 1,
            "max_num_batched_tokens": 128,
            "limit_mm_per_prompt": {"image": 1, "video": 0},
            "skip_mm_profiling": True,
        },
    },
    "sglang": {
        "dtype": "bfloat16",
        "engine": {"max_total_tokens": 512, "mem_fraction_static": 0.5},
    },
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The target takes 1.6 GB, which are given back at once."""
    folder = tmp_path_factory.mktemp("seed_b")
    yield write_seed_b_target(folder / "target"), write_seed_b(folder / "draft")
    shutil.rmtree(folder)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_seed_b_loads_as_published_and_an_image_is_answered(
    engine: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    image = picture(tmp_path / "image.png", width=96, height=64, seed=0)
    ids = [40, VISION_START, IMAGE_PAD, VISION_END, 41, 42]
    prompt = {"ids": ids, "images": [str(image)]}
    job = Job(*pair, [prompt], max_tokens=6, options=OPTIONS[engine])
    (result,) = run_jobs(engine, [job], tmp_path / "run")
    assert "error" not in result, result["error"]
    assert result["num_prompt_tokens"] == [len(ids) - 1 + 3 * 2]
    assert len(result["outputs"][0]) == 6
    assert result["rounds"][0] > 0
    assert _captured(result) == [2, 3, 4]


def _captured(result: dict[str, Any]) -> list[int]:
    """The taps that the target captures, as vLLM's runner reads them off and SGLang's log says."""
    if "taps" in result:
        assert result["draft_class"] == "Eagle3LlamaDraft"
        return list(result["taps"])
    found = re.search(r"serves this draft as it was trained.*taps \[([\d, ]+)\]", result["log"])
    assert found is not None, result["log"]
    return [int(tap) for tap in found[1].split(",")]
