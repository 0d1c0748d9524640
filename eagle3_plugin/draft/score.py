"""Acceptance without an engine: the oracle's chains against what the target writes greedily.

The target continues each prompt once; one more pass over the text gives the states of all taps,
and then every chain from every token is judged at once (chain.py). The counts equal those of a
live loop of draft and verify, so they say what an engine in the same dtype should reach: lower
acceptance there means bad wiring, low acceptance here means a bad draft. Trees are drafted round
by round (tree.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from eagle3_plugin.draft.chain import NUM_RANKS, Chains, simulate_chain
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.read import Draft
from eagle3_plugin.draft.reference import ReferenceDraft, read_weights
from eagle3_plugin.draft.rounds import PromptScore, Round, ScoreResult
from eagle3_plugin.draft.rows import Rows
from eagle3_plugin.draft.target_model import Continuation, TargetModel
from eagle3_plugin.draft.tree import check_vocabulary, simulate_trees
from eagle3_plugin.errors import Eagle3Error, TargetError, UsageError
from eagle3_plugin.settings import Settings

Dtype = Literal["float64", "float32", "bfloat16", "float16"]

Progress = Callable[[int, int], None]
"""Gets the tokens done and the tokens in all."""


def load_pair(
    draft: Draft, target_folder: Path, *, dtype: Dtype = "float32", device: str = "cpu"
) -> tuple[TargetModel, ReferenceDraft]:
    """A target and its draft in memory, to be scored or swept; errors as `draft_for`."""
    target = TargetModel.load(target_folder, dtype=getattr(torch, dtype), device=device)
    return target, draft_for(target, draft.config, read_weights(draft), draft.vocab_map)


def draft_for(
    target: TargetModel,
    config: DraftConfig,
    weights: Mapping[str, Tensor],
    vocab_map: Tensor | NDArray[Any] | None,
) -> ReferenceDraft:
    """The draft beside its target, in the target's dtype and on its device.

    Raises TargetError when the draft was made for a target of other sizes.
    """
    problems = list(_misfits(config, target))
    if problems:
        raise TargetError(
            "the draft does not fit the target: " + "; ".join(problems),
            hint="Score a draft with the target that it was trained on.",
        )
    draft = ReferenceDraft.from_weights(
        config,
        weights,
        vocab_map,
        target_embed=target.embed,
        target_lm_head=target.lm_head,
        dtype=target.embed.dtype,
    )
    return draft.to(target.embed.device)


def score(
    target: TargetModel,
    draft: ReferenceDraft,
    prompts: Sequence[Prompt],
    *,
    chain: int = 7,
    max_new_tokens: int = 128,
    trees: Sequence[Settings] = (),
    ignore_end: bool = False,
    progress: Progress | None = None,
) -> ScoreResult:
    """How many tokens a verify yields with this draft, for every chain length up to `chain`.

    trees: what to judge besides, as SGLang drafts them.
    ignore_end: whether the target writes on after its end token, as engines do with ignore_eos.
    """
    for shape in trees:
        check_vocabulary(shape, draft.config.draft_vocab_size)
    taps = draft.config.taps_for(target.num_layers)
    scores = []
    for prompt, text in continuations(
        target,
        prompts,
        chain,
        max_new_tokens,
        trees=trees,
        ignore_end=ignore_end,
        progress=progress,
    ):
        rows = target.rows(text.prompt, text.ids, draft)
        states = target.states(
            text.prompt, text.ids[: num_rows(text)], taps, deepstack=draft.config.deepstack_tap
        )
        chains = judge(draft, text, rows, states, taps, chain)
        rounds = tuple(judge_tree(draft, text, rows, states, taps, shape) for shape in trees)
        scores.append(_prompt_score(prompt, text, chains, rounds))
    if not any(prompt.num_matches for prompt in scores):
        raise Eagle3Error(
            f"nothing to score: all {len(scores)} continuations ended with their first token",
            hint="Use other prompts, or ignore the end token.",
        )
    dtype = str(target.embed.dtype).removeprefix("torch.")
    return ScoreResult(
        chain,
        max_new_tokens,
        dtype,
        taps,
        tuple(scores),
        num_ranks=NUM_RANKS,
        trees=tuple(trees),
        assumed=assumptions(draft.config, target, taps, prompts),
    )


def assumptions(
    config: DraftConfig, target: TargetModel, taps: Iterable[int], prompts: Sequence[Prompt]
) -> tuple[str, ...]:
    """What these prompts ask for and the draft's files do not say, in words."""
    if not any(prompt.images for prompt in prompts):
        return ()
    found = []
    if config.image_embedding == "unknown":
        found.append("the placeholder's embedding at images (--image-embedding says otherwise)")
    low = [tap for tap in taps if 1 <= tap <= target.num_deepstack]
    if config.deepstack_tap == "unknown" and low:
        found.append(f"taps {low} after the visual add (--deepstack-tap says otherwise)")
    return tuple(found)


