"""What stock SGLang gets wrong, shown in real SGLang, and the plugin doing it right.

Random drafts: they accept nothing, but every token that they draft is known from the oracle, so
wrong wiring shows as wrong drafted tokens. Each case is a rule of `eagle3 check`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eagle3_plugin.draft.checkpoint import Checkpoint, OutTensor, write_checkpoint
from eagle3_plugin.draft.convert import convert
from eagle3_plugin.draft.dialects.settle import Settle
from eagle3_plugin.draft.read import read_draft
from eagle3_plugin.hub import resolve
from tests.drafts import draft_config, random_bytes, write_random
from tests.engines.jobs import Job, full_chain, run_jobs
from tests.engines.random_target import write_random_llama, write_random_target

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PROMPTS = [[3, 5, 7, 9], [30, 51, 7, 9, 44]]
LONG_PROMPTS = [[(7 * i + 13 * n) % 400 + 3 for i in range(120)] for n in range(4)]
MAX_TOKENS = 12
TAPS = (3, 5, 7)
BOUNDARY = Settle(ids="boundary")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
OWN_FACTOR = {"factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 2.5}
WHOLE = {"draft_vocab_size": 512, "has_vocab_map": False}


def rewrite(folder: Path, new: dict[str, bytes], shape: tuple[int, ...] = (64,)) -> None:
    """Adds or replaces tensors of a written draft."""
    checkpoint = Checkpoint.open(resolve(str(folder)))
    tensors = [
        OutTensor(name, info.dtype, info.shape, b"".join(checkpoint.chunks(name)))
        for name, info in checkpoint.tensors.items()
        if name not in new
    ]
    tensors += [OutTensor(name, "BF16", shape, data) for name, data in new.items()]
    write_checkpoint(folder, checkpoint.config, tensors, {}, force=True)


def extra_norm(folder: Path) -> None:
    """A tensor that nothing has a place for."""
    data = random_bytes(np.random.default_rng(0), "BF16", (64,), is_norm=True)
    rewrite(folder, {"midlayer.post_norm.weight": data})


def uneven_norm(folder: Path) -> None:
    """A norm that is far from one everywhere, so that leaving it out shows."""
    data = random_bytes(np.random.default_rng(0), "BF16", (64,), is_norm=False)
    rewrite(folder, {"layers.1.input_layernorm.weight": data})


def sharp_attention(folder: Path) -> Path:
    """Queries 16 times as large, so that it shows how keys are rotated."""
    name = "midlayer.self_attn.q_proj.weight"
    checkpoint = Checkpoint.open(resolve(str(folder)))
    stored = np.frombuffer(b"".join(checkpoint.chunks(name)), np.uint16).astype(np.uint32)
    larger = ((stored << 16).view(np.float32) * 16).view(np.uint32) >> 16
    data = larger.astype(np.uint16).tobytes()
    rewrite(folder, {name: data}, checkpoint.tensors[name].shape)
    return folder


@dataclass(frozen=True)
class Case:
    """A draft that stock SGLang misreads, and the rule of `check` that says so.

    stock: "refused: " with a word of its message, "silent" when it serves but drafts other tokens
    than the oracle, or "served" when it serves a draft that cannot be right, without a word.
    plugin: "right" when it drafts the oracle's tokens, else a word of its refusal.
    """

    rule: str
    stock: str
    plugin: str = "right"
    changes: dict[str, Any] = field(default_factory=dict)
    dialect: str = "sglang"
    config: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    breaking: Callable[[Path], None] | None = None


CASES = {
    "a tied flag beside a reduced head": Case(
        "tie-flag", "silent", config={"tie_word_embeddings": True}
    ),
    "q and k norms": Case(
        "qk-norm", "silent", changes={"decoder": "qwen3"},
        config={"architectures": ["LlamaForCausalLMEagle3"]},
    ),
    "boundaries at the top level": Case(
        "taps-misread", "silent", changes={"taps": TAPS}, dialect="vllm",
        config={"architectures": ["LlamaForCausalLMEagle3"]},
    ),
    "taps that are not ascending": Case("taps-unsorted", "silent", changes={"taps": (7, 3, 4)}),
    "norm_before_residual": Case("residual-misread", "silent", changes={"residual": "normed"}),
    "attention biases": Case("attention-bias", "silent", changes={
        "attention_bias": True, "attention_output_bias": True}),
    "an output bias alone": Case(
        "output-bias", "silent", changes={"attention_output_bias": True}
    ),
    "yarn with an attention factor of its own": Case("yarn-attention-factor", "silent", changes={
        "rope": {"theta": 1e6, "type": "yarn", "parameters": OWN_FACTOR}}),
    "a bias of fc": Case("fc-bias", "silent", changes={"fc_bias": True}),
    "an fc norm without its flag": Case(
        "fc-norm-misread", "silent", changes={"fc_input_norm": "joint"},
        config={"norm_before_fc": None},
    ),
    "two layers": Case("several-layers", "silent", changes={"num_layers": 2},
                       breaking=uneven_norm),
    "one tap as wide as the draft": Case(
        "fc-skipped", "silent", changes={"taps": (4,), "num_taps": 1}
    ),
    "an embedding of the draft's own": Case(
        "own-embedding", "silent", changes={"embedding": "own"}
    ),
    "the target's head under a number": Case(
        "lm-head-source", "silent", changes=WHOLE | {"lm_head": "target"},
        config={"draft_vocab_size": 512},
    ),
    "vLLM's name for a draft": Case(
        "architecture", "refused: Eagle3LlamaForCausalLM", dialect="vllm"
    ),
    "the name Qwen3ForCausalLMEagle3": Case(
        "architecture", "refused: Qwen3ForCausalLMEagle3", changes={"decoder": "qwen3"}
    ),
    "SafeAILab's name, that of an ordinary model": Case(
        "architecture-plain", "refused: ", config={"architectures": ["LlamaForCausalLM"]}
    ),
    "no draft_vocab_size": Case(
        "draft-vocab-size-absent", "refused: draft_vocab_size", config={"draft_vocab_size": None}
    ),
    "a speculators folder": Case("format-speculators", "refused: ", dialect="speculators"),
    "a shorter draft": Case(
        "max-positions", "refused: SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
        changes={"max_position_embeddings": 256},
    ),
    "a missing projection": Case(
        "tensor-missing", "served", "layers.0.mlp.up_proj.weight",
        without=("midlayer.mlp.up_proj.weight",),
    ),
    "a tensor without a place": Case(
        "tensor-extra", "served", "post_norm", breaking=extra_norm
    ),
    "a tap after the last layer": Case(
        "tap-after-last-layer", "refused: ", "serve this draft with vLLM",
        changes={"taps": (2, 4, 8)},
    ),
    "four taps": Case("", "right", changes={"taps": (1, 2, 4, 6), "num_taps": 4}),
    "the embedding as a tap": Case("architecture", "refused: ", changes={"taps": (0, 3, 5)},
                                   dialect="vllm"),
    "a narrow draft": Case("", "right", changes={"hidden_size": 32, "embedding": "own"}),
    "a map over the whole vocabulary": Case("", "right", changes={"draft_vocab_size": 512}),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The draft of each case."""
    folder = tmp_path_factory.mktemp("cases")
    written = {}
    for index, (name, case) in enumerate(CASES.items()):
        config = draft_config(**case.changes)
        draft = write_random(
            folder / str(index), config, case.dialect,
            config_changes=case.config, without=case.without,
        )  # fmt: skip
        if case.breaking is not None:
            case.breaking(draft)
        written[name] = draft
    return written


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_target(tmp_path_factory.mktemp("random") / "target")


