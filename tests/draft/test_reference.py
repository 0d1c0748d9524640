from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.reference import Cache, ReferenceDraft, read_weights
from eagle3_plugin.draft.tensors import expected_tensors
from eagle3_plugin.errors import DraftError
from tests import drafts

VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"decoder": "qwen3"},
    "normed residual": {"residual": "normed"},
    "norm_before_fc": {"fc_input_norm": "joint"},
    "fc_norm": {"fc_input_norm": "per_tap"},
    "norm_output": {"feedback": "postnorm"},
    "biases": {"attention_bias": True, "attention_output_bias": True, "fc_bias": True},
    "two layers": {"num_layers": 2},
    "four taps": {"taps": (1, 2, 3, 5), "num_taps": 4},
    "head_dim not hidden / heads": {"head_dim": 24},
    "narrower than the target": {"hidden_size": 48},
    "full vocabulary": {"draft_vocab_size": 512, "has_vocab_map": False},
    "mrope": {"rope": {"theta": 1e4, "mrope_section": (6, 5, 5), "mrope_interleaved": True}},
}


def own_config(**changes: Any) -> DraftConfig:
    return drafts.draft_config(**({"embedding": "own", "dtype": "F32"} | changes))


def weights_for(config: DraftConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(shape, generator=generator) * 0.2 + ("norm" in name)
        for name, shape in expected_tensors(config).items()
    }


def build(config: DraftConfig, dtype: torch.dtype = torch.float32) -> ReferenceDraft:
    ids = drafts.vocab_map(config)
    return ReferenceDraft.from_weights(config, weights_for(config), ids, dtype=dtype)


