"""What a draft gets of images in real SGLang, beside a random Qwen3-VL and with random drafts.

They accept next to nothing, but every token that they draft is known from the oracle, so a wrong
embedding, tap or position shows as a wrong drafted token. float32, temperature 0, on a CPU with our
stand-in for SGLang's kernels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.settings import Settings, chain
from tests.drafts import draft_config
from tests.engines.jobs import Job, JobPrompt, num_prompt_tokens, oracle_trees, run_jobs
from tests.engines.parity import judge_trees, same_tree
from tests.engines.random_target import picture, write_random_vl_target
from tests.engines.random_vl_drafts import SECTION, write_loud_draft, write_vl_draft

Results = dict[tuple[str, str], tuple[Job, Any]]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MAX_TOKENS = 10
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|> what moves?"
PROMPTS = {
    "one image": (f"<|im_start|>user\n{IMAGE}what?<|im_end|>\n<|im_start|>assistant\n", [0]),
    "two images": (f"{IMAGE}and {IMAGE}differ?", [0, 1]),
    "an image in the second turn": (f"hello<|im_end|>\nwhat is this{IMAGE}", [1]),
    "text": ("only text, and no picture", []),
}
SIZES = ((96, 64), (64, 128))
OVERRIDDEN = {"engine": {"json_model_override_args": '{"num_hidden_layers": 2}'}}
CHAIN, TREE = chain(3), Settings(3, 4, 8)
SERVED = {
    "placeholder": CHAIN,
    "visual": CHAIN,
    "before": CHAIN,
    "visual_before": TREE,
    "placeholder_1d": TREE,
    "plain_section": TREE,
    "unknown": CHAIN,
}
"""Each kind of draft, by what it was trained with, and how it is served here."""

YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.7}
SCALED = {"theta": 1e6, "type": "yarn", "parameters": YARN}
MORE: dict[str, dict[str, Any]] = {
    "narrow": {"hidden_size": 32, "embedding": "own"},
    "scaled": {"rope": SCALED},
    "scaled M-RoPE": {"rope": {**SCALED, "mrope_section": SECTION, "mrope_interleaved": True}},
}
"""Drafts that are unlike those above in something else, by what it is."""

STOCK_IS_RIGHT = {"visual": True, "placeholder": False, "before": False, "placeholder_1d": False}
"""Stock SGLang gives every draft the visual embeddings and takes every tap after the features."""

STOCK = {"plugins": "none", "environment": {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}}
BUSY: dict[str, Any] = {
    "batches": [[0, 1, 2, 3], [3, 2, 1, 0]],
    "abort_after": 3,
    "engine": {"chunked_prefill_size": 16, "disable_radix_cache": False},
    "retract": True,
}
"""All that can happen to a request: mixed batches, prompts cut inside an image, cached ones,
retraction, and another request aborted."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_vl_target(tmp_path_factory.mktemp("random") / "target")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    return [
        str(picture(folder / f"{seed}.png", width=width, height=height, seed=seed))
        for seed, (width, height) in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def results(target: Path, pictures: list[str], tmp_path_factory: pytest.TempPathFactory) -> Results:
    """(draft, how it is served) -> the job and its result; one process imports SGLang for all."""
    folder = tmp_path_factory.mktemp("drafts")
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    prompts: list[JobPrompt] = [
        {"ids": tokenizer.encode(text).ids, "images": [pictures[i] for i in images]}
        for text, images in PROMPTS.values()
    ]
    video: JobPrompt = {"ids": tokenizer.encode(VIDEO).ids, "video": [pictures[0]] * 4}
    drafts = {name: write_vl_draft(folder / name, name) for name in SERVED}
    more = {name: write_loud_draft(folder / name, vl_config(**MORE[name])) for name in MORE}
    moe = write_moe_target(folder / "moe")
    stock = {"plugins": "none"}
    jobs = {
        ("none", "stock"): Job(target, None, [*prompts, video], MAX_TOKENS, stock),
        ("moe", "stock"): Job(moe, None, prompts, MAX_TOKENS, stock),
        ("moe", "plugin"): Job(moe, drafts["visual_before"], prompts, MAX_TOKENS),
        ("overridden", "plugin"): Job(target, drafts["visual"], prompts, MAX_TOKENS, OVERRIDDEN),
        ("visual", "video"): Job(target, drafts["visual"], [video], MAX_TOKENS),
        ("visual", "video, stock"): Job(target, drafts["visual"], [video], MAX_TOKENS, STOCK),
    }
    for name, draft in (drafts | more).items():
        shape = SERVED.get(name, CHAIN)
        numbers = (shape.num_steps, shape.topk, shape.num_draft_tokens)
        jobs[name, "plugin"] = Job(target, draft, prompts, MAX_TOKENS, {"settings": numbers})
    for name in STOCK_IS_RIGHT:
        jobs[name, "stock"] = Job(target, drafts[name], prompts, MAX_TOKENS, STOCK)
    for name in ("placeholder", "visual"):
        jobs[name, "busy"] = Job(target, drafts[name], prompts, MAX_TOKENS, BUSY)
    found = run_jobs("sglang", list(jobs.values()), folder / "runs")
    return {key: (job, result) for (key, job), result in zip(jobs.items(), found, strict=True)}


