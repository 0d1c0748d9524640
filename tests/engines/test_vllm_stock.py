"""What stock vLLM gets wrong, shown in real vLLM, and the plugin doing it right.

Random drafts: they accept nothing, but every token that they draft is known from the oracle, so
wrong wiring shows as wrong drafted tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eagle3_plugin.draft.checkpoint import Checkpoint, OutTensor, write_checkpoint
from eagle3_plugin.hub import resolve
from tests.drafts import draft_config, edit_config, write_random
from tests.engines.jobs import Job, full_chain, run_jobs
from tests.engines.random_target import write_random_llama, write_random_target

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PROMPTS = [[3, 5, 7, 9], [30, 51, 7, 9, 44]]
MAX_TOKENS = 12


def rewrite(
    folder: Path,
    *,
    drop: tuple[str, ...] = (),
    replace: dict[str, np.ndarray[Any, Any]] | None = None,
) -> None:
    """Replace or drop tensors of a written draft, as a broken exporter would."""
    checkpoint = Checkpoint.open(resolve(str(folder)))
    new = replace or {}
    tensors = []
    for name, info in checkpoint.tensors.items():
        if name in drop:
            continue
        data = new[name].tobytes() if name in new else b"".join(checkpoint.chunks(name))
        shape = new[name].shape if name in new else info.shape
        tensors.append(OutTensor(name, info.dtype, shape, data))
    write_checkpoint(folder, checkpoint.config, tensors, {}, force=True)


def not_finite(folder: Path) -> None:
    rewrite(folder, replace={"norm.weight": np.full(64, 0x7FC0, dtype=np.uint16)})


def absolute_map(folder: Path) -> None:
    """Ids low enough that id plus row is still inside the vocabulary: stock never stumbles."""
    rewrite(folder, replace={"d2t": np.arange(1, 385, 3, dtype=np.int64)})


def wide_norms(folder: Path) -> None:
    edit_config(folder, norm_before_residual=None, eagle_config={"norm_before_residual": True})


@dataclass(frozen=True)
class Case:
    """A draft that stock vLLM misreads.

    stock: "refused" with a word of its message, "silent" when it serves but drafts other tokens
    than the oracle, or "served" when it serves a draft that cannot be right, without a word.
    plugin: "right" when it drafts the oracle's tokens, else a word of its refusal.
    """

    stock: str
    plugin: str
    changes: dict[str, Any] = field(default_factory=dict)
    dialect: str = "sglang"
    config: dict[str, Any] = field(default_factory=dict)
    breaking: Any = None


CASES = {
    "output ids in eagle_config": Case("silent", "right", {"taps": (3, 5, 7)}),
    "taps that are not ascending": Case("silent", "right", {"taps": (7, 3, 4)}, "vllm"),
    "llama with attention biases": Case("silent", "right", {"attention_bias": True}),
    "the name Qwen3ForCausalLMEagle3": Case(
        "refused: not supported", "right", {"decoder": "qwen3"}
    ),
    "a map over the whole vocabulary": Case("refused", "right", {"draft_vocab_size": 512}),
    "norm_before_residual in eagle_config": Case(
        "silent", "right", {"residual": "normed"}, "vllm", breaking=wide_norms
    ),
    "four taps at the top level": Case(
        "refused", "right", {"taps": (1, 2, 4, 6), "num_taps": 4}, "vllm",
        {"num_aux_hidden_states": None},
    ),
    "a missing projection": Case(
        "served", "layers.0.mlp.up_proj.weight", breaking=lambda f: rewrite(
            f, drop=("midlayer.mlp.up_proj.weight",)
        ),
    ),
    "norms that are not finite": Case("served", "norm.weight has 64 values", breaking=not_finite),
    "a d2t of absolute ids": Case("served", "d2t-absolute", breaking=absolute_map),
    "a reduced vocabulary without d2t": Case(
        "served", "vocabulary map", breaking=lambda f: rewrite(f, drop=("d2t", "t2d"))
    ),
    "another target's hidden size": Case(
        "refused", "hidden size 128", {"hidden_size": 128, "target_hidden_size": 128}
    ),
    "speculators without norm_before_residual": Case(
        "silent", "--residual", {}, "speculators", {"norm_before_residual": None}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_target(tmp_path_factory.mktemp("random") / "target")


@pytest.fixture(scope="module")
def results(
    target: Path, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[Job, Any]]:
    """(case, stock or plugin) -> the job and its result; one process imports vLLM for all."""
    folder = tmp_path_factory.mktemp("stock")
    jobs = {("no draft", "stock"): Job(target, None, PROMPTS, MAX_TOKENS, {"plugins": ""})}
    for index, (name, case) in enumerate(CASES.items()):
        draft = write_random(
            folder / str(index),
            draft_config(**case.changes),
            case.dialect,
            config_changes=case.config,
        )
        if case.breaking is not None:
            case.breaking(draft)
        for who, plugins in (("stock", ""), ("plugin", "eagle3")):
            jobs[name, who] = Job(target, draft, PROMPTS, MAX_TOKENS, {"plugins": plugins})
    llama = write_random_llama(folder / "llama")
    draft = write_random(folder / "for-llama", draft_config(taps=(3, 5, 7)))
    for who, plugins in (("stock", ""), ("plugin", "eagle3")):
        jobs["a Llama target", who] = Job(llama, draft, PROMPTS, MAX_TOKENS, {"plugins": plugins})
    found = run_jobs("vllm", list(jobs.values()), folder / "runs")
    return {key: (job, result) for (key, job), result in zip(jobs.items(), found, strict=True)}


def drafts_first(result: Any) -> list[list[int]]:
    return [rounds[0] for rounds in result["drafts"]]


@pytest.mark.parametrize("name", CASES)
def test_stock_vllm_misreads(name: str, results: dict[Any, Any]) -> None:
    case = CASES[name]
    job, result = results[name, "stock"]
    if case.stock.startswith("refused"):
        assert "error" in result
        assert case.stock.partition(": ")[2] in result["error"]["message"]
        return
    assert "error" not in result, result
    assert result["draft_class"] in ("Eagle3LlamaForCausalLM", "Eagle3Qwen3ForCausalLM")
    assert result["outputs"] == results["no draft", "stock"][1]["outputs"]
    if case.stock == "silent" and case.plugin == "right":
        assert drafts_first(result) != full_chain(job, result["outputs"], 1)


@pytest.mark.parametrize("name", CASES)
def test_the_plugin_serves_it_as_trained_or_says_why_not(
    name: str, results: dict[Any, Any]
) -> None:
    case = CASES[name]
    job, result = results[name, "plugin"]
    if case.plugin != "right":
        assert case.plugin in result["error"]["message"]
        return
    assert "error" not in result, result
    assert result["outputs"] == results["no draft", "stock"][1]["outputs"]
    assert drafts_first(result) == full_chain(job, result["outputs"], 1)


def test_a_pair_with_another_target_runs_as_in_stock_vllm(results: dict[Any, Any]) -> None:
    _, stock = results["a Llama target", "stock"]
    _, ours = results["a Llama target", "plugin"]
    assert ours["draft_class"] == "Eagle3LlamaDraft"
    assert stock["draft_class"] == "Eagle3LlamaForCausalLM"
    for key in ("outputs", "rounds", "drafts", "taps"):
        assert ours[key] == stock[key]
    assert ours["taps"] == [2, 4, 6]