def rows(draft: ReferenceDraft, batch: int = 2, num_rows: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, fused taps and positions to run the draft on."""
    config, generator = draft.config, torch.Generator().manual_seed(2)
    width = config.num_taps * config.target_hidden_size
    taps = torch.randn(batch, num_rows, width, generator=generator).to(draft.fc.weight.dtype)
    ids = torch.randint(0, config.vocab_size, (batch, num_rows), generator=generator)
    positions = torch.arange(num_rows).expand(batch, num_rows)
    return draft.embed_tokens(ids), draft.fuse(taps), positions


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_state_dict_has_the_canonical_names_and_shapes(changes: dict[str, Any]) -> None:
    config = own_config(**changes)

    state = ReferenceDraft(config, None).state_dict()

    assert {name: tuple(t.shape) for name, t in state.items()} == expected_tensors(config)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_rows_fed_in_two_parts_through_a_cache_give_the_same_states(
    changes: dict[str, Any],
) -> None:
    draft = build(own_config(**changes), torch.float64)
    embeds, hidden, positions = rows(draft)
    cache: Cache = []

    whole = draft(embeds, hidden, positions)
    first = draft(embeds[:, :4], hidden[:, :4], positions[:, :4], cache)
    second = draft(embeds[:, 4:], hidden[:, 4:], positions[:, 4:], cache)

    assert len(cache) == draft.config.num_layers
    assert cache[0][0].shape[2] == 7
    for at_once, *parts in zip(whole, first, second, strict=True):
        torch.testing.assert_close(torch.cat(parts, dim=1), at_once, rtol=0, atol=1e-12)  # float64


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_weight_matters_and_has_a_gradient(changes: dict[str, Any]) -> None:
    draft = build(own_config(**changes))
    embeds, hidden, positions = rows(draft)

    _, feedback = draft(embeds, hidden, positions)
    again, _ = draft(embeds, feedback, positions + 1)
    names, parameters = zip(*draft.named_parameters(), strict=True)
    gradients = torch.autograd.grad(draft.logits(again).square().sum(), parameters)

    assert [n for n, g in zip(names, gradients, strict=True) if not g.any()] == []


def test_a_batch_gives_what_its_sequences_give_alone() -> None:
    draft = build(own_config(), torch.float64)
    embeds, hidden, positions = rows(draft, batch=3)

    together, _ = draft(embeds, hidden, positions)
    alone = [draft(embeds[i : i + 1], hidden[i : i + 1], positions[:1])[0] for i in range(3)]

    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)  # float64


def test_a_mask_hides_keys() -> None:
    draft = build(own_config(), torch.float64)
    embeds, hidden, positions = rows(draft, batch=1)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    mask[5:, 1:4] = False

    masked, _ = draft(embeds, hidden, positions, None, mask[None, None])
    kept = [0, 4, 5, 6]
    without, _ = draft(embeds[:, kept], hidden[:, kept], positions[:, kept])

    torch.testing.assert_close(masked[:, 5:], without[:, 2:], rtol=0, atol=1e-12)  # float64


def test_the_first_layer_reads_the_embedding_and_the_second_does_not() -> None:
    draft = build(own_config(num_layers=2))

    assert draft.get_submodule("layers.0.self_attn.q_proj").weight.shape == (64, 128)
    assert draft.get_submodule("layers.1.self_attn.q_proj").weight.shape == (64, 64)


def test_feedback_is_the_state_before_or_after_the_norm() -> None:
    before, after = build(own_config()), build(own_config(feedback="postnorm"))
    embeds, hidden, positions = rows(before)

    normed, feedback = before(embeds, hidden, positions)
    normed_too, normed_feedback = after(embeds, hidden, positions)

    assert torch.equal(before.norm(feedback), normed)
    assert torch.equal(normed_feedback, normed_too)
    assert torch.equal(normed_too, normed)


def test_bfloat16_is_near_float32() -> None:
    config = own_config(decoder="qwen3")
    small, exact = build(config, torch.bfloat16), build(config)

    normed, _ = small(*rows(small))
    expected, _ = exact(*rows(exact))

    assert normed.dtype == torch.bfloat16
    # 8 bits of mantissa through one layer of width 64: a few per cent of a state of about 1.
    assert (normed.float() - expected).abs().mean() < 0.05


def test_draft_ids_become_target_ids() -> None:
    mapped = ReferenceDraft(own_config(), torch.arange(128) * 4)
    full = ReferenceDraft(own_config(draft_vocab_size=512, has_vocab_map=False), None)

    assert mapped.to_target_ids(torch.tensor([0, 3, 127])).tolist() == [0, 12, 508]
    assert full.to_target_ids(torch.tensor([0, 3, 127])).tolist() == [0, 3, 127]


def test_a_shared_embedding_and_head_are_the_targets() -> None:
    config = own_config(
        embedding="target", lm_head="target", draft_vocab_size=512, has_vocab_map=False
    )
    embed, head = torch.randn(512, 64), torch.randn(512, 64)

    draft = ReferenceDraft.from_weights(
        config, weights_for(config), None, target_embed=embed, target_lm_head=head
    )

    assert torch.equal(draft.embed_tokens.weight, embed)
    assert torch.equal(draft.lm_head.weight, head)


def test_an_own_embedding_is_not_replaced_by_the_targets() -> None:
    config = own_config()
    weights = weights_for(config)

    draft = ReferenceDraft.from_weights(
        config,
        weights,
        drafts.vocab_map(config),
        target_embed=torch.zeros(512, 64),
        target_lm_head=torch.zeros(512, 64),
    )

    assert torch.equal(draft.embed_tokens.weight, weights["embed_tokens.weight"])
    assert torch.equal(draft.lm_head.weight, weights["lm_head.weight"])


def test_all_missing_extra_and_misfit_tensors_are_named() -> None:
    config = own_config()
    weights = weights_for(config)
    del weights["norm.weight"]
    weights["fc.weight"] = torch.zeros(64, 128)
    weights["layers.0.self_attn.q_norm.weight"] = torch.zeros(32)

    with pytest.raises(DraftError) as caught:
        ReferenceDraft.from_weights(config, weights, torch.arange(100))

    assert [(p.id, p.message) for p in caught.value.problems] == [
        ("tensor-extra", "layers.0.self_attn.q_norm.weight [32] is no tensor of such a draft"),
        ("tensor-shape", "fc.weight of the draft has shape [64, 128], expected [64, 192]"),
        ("tensor-missing", "norm.weight of the draft is missing, expected shape [64]"),
        ("tensor-shape", "d2t of the draft has shape [100], expected [128]"),
    ]


def test_a_shared_tensor_that_the_target_did_not_give_is_named() -> None:
    config = own_config(embedding="target")

    with pytest.raises(DraftError) as caught:
        ReferenceDraft.from_weights(config, weights_for(config), drafts.vocab_map(config))

    assert [(p.id, p.message) for p in caught.value.problems] == [
        (
            "tensor-missing",
            "embed_tokens.weight of the target is missing, expected shape [512, 64]",
        )
    ]


def test_an_embedding_in_a_draft_that_shares_the_targets_is_extra() -> None:
    config = own_config(embedding="target")
    weights = weights_for(own_config())

    with pytest.raises(DraftError, match=r"\[tensor-extra\] embed_tokens.weight \[512, 64\]"):
        ReferenceDraft.from_weights(
            config, weights, drafts.vocab_map(config), target_embed=torch.zeros(512, 64)
        )


def test_a_vocabulary_map_has_to_be_there_when_the_config_says_so_and_only_then() -> None:
    mapped, full = own_config(), own_config(draft_vocab_size=512, has_vocab_map=False)

    with pytest.raises(DraftError, match=r"\[tensor-missing\] d2t of the draft is missing"):
        ReferenceDraft.from_weights(mapped, weights_for(mapped), None)
    with pytest.raises(DraftError, match=r"\[tensor-extra\] d2t \[512\]"):
        ReferenceDraft.from_weights(full, weights_for(full), torch.arange(512))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_a_checkpoint_loads_with_the_numbers_of_its_file(tmp_path: Path, dtype: str) -> None:
    config = drafts.draft_config(dtype=dtype)
    draft = drafts.read(drafts.write_random(tmp_path / "draft", config))

    loaded = ReferenceDraft.load(draft, target_embed=torch.zeros(512, 64), dtype=torch.float64)

    stored = draft.checkpoint.read(draft.names["fc.weight"])
    assert torch.equal(loaded.fc.weight, torch.tensor(stored, dtype=torch.float64))
    assert loaded.to_target_ids(torch.arange(128)).tolist() == drafts.vocab_map(config).tolist()  # type: ignore[union-attr]


def test_weights_keep_the_dtype_of_the_file(tmp_path: Path) -> None:
    draft = drafts.read(drafts.write_random(tmp_path / "draft", drafts.draft_config()))

    weights = read_weights(draft)

    assert set(weights) == set(expected_tensors(draft.config))
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