def vl_config(**changes: Any) -> DraftConfig:
    return draft_config(draft_vocab_size=256, image_embedding="placeholder", **changes)


def write_moe_target(folder: Path) -> Path:
    """A random Qwen3-VL-MoE as published ones are: experts [in, out], deepstack after 3 layers.

    SGLang 0.5.23 takes it for granted that there are three (models/qwen3_vl_moe.py:60-63).
    """
    write_random_vl_target(folder, num_experts=4)
    config = transformers.Qwen3VLMoeConfig.from_pretrained(folder)
    tower: Any = config.vision_config
    tower.depth, tower.deepstack_visual_indexes = 3, [0, 1, 2]
    torch.manual_seed(0)
    transformers.Qwen3VLMoeForConditionalGeneration(config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if ".mlp.experts." in name:
            tensors[name] = tensor.transpose(1, 2).contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def unexplained(results: Results, name: str, way: str, shape: Settings = CHAIN) -> int:
    """Rounds whose tokens are not the oracle's; the output must be that without speculation."""
    job, result = results[name, way]
    assert "error" not in result, result
    without = results["moe" if name == "moe" else "none", "stock"][1]["outputs"]
    return judge_trees(job, result, without, shape)[2]


def test_every_image_is_part_of_the_prompt(results: Results) -> None:
    """A picture of 96 x 64 takes 3 x 2 tokens, one of 64 x 128 takes 2 x 4."""
    job, result = results["visual", "plugin"]
    texts = [len(prompt["ids"]) for prompt in job.prompts if isinstance(prompt, dict)]
    added = [n - text for n, text in zip(result["num_prompt_tokens"], texts, strict=True)]
    assert added == [6 - 1, 6 - 1 + 8 - 1, 8 - 1, 0]
    assert result["num_prompt_tokens"] == num_prompt_tokens(job)


@pytest.mark.parametrize("name", [*SERVED, *MORE])
def test_the_plugin_drafts_the_oracles_tokens(name: str, results: Results) -> None:
    assert unexplained(results, name, "plugin", SERVED.get(name, CHAIN)) == 0


def test_it_does_so_beside_a_mixture_of_experts(results: Results) -> None:
    assert unexplained(results, "moe", "plugin") == 0


@pytest.mark.parametrize("name", STOCK_IS_RIGHT)
def test_stock_sglang_is_right_for_visual_embeddings_and_taps_after_only(
    name: str, results: Results
) -> None:
    assert (unexplained(results, name, "stock") == 0) == STOCK_IS_RIGHT[name]


@pytest.mark.parametrize("name", ["placeholder", "visual"])
def test_busy_requests_draft_the_oracles_tokens(name: str, results: Results) -> None:
    job, result = results[name, "busy"]
    assert "error" not in result, result
    assert result["outputs"] == results["none", "stock"][1]["outputs"][: len(PROMPTS)]
    assert min(result["num_cached_tokens"]) > 0
    assert max(meta["num_retractions"] for meta in result["meta"]) > 0
    expected = [one for rounds in oracle_trees(job, result["outputs"], CHAIN) for one in rounds]
    assert len(result["verified"]) > len(expected)
    for found in result["verified"]:
        there = [one for one in expected if one.start + 1 == found["length"]]
        assert any(same_tree(found, one) for one in there), found


def test_a_video_reaches_the_draft_as_the_target_saw_it(results: Results) -> None:
    """As in stock SGLang, which is right for such a draft; a video is no prompt of the oracle's."""
    ours, stock = (results["visual", way][1] for way in ("video", "video, stock"))
    assert ours["outputs"] == stock["outputs"] == results["none", "stock"][1]["outputs"][-1:]
    assert ours["trees"] == stock["trees"]
    assert ours["num_prompt_tokens"] == [2 * (14 + 1 + 6 + 1) + 12]


def test_arguments_for_the_target_that_would_change_the_draft_are_refused(
    results: Results,
) -> None:
    message = results["overridden", "plugin"][1]["error"]["message"]
    assert "num_hidden_layers = 2 (the draft has 1)" in message


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("visual", "draft gets the target's visual embeddings, at positions of three axes"),
        ("placeholder_1d", "gets the embedding of the placeholder, at positions in the sequence"),
        ("unknown", "embedding of the placeholder (the draft does not say; SpecForge trains so)"),
        ("unknown", "taps [2] of image tokens relative to the deepstack features: unknown, taken"),
        ("before", "taps [2] of image tokens relative to the deepstack features: before"),
    ],
)
def test_the_log_says_what_the_draft_gets(name: str, line: str, results: Results) -> None:
    assert line in results[name, "plugin"][1]["log"]
