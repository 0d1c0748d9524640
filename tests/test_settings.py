"""Settings: three numbers that an engine can run, or OFF."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.settings import OFF, candidates, chains, parse, trees
from eagle3_plugin.settings import Settings, chain, max_draft_tokens


def refusal(num_steps: int, topk: int, num_draft_tokens: int) -> str:
    with pytest.raises(UsageError) as caught:
        Settings(num_steps, topk, num_draft_tokens)
    return str(caught.value)


def test_settings_are_written_as_three_numbers() -> None:
    assert parse("5,4,16") == Settings(5, 4, 16)
    assert parse(" 5 , 4 , 16 ") == Settings(5, 4, 16)
    assert str(Settings(5, 4, 16)) == "5,4,16"


def test_off_is_written_as_a_word() -> None:
    assert parse("off") is OFF
    assert parse(" Off ") is OFF
    assert str(OFF) == "off"


def test_a_chain_verifies_its_steps_and_the_root() -> None:
    assert chain(3) == Settings(3, 1, 4)
    assert chain(3).is_chain
    assert not Settings(3, 4, 8).is_chain


@pytest.mark.parametrize("text", ["", "5", "5,4", "5,4,16,1", "5/4/16", "-1,1,2", "a,b,c", "none"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)

    assert str(caught.value) == (
        f"settings {text!r} are not three whole numbers with commas between them\n"
        'hint: Write num_steps,topk,num_draft_tokens, for example "5,4,16"; a chain is "3,1,4".'
    )


def test_all_numbers_that_are_too_small_are_named() -> None:
    assert refusal(0, 0, 1) == (
        "settings 0,0,1: num_steps is 0, expected at least 1; topk is 0, expected at least 1; "
        "num_draft_tokens is 1, expected at least 2\n"
        "hint: Settings are num_steps,topk,num_draft_tokens; a chain of s steps is s,1,s+1."
    )


def test_a_chain_with_another_number_of_tokens_is_refused() -> None:
    """SGLang 0.5.23 would change it to 2,1,3 with a warning."""
    assert "num_draft_tokens is 4, expected 3: topk 1 is a chain" in refusal(2, 1, 4)


def test_a_tree_with_more_tokens_than_nodes_is_refused() -> None:
    """1 + 2 + 4 = 7 nodes: SGLang 0.5.23 fails at run time."""
    assert Settings(2, 2, 7).num_draft_tokens == 7
    assert "num_draft_tokens is 8, expected at most 7" in refusal(2, 2, 8)


@pytest.mark.parametrize(
    ("num_steps", "topk", "nodes"), [(1, 8, 9), (5, 4, 69), (7, 10, 611), (3, 1, 4)]
)
def test_the_number_of_nodes_is_that_of_sglangs_pool(num_steps: int, topk: int, nodes: int) -> None:
    """spec_utils.py: k + (s - 1) * k * k candidates, and the root."""
    assert max_draft_tokens(num_steps, topk) == nodes


def test_settings_that_people_published_can_be_written() -> None:
    for text in ("5,4,16", "8,8,60", "6,10,32", "3,3,4", "7,10,64", "8,8,64", "1,1,2"):
        assert str(parse(text)) == text


def test_chains_of_one_to_seven_steps_are_ranked() -> None:
    assert [str(s) for s in chains()] == [
        "1,1,2", "2,1,3", "3,1,4", "4,1,5", "5,1,6", "6,1,7", "7,1,8",
    ]  # fmt: skip


def test_trees_have_more_nodes_than_a_chain_and_no_more_than_exist() -> None:
    ranked = set(trees())

    assert Settings(5, 4, 16) in ranked
    assert Settings(5, 4, 8) in ranked
    assert Settings(2, 8, 32) in ranked
    assert Settings(3, 2, 8) in ranked
    assert not any(s.num_draft_tokens <= s.num_steps + 1 for s in ranked)
    assert not any((s.num_steps, s.topk) == (2, 2) for s in ranked)


def test_off_is_a_candidate_and_none_is_there_twice() -> None:
    ranked = candidates()

    assert ranked[0] is OFF
    assert len(set(ranked)) == len(ranked) == 76
