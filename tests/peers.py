"""Other people's draft modules with random weights, and the logits of three steps of each.

specforge 0.2.0 and speculators 0.9.0, installed without their dependencies by `make setup`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch._dynamo.config
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig, Rope

PEERS = Path(__file__).parents[1] / ".venvs" / "peers"
STAND_INS = (
    "datasets",
    "hs_connectors",
    "openai",
    "openai.types",
    "openai.types.chat",
    "openai.types.completion",
)
"""What speculators imports for its trainer, and its model does not use."""

NUM_STEPS = 3
NUM_ROWS = 23


@contextmanager
def importable() -> Iterator[None]:
    """The peers importable, uncompiled, and without what only their trainers need."""
    if not PEERS.is_dir():
        pytest.fail("the peers are not installed; run: make setup")
    with pytest.MonkeyPatch.context() as patch, torch._dynamo.config.patch(disable=True):
        patch.syspath_prepend(str(PEERS))
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
            weight.copy_(1 + 0.3 * noise if "norm" in name else 0.12 * noise)


def sample(config: DraftConfig, batch: int) -> tuple[Tensor, Tensor]:
    """Taps [batch, rows, num_taps * target_hidden], and ids of one token more."""
    generator = torch.Generator().manual_seed(3)
    width = config.num_taps * config.target_hidden_size
    taps = torch.randn(batch, NUM_ROWS, width, generator=generator)
    return taps, torch.randint(0, config.vocab_size, (batch, NUM_ROWS + 1), generator=generator)


def shifted(ids: Tensor, step: int) -> Tensor:
    """The ids that step `step` embeds, [batch, rows]; zeros where the text has ended."""
    return torch.nn.functional.pad(ids[:, 1 + step :], (0, step))


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