@pytest.fixture(scope="module")
def results(
    target: Path, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[Job, Any]]:
    """(case, stock or plugin) -> the job and its result; one process imports SGLang for all."""
    jobs = {("no draft", "stock"): Job(target, None, PROMPTS, MAX_TOKENS, {"plugins": "none"})}
    for name, draft in folders.items():
        for who, plugins in (("stock", "none"), ("plugin", "eagle3")):
            jobs[name, who] = Job(target, draft, PROMPTS, MAX_TOKENS, {"plugins": plugins})
    folder = tmp_path_factory.mktemp("stock")
    llama = write_random_llama(folder / "llama")
    draft = write_random(folder / "for-llama", draft_config(taps=TAPS))
    for who, plugins in (("stock", "none"), ("plugin", "eagle3")):
        jobs["a Llama target", who] = Job(llama, draft, PROMPTS, MAX_TOKENS, {"plugins": plugins})
    nested = write_random(
        folder / "nested",
        draft_config(taps=(2, 4, 6)),
        config_changes={"eagle_config": {"eagle_aux_hidden_state_layer_ids": [2, 4, 6]}},
    )
    convert(read_draft(Checkpoint.open(resolve(str(nested))), BOUNDARY), folder / "right", "sglang")
    for who, draft in (("raw", nested), ("converted", folder / "right")):
        jobs["boundaries in eagle_config", who] = Job(
            target, draft, PROMPTS, MAX_TOKENS, {"plugins": "none"}
        )
    for who, plugins in (("stock", "none"), ("plugin", "eagle3")):
        jobs["no --dtype", who] = Job(
            target, folders["four taps"], PROMPTS, MAX_TOKENS, {"plugins": plugins, "dtype": "auto"}
        )
    external = {"SGLANG_EXTERNAL_MODEL_PACKAGE": "eagle3_plugin.engines.sglang.models"}
    jobs["q and k norms", "package"] = Job(
        target, folders["q and k norms"], PROMPTS, MAX_TOKENS,
        {"plugins": "none", "environment": external},
    )  # fmt: skip
    longer = folder / "longer"
    shutil.copytree(target, longer)
    config = json.loads((target / "config.json").read_text())
    config["rope_parameters"] |= YARN
    (longer / "config.json").write_text(json.dumps(config))
    override = {"json_model_override_args": json.dumps({"rope_scaling": YARN})}
    jobs["YaRN", "written"] = Job(longer, None, LONG_PROMPTS, MAX_TOKENS, {"plugins": "none"})
    sharp = sharp_attention(write_random(folder / "sharp", draft_config()))
    for who, plugins in (("stock", "none"), ("plugin", "eagle3")):
        options = {"plugins": plugins, "engine": override}
        jobs["YaRN", who] = Job(target, sharp, LONG_PROMPTS, MAX_TOKENS, options)
    found = run_jobs("sglang", list(jobs.values()), folder / "runs")
    return {key: (job, result) for (key, job), result in zip(jobs.items(), found, strict=True)}


