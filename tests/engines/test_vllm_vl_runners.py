"""What vLLM is to give a draft at images, which of its runners can, and where tokens are."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from eagle3_plugin.draft.config import TargetConfig
from eagle3_plugin.draft.target_config import read_target
from eagle3_plugin.engines.vllm.drafting import sequence_indices
from eagle3_plugin.engines.vllm.image_inputs import ImageInputs, image_inputs
from eagle3_plugin.engines.vllm.runners import require_runner, v2_gaps
from eagle3_plugin.errors import EngineError
from tests.drafts import draft_config
from tests.engines.random_target import write_random_target, write_random_vl_target
from tests.engines.random_vl_drafts import vl_draft_config, write_vl_draft

M_ROPE = "M-RoPE positions of EAGLE-3 drafts"
VISUAL = "visual embeddings of EAGLE-3 drafts"
BEFORE = "EAGLE-3 taps before the visual add"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deepstack after layers 0 and 1, so the default taps [2, 4, 5] have one boundary of it."""
    return write_random_vl_target(tmp_path_factory.mktemp("random") / "target")


@pytest.fixture(scope="module")
def config(target: Path) -> TargetConfig:
    return read_target(str(target))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("placeholder", ImageInputs("placeholder", (), 3, ())),
        ("visual_before", ImageInputs("visual", (2,), 3, ())),
        ("visual_1d", ImageInputs("visual", (), 1, ())),
    ],
)
def test_what_a_draft_says_decides_what_it_gets(
    config: TargetConfig, kind: str, expected: ImageInputs
) -> None:
    assert image_inputs(vl_draft_config(kind), config) == expected


def test_what_a_draft_does_not_say_is_assumed_aloud(config: TargetConfig) -> None:
    inputs = image_inputs(vl_draft_config("unknown"), config)
    assert inputs == ImageInputs(
        "placeholder",
        (),
        3,
        (
            "that it was trained with the placeholder's embedding at images",
            "that its taps [2] were caught after the visual add",
        ),
    )


def test_taps_beyond_the_deepstack_leave_nothing_to_assume_of_them(config: TargetConfig) -> None:
    late = draft_config(taps=(3, 5, 7), image_embedding="visual", deepstack_tap="before")
    assert image_inputs(late, config) == ImageInputs("visual", (), 1, ())
    unknown = image_inputs(late.model_copy(update={"deepstack_tap": "unknown"}), config)
    assert unknown == ImageInputs("visual", (), 1, ())


def test_beside_a_text_target_there_are_no_images(tmp_path: Path) -> None:
    text = read_target(str(write_random_target(tmp_path / "text")))
    assert image_inputs(vl_draft_config("unknown"), text) is None


def test_the_log_says_what_is_given() -> None:
    assert str(ImageInputs("visual", (2,), 1, ())) == (
        "at images visual embeddings, taps [2] before the visual add, 1-D positions"
    )
    assert str(ImageInputs("placeholder", (), 3, ())) == (
        "at images placeholder embeddings, 3-D positions"
    )


@pytest.mark.parametrize(
    ("inputs", "gaps"),
    [
        (ImageInputs("placeholder", (), 1, ()), []),
        (ImageInputs("placeholder", (), 3, ()), [M_ROPE]),
        (ImageInputs("visual", (1, 2), 3, ()), [M_ROPE, VISUAL, BEFORE]),
    ],
)
def test_the_v2_runner_lacks(inputs: ImageInputs, gaps: list[str]) -> None:
    assert v2_gaps(inputs) == gaps


def test_a_runner_that_lacks_what_the_draft_needs_is_refused() -> None:
    inputs = ImageInputs("placeholder", (2,), 3, ())
    with pytest.raises(EngineError) as caught:
        require_runner(inputs, is_v2=True, replays_prompts=False)
    assert caught.value.message == (
        "vLLM's V2 model runner does not have what this draft needs: M-RoPE positions of EAGLE-3 "
        "drafts, EAGLE-3 taps before the visual add"
    )
    assert caught.value.hint == (
        "Set VLLM_USE_V2_MODEL_RUNNER=0 or leave it unset; or serve text only, with "
        '--limit-mm-per-prompt \'{"image": 0, "video": 0}\'.'
    )
    require_runner(inputs, is_v2=False, replays_prompts=False)
    require_runner(ImageInputs("placeholder", (), 1, ()), is_v2=True, replays_prompts=True)


def test_prompts_in_full_graphs_are_refused_where_taps_are_before_the_add() -> None:
    with pytest.raises(EngineError) as caught:
        require_runner(ImageInputs("placeholder", (2,), 3, ()), is_v2=False, replays_prompts=True)
    assert caught.value.message == (
        "cudagraph_mode FULL runs prompts as one CUDA graph; this draft needs its taps [2] from "
        "before the visual add, which is inside of it"
    )
    assert caught.value.hint == (
        "Set cudagraph_mode to FULL_AND_PIECEWISE (vLLM's default) or PIECEWISE."
    )
    require_runner(ImageInputs("placeholder", (), 3, ()), is_v2=False, replays_prompts=True)


def test_each_token_has_its_place_in_its_sequence() -> None:
    """A prompt of 3 tokens, a chunk of 2 that ends at 10, and a step of 4 that ends at 9."""
    starts = torch.tensor([0, 3, 5, 9], dtype=torch.int32)
    lengths = torch.tensor([3, 10, 9], dtype=torch.int32)
    assert sequence_indices(starts, lengths, 9).tolist() == [0, 1, 2, 8, 9, 5, 6, 7, 8]


LACKS = """
import json, sys
from vllm.engine.arg_utils import EngineArgs
target, limits, *drafts = sys.argv[1:]
for draft in drafts:
    config = EngineArgs(
        model=target, max_model_len=256, dtype="float32", limit_mm_per_prompt=json.loads(limits),
        speculative_config={"method": "eagle3", "model": draft, "num_speculative_tokens": 3},
    ).create_engine_config()
    print(json.dumps(config._get_v2_model_runner_unsupported_features()))
"""


def lacks(python: Path, target: Path, drafts: list[Path], limits: dict[str, int]) -> list[Any]:
    """What vLLM itself says that V2 lacks for each pair, before it chooses a runner."""
    done = subprocess.run(
        [str(python), "-c", LACKS, str(target), json.dumps(limits), *map(str, drafts)],
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_PLUGINS": "eagle3"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_chooses_v1_for_what_v2_lacks(vllm_python: Path, target: Path, tmp_path: Path) -> None:
    kinds = ("placeholder", "visual_before", "placeholder_1d")
    drafts = [write_vl_draft(tmp_path / kind, kind) for kind in kinds]
    found = lacks(vllm_python, target, drafts, {})
    assert found == [[M_ROPE], [M_ROPE, VISUAL, BEFORE], []]
    text_only = lacks(vllm_python, target, drafts[:2], {"image": 0, "video": 0})
    assert text_only == [[], []]
