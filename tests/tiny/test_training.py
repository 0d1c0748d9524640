"""The parts of the trainer, each against something it did not compute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eagle3_plugin.draft.chain import draft_chain
from eagle3_plugin.draft.config import default_taps
from eagle3_plugin.draft.rows import text_rows
from eagle3_plugin.errors import NotFoundError, UsageError
from eagle3_plugin.tiny.continuations import States
from eagle3_plugin.tiny.corpus import MAX_FILE_BYTES, read_corpus
from eagle3_plugin.tiny.optimizer import Schedule, _orthogonal
from eagle3_plugin.tiny.recipes import DENSE
from eagle3_plugin.tiny.tokenizer import SPECIAL_TOKENS, train_tokenizer
from eagle3_plugin.tiny.train_draft import (
    Sequences,
    frequent_ids,
    new_draft,
    step_mask,
    unrolled_logits,
    unrolled_loss,
)
from eagle3_plugin.tiny.variants import VARIANTS, draft_config


def test_the_corpus_is_the_beginnings_of_the_same_modules_each_time() -> None:
    corpus = read_corpus()
    assert corpus == read_corpus()
    assert max(map(len, corpus.training)) <= MAX_FILE_BYTES
    assert all(text.endswith("\n") for text in corpus.training)
    assert not set(corpus.training) & set(corpus.held_out)


def test_a_folder_without_sources_is_refused(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("x = 1\n")
    with pytest.raises(NotFoundError) as caught:
        read_corpus(tmp_path)
    assert " has 1 of the 76 and 0 of the 24 sources" in caught.value.message
    assert caught.value.hint == "Use a Python whose standard library is installed as .py files."


def test_the_tokenizer_keeps_special_tokens_whole_and_text_to_the_byte() -> None:
    tokenizer = train_tokenizer(["def f(x):\n    return x\n" * 50, "for x in y:\n\tpass\n" * 50])
    assert len(tokenizer.encode("<|im_start|>user").ids) > 1
    assert tokenizer.encode("<|im_start|>").ids == [tokenizer.token_to_id("<|im_start|>")]
    first = tokenizer.token_to_id(SPECIAL_TOKENS[0]) or 0
    assert [tokenizer.id_to_token(first + i) for i in range(14)] == list(SPECIAL_TOKENS)
    text = "é 中\t12\r\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_variant_that_does_not_exist_is_refused_with_the_names_that_do() -> None:
    with pytest.raises(UsageError) as caught:
        draft_config("lama", DENSE)
    assert caught.value.message == "there is no tiny draft named 'lama'"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("One of: llama, qwen3, normed, fc_norm, norm_before_fc, ")


def test_the_variants_are_all_different_drafts() -> None:
    configs = {draft_config(name, DENSE).model_dump_json() for name in VARIANTS}
    assert len(configs) == len(VARIANTS) == 19
    assert draft_config("llama", DENSE).taps == default_taps(8) == (2, 4, 5)


def test_frequent_ids_are_ascending_and_ties_go_to_the_smaller_id() -> None:
    ids = torch.tensor([[5, 5, 3, 3, 9, 1]])
    assert frequent_ids(ids, vocab_size=10, count=3).tolist() == [1, 3, 5]


def test_a_later_step_sees_older_rows_and_its_own_chain_only() -> None:
    assert step_mask(3, 2)[0, 0].int().tolist() == [
        [1, 0, 0, 1, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 1, 0],
        [1, 1, 1, 0, 0, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_trained_is_what_a_chain_computes_when_it_drafts(variant: str) -> None:
    """Random weights in float64; the text is made to be what the chain drafts from row 4."""
    torch.manual_seed(0)
    config = draft_config(variant, DENSE)
    vocab_map = torch.arange(0, 2048, 2) if config.has_vocab_map else None
    draft = new_draft(config, torch.randn(2048, 128), vocab_map).double()
    for parameter in draft.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    taps = torch.randn(1, 10, config.num_taps * 128, dtype=torch.float64)
    ids = torch.randint(2048, (1, 10))
    drafted = draft_chain(draft, taps[0, :5], text_rows(ids[0, :6]), num_steps=3)
    ids[0, 6:9] = torch.tensor(drafted)
    data = Sequences(ids, States(taps, taps), draft.lm_head.weight)
    steps = list(unrolled_logits(draft, data, num_steps=3))
    assert [tuple(logits.shape) for logits in steps] == [(1, 7, config.draft_vocab_size)] * 3
    best = torch.stack([logits[0, 4].argmax() for logits in steps])
    assert draft.to_target_ids(best).tolist() == drafted


def test_the_loss_of_labels_that_the_draft_predicts_is_their_entropy() -> None:
    """Two steps, a head of zeros (so uniform labels) and a zero lm_head (so uniform logits)."""
    draft = new_draft(draft_config("full_vocab", DENSE), torch.zeros(2048, 128), None)
    states = States(torch.randn(2, 6, 384), torch.randn(2, 6, 128))
    data = Sequences(torch.randint(2048, (2, 6)), states, head=torch.zeros(2048, 128))
    assert unrolled_loss(draft, data, num_steps=2, decay=0.8).item() == pytest.approx(7.6246189861)


def test_the_schedule_warms_up_and_falls_to_its_last_step() -> None:
    schedule = Schedule(steps=100, matrix_rate=1.0, other_rate=1.0, warmup_steps=10)
    factors = [schedule.factor(step) for step in (0, 4, 50, 99)]
    assert factors == [0.1, 0.5, 0.5, 0.01]


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(2, 48, 32)
    values = torch.linalg.svdvals(_orthogonal(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3


def _pair_code(work: str) -> str:
    return (
        "import torch; torch.set_num_threads(1)\n"
        "from eagle3_plugin.tiny.parallel import run_in_pair, shared_zeros\n"
        "shared = shared_zeros(2)\n"
        f"def work(worker):\n{work}\n"
        "run_in_pair(work)\nprint(shared.tolist())\n"
    )


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_two_workers_write_into_the_same_memory() -> None:
    done = _run(_pair_code("    shared[worker.rank] = worker.rank + 1\n    worker.meet()"))
    assert (done.stdout, done.returncode) == ("[1.0, 2.0]\n", 0)


def test_a_worker_that_fails_ends_the_other_one() -> None:
    done = _run(_pair_code("    if worker.rank: raise ValueError('no')\n    worker.meet()"))
    assert done.returncode == 1
    assert "ValueError: no" in done.stderr
    assert "the other worker has ended" in done.stderr


def test_a_worker_that_fails_after_the_last_meeting_is_noticed() -> None:
    done = _run(_pair_code("    worker.meet()\n    if worker.rank: raise ValueError('no')"))
    assert done.returncode == 1
    assert "ChildProcessError: the second worker ended with status 256" in done.stderr


def test_the_module_refuses_a_name_that_it_does_not_know() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eagle3_plugin.tiny", "lama"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no tiny draft named 'lama'\nhint: One of: ")
