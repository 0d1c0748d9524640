"""Chains and trees of a random draft after images: live loops against all starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from eagle3_plugin.draft.chain import draft_chain, simulate_chain
from eagle3_plugin.draft.config import Rope
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from eagle3_plugin.draft.rows import Rows
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.draft.tree import draft_tree, run_prefix, simulate_trees
from eagle3_plugin.settings import Settings
from tests import drafts
from tests.engines.random_target import write_random_vl_target
from tests.random_text import num_right
from tests.vl_prompts import prompts_by_name

NUM_STEPS = 3
NUM_WRITTEN = 40
INTERLEAVED = Rope(theta=1e6, mrope_section=(6, 5, 5), mrope_interleaved=True)
SECTIONS = Rope(theta=1e6, mrope_section=(8, 4, 4))
VARIANTS: dict[str, dict[str, Any]] = {
    "placeholders, interleaved": {"image_embedding": "placeholder", "rope": INTERLEAVED},
    "visual, sections": {"image_embedding": "visual", "rope": SECTIONS},
    "visual, 1-D": {"image_embedding": "visual"},
    "before": {"image_embedding": "placeholder", "deepstack_tap": "before"},
}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    folder = write_random_vl_target(tmp_path_factory.mktemp("vl"))
    return TargetModel.load(folder, dtype=torch.float64, device="cpu")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prompt]:
    return prompts_by_name(tmp_path_factory.mktemp("prompts"))


def random_draft(**changes: Any) -> ReferenceDraft:
    generator = torch.Generator().manual_seed(0)
    config = drafts.draft_config(
        embedding="own", draft_vocab_size=512, has_vocab_map=False, **changes
    )
    draft = ReferenceDraft(config, None).double()
    for name, weight in draft.named_parameters():
        with torch.no_grad():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.copy_(noise * 0.2 + ("norm" in name))
    return draft


@dataclass(frozen=True)
class Text:
    """rows of prompt and continuation, of which the continuation is what the draft would write."""

    draft: ReferenceDraft
    taps: Tensor
    rows: Rows
    num_prompt_tokens: int

    def chain(self, start: int) -> list[int]:
        rows = self.rows.first(start + 2)
        return draft_chain(self.draft, self.taps[: start + 1], rows, NUM_STEPS)


def write_text(target: TargetModel, prompt: Prompt, draft: ReferenceDraft) -> Text:
    """What the draft would write, with every fifth token another one: chains are right in part."""
    encoded = target.encode(prompt)
    taps = draft.config.taps_for(target.num_layers)
    ids = encoded.ids
    for index in range(NUM_WRITTEN):
        rows = target.rows(encoded, torch.cat([ids, ids[-1:]]), draft)
        states = target.states(encoded, ids, taps, deepstack=draft.config.deepstack_tap)
        wide = torch.cat([states[k] for k in taps], dim=-1)
        text = Text(draft, wide, rows, len(encoded.ids))
        written = draft_chain(draft, wide[:-1], rows.first(len(ids)), 1) if index else [7]
        ids = torch.cat([ids, torch.tensor([written[0] + (index % 5 == 0)]) % 512])
    return text


@pytest.fixture(scope="module", params=VARIANTS)
def text(request: pytest.FixtureRequest, target: TargetModel, prompts: dict[str, Prompt]) -> Text:
    return write_text(target, prompts["two images"], random_draft(**VARIANTS[request.param]))


def starts_of(text: Text) -> range:
    return range(text.num_prompt_tokens - 1, len(text.rows.ids) - NUM_STEPS - 2)


def test_all_chains_at_once_are_the_chains_drafted_alone(text: Text) -> None:
    starts = torch.tensor(starts_of(text))

    chains = simulate_chain(text.draft, text.taps[:-1], text.rows, starts, NUM_STEPS)

    alone = [text.chain(start) for start in starts.tolist()]
    written = [text.rows.ids[start + 2 :] for start in starts.tolist()]
    right = [num_right(chain, ids) for chain, ids in zip(alone, written, strict=True)]
    assert chains.num_matches.tolist() == right
    assert len(set(right)) > 1
    followed = [c[: n + 1] + [-1] * (NUM_STEPS - n - 1) for c, n in zip(alone, right, strict=True)]
    assert chains.ids.tolist() == followed


def test_the_rounds_of_trees_are_those_of_a_live_loop(text: Text) -> None:
    shape, starts = Settings(3, 3, 6), starts_of(text)
    live, start = [], starts.start
    while start < starts.stop:
        known = run_prefix(text.draft, text.taps[: start + 1], text.rows.first(start + 2))
        tree = draft_tree(known, start, shape)
        accepted = len(tree.accepted(text.rows.ids[start + 2 :].tolist()))
        live.append((start, tree.tokens, accepted))
        start += accepted + 1

    found = simulate_trees(text.draft, text.taps[:-1], text.rows, starts, shape)

    assert [(r.start, r.tree.tokens, r.num_accepted) for r in found] == live


def test_a_tree_of_one_branch_is_the_chain(text: Text) -> None:
    start = text.num_prompt_tokens + 5
    prefix = run_prefix(text.draft, text.taps[: start + 1], text.rows.first(start + 2))

    tree = draft_tree(prefix, start, Settings(NUM_STEPS, 1, NUM_STEPS + 1))

    assert list(tree.tokens) == text.chain(start)


def test_a_chain_goes_on_from_the_position_of_its_start(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    """Written out by hand: two passes, the second of one row, one further on every axis."""
    draft = random_draft(**VARIANTS["visual, sections"])
    text = write_text(target, prompts["one image"], draft)
    count = text.num_prompt_tokens
    taps, rows, cache = text.taps[:count], text.rows.first(count + 1), Cache()
    assert rows.embeds is not None
    last = int(rows.positions[0, count - 1])
    assert last < count - 1

    normed, feedback = draft(
        rows.embeds[None, 1:], draft.fuse(taps)[None], rows.positions[:, None, :-1], cache
    )
    first = draft.logits(normed[0, -1]).argmax()
    there = torch.full((3, 1, 1), last + 1)
    normed, _ = draft(draft.embed_tokens(first)[None, None], feedback[:, -1:], there, cache)
    second = draft.logits(normed[0, -1]).argmax()

    assert text.chain(count - 1)[:2] == [int(first), int(second)]


def test_every_way_of_feeding_images_drafts_otherwise(
    target: TargetModel, prompts: dict[str, Prompt]
) -> None:
    """The same weights and text: what the variants change is not lost on the way."""
    drafted = set()
    for changes in VARIANTS.values():
        draft = random_draft(**changes)
        encoded = target.encode(prompts["two images"])
        taps = draft.config.taps_for(target.num_layers)
        states = target.states(encoded, encoded.ids, taps, deepstack=draft.config.deepstack_tap)
        ids = torch.cat([encoded.ids, torch.tensor([7])])
        wide = torch.cat([states[k] for k in taps], dim=-1)
        prefix = run_prefix(draft, wide, target.rows(encoded, ids, draft))
        drafted.add(tuple(prefix.normed[-1].tolist()))

    assert len(drafted) == len(VARIANTS)
