"""Trees worked out by hand, and those of a random draft against a slow construction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eagle3_plugin.draft.chain import simulate_chain
from eagle3_plugin.draft.tree import (
    LOOSE,
    ROOT,
    Prefix,
    Tree,
    draft_tree,
    grow_tree,
    run_prefix,
    simulate_trees,
)
from eagle3_plugin.errors import UsageError
from eagle3_plugin.settings import Settings
from tests.random_text import NUM_PROMPT_TOKENS, VARIANTS, Text, write_text
from tests.slow_trees import Path, paths_of, slow_tree, to_target

SHAPES = [Settings(3, 4, 8), Settings(5, 4, 16), Settings(4, 3, 30), Settings(1, 4, 5)]

BY_HAND: dict[Path, list[float]] = {
    (): [0.50, 0.32, 0.13, 0.05],
    (0,): [0.10, 0.60, 0.20, 0.10],
    (1,): [0.90, 0.05, 0.03, 0.02],
    (0, 1): [0.40, 0.10, 0.20, 0.30],
    (1, 0): [0.05, 0.05, 0.80, 0.10],
}
"""Candidates by index: .50 .32 | .30 .10 .288 .016 | .12 .09 .2304 .0288, two rows a step."""

CROSSING: dict[Path, list[float]] = {
    (): [0.50, 0.32, 0.13, 0.05],
    (0,): [0.29, 0.26, 0.25, 0.20],
    (1,): [0.04, 0.03, 0.90, 0.03],
    (1, 2): [0.70, 0.10, 0.15, 0.05],
    (0, 0): [0.10, 0.20, 0.30, 0.40],
}
"""Row 1 is ahead after a step: .50 .32 | .145 .13 .288 .0128 | .2016 .0432 .058 .0435."""


def look_up(table: dict[Path, list[float]]) -> Callable[[Tensor, Tensor], Tensor]:
    """What `grow_tree` asks for, from a table of probabilities by path."""
    paths: list[Path] = [()]

    def propose(tokens: Tensor, rows: Tensor) -> Tensor:
        pairs = zip(tokens.tolist(), rows.tolist(), strict=True)
        paths[:] = [(*paths[row], token) for token, row in pairs]
        return torch.tensor([table[path] for path in paths], dtype=torch.float64)

    return propose


def grown(table: dict[Path, list[float]], shape: Settings) -> Tree:
    return grow_tree(torch.tensor(table[()], dtype=torch.float64), look_up(table), shape)


def test_the_best_candidates_of_all_steps_are_kept_in_the_order_of_their_index() -> None:
    tree = grown(BY_HAND, Settings(3, 2, 7))

    assert tree.tokens == (0, 1, 1, 0, 0, 2)
    assert tree.parents == (ROOT, ROOT, 0, 1, 2, 3)
    assert tree.depths == (1, 1, 2, 2, 3, 3)
    assert tree.scores == pytest.approx((0.50, 0.32, 0.30, 0.288, 0.12, 0.2304), rel=1e-12)


def test_a_smaller_tree_keeps_fewer_candidates_of_the_same_beam() -> None:
    tree = grown(BY_HAND, Settings(3, 2, 5))

    assert (tree.tokens, tree.parents) == ((0, 1, 1, 0), (ROOT, ROOT, 0, 1))


def test_a_whole_pool_is_kept_when_the_tree_has_room_for_it() -> None:
    tree = grown(BY_HAND, Settings(3, 2, 11))

    assert tree.tokens == (0, 1, 1, 2, 0, 1, 0, 3, 2, 3)
    assert tree.parents == (-1, -1, 0, 0, 1, 1, 2, 2, 4, 4)


def test_rows_follow_the_order_of_scores_and_their_children_have_the_right_parent() -> None:
    """The beam is (1, 2) and then (0, 0), so the third step's first row continues row 1."""
    tree = grown(CROSSING, Settings(3, 2, 7))

    assert tree.tokens == (0, 1, 0, 1, 2, 0)
    assert tree.parents == (ROOT, ROOT, 0, 0, 1, 4)
    assert tree.scores[-1] == pytest.approx(0.2016)


def test_the_margin_is_the_least_lead_that_a_choice_hangs_on() -> None:
    """In the first the beam's order (.30 over .288), in the second a row's cut (.26 over .25)."""
    by_hand, crossing = grown(BY_HAND, Settings(3, 2, 7)), grown(CROSSING, Settings(3, 2, 7))

    assert by_hand.margin == pytest.approx(math.log(0.30 / 0.288))
    assert crossing.margin == pytest.approx(math.log(0.26 / 0.25))


def test_a_tie_has_no_margin_and_no_choice_an_infinite_one() -> None:
    two = torch.tensor([0.5, 0.5])
    certain = torch.tensor([1.0, 0.0])

    assert grow_tree(two, lambda _t, _r: two[None], Settings(1, 1, 2)).margin == 0
    assert grow_tree(certain, lambda _t, _r: certain[None], Settings(2, 1, 3)).margin == math.inf


