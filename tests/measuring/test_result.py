"""The public JSON: two whole examples, and what is no result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import Eagle3Error, NotFoundError
from eagle3_plugin.measuring.card import card_table
from eagle3_plugin.measuring.result import from_json, read_result
from eagle3_plugin.planning.cards import find_card
from tests.measuring import examples


@pytest.mark.parametrize("name", examples.NAMES)
def test_the_examples_are_what_the_package_makes_of_their_requests(name: str) -> None:
    """After a change on purpose: python -m tests.measuring.examples."""
    assert examples.path(name).read_text(encoding="utf-8") == examples.text(name)


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_example_read_back_is_the_same(name: str) -> None:
    found = read_result(examples.path(name))
    assert found == examples.EXAMPLES[name]()
    assert from_json(found.to_json()) == found


def test_the_parts_of_a_result_have_these_keys() -> None:
    value = json.loads(examples.path("card").read_text())
    assert list(value) == [
        "schema", "kind", "is_partial", "provenance", "servers", "sets", "summaries", "equality",
        "card", "predictions", "missing", "problems", "bootstrap", "cells",
    ]  # fmt: skip
    assert list(value["cells"][0]["requests"][0]) == [
        "conversation", "turn", "modality", "begin_s", "time_to_first_token_s", "request_s",
        "num_prompt_tokens", "num_tokens", "finish_reason", "counts",
    ]  # fmt: skip


def test_a_result_from_before_groups_had_speeds_is_still_read() -> None:
    value = json.loads(examples.path("card").read_text())
    for summary in value["summaries"]:
        for group in summary["groups"]:
            del group["estimates"], group["ratios"]
    del value["card"]["stands_for"]
    found = from_json(value)
    assert found.card is not None
    assert found.card.stands_for == {}
    assert {len(g.estimates) for s in found.summaries for g in s.groups} == {0}


def test_a_result_from_before_top_p_was_sent_is_read_as_not_recorded() -> None:
    value = json.loads(examples.path("card").read_text())
    sampling = value["provenance"]["sampling"]
    for name in list(sampling)[4:]:
        del sampling[name]
    assert list(sampling) == ["temperature", "seed", "max_tokens", "ignore_eos"]
    found = from_json(value).provenance.sampling
    assert (found.top_p, found.top_k, found.min_p) == (None, None, None)
    assert (found.repetition_penalty, found.presence_penalty) == (None, None)
    assert found.frequency_penalty is None


@pytest.mark.parametrize(("run", "told"), [("5,1,6", {"5,4,16": "5,1,6"}), ("5,4,16", {})])
def test_a_cards_table_says_what_ran_in_place_of_its_settings(
    run: str, told: dict[str, str]
) -> None:
    assert card_table(find_card("A"), (), {"5,4,16": run}).stands_for == told


def _changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(examples.path("sets").read_text()), **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "x.json has schema 2 and kind 'bench'; expected 1 and 'bench'"),
        ({"kind": None}, "x.json has schema 1 and kind None; expected 1 and 'bench'"),
        ({"speed": 1}, "x.json: 1 problem\\(s\\)\n  speed: Extra inputs are not permitted"),
        ({"is_partial": "yes"}, "is_partial: Input should be a valid boolean"),
    ],
)
def test_what_is_no_result_is_refused_by_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Eagle3Error, match=message):
        from_json(_changed(**changes), "x.json")


def test_a_rate_above_one_cannot_exist() -> None:
    value = json.loads(examples.path("card").read_text())
    value["summaries"][1]["acceptance"]["acceptance_rate"][0] = 1.5
    with pytest.raises(Eagle3Error, match=r"acceptance_rate\.0.*: Input should be less than or"):
        from_json(value)


def test_a_result_that_is_not_there_is_an_error_of_its_name(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no\.json cannot be read: No such file"):
        read_result(tmp_path / "no.json")
