"""The oracle against draft modules that no one here wrote, on random weights, in float32.

All run three steps of training-time test: step j feeds the states of step j - 1 with the ids one
further, a query sees the first step's rows up to its own and its own row of the later steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig, Rope
from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from tests import drafts
from tests.peers import (
    NUM_ROWS,
    NUM_STEPS,
    importable,
    sample,
    shifted,
    specforge_draft,
    specforge_logits,
    speculators_draft,
    speculators_logits,
)

TOLERANCE = 1e-5
"""float32, logits of about 1: the peers sum in another order (measured: 3e-6 at most)."""

YARN = Rope(
    theta=10000.0,
    type="yarn",
    parameters={"factor": 4.0, "original_max_position_embeddings": 64.0},
)
LLAMA3 = Rope(
    theta=10000.0,
    type="llama3",
    parameters={
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64.0,
    },
)
LINEAR = Rope(theta=10000.0, type="linear", parameters={"factor": 2.0})

SPECFORGE_VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fc_norm": {"fc_input_norm": "per_tap"},
    "head_dim not hidden / heads": {"head_dim": 24},
    "narrower than the target": {"target_hidden_size": 80},
    "yarn": {"rope": YARN},
    "llama3": {"rope": LLAMA3},
    "linear": {"rope": LINEAR},
}
SPECULATORS_VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"decoder": "qwen3"},
    "normed residual": {"residual": "normed"},
    "qwen3, normed residual": {"decoder": "qwen3", "residual": "normed"},
    "norm_before_fc": {"fc_input_norm": "joint"},
    "fc_norm": {"fc_input_norm": "per_tap"},
    "norm_output": {"feedback": "postnorm"},
    "attention bias": {"attention_bias": True, "attention_output_bias": True},
    "qwen3, attention bias": {
        "decoder": "qwen3",
        "attention_bias": True,
        "attention_output_bias": True,
    },
    "two layers": {"num_layers": 2},
    "qwen3, two layers, norm_output": {
        "decoder": "qwen3",
        "num_layers": 2,
        "feedback": "postnorm",
    },
    "four taps": {"taps": (1, 2, 3, 5), "num_taps": 4, "fc_input_norm": "per_tap"},
    "head_dim not hidden / heads": {"head_dim": 24},
    "yarn": {"rope": YARN},
    "llama3": {"rope": LLAMA3},
    "linear": {"rope": LINEAR},
}


def draft_config(**changes: Any) -> DraftConfig:
    """A draft as both peers can build it: grouped queries, own embedding, three stated taps."""
    values = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "taps": (2, 3, 5),
        "rope": Rope(theta=10000.0),
        "embedding": "own",
        "dtype": "F32",
    }
    return drafts.draft_config(**(values | changes))


@pytest.fixture(scope="module")
def peers() -> Iterator[None]:
    with importable():
        yield


def our_logits(draft: ReferenceDraft, taps: Tensor, ids: Tensor) -> list[Tensor]:
    """Logits [batch, rows, draft_vocab] of each step."""
    cache: Cache = []
    causal = torch.ones(NUM_ROWS, NUM_ROWS, dtype=torch.bool).tril()
    own = torch.eye(NUM_ROWS, dtype=torch.bool)
    hidden, found = draft.fuse(taps), []
    for step in range(NUM_STEPS):
        mask = torch.cat([causal] + [own] * step, dim=1)[None, None]
        positions = (torch.arange(NUM_ROWS) + step).expand(len(ids), -1)
        embeds = draft.embed_tokens(shifted(ids, step))
        normed, hidden = draft(embeds, hidden, positions, cache, mask)
        found.append(draft.logits(normed))
    return found


def reference_with(config: DraftConfig, weights: dict[str, Tensor]) -> ReferenceDraft:
    names = {"d2t", "t2d", "verifier_norm.weight", "verifier_lm_head.weight"}
    ours = {
        name.replace("midlayer.", "layers.0."): tensor
        for name, tensor in weights.items()
        if name not in names
    }
    return ReferenceDraft.from_weights(config, ours, torch.arange(config.draft_vocab_size))


def largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> list[float]:
    return [(a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("changes", SPECFORGE_VARIANTS.values(), ids=SPECFORGE_VARIANTS)
def test_three_steps_equal_specforge(peers: None, changes: dict[str, Any]) -> None:
    config = draft_config(**changes)
    model = specforge_draft(config)
    taps, ids = sample(config, batch=2)

    theirs = specforge_logits(model, taps, ids)
    ours = our_logits(reference_with(config, model.state_dict()), taps, ids)

    assert theirs[2].std() > 0.5
    assert max(largest_difference(ours, theirs)) <= TOLERANCE


@pytest.mark.parametrize("changes", SPECULATORS_VARIANTS.values(), ids=SPECULATORS_VARIANTS)
def test_three_steps_equal_speculators(peers: None, changes: dict[str, Any]) -> None:
    config = draft_config(**changes)
    model = speculators_draft(config)
    taps, ids = sample(config, batch=1)

    theirs = speculators_logits(model, taps, ids)
    ours = our_logits(reference_with(config, model.state_dict()), taps, ids)

    assert theirs[2].std() > 0.5
    assert max(largest_difference(ours, theirs)) <= TOLERANCE


def test_norm_output_of_specforge_does_not_feed_the_normed_state(peers: None) -> None:
    """The same key in speculators, vLLM and SGLang means `feedback: postnorm`."""
    config = draft_config()
    model = specforge_draft(config, norm_output=True)
    taps, ids = sample(config, batch=2)

    theirs = specforge_logits(model, taps, ids)
    postnorm = reference_with(draft_config(feedback="postnorm"), model.state_dict())
    first, second, _ = largest_difference(our_logits(postnorm, taps, ids), theirs)

    assert first <= TOLERANCE
    assert second > 0.1


def test_without_norm_output_the_head_of_specforge_reads_the_state_before_the_norm(
    peers: None,
) -> None:
    config = draft_config()
    model = specforge_draft(config, norm_output=False)
    taps, ids = sample(config, batch=2)

    draft = reference_with(config, model.state_dict())
    positions = torch.arange(NUM_ROWS).expand(2, -1)
    embeds = draft.embed_tokens(shifted(ids, 0))
    normed, before_norm = draft(embeds, draft.fuse(taps), positions)
    first = specforge_logits(model, taps, ids)[0]

    assert largest_difference([draft.logits(before_norm)], [first])[0] <= TOLERANCE
    assert largest_difference([draft.logits(normed)], [first])[0] > 0.1


def test_norm_output_of_speculators_feeds_the_normed_state(peers: None) -> None:
    config = draft_config(feedback="postnorm")
    model = speculators_draft(config)
    taps, ids = sample(config, batch=1)

    theirs = speculators_logits(model, taps, ids)
    prenorm = reference_with(draft_config(), model.state_dict())
    first, second, _ = largest_difference(our_logits(prenorm, taps, ids), theirs)

    assert first <= TOLERANCE
    assert second > 0.1


def test_specforge_has_no_q_and_k_norms_and_no_attention_biases(peers: None) -> None:
    names = list(specforge_draft(draft_config()).state_dict())

    assert [n for n in names if "q_norm" in n or "k_norm" in n or n.endswith(".bias")] == []
