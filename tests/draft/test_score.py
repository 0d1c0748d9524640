"""Scores of a small random target and a draft that learned its continuations by heart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from eagle3_plugin.draft.chain import draft_chain
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import ReferenceDraft
from eagle3_plugin.draft.rounds import ScoreResult
from eagle3_plugin.draft.rows import text_rows
from eagle3_plugin.draft.score import draft_for, score
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.draft.tree import ROOT, draft_tree, run_prefix
from eagle3_plugin.errors import Eagle3Error, TargetError, UsageError
from eagle3_plugin.settings import Settings
from tests import drafts
from tests.memorised_pair import (
    CHAIN,
    NUM_NEW_TOKENS,
    PROMPTS,
    SIZES,
    continue_by_hand,
    taps_by_hand,
    train_draft,
    write_target,
)

CONFIG = drafts.draft_config(
    vocab_size=96, draft_vocab_size=80, taps=(1, 3, 6), lm_head="own", rope={"theta": 1e4}
)


TREES = (Settings(3, 1, 4), Settings(3, 4, 8), Settings(5, 4, 16))


@pytest.fixture(scope="module")
def target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def target(target_folder: Path) -> TargetModel:
    return TargetModel.load(target_folder, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def draft(target: TargetModel) -> ReferenceDraft:
    return train_draft(target, CONFIG, num_steps=60)


def live_rounds(model: Any, draft: ReferenceDraft, prompt: Prompt, chain: int) -> list[int]:
    """Accepted tokens of each round of draft and verify, as an engine would run them."""
    ids = continue_by_hand(model, prompt, 1)
    accepted = []
    while len(ids) < 8 + NUM_NEW_TOKENS:
        taps = taps_by_hand(model, ids[:-1], CONFIG.taps_for(6))
        drafted = draft_chain(draft, taps, text_rows(ids), chain)
        with torch.no_grad():
            tried = torch.cat([ids, torch.tensor(drafted)])
            written = model(tried[None]).logits[0, len(ids) - 1 :].argmax(-1).tolist()
        right = [d == w for d, w in zip(drafted, written, strict=False)]
        accepted.append([*right, False].index(False))
        ids = torch.cat([ids, torch.tensor(written[: accepted[-1] + 1])])
    return accepted


def live_tree_rounds(
    model: Any, draft: ReferenceDraft, prompt: Prompt, shape: Settings
) -> list[int]:
    """The same with a tree, each path of which the target judges alone."""
    ids = continue_by_hand(model, prompt, 1)
    accepted = []
    while len(ids) < 8 + NUM_NEW_TOKENS:
        taps = taps_by_hand(model, ids[:-1], CONFIG.taps_for(6))
        tree = draft_tree(run_prefix(draft, taps, text_rows(ids)), len(taps) - 1, shape)
        paths: dict[int, list[int]] = {ROOT: []}
        for node, (token, parent) in enumerate(zip(tree.tokens, tree.parents, strict=True)):
            paths[node] = [*paths[parent], token]
        right: list[list[int]] = [[]]
        for path in sorted(paths.values(), key=len)[1:]:
            before = torch.cat([ids, torch.tensor(path[:-1], dtype=torch.int64)])
            with torch.no_grad():
                written = int(model(before[None]).logits[0, -1].argmax())
            right += [path] if path[:-1] == right[-1] and path[-1] == written else []
        accepted.append(len(right[-1]))
        with torch.no_grad():
            tried = torch.cat([ids, torch.tensor(right[-1], dtype=torch.int64)])
            ids = torch.cat([tried, model(tried[None]).logits[0, -1:].argmax(-1)])
    return accepted


@pytest.fixture(scope="module")
def result(target: TargetModel, draft: ReferenceDraft) -> ScoreResult:
    return score(target, draft, PROMPTS, chain=CHAIN, max_new_tokens=NUM_NEW_TOKENS, trees=TREES)


def test_the_draft_of_these_tests_is_right_at_every_depth(result: ScoreResult) -> None:
    assert all(0.1 < rate < 0.95 for rate in result.acceptance_rate)


@pytest.mark.parametrize("chain", [1, 2, 3])
def test_the_rounds_are_those_of_a_live_loop(
    target: TargetModel, draft: ReferenceDraft, result: ScoreResult, chain: int
) -> None:
    for prompt, scored in zip(PROMPTS, result.prompts, strict=True):
        live = live_rounds(target.model, draft, prompt, chain)
        assert [r.num_accepted for r in scored.rounds(chain)] == live


@pytest.mark.parametrize("index", range(3), ids=map(str, TREES))
def test_the_rounds_of_a_tree_are_those_of_a_live_loop(
    target: TargetModel, draft: ReferenceDraft, result: ScoreResult, index: int
) -> None:
    for prompt, scored in list(zip(PROMPTS, result.prompts, strict=True))[:2]:
        live = live_tree_rounds(target.model, draft, prompt, TREES[index])
        assert [r.num_accepted for r in scored.tree_rounds[index]] == live


def test_a_tree_with_topk_1_has_the_rounds_of_the_chain(result: ScoreResult) -> None:
    for scored in result.prompts:
        found = [(r.num_known, r.num_accepted, r.target_margin) for r in scored.tree_rounds[0]]
        chain = scored.rounds(CHAIN)
        assert found == [(r.num_known, r.num_accepted, r.target_margin) for r in chain]


def test_a_larger_tree_yields_more(result: ScoreResult) -> None:
    chain, small, large = (tree.tokens_per_verify or 0 for tree in result.tree_scores)

    assert chain < small < large


def test_the_best_rank_after_one_token_is_where_chains_of_one_match(result: ScoreResult) -> None:
    matches = [min(n, 1) for prompt in result.prompts for n in prompt.num_matches]

    assert result.rank_rate_conditional[0][0] == pytest.approx(sum(matches) / len(matches))
    assert all(0.5 < sum(rates) <= 1 for rates in result.rank_rate_conditional)


def test_a_tree_wider_than_the_drafts_vocabulary_is_refused_before_anything_runs(
    target: TargetModel, draft: ReferenceDraft
) -> None:
    seen: list[int] = []

    with pytest.raises(UsageError, match="topk is 90, expected at most 80"):
        score(
            target,
            draft,
            PROMPTS,
            trees=[Settings(2, 90, 4)],
            progress=lambda done, _total: seen.append(done),
        )

    assert seen == []


def test_the_text_is_the_targets_greedy_one(target: TargetModel, result: ScoreResult) -> None:
    for prompt, scored in zip(PROMPTS, result.prompts, strict=True):
        expected = continue_by_hand(target.model, prompt, NUM_NEW_TOKENS)[8:]
        assert list(scored.generated) == expected.tolist()


def test_a_short_chain_scores_as_the_beginning_of_a_long_one(
    target: TargetModel, draft: ReferenceDraft, result: ScoreResult
) -> None:
    short = score(target, draft, PROMPTS, chain=1, max_new_tokens=NUM_NEW_TOKENS)

    assert short.tokens_per_verify == {1: result.tokens_per_verify[1]}


def test_the_json_form_has_these_keys(result: ScoreResult) -> None:
    found = json.loads(json.dumps(result.to_json()))

    assert list(found) == [
        "schema",
        "chain",
        "max_new_tokens",
        "dtype",
        "taps",
        "assumed",
        "num_prompts",
        "num_rounds",
        "num_tokens",
        "tokens_per_verify",
        "tokens_per_verify_fresh",
        "distinct_4grams",
        "acceptance_rate",
        "acceptance_rate_conditional",
        "modalities",
        "prompt_sets",
        "rounds_per_prompt",
        "accepted_draft_tokens_per_prompt",
        "rank_wise",
        "trees",
    ]
    assert list(found["tokens_per_verify"]) == ["1", "2", "3"]
    assert list(found["prompt_sets"]) == ["even", "odd"]
    assert found["dtype"] == "float32"
    assert found["taps"] == [1, 3, 6]
    assert found["num_tokens"] == 6 * (NUM_NEW_TOKENS - 1)
    assert found["rank_wise"]["topk"] == 10
    assert [len(depth) for depth in found["rank_wise"]["acceptance_rate_conditional"]] == [10] * 3
    assert [tree["num_draft_tokens"] for tree in found["trees"]] == [4, 8, 16]


def test_the_margins_are_the_leads_of_the_logits(target: TargetModel, result: ScoreResult) -> None:
    first = result.prompts[0]
    ids = torch.tensor([*PROMPTS[0].value, *first.generated])
    with torch.no_grad():
        best = target.model(ids[None]).logits[0, 7:-1].topk(2).values
    expected = (best[:, 0] - best[:, 1]).tolist()

    # float32, logits of about 10: with and without a KV cache the sums differ a little.
    assert list(first.target_margins[:NUM_NEW_TOKENS]) == pytest.approx(expected, abs=1e-4)
    assert min(min(margins) for margins in first.draft_margins) >= 0


def test_scoring_ends_where_the_target_says_so(
    target: TargetModel, draft: ReferenceDraft, result: ScoreResult, end_token: int
) -> None:
    stopped = score(target, draft, PROMPTS[:1], chain=CHAIN, max_new_tokens=NUM_NEW_TOKENS)
    ignored = score(
        target, draft, PROMPTS[:1], chain=CHAIN, max_new_tokens=NUM_NEW_TOKENS, ignore_end=True
    )

    text = result.prompts[0].generated
    assert stopped.prompts[0].generated == text[: text.index(end_token) + 1]
    assert ignored.prompts[0].generated == text


@pytest.fixture
def end_token(target: TargetModel, result: ScoreResult) -> Iterator[int]:
    """The tenth token that the target writes becomes its end token."""
    token = result.prompts[0].generated[9]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "end_ids", (token,))
        yield token


def test_texts_that_end_at_once_cannot_be_scored(
    target: TargetModel, draft: ReferenceDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "end_ids", tuple(range(96)))

    with pytest.raises(Eagle3Error, match="all 6 continuations ended with their first token"):
        score(target, draft, PROMPTS, chain=CHAIN, max_new_tokens=8)


@pytest.mark.parametrize(("chain", "max_new_tokens"), [(0, 8), (3, 1)])
def test_a_chain_or_text_too_short_is_refused(
    target: TargetModel, draft: ReferenceDraft, chain: int, max_new_tokens: int
) -> None:
    with pytest.raises(UsageError, match="expected at least 1 and at least 2"):
        score(target, draft, PROMPTS, chain=chain, max_new_tokens=max_new_tokens)


def test_progress_counts_tokens_up_to_all_of_them(
    target: TargetModel, draft: ReferenceDraft
) -> None:
    seen: list[tuple[int, int]] = []

    score(
        target,
        draft,
        PROMPTS[:2],
        chain=CHAIN,
        max_new_tokens=5,
        progress=lambda done, total: seen.append((done, total)),
    )

    assert seen == [(n, 10) for n in (1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10)]


def weights_of(draft: ReferenceDraft) -> dict[str, Tensor]:
    shared = ("embed_tokens.weight",)
    return {n: t.detach() for n, t in draft.state_dict().items() if n not in shared}


def test_a_loaded_target_shares_its_embedding_with_the_draft(
    target_folder: Path, draft: ReferenceDraft, result: ScoreResult
) -> None:
    target = TargetModel.load(target_folder, dtype=torch.float32, device="cpu")
    loaded = draft_for(target, CONFIG, weights_of(draft), draft.vocab_map)

    found = score(target, loaded, PROMPTS, chain=CHAIN, max_new_tokens=NUM_NEW_TOKENS, trees=TREES)

    assert found == result


def test_bfloat16_scores_too_and_says_so(target_folder: Path, draft: ReferenceDraft) -> None:
    target = TargetModel.load(target_folder, dtype=torch.bfloat16, device="cpu")
    loaded = draft_for(target, CONFIG, weights_of(draft), draft.vocab_map)

    found = score(target, loaded, PROMPTS, chain=CHAIN, max_new_tokens=NUM_NEW_TOKENS)

    assert found.dtype == "bfloat16"
    assert found.tokens_per_verify[CHAIN] > 1


def test_a_mixture_of_experts_target_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    moe = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**(SIZES | moe))).save_pretrained(tmp_path)
    target = TargetModel.load(tmp_path, dtype=torch.float32, device="cpu")
    loaded = draft_for(target, CONFIG, weights_of(ReferenceDraft(CONFIG, None)), torch.arange(80))

    found = score(target, loaded, PROMPTS[:1], chain=2, max_new_tokens=6)

    assert found.num_tokens == 5


def other(**changes: Any) -> DraftConfig:
    values = CONFIG.model_dump() | {"embedding": "own"} | changes
    return DraftConfig.model_validate(values)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (other(target_hidden_size=80), "its target has hidden size 80, this one 64"),
        (other(taps=(2, 3, 7)), "its taps are [2, 3, 7], this target has 6 layers"),
        (other(vocab_size=90), "its vocabulary is 90, this target's is 96"),
    ],
)
def test_a_draft_of_another_target_is_refused(
    target: TargetModel, config: DraftConfig, message: str
) -> None:
    with pytest.raises(TargetError) as caught:
        draft_for(target, config, {}, None)

    assert caught.value.message == f"the draft does not fit the target: {message}"


def test_a_prompt_may_be_one_token(target: TargetModel, draft: ReferenceDraft) -> None:
    prompt = replace(PROMPTS[0], value=(5,))

    found = score(target, draft, [prompt], chain=CHAIN, max_new_tokens=2)

    assert found.rounds_per_prompt == (1,)