def continuations(
    target: TargetModel,
    prompts: Sequence[Prompt],
    chain: int,
    max_new_tokens: int,
    *,
    trees: Sequence[Settings] = (),
    ignore_end: bool,
    progress: Progress | None,
) -> Iterator[tuple[Prompt, Continuation]]:
    """What the target writes after each prompt, with the overhang that chains and trees need.

    All prompts are checked before the first one is run.
    """
    if chain < 1 or max_new_tokens < 2:
        raise UsageError(
            f"chain is {chain} and max_new_tokens is {max_new_tokens}, "
            "expected at least 1 and at least 2"
        )
    for prompt in prompts:
        target.encode(prompt)
    total = len(prompts) * max_new_tokens
    for index, prompt in enumerate(prompts):
        done = index * max_new_tokens
        text = target.continue_greedily(
            target.encode(prompt),
            max_new_tokens,
            overhang=max(chain, *(shape.num_steps for shape in trees), 1) - 1,
            end_ids=() if ignore_end else target.end_ids,
            progress=progress and (lambda n, done=done: progress(done + n, total)),
        )
        if progress is not None:
            progress(done + max_new_tokens, total)
        yield prompt, text


def judge(
    draft: ReferenceDraft,
    text: Continuation,
    rows: Rows,
    states: Mapping[int, Tensor],
    taps: Sequence[int],
    chain: int,
) -> Chains:
    """The chains from every generated token of a continuation, with these taps."""
    wide = torch.cat([states[tap] for tap in taps], dim=-1)
    starts = torch.tensor(list(_starts(text)), dtype=torch.int64, device=wide.device)
    return simulate_chain(draft, wide, rows, starts, chain)


def judge_tree(
    draft: ReferenceDraft,
    text: Continuation,
    rows: Rows,
    states: Mapping[int, Tensor],
    taps: Sequence[int],
    shape: Settings,
) -> tuple[Round, ...]:
    """The rounds of a greedy run with this tree over a continuation, with these taps."""
    wide = torch.cat([states[tap] for tap in taps], dim=-1)
    starts, margins = _starts(text), text.margins.tolist()
    rounds = []
    for found in simulate_trees(draft, wide, rows, starts, shape):
        known = found.start - starts.start + 1
        yielded = margins[known : known + found.num_accepted + 1]
        rounds.append(Round(known, found.num_accepted, found.tree.margin, min(yielded)))
    return tuple(rounds)


def _starts(text: Continuation) -> range:
    """The rows that a round may begin at: one generated token known, or more, but not all."""
    first = text.num_prompt_tokens - 1
    return range(first, first + text.num_generated - 1)


def num_rows(text: Continuation) -> int:
    """Tokens whose taps a chain ever sees: the last chain starts with all but one token known."""
    return max(text.num_prompt_tokens + text.num_generated - 2, 1)


def _prompt_score(
    prompt: Prompt,
    text: Continuation,
    chains: Chains,
    tree_rounds: tuple[tuple[Round, ...], ...],
) -> PromptScore:
    end = text.num_prompt_tokens + text.num_generated
    margins = [[m for m in row if m == m] for row in chains.margins.tolist()]
    return PromptScore(
        set=prompt.set,
        where=prompt.where,
        modality=prompt.modality,
        num_prompt_tokens=text.num_prompt_tokens,
        generated=tuple(text.ids[text.num_prompt_tokens : end].tolist()),
        num_matches=tuple(chains.num_matches.tolist()),
        draft_margins=tuple(map(tuple, margins)),
        target_margins=tuple(text.margins.tolist()),
        ranks=tuple(map(tuple, chains.ranks.tolist())),
        tree_rounds=tree_rounds,
    )


def _misfits(config: DraftConfig, target: TargetModel) -> list[str]:
    found = []
    taps = config.taps_for(target.num_layers)
    if config.target_hidden_size != target.hidden_size:
        found.append(
            f"its target has hidden size {config.target_hidden_size}, this one {target.hidden_size}"
        )
    if not all(0 <= tap <= target.num_layers for tap in taps):
        found.append(f"its taps are {list(taps)}, this target has {target.num_layers} layers")
    if config.image_embedding == "visual" and config.hidden_size != target.hidden_size:
        found.append(
            "it takes the target's visual features as embeddings of images, but its hidden size is "
            f"{config.hidden_size} and theirs {target.hidden_size}"
        )
    if config.vocab_size < target.vocab_size:
        found.append(f"its vocabulary is {config.vocab_size}, this target's is {target.vocab_size}")
    return found
