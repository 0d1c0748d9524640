"""A trained draft through all writable dialects and back: the same bytes, the same score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.prompts import Prompt
from eagle3_plugin.draft.read import Draft, read_draft
from eagle3_plugin.draft.reference import read_weights
from eagle3_plugin.draft.score import draft_for, score
from eagle3_plugin.draft.target_model import TargetModel
from eagle3_plugin.hub import resolve
from eagle3_plugin.tiny import tiny_pair

pytestmark = pytest.mark.slow

STOPS = ("sglang", "speculators", "vllm", "universal", "sglang")


def read(folder: Path) -> Draft:
    return read_draft(Checkpoint.open(resolve(str(folder))))


def rounds(target: TargetModel, draft: Draft) -> tuple[int, ...]:
    module = draft_for(target, draft.config, read_weights(draft), draft.vocab_map)
    prompts = [Prompt("prompt_token_ids", p) for p in tiny_pair("late_taps").prompts[:3]]
    result = score(target, module, prompts, chain=3, max_new_tokens=64, ignore_end=True)
    return result.rounds_per_prompt


def test_a_draft_scores_the_same_at_each_stop_and_comes_back_to_the_bit(tmp_path: Path) -> None:
    pair = tiny_pair("late_taps")
    target = TargetModel.load(pair.target, dtype=torch.float32, device="cpu")
    draft = read(pair.draft)
    expected = rounds(target, draft)
    folders = []
    for index, dialect in enumerate(STOPS):
        folders.append(tmp_path / f"{index}-{dialect}")
        convert(draft, folders[-1], dialect)
        draft = read(folders[-1])
        assert rounds(target, draft) == expected
    first, last = folders[0], folders[-1]
    for name in ("config.json", "model.safetensors"):
        assert (first / name).read_bytes() == (last / name).read_bytes()
    source, end = read(pair.draft), read(last)
    for name, stored in source.names.items():
        ours = b"".join(end.checkpoint.chunks(end.names[name]))
        assert b"".join(source.checkpoint.chunks(stored)) == ours
