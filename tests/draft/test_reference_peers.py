"""The oracle against draft modules that no one here wrote, on random weights, in float32.

All run three steps of training-time test: step j feeds the states of step j - 1 with the ids one
further, a query sees the first step's rows up to its own and its own row of the later steps.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig, Rope
from eagle3_plugin.draft.reference import Cache, ReferenceDraft
from tests import drafts

PEERS = Path(__file__).parents[2] / ".venvs" / "peers"
STAND_INS = (
    "datasets",
    "hs_connectors",
    "openai",
    "openai.types",
    "openai.types.chat",
    "openai.types.completion",
)
"""What speculators imports for its trainer, and its model does not use."""

TOLERANCE = 1e-5
"""float32, logits of about 1: the peers sum in another order (measured: 4e-6 at most)."""

NUM_STEPS = 3
NUM_ROWS = 23
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
    """The peers importable, uncompiled, and without what only their trainers need."""
    if not PEERS.is_dir():
        pytest.fail("the peers are not installed; run: make setup")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PEERS))
        patch.setattr("torch._dynamo.config.disable", True)
        for name in STAND_INS:
            patch.setitem(sys.modules, name, _StandIn(name))
        yield


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def randomise(module: torch.nn.Module) -> None:
    """Weights with which every part of the draft matters; norms are around one."""
    generator = torch.Generator().manual_seed(7)
    for name, weight in module.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        with torch.no_grad():
            weight.copy_(1 + 0.3 * noise if "norm" in name else 0.15 * noise)


def sample(config: DraftConfig, batch: int) -> tuple[Tensor, Tensor]:
    """Taps [batch, rows, num_taps * target_hidden], and ids of one token more."""
    generator = torch.Generator().manual_seed(3)
    width = config.num_taps * config.target_hidden_size
    taps = torch.randn(batch, NUM_ROWS, width, generator=generator)
    return taps, torch.randint(0, config.vocab_size, (batch, NUM_ROWS + 1), generator=generator)


def shifted(ids: Tensor, step: int) -> Tensor:
    """The ids that step `step` embeds, [batch, rows]; zeros where the text has ended."""
    return torch.nn.functional.pad(ids[:, 1 + step :], (0, step))


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


def rope_parameters(rope: Rope) -> dict[str, Any]:
    return {"rope_type": rope.type, "rope_theta": rope.theta, **rope.parameters}


def sizes(config: DraftConfig) -> dict[str, Any]:
    """What both peers read from a transformers config."""
    same = (
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "rms_norm_eps",
        "max_position_embeddings",
    )
    return {name: getattr(config, name) for name in same}


def specforge_draft(config: DraftConfig, *, norm_output: bool = True) -> Any:
    from specforge.modeling.draft.llama3_eagle import LlamaForCausalLMEagle3
    from transformers import LlamaConfig

    rope = rope_parameters(config.rope)
    if config.rope.type == "yarn":
        rope |= {"beta_fast": 32, "beta_slow": 1, "mscale": 1, "mscale_all_dim": 0}
    theirs = LlamaConfig(**sizes(config), num_hidden_layers=1, rope_parameters=rope)
    theirs.draft_vocab_size = config.draft_vocab_size
    theirs.target_hidden_size = config.target_hidden_size
    theirs.fc_norm = config.fc_input_norm == "per_tap"
    theirs.norm_output = norm_output
    model = LlamaForCausalLMEagle3(theirs, attention_backend="sdpa").eval()
    randomise(model)
    return model


@torch.no_grad()
def specforge_logits(model: Any, taps: Tensor, ids: Tensor) -> list[Tensor]:
    batch = len(ids)
    hidden = model.project_hidden_states(taps)
    seen = torch.ones(batch, NUM_ROWS, dtype=torch.bool)
    mask = model.prepare_decoder_attention_mask(seen, hidden, batch, NUM_ROWS, 0)
    positions = torch.arange(NUM_ROWS).expand(batch, -1)
    cache: list[list[Tensor]] = [[], []]
    found = []
    for step in range(NUM_STEPS):
        embeds = model.embed_input_ids(shifted(ids, step))
        hidden = model.backbone(embeds, hidden, cache, mask, positions)
        found.append(model.compute_logits(hidden))
    return found


def speculators_draft(config: DraftConfig) -> Any:
    from speculators import SpeculatorsConfig, VerifierConfig
    from speculators.models.eagle3 import Eagle3DraftModel, Eagle3SpeculatorConfig
    from speculators.proposals.greedy import GreedyTokenProposalConfig
    from transformers import LlamaConfig, Qwen3Config

    layer = (Qwen3Config if config.decoder == "qwen3" else LlamaConfig)(
        **sizes(config),
        num_hidden_layers=config.num_layers,
        attention_bias=config.attention_bias,
        rope_parameters=rope_parameters(config.rope),
    )
    layer._attn_implementation = "eager"
    theirs = Eagle3SpeculatorConfig(
        transformer_layer_config=layer,
        draft_vocab_size=config.draft_vocab_size,
        norm_before_residual=config.residual == "normed",
        norm_before_fc=config.fc_input_norm == "joint",
        fc_norm=config.fc_input_norm == "per_tap",
        norm_output=config.feedback == "postnorm",
        eagle_aux_hidden_state_layer_ids=list(config.taps),
        speculators_config=SpeculatorsConfig(
            algorithm="eagle3",
            proposal_methods=[GreedyTokenProposalConfig(speculative_tokens=NUM_STEPS)],
            default_proposal_method="greedy",
            verifier=VerifierConfig(name_or_path=None, architectures=[]),
        ),
    )
    model = Eagle3DraftModel(theirs).eval()
    randomise(model)
    return model


@torch.no_grad()
def speculators_logits(model: Any, taps: Tensor, ids: Tensor) -> list[Tensor]:
    """It takes one packed sequence and returns argmax ids; the logits are caught at its head."""
    found: list[Tensor] = []
    hook = model.lm_head.register_forward_hook(lambda _m, _i, logits: found.append(logits))
    document = torch.zeros(1, NUM_ROWS, dtype=torch.int64)
    model(taps, shifted(ids, 0), document, ttt_steps=NUM_STEPS)
    hook.remove()
    return found


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
