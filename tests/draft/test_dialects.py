"""Published checkpoints read as what they are, or are refused as ambiguous."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED
from eagle3_plugin.draft.read import Draft, examine, read_draft
from eagle3_plugin.errors import AmbiguousError
from eagle3_plugin.hub import resolve
from tests.published import PUBLISHED
from tests.published_configs import Published
from tests.stored import write_sparse


def open_sparse(folder: Path, published: Published) -> Checkpoint:
    write_sparse(folder, published.config, published.shapes)
    return Checkpoint.open(resolve(str(folder)))


def summary(draft: Draft) -> tuple[Any, ...]:
    return draft.dialect, draft.evidence, draft.config, tuple(note.id for note in draft.notes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_reads_as_what_it_is(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]

    draft = read_draft(open_sparse(tmp_path, published), published.settle)

    assert summary(draft) == (
        published.dialect,
        published.evidence,
        published.draft,
        published.notes,
    )


@pytest.mark.parametrize("name", [n for n, p in PUBLISHED.items() if p.settle != NOTHING_SETTLED])
def test_what_can_be_read_in_two_ways_is_not_read_without_an_answer(
    name: str, tmp_path: Path
) -> None:
    checkpoint = open_sparse(tmp_path, PUBLISHED[name])

    with pytest.raises(AmbiguousError):
        read_draft(checkpoint)


def test_the_converted_235b_is_ambiguous_because_its_boundaries_are_output_ids(
    tmp_path: Path,
) -> None:
    checkpoint = open_sparse(
        tmp_path, PUBLISHED["nm-testing's conversion of lmsys 235B, once settled"]
    )

    with pytest.raises(AmbiguousError) as caught:
        read_draft(checkpoint)

    assert [(p.id, p.message, p.hint) for p in caught.value.problems] == [
        (
            "taps-ambiguous",
            "tap ids [1, 46, 90] stand where boundary ids are kept (boundaries [1, 46, 90]), but "
            "are the default taps when read as output ids (boundaries [2, 47, 91])",
            "Settle it with --ids output (SGLang, SpecForge) or --ids boundary (vLLM), or --taps.",
        )
    ]


def test_modelopts_ids_that_are_not_the_default_are_ambiguous(tmp_path: Path) -> None:
    checkpoint = open_sparse(
        tmp_path, PUBLISHED["ModelOpt's gpt-oss-120b-v3, boundaries, once settled"]
    )

    (problem,) = examine(checkpoint).problems

    assert (problem.id, problem.message) == (
        "taps-ambiguous",
        "tap ids [24, 30, 36]: ModelOpt has published both output ids (boundaries [25, 31, 37]) "
        "and boundaries ([24, 30, 36]) under this key",
    )


def test_every_readable_dialect_has_a_published_example() -> None:
    assert {p.dialect for p in PUBLISHED.values()} == {
        "angelslim",
        "eagle",
        "mnn",
        "modelopt",
        "sglang",
        "speculators",
        "universal",
        "vllm",
    }
