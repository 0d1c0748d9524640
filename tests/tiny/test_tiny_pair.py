"""The trained pair: is it a real draft, and what did it cost?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eagle3_plugin.draft.chain import draft_chain
from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.draft.reference import ReferenceDraft, read_weights
from eagle3_plugin.draft.rows import text_rows
from eagle3_plugin.draft.score import draft_for, score
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.hub import resolve
from eagle3_plugin.tiny import VARIANTS, TinyPair, tiny_moe_pair, tiny_pair

pytestmark = pytest.mark.slow

NUM_PROMPTS = 12
NEW_TOKENS = 128
CPU_BUDGET_S = 330


@dataclass(frozen=True)
class LiveRun:
    """A greedy run that drafts and verifies for real; one entry a round in each list."""

    written: list[int]
    yielded: list[int]
    is_fresh: list[bool]


def _read(pair: TinyPair) -> Draft:
    """The draft; what norm_output means in SpecForge's layout is the one thing that is told."""
    trained = pair.recipe["draft"]["config"]["feedback"]
    feedback: Literal["postnorm"] | None = "postnorm" if trained == "postnorm" else None
    layers = json.loads((pair.target / "config.json").read_text())["num_hidden_layers"]
    checkpoint = Checkpoint.open(resolve(str(pair.draft)))
    return read_draft(checkpoint, Settle(target_num_layers=layers, feedback=feedback))


def _oracle(pair: TinyPair) -> ReferenceDraft:
    draft = _read(pair)
    target = TargetModel.load(pair.target, dtype=torch.float32, device="cpu")
    return draft_for(target, draft.config, read_weights(draft), draft.vocab_map)


@torch.inference_mode()
def _run(model: Any, draft: ReferenceDraft, prompt: tuple[int, ...], chain: int) -> LiveRun:
    """Draft, verify, accept, in the plainest way: every pass starts from nothing."""
    taps = draft.config.taps_for(model.config.num_hidden_layers)

    def target_pass(ids: list[int]) -> tuple[list[int], torch.Tensor]:
        out = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        states = torch.cat([out.hidden_states[k][0] for k in taps], dim=-1)
        return out.logits[0].argmax(-1).tolist(), states

    next_ids, states = target_pass(list(prompt))
    ids = [*prompt, next_ids[-1]]
    run = LiveRun([], [], [])
    while len(ids) < len(prompt) + NEW_TOKENS:
        run.is_fresh.append(_is_fresh(ids[len(prompt) :]))
        rows = text_rows(torch.tensor(ids))
        drafted = draft_chain(draft, states[: len(ids) - 1], rows, chain)
        next_ids, states = target_pass([*ids, *drafted])
        right = next_ids[len(ids) - 1 :]
        accepted = 0
        while accepted < chain and drafted[accepted] == right[accepted]:
            accepted += 1
        ids += right[: accepted + 1]
        run.yielded.append(accepted + 1)
    run.written.extend(ids[len(prompt) : len(prompt) + NEW_TOKENS])
    return run


def _is_fresh(written: list[int]) -> bool:
    grams = _grams(written)
    return not grams or grams[-1] not in grams[:-1]


def _grams(ids: list[int]) -> list[tuple[int, ...]]:
    return list(zip(ids, ids[1:], ids[2:], ids[3:], strict=False))


def _runs(pair: TinyPair, chain: int, num_prompts: int = NUM_PROMPTS) -> list[LiveRun]:
    model = AutoModelForCausalLM.from_pretrained(pair.target, dtype=torch.float32)
    draft = _oracle(pair)
    return [_run(model, draft, prompt, chain) for prompt in pair.prompts[:num_prompts]]


def _tokens_per_verify(runs: list[LiveRun], *, fresh_only: bool = False) -> float:
    counts = [
        count
        for run in runs
        for count, fresh in zip(run.yielded, run.is_fresh, strict=True)
        if fresh or not fresh_only
    ]
    return sum(counts) / len(counts)


def _cpu_s(pair: TinyPair) -> float:
    return float(pair.recipe["target"]["cpu_s"] + pair.recipe["draft"]["cpu_s"])


@pytest.fixture(scope="module")
def pair() -> TinyPair:
    return tiny_pair()


@pytest.fixture(scope="module")
def runs(pair: TinyPair) -> list[LiveRun]:
    return _runs(pair, chain=3)


def test_a_chain_of_three_yields_at_least_2_3_tokens_per_verify(runs: list[LiveRun]) -> None:
    print(f"tokens per verify, chain of 3: {_tokens_per_verify(runs):.3f}")
    assert _tokens_per_verify(runs) >= 2.3


def test_chains_that_do_not_start_in_a_repetition_yield_at_least_2(runs: list[LiveRun]) -> None:
    fresh = _tokens_per_verify(runs, fresh_only=True)
    print(f"tokens per verify, chain of 3, fresh starts only: {fresh:.3f}")
    assert fresh >= 2.0


