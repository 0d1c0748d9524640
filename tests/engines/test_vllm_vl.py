"""What a draft gets of images in real vLLM, beside a random Qwen3-VL and with random drafts.

They accept next to nothing, but every token that they draft is known from the oracle, so a wrong
embedding, tap, position or cache slot shows as a wrong drafted token. float32, temperature 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tests.engines.jobs import Job, JobPrompt, full_chain, num_prompt_tokens, run_jobs
from tests.engines.parity import starts_of
from tests.engines.random_target import picture, write_random_target, write_random_vl_target
from tests.engines.random_vl_drafts import write_vl_draft

Results = dict[str, tuple[Job, Any]]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MAX_TOKENS = 8
NUM_ROUNDS = 4
"""So many rounds of each prompt are compared."""

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
PROMPTS = {
    "text": ("only text, and no picture", []),
    "one image": (f"<|im_start|>user\n{IMAGE}what?<|im_end|>\n<|im_start|>assistant\n", [0]),
    "two images": (f"{IMAGE}and {IMAGE}differ?", [1, 0]),
    "an image in the second turn": (f"hello<|im_end|>\nwhat is this{IMAGE}, please", [1]),
}
SIZES = ((96, 64), (160, 320))
NUM_TOKENS = [25, 32, 71, 79]
"""Of the prompts: one for each byte, each special token, and each 32 x 32 pixels."""

KINDS = ("placeholder", "visual_before", "placeholder_1d", "plain_section")
CHUNKS: dict[str, Any] = {"max_num_batched_tokens": 7, "enable_prefix_caching": True}
BUSY: dict[str, Any] = {"engine": CHUNKS | {"block_size": 32}, "abort_after": 3}
STOCK, PLUGIN = {"plugins": ""}, {"plugins": "eagle3"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_vl_target(tmp_path_factory.mktemp("random") / "target")


@pytest.fixture(scope="module")
def results(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """All runs; one process imports vLLM for them."""
    folder = tmp_path_factory.mktemp("vl")
    files = [
        str(picture(folder / f"{seed}.png", width=width, height=height, seed=seed))
        for seed, (width, height) in enumerate(SIZES)
    ]
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    prompts: list[JobPrompt] = [
        {"ids": tokenizer.encode(text).ids, "images": [files[i] for i in images]}
        if images
        else tokenizer.encode(text).ids
        for text, images in PROMPTS.values()
    ]
    video: list[JobPrompt] = [{"ids": tokenizer.encode(f"{VIDEO}say").ids, "video": files[:1] * 4}]
    long: list[JobPrompt] = [[3 + (7 * i * i + i) % 400 for i in range(60)]]
    drafts = {kind: write_vl_draft(folder / kind, kind) for kind in KINDS}
    one = drafts["visual_before"]
    text, moe = write_random_target(folder / "text"), write_published_moe(folder / "moe")
    chunks = {"engine": {"max_num_batched_tokens": 5}}

    def job(of: Path, draft: Path | None, given: list[JobPrompt], *options: dict[str, Any]) -> Job:
        merged = {name: value for option in options for name, value in option.items()}
        return Job(of, draft, given, MAX_TOKENS, merged)

    jobs = {
        "no draft": job(target, None, prompts, STOCK),
        "stock": job(target, drafts["placeholder"], prompts, STOCK),
        **{kind: job(target, drafts[kind], prompts, PLUGIN) for kind in KINDS},
        "together": job(target, one, [*prompts, *prompts[1:]], PLUGIN, BUSY, {"together": True}),
        "cached": job(target, one, [prompts[3], prompts[3]], PLUGIN, BUSY),
        "moe, no draft": job(moe, None, prompts[:3], STOCK),
        "moe": job(moe, one, prompts[:3], PLUGIN),
        "video, no draft": job(target, None, video, STOCK),
        "video": job(target, drafts["placeholder"], video, PLUGIN),
        "compact rows": job(
            target, one, prompts, PLUGIN, {"speculative": {"disable_padded_drafter_batch": True}}
        ),
        "text, stock": job(text, drafts["placeholder_1d"], long, STOCK, chunks),
        "text": job(text, drafts["placeholder_1d"], long, PLUGIN, chunks),
    }
    found = run_jobs("vllm", list(jobs.values()), folder / "runs")
    return {name: (job, result) for (name, job), result in zip(jobs.items(), found, strict=True)}


def write_published_moe(folder: Path) -> Path:
    """A random Qwen3-VL-MoE as published ones are: with norm_topk_prob, experts [in, out]."""
    write_random_vl_target(folder, num_experts=4)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["norm_topk_prob"] = True
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if ".mlp.experts." in name:
            tensors[name] = tensor.transpose(1, 2).contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def right_rounds(job: Job, result: dict[str, Any]) -> list[list[bool]]:
    """For each prompt and round: whether all drafted tokens are those of the oracle."""
    outputs, drafts = result["outputs"], result["drafts"]
    starts = [starts_of(*one)[:NUM_ROUNDS] for one in zip(drafts, outputs, strict=True)]
    known = {start + 1 for one in starts for start in one}
    expected = {count: full_chain(job, outputs, count) for count in known}
    return [
        [expected[start + 1][index] == ids for start, ids in zip(one, drafts[index], strict=False)]
        for index, one in enumerate(starts)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_plugin_drafts_what_the_oracle_drafts(kind: str, results: Results) -> None:
    job, result = results[kind]
    assert result["outputs"] == results["no draft"][1]["outputs"]
    assert result["num_prompt_tokens"] == NUM_TOKENS == num_prompt_tokens(job)
    assert result["draft_class"] == "Eagle3LlamaDraft"
    assert right_rounds(job, result) == [[True] * NUM_ROUNDS] * len(PROMPTS)


def test_stock_drafts_other_tokens_after_images_only(results: Results) -> None:
    job, result = results["stock"]
    assert result["outputs"] == results["no draft"][1]["outputs"]
    text, *with_images = right_rounds(job, result)
    assert all(text)
    assert [all(rounds) for rounds in with_images] == [False] * len(with_images)


def test_chunks_batches_and_an_abort_change_nothing(results: Results) -> None:
    """Chunks of 7 tokens end inside images and before them; text and images share a batch."""
    job, result = results["together"]
    outputs = results["no draft"][1]["outputs"]
    assert result["outputs"] == [*outputs, *outputs[1:]]
    assert right_rounds(job, result) == [[True] * NUM_ROUNDS] * 7


def test_a_cached_image_changes_nothing(results: Results) -> None:
    """The cache holds a block of 32 tokens, which ends inside the image."""
    job, result = results["cached"]
    assert result["num_cached_tokens"] == [32, 32]
    assert result["outputs"] == [results["no draft"][1]["outputs"][3]] * 2
    assert right_rounds(job, result) == [[True] * NUM_ROUNDS] * 2


def test_a_qwen3_vl_moe_target_is_served_as_a_dense_one(results: Results) -> None:
    job, result = results["moe"]
    assert result["outputs"] == results["moe, no draft"][1]["outputs"]
    assert right_rounds(job, result) == [[True] * NUM_ROUNDS] * 3


def test_a_video_is_answered_as_without_a_draft(results: Results) -> None:
    _, result = results["video"]
    assert result["outputs"] == results["video, no draft"][1]["outputs"]
    assert result["num_prompt_tokens"] == results["video, no draft"][1]["num_prompt_tokens"]
    assert result["rounds"] == [7]


def test_visual_embeddings_in_compact_rows_are_refused(results: Results) -> None:
    assert results["compact rows"][1]["error"]["message"].startswith(
        "disable_padded_drafter_batch is set, and vLLM then gives visual embeddings to other rows"
    )


def test_the_last_token_of_a_chunk_of_text_is_followed_by_its_next(results: Results) -> None:
    """Stock vLLM 0.32 gives that row of the draft the prompt's last token."""
    assert not all(right_rounds(*results["text, stock"])[0])
    assert all(right_rounds(*results["text"])[0])