def drafts_first(result: Any) -> list[list[int]]:
    return [rounds[0]["ids"][1:] for rounds in result["trees"]]


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.stock != "right"])
def test_stock_sglang_misreads(name: str, results: dict[Any, Any]) -> None:
    case = CASES[name]
    job, result = results[name, "stock"]
    if case.stock.startswith("refused"):
        assert "error" in result
        assert case.stock.partition(": ")[2] in result["error"]["message"]
        return
    assert "error" not in result, result
    assert result["outputs"] == results["no draft", "stock"][1]["outputs"]
    if case.stock == "silent":
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


def test_stock_adds_one_to_boundaries_and_a_conversion_mends_it(results: dict[Any, Any]) -> None:
    """Nothing in the file tells boundaries from output ids; a user does, with `--ids boundary`."""
    raw, converted = (results["boundaries in eagle_config", w] for w in ("raw", "converted"))
    expected = full_chain(converted[0], converted[1]["outputs"], 1)
    assert drafts_first(converted[1]) == expected
    assert drafts_first(raw[1]) != expected


def test_a_pair_with_another_target_runs_as_in_stock_sglang(results: dict[Any, Any]) -> None:
    _, stock = results["a Llama target", "stock"]
    _, ours = results["a Llama target", "plugin"]
    assert (ours["outputs"], ours["trees"]) == (stock["outputs"], stock["trees"])
    assert "eagle3_plugin" not in ours["log"]


def test_without_a_dtype_the_draft_gets_its_targets(results: dict[Any, Any]) -> None:
    """The target's file says float32 and the draft's bfloat16; SGLang serves float32 in float16."""
    assert "same dtype" in results["no --dtype", "stock"][1]["error"]["message"]
    assert "error" not in results["no --dtype", "plugin"][1]


def test_yarn_for_the_target_alone_leaves_the_draft_its_rope(results: dict[Any, Any]) -> None:
    """Said with --json-model-override-args, as on Qwen's cards; stock gives it to the draft too."""
    written, _ = results["YaRN", "written"]
    drafted = {}
    for who in ("stock", "plugin"):
        job, result = results["YaRN", who]
        assert "error" not in result, result
        assert result["outputs"] == results["YaRN", "written"][1]["outputs"]
        drafted[who] = drafts_first(result)
    expected = full_chain(replace(job, target=written.target), result["outputs"], 1)
    assert drafted["plugin"] == expected
    assert drafted["stock"] != expected


def test_the_package_variable_of_older_releases_serves_the_draft_too(
    results: dict[Any, Any],
) -> None:
    job, result = results["q and k norms", "package"]
    assert "error" not in result, result
    assert drafts_first(result) == full_chain(job, result["outputs"], 1)