def test_what_the_target_writes_is_not_a_loop(runs: list[LiveRun]) -> None:
    grams = [_grams(run.written) for run in runs]
    distinct = sum(len(set(g)) for g in grams) / sum(len(g) for g in grams)
    print(f"distinct 4-grams: {distinct:.3f}")
    assert distinct >= 0.4


def test_speculation_does_not_change_what_the_target_writes(
    pair: TinyPair, runs: list[LiveRun]
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(pair.target, dtype=torch.float32)
    for prompt, run in zip(pair.prompts[:3], runs[:3], strict=True):
        ids = torch.tensor([prompt])
        plain = model.generate(
            ids, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False
        )
        assert plain[0, len(prompt) :].tolist() == run.written


def test_training_stays_within_its_cpu_budget(pair: TinyPair) -> None:
    print(f"CPU seconds: {pair.recipe['target']['cpu_s']} + {pair.recipe['draft']['cpu_s']}")
    assert 0 < _cpu_s(pair) <= CPU_BUDGET_S


def test_the_prompts_are_held_out_and_32_tokens_long(pair: TinyPair) -> None:
    assert [len(prompt) for prompt in pair.prompts] == [32] * 24


def test_the_target_folder_is_an_ordinary_qwen3(pair: TinyPair) -> None:
    assert sorted(file.name for file in pair.target.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((pair.target / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["vocab_size"] == 2048


def test_the_tokenizer_has_qwen3s_turns(pair: TinyPair) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pair.target)
    turns = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") == 2023
    assert len(tokenizer) == 2048
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.decode(tokenizer("naïve\t12 é\n")["input_ids"]) == "naïve\t12 é\n"


def test_the_default_draft_is_specforges_layout_to_the_name(pair: TinyPair) -> None:
    tensors = Checkpoint.open(resolve(str(pair.draft))).tensors
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        "d2t": ("I64", (1024,)),
        "t2d": ("BOOL", (2048,)),
        "fc.weight": ("BF16", (128, 384)),
        "norm.weight": ("BF16", (128,)),
        "lm_head.weight": ("BF16", (1024, 128)),
        "midlayer.hidden_norm.weight": ("BF16", (128,)),
        "midlayer.input_layernorm.weight": ("BF16", (128,)),
        "midlayer.post_attention_layernorm.weight": ("BF16", (128,)),
        "midlayer.self_attn.q_proj.weight": ("BF16", (128, 256)),
        "midlayer.self_attn.k_proj.weight": ("BF16", (64, 256)),
        "midlayer.self_attn.v_proj.weight": ("BF16", (64, 256)),
        "midlayer.self_attn.o_proj.weight": ("BF16", (128, 128)),
        "midlayer.mlp.gate_proj.weight": ("BF16", (384, 128)),
        "midlayer.mlp.up_proj.weight": ("BF16", (384, 128)),
        "midlayer.mlp.down_proj.weight": ("BF16", (128, 384)),
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_reads_back_as_the_config_it_was_trained_with(variant: str) -> None:
    pair = tiny_pair(variant)
    trained = DraftConfig(**pair.recipe["draft"]["config"])
    assert _read(pair).config.resolved(8) == trained


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learned_enough_to_show_a_wiring_error(variant: str) -> None:
    """By the oracle's simulation, which equals a live loop (tests/draft/test_chain.py)."""
    pair = tiny_pair(variant)
    target = TargetModel.load(pair.target, dtype=torch.float32, device="cpu")
    draft = _read(pair)
    module = draft_for(target, draft.config, read_weights(draft), draft.vocab_map)
    prompts = [Prompt("prompt_token_ids", ids) for ids in pair.prompts[:4]]
    result = score(target, module, prompts, chain=3, max_new_tokens=64, ignore_end=True)
    print(f"{variant}: {result.tokens_per_verify[3]:.2f} tokens per verify, chain of 3")
    assert result.tokens_per_verify[3] >= 1.5


def test_the_moe_target_is_a_qwen3_moe_and_its_draft_works() -> None:
    pair = tiny_moe_pair()
    config = json.loads((pair.target / "config.json").read_text())
    assert (config["architectures"], config["num_experts"]) == (["Qwen3MoeForCausalLM"], 4)
    assert _tokens_per_verify(_runs(pair, chain=3, num_prompts=2)) >= 1.5


def test_a_cached_pair_is_found_without_loading_torch(pair: TinyPair, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, time; start = time.process_time()\n"
        "from eagle3_plugin.tiny import tiny_pair\n"
        "pair = tiny_pair(quiet=True)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "print(pair.draft, time.process_time() - start)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folder, seconds = out.stdout.split()
    assert folder == str(pair.draft)
    assert float(seconds) < 5
