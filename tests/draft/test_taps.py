"""Tap ids: two conventions, two places, and what can be told from the numbers."""

from __future__ import annotations

import pytest

from eagle3_plugin.draft.dialects.taps import (
    Convention,
    Ids,
    StoredIds,
    is_default,
    output_ids,
    read_ids,
)
from eagle3_plugin.errors import Problem

FLAGS = "Settle it with --ids output (SGLang, SpecForge) or --ids boundary (vLLM), or --taps."


def read(
    nested: Ids | None = None,
    top: Ids | None = None,
    answer: Convention | None = None,
    num_layers: int | None = None,
) -> Ids | Problem | None:
    return read_ids(StoredIds(nested, top), answer, num_layers)


def test_no_list_is_the_default() -> None:
    assert read() is None


@pytest.mark.parametrize(
    ("output", "boundary"),
    [
        ((1, 13, 24), (2, 14, 25)),
        ((1, 17, 32), (2, 18, 33)),
        ((1, 19, 36), (2, 20, 37)),
        ((1, 23, 44), (2, 24, 45)),
        ((1, 31, 60), (2, 32, 61)),
        ((1, 46, 90), (2, 47, 91)),
    ],
)
def test_the_two_spellings_of_the_published_table_mean_the_same(output: Ids, boundary: Ids) -> None:
    assert read(nested=output) == boundary
    assert read(top=boundary) == boundary
    assert read(nested=output, top=boundary) == boundary
    assert output_ids(boundary) == list(output)


@pytest.mark.parametrize(("nested", "boundary"), [((3, 17, 32), (4, 18, 33)), ((0, 5), (1, 6))])
def test_nested_ids_that_are_no_default_are_output_ids(nested: Ids, boundary: Ids) -> None:
    assert read(nested=nested) == boundary


@pytest.mark.parametrize("top", [(4, 18, 33), (1, 18, 33), (24, 30, 36)])
def test_top_level_ids_that_are_no_default_are_boundaries(top: Ids) -> None:
    assert read(top=top) == top


def test_boundaries_in_the_nested_place_are_ambiguous() -> None:
    assert read(nested=(2, 18, 33)) == Problem(
        "taps-ambiguous",
        "tap ids [2, 18, 33] stand where output ids are kept (boundaries [3, 19, 34]), but are the "
        "default taps when read as boundary ids (boundaries [2, 18, 33])",
        FLAGS,
    )


def test_output_ids_at_the_top_level_are_ambiguous() -> None:
    assert read(top=(1, 17, 32)) == Problem(
        "taps-ambiguous",
        "tap ids [1, 17, 32] stand where boundary ids are kept (boundaries [1, 17, 32]), but are "
        "the default taps when read as output ids (boundaries [2, 18, 33])",
        FLAGS,
    )


def test_ids_that_look_like_another_targets_default_are_not_ambiguous() -> None:
    assert read(top=(1, 17, 32), num_layers=48) == (1, 17, 32)


def test_output_ids_beyond_the_last_layer_are_ambiguous() -> None:
    assert read(nested=(24, 30, 36), num_layers=36) == Problem(
        "taps-ambiguous",
        "tap ids [24, 30, 36] stand where output ids are kept (boundaries [25, 31, 37]), but the "
        "target has only 36 layers: they look like boundary ids (boundaries [24, 30, 36])",
        FLAGS,
    )


def test_boundaries_beyond_the_last_layer_are_left_to_the_fit() -> None:
    assert read(top=(2, 18, 37), num_layers=36) == (2, 18, 37)


@pytest.mark.parametrize(
    ("nested", "top", "answer", "boundary"),
    [
        ((2, 18, 33), None, "output", (3, 19, 34)),
        ((2, 18, 33), None, "boundary", (2, 18, 33)),
        (None, (1, 17, 32), "output", (2, 18, 33)),
        (None, (1, 17, 32), "boundary", (1, 17, 32)),
        ((1, 17, 32), (1, 17, 32), "output", (2, 18, 33)),
        ((1, 17, 32), (1, 17, 32), "boundary", (1, 17, 32)),
        ((24, 30, 36), None, "boundary", (24, 30, 36)),
    ],
)
def test_an_answer_settles_it(
    nested: Ids | None, top: Ids | None, answer: Convention, boundary: Ids
) -> None:
    assert read(nested, top, answer, num_layers=36) == boundary


def test_two_lists_that_disagree_are_a_conflict() -> None:
    assert read(nested=(1, 17, 32), top=(1, 17, 32)) == Problem(
        "taps-conflict",
        "eagle_config has tap ids [1, 17, 32] (output ids: boundaries [2, 18, 33]), the top level "
        "has [1, 17, 32] (boundaries)",
        "Settle it with --ids output (eagle_config is right), --ids boundary (the top level is "
        "right), or --taps.",
    )


@pytest.mark.parametrize(
    ("ids", "convention", "num_layers", "expected"),
    [
        ((2, 18, 33), "boundary", None, True),
        ((2, 18, 33), "boundary", 36, True),
        ((2, 18, 33), "boundary", 48, False),
        ((2, 18, 33), "output", None, False),
        ((1, 17, 32), "output", 36, True),
        ((2, 18), "boundary", None, False),
    ],
)
def test_the_default_is_recognised_in_either_convention(
    ids: Ids, convention: Convention, num_layers: int | None, expected: bool
) -> None:
    assert is_default(ids, convention, num_layers) is expected