def test_a_node_whose_parent_was_not_kept_hangs_loose() -> None:
    """A float's rounding makes child and parent tie; 1.5 instead of 1.0 decides it here."""
    table = {(): [0.6, 0.4, 0.0], (0,): [1.5, 0.0, 0.0], (1,): [0.1, 0.0, 0.0]}

    tree = grown(table, Settings(2, 2, 2))

    assert (tree.tokens, tree.parents, tree.depths) == ((0,), (LOOSE,), (2,))
    assert tree.accepted([0, 0]) == ()


def test_verify_walks_to_the_child_with_the_targets_token() -> None:
    tree = grown(BY_HAND, Settings(3, 2, 7))

    assert tree.accepted([0, 1, 0]) == (0, 2, 4)
    assert tree.accepted([1, 0, 2, 3]) == (1, 3, 5)
    assert tree.accepted([1, 0, 0]) == (1, 3)
    assert tree.accepted([0, 0, 2]) == (0,)
    assert tree.accepted([2, 1]) == ()
    assert tree.accepted([]) == ()


def prefix_of(text: Text) -> Prefix:
    return run_prefix(text.draft, text.taps[:-1], text.rows)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@torch.inference_mode()
def test_a_tree_is_the_one_of_rows_that_run_alone_and_keep_their_keys(
    changes: dict[str, Any], shape: Settings
) -> None:
    text = write_text(**changes)
    prefix = prefix_of(text)

    for start in text.starts.tolist()[:6]:
        slow = slow_tree(prefix, start, shape, own_rows=True)
        assert paths_of(draft_tree(prefix, start, shape)) == to_target(text.draft, slow)


@pytest.mark.parametrize(
    ("shape", "num_different"), [(Settings(2, 3, 12), 0), (Settings(4, 3, 30), 8)], ids=str
)
@torch.inference_mode()
def test_true_ancestors_would_draft_other_trees(shape: Settings, num_different: int) -> None:
    """SGLang's rows keep their keys: with two steps nothing has moved yet, with four some has.

    Counted of 24 trees of a random draft, whose candidates are all nearly as likely.
    """
    text = write_text()
    prefix, starts = prefix_of(text), text.starts.tolist()[:24]

    trees = [paths_of(draft_tree(prefix, start, shape)) for start in starts]
    true = [to_target(text.draft, slow_tree(prefix, s, shape, own_rows=False)) for s in starts]

    assert sum(a != b for a, b in zip(trees, true, strict=True)) == num_different


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_tree_with_topk_1_is_the_chain(changes: dict[str, Any]) -> None:
    text = write_text(**changes)
    prefix, shape = prefix_of(text), Settings(4, 1, 5)

    for start in text.starts.tolist()[::2]:
        tree = draft_tree(prefix, start, shape)
        assert list(tree.tokens) == text.chain(start)
        assert (tree.parents, tree.depths) == ((ROOT, 0, 1, 2), (1, 2, 3, 4))


def test_the_margin_of_a_chain_is_its_least_lead_of_logits() -> None:
    text = write_text()
    chains = simulate_chain(text.draft, text.taps[:-1], text.rows, text.starts, 4)
    whole = chains.num_matches >= 3
    prefix = prefix_of(text)

    trees = [draft_tree(prefix, int(start), Settings(4, 1, 5)) for start in text.starts[whole]]

    expected = chains.margins[whole].min(dim=1).values.tolist()
    assert [tree.margin for tree in trees] == pytest.approx(expected, abs=1e-9)
    assert len(trees) >= 5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_rounds_are_those_of_a_live_loop(shape: Settings) -> None:
    """Draft, verify, accept, until the text ends; the loop sees no token before it is verified."""
    text = write_text()
    starts = range(NUM_PROMPT_TOKENS - 1, len(text.ids) - shape.num_steps - 2)

    live, start = [], starts.start
    while start < starts.stop:
        known = run_prefix(text.draft, text.taps[: start + 1], text.rows.first(start + 2))
        tree = draft_tree(known, start, shape)
        accepted = len(tree.accepted(text.ids[start + 2 :].tolist()))
        live.append((start, tree.tokens, tree.parents, accepted))
        start += accepted + 1

    found = simulate_trees(text.draft, text.taps[:-1], text.rows, starts, shape)

    assert [(r.start, r.tree.tokens, r.tree.parents, r.num_accepted) for r in found] == live
    assert {0, 1} <= {r.num_accepted for r in found}


def test_a_topk_above_the_drafts_vocabulary_is_refused() -> None:
    text = write_text()

    with pytest.raises(UsageError) as caught:
        draft_tree(prefix_of(text), 10, Settings(2, 129, 4))

    assert caught.value.message == (
        "tree 2,129,4: topk is 129, expected at most 128, the size of the draft's vocabulary"
    )
