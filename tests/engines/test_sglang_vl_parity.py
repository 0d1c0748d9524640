"""Every tiny Qwen3-VL draft in real SGLang: against no speculation, the oracle, and stock SGLang.

float32, temperature 0. The output is SGLang's own without a draft, and each round verifies the
nodes that the oracle drafts there, or parts from them at a near-tie. Every variant runs with a
chain; with a tree those of COVERING, and the others in `make test-matrix`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.tiny import VL_VARIANTS, tiny_vl_pair
from tests.engines.jobs import Job, num_prompt_tokens, run_jobs
from tests.engines.parity import judge_trees
from tests.engines.sglang_parity import asked_for
from tests.engines.vl_parity import image_prompts, text_prompts

Record = Callable[[str, object], None]
Runs = dict[tuple[str, str], tuple[Job, Any]]

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NUM_TEXT, NUM_OF_EACH, MAX_TOKENS = 2, 3, 32
TEXT, IMAGES = slice(NUM_TEXT), slice(NUM_TEXT, None)
CHAIN, TREE = chain(3), Settings(3, 4, 8)
SHARE = 0.005
COVERING = ("image_visual", "placeholder_before")
STOCK_IS_WRONG = ("image_placeholder", "placeholder_before")
STOCK_IS_RIGHT = "image_visual"
IN_STOCK = ("text_only", *STOCK_IS_WRONG, STOCK_IS_RIGHT)
STOCK: dict[str, Any] = {"plugins": "none"}
SHAPES = [
    pytest.param(variant, shape, id=f"{variant}-{shape}", marks=marks)
    for shape in (CHAIN, TREE)
    for variant in VL_VARIANTS
    for marks in [[pytest.mark.matrix] if shape == TREE and variant not in COVERING else []]
]
TOGETHER: dict[str, Any] = {
    "batches": [[0, 3, 1, 5], [4, 2, 8, 10], [6, 7, 9, 3]],
    "engine": {"chunked_prefill_size": 32, "disable_radix_cache": False},
}
"""Text and images in a batch, in chunks, some of them a second time."""


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """(variant, how it is served) -> its job and result; one process imports SGLang for all."""
    shapes = {*asked_for(request), *((variant, CHAIN) for variant in IN_STOCK)}
    pairs = {variant: tiny_vl_pair(variant) for variant in VL_VARIANTS}
    pair = pairs["text_only"]
    prompts = [*text_prompts(pair, NUM_TEXT), *image_prompts(pair, NUM_OF_EACH)]

    def job(variant: str, options: dict[str, Any]) -> Job:
        one = pairs[variant]
        return Job(one.target, one.draft, prompts, MAX_TOKENS, options)

    jobs = {("no draft", "stock"): Job(pair.target, None, prompts, MAX_TOKENS, STOCK)}
    for variant, shape in sorted(shapes, key=str):
        numbers = (shape.num_steps, shape.topk, shape.num_draft_tokens)
        jobs[variant, str(shape)] = job(variant, {"settings": numbers})
    for variant in IN_STOCK:
        jobs[variant, "stock"] = job(variant, STOCK)
    jobs["image_visual", "together"] = job("image_visual", TOGETHER)
    found = run_jobs("sglang", list(jobs.values()), tmp_path_factory.mktemp("vl-parity"))
    return {key: (job, result) for (key, job), result in zip(jobs.items(), found, strict=True)}


def tokens_per_verify(result: dict[str, Any], part: slice) -> float:
    """Of the tokens after the first, which no verify gives."""
    written = sum(len(output) - 1 for output in result["outputs"][part])
    return float(written / sum(result["rounds"][part]))


def test_every_image_is_part_of_its_prompt(runs: Runs) -> None:
    job, result = runs["no draft", "stock"]
    assert result["num_prompt_tokens"] == num_prompt_tokens(job)


@pytest.mark.parametrize(("variant", "shape"), SHAPES)
def test_the_plugin_does_what_the_oracle_does(
    variant: str, shape: Settings, runs: Runs, record_property: Record
) -> None:
    job, result = runs[variant, str(shape)]
    assert "error" not in result, result
    baseline = runs["no draft", "stock"][1]["outputs"]
    found, expected, unexplained = judge_trees(job, result, baseline, shape)
    text, images = (tokens_per_verify(result, part) for part in (TEXT, IMAGES))
    record_property(
        "figure",
        f"SGLang, {variant}, {shape}: tokens per verify on text {text:.2f}, on images "
        f"{images:.2f}; {found} rounds, oracle {expected}",
    )
    assert unexplained == 0
    assert abs(found - expected) <= SHARE * expected


@pytest.mark.parametrize("variant", IN_STOCK)
def test_images_are_drafted_better_where_stock_is_wrong(
    variant: str, runs: Runs, record_property: Record
) -> None:
    """And the same where it is right; a draft that has seen no image is only reported."""
    stock, plugin = runs[variant, "stock"][1], runs[variant, str(CHAIN)][1]
    assert "error" not in stock, stock
    figures = [tokens_per_verify(result, IMAGES) for result in (stock, plugin)]
    record_property(
        "figure",
        f"SGLang, {variant}, {CHAIN}, images: tokens per verify stock {figures[0]:.2f}, "
        f"plugin {figures[1]:.2f} (a draft trained to notice)",
    )
    assert stock["outputs"] == plugin["outputs"]
    assert stock["rounds"][TEXT] == plugin["rounds"][TEXT]
    if variant in STOCK_IS_WRONG:
        assert sum(plugin["rounds"][IMAGES]) < sum(stock["rounds"][IMAGES])
    if variant == STOCK_IS_RIGHT:
        assert plugin["rounds"] == stock["rounds"]


def test_prompts_that_run_together_draft_as_they_do_alone(runs: Runs) -> None:
    together, alone = runs["image_visual", "together"][1], runs["image_visual", str(CHAIN)][1]
    assert "error" not in together, together
    assert together["outputs"] == alone["outputs"]
    assert together["rounds"] == alone["rounds"]
    assert together["num_cached_tokens"][3] > 0
