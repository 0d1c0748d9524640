"""What both engines are held to: the oracle's drafts, round for round, on the engine's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.draft.tree import TreeRound
from eagle3_plugin.hub import resolve
from eagle3_plugin.settings import Settings
from eagle3_plugin.tiny import tiny_pair
from tests.engines.jobs import Expected, Job, oracle, oracle_trees

NEAR_TIE = 1e-3
"""Logits are of order 10, and float32 sums of 128 products in another order differ by some 1e-5."""

WHOLE = ("llama",)
"""Judged on 12 prompts of 128 tokens; the others on fewer, to keep the matrix short."""

SETTLED = {"norm_output": Settle(feedback="postnorm")}
"""What the files alone leave open, as a user would say it to `eagle3 convert`."""


def prompts_of(variant: str) -> tuple[list[list[int]], int]:
    """The prompts of a variant, and how many tokens are asked for."""
    count, max_tokens = (12, 128) if variant in WHOLE else (5, 96)
    return [list(p) for p in tiny_pair(variant).prompts[:count]], max_tokens


def served_draft(variant: str, folder: Path) -> Path:
    """The folder as SpecForge writes it; converted only where it is ambiguous as it lies.

    The same folder goes to both engines: a converted one says everything in its eagle3.json.
    """
    draft = tiny_pair(variant).draft
    if variant not in SETTLED:
        return draft
    out = folder / variant
    if not out.exists():
        source = read_draft(Checkpoint.open(resolve(str(draft))), SETTLED[variant])
        convert(source, out, "universal")
    return out


def starts_of(drafts: list[list[int]], output: list[int]) -> list[int]:
    """Where each of the engine's own rounds began: generated tokens known, less 1.

    The drafts after the last token are never verified and have no round.
    """
    starts, known = [], 1
    for ids in drafts:
        if known >= len(output):
            break
        starts.append(known - 1)
        written = output[known : known + len(ids)]
        right = [a == b for a, b in zip(ids, written, strict=False)]
        known += right.index(False) + 1 if False in right else len(right) + 1
    return starts


def explained(found: list[int], expected: Expected, start: int) -> bool:
    """Whether the drafted ids are the oracle's, or part from them where two logits nearly tie.

    The oracle's ids end with its first wrong one; what follows is never looked at by the target.
    """
    for ours, theirs, margin in zip(
        found, expected.drafts[start], expected.margins[start], strict=False
    ):
        if theirs < 0:
            return True
        if ours != theirs:
            return margin < NEAR_TIE
    return True


def judge_chains(
    job: Job, result: dict[str, Any], baseline: list[list[int]], chain: int = 3
) -> tuple[int, int, int]:
    """Rounds of the engine, rounds of the oracle, and rounds that differ without a near-tie.

    `result["drafts"]` has, for each prompt and round, the drafted ids. The output is the engine's
    own without a draft, or this raises.
    """
    outputs = result["outputs"]
    assert outputs == [one[: job.max_tokens] for one in baseline[: len(outputs)]]
    expected = oracle(job, outputs, chain=chain)
    unexplained = 0
    for one, drafts, output in zip(expected, result["drafts"], outputs, strict=True):
        pairs = zip(drafts, starts_of(drafts, output), strict=False)
        unexplained += sum(not explained(ids, one, start) for ids, start in pairs)
    return sum(result["rounds"]), sum(len(e.rounds(job.max_tokens)) for e in expected), unexplained


def judge_trees(
    job: Job, result: dict[str, Any], baseline: list[list[int]], shape: Settings
) -> tuple[int, int, int]:
    """As `judge_chains`; `result["trees"]` has, for each prompt and round, the tree's ids.

    A round is compared with the oracle's tree at the same place. Where the choice of the nodes hung
    on a near-tie it may differ.
    """
    outputs = result["outputs"]
    assert outputs == [one[: job.max_tokens] for one in baseline[: len(outputs)]]
    expected = oracle_trees(job, outputs, shape)
    unexplained = 0
    for rounds, trees in zip(expected, result["trees"], strict=True):
        unexplained += sum(
            not same_tree(tree, one) for tree, one in zip(trees, rounds, strict=False)
        )
    return sum(result["rounds"]), sum(map(len, expected)), unexplained


def same_tree(found: dict[str, list[int]], expected: TreeRound) -> bool:
    """Whether the engine's nodes and their depths are the oracle's, or part at a near-tie."""
    ours = list(zip(found["ids"][1:], found["depths"][1:], strict=True))
    theirs = list(zip(expected.tree.tokens, expected.tree.depths, strict=True))
    return ours == theirs or expected.tree.margin < NEAR_TIE
