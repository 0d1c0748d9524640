"""Rules for the form of the files: names, absent sizes, where head and embedding come from."""

from __future__ import annotations

from collections.abc import Iterable

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.rules.rule import Case, Rule, Seen, at, both, compared, mend
from eagle3_plugin.draft.rules.stock import (
    MODEL_TYPES,
    PLAIN_NAMES,
    SGLANG_NAME,
    VLLM_CLASSES,
    StockReading,
    is_speculators,
    vllm_layers,
)

_SGLANG = "SGLang 0.5.23 models/llama_eagle3.py"
_VLLM = "vLLM 0.32 models/llama_eagle3.py, qwen3_eagle3.py"


def _architecture(case: Case) -> Iterable[Seen]:
    name = architecture_of(case.raw)
    if is_speculators(case.raw) or name in PLAIN_NAMES:
        return
    if case.engine == "vllm" and vllm_layers(case.raw) is None:
        yield Seen(f"architectures is {name!r}", f"one of {', '.join(VLLM_CLASSES)}")
    if case.engine == "sglang" and name != SGLANG_NAME:
        yield Seen(f"architectures is {name!r}", SGLANG_NAME)


def _plain_architecture(case: Case) -> Iterable[Seen]:
    name = architecture_of(case.raw)
    if name in PLAIN_NAMES and not is_speculators(case.raw):
        yield Seen(f"architectures is {name}, an ordinary model's name", "a draft's name")


def _speculators(case: Case) -> Iterable[Seen]:
    if not is_speculators(case.raw):
        return
    if case.engine == "sglang":
        yield Seen("the folder is in the speculators format", "SGLang's own format")
    elif vllm_layers(case.raw) is None:
        yield Seen(
            "the folder is in the speculators format, but not as vLLM recognises it",
            "speculators_config, speculators_model_type eagle3, no model_type at the top level, "
            "and a layer of model_type llama or qwen3",
        )


def _model_type(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if not reading.model_type and not is_speculators(case.raw):
        yield Seen("config.json has no model_type", f"one of {', '.join(MODEL_TYPES)}")


def _sizes(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    for name, value in reading.sizes.items():
        trained = getattr(config, "num_layers" if name == "num_hidden_layers" else name)
        if value != trained:
            taken = "has no default" if value is None else f"is {value} by default"
            yield Seen(f"{name} is absent, and {taken}", f"{name}: {trained}")


def _target_width(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    differs = config.target_hidden_size != config.hidden_size
    if differs and case.raw.get("target_hidden_size") is None:
        yield Seen(
            f"the target is {config.target_hidden_size} wide and the draft {config.hidden_size}, "
            "but target_hidden_size is absent",
            f"target_hidden_size: {config.target_hidden_size}",
        )


def _tied(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if config.lm_head == "own" and case.raw.get("tie_word_embeddings") is True:
        yield Seen(
            f"tie_word_embeddings is true, and the file has an lm_head of its own with "
            f"{config.draft_vocab_size} rows",
            "tie_word_embeddings: false",
        )


def _head_source(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    tied_target = case.target is None or case.target.tie_word_embeddings
    if reading.lm_head == "embedding" and (config.lm_head == "own" or tied_target):
        return
    if reading.lm_head != config.lm_head and reading.draft_vocab_size is not None:
        given = case.raw.get("draft_vocab_size")
        yield Seen(
            f"the lm_head is the {_whose(config.lm_head)}, but draft_vocab_size is {given!r}: "
            f"SGLang takes {_whose(reading.lm_head)}",
            "a number for an own lm_head, null for the target's",
        )


def _whose(lm_head: str) -> str:
    words = {"own": "draft's own", "target": "target's", "embedding": "draft's embedding"}
    return words[lm_head]


def _draft_vocab(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if reading.draft_vocab_size != config.draft_vocab_size:
        yield Seen("draft_vocab_size is absent", f"draft_vocab_size: {config.draft_vocab_size}")


def _full_map(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if config.has_vocab_map and config.draft_vocab_size == config.vocab_size:
        yield Seen(f"d2t with a full vocabulary of {config.vocab_size}", "no d2t")


def _own_embedding(case: Case, config: DraftConfig, reading: StockReading) -> Iterable[Seen]:
    if config.embedding == "own" and config.hidden_size == config.target_hidden_size:
        yield Seen("the draft has an embedding of its own", "one that is the target's")


def _keep_embedding(case: Case) -> str:
    if case.plugin:
        return "right only if the embedding is a copy of the target's."
    unless = "If the embedding is not a copy of the target's, serve the draft"
    return f"{unless} with the plugin." if case.plugin_serves else f"{unless} in vLLM."


FORM: tuple[Rule, ...] = (
    Rule("architecture", "an architecture name that the engine does not know",
        at("error", "info", "error", "info"), _architecture,
        both("refuses to start"),
        "vLLM models/registry.py:658; SGLang registers one name", remedy=mend),
    Rule("architecture-plain", "a draft with an ordinary model's name",
        at("info", "info", "error", "info"), _plain_architecture,
        {"vllm": "puts Eagle3 before the name and loads the draft",
         "sglang": "loads it as an ordinary model"},
        "vLLM configs/eagle.py:60; SGLang registers one name", remedy=mend),
    Rule("format-speculators", "a speculators folder that the engine cannot read",
        at("error", "info", "error", "info"), _speculators,
        {"vllm": "reads it as another kind of config and fails", "sglang": "refuses to start"},
        "vLLM transformers_utils/config.py:318; SGLang registers one name", remedy=mend),
    Rule("model-type-absent", "no model_type", at("error", "info", "error", "info"),
        compared(_model_type), {"vllm": "cannot parse the config", "sglang": "cannot parse the "
        "config"}, "transformers 5.19 AutoConfig", remedy=mend),
    Rule("size-absent", "a size is absent, and the engine's default is not the draft's",
        at("error", "info", "error", "info"), compared(_sizes),
        both("fails to load the weights"),
        "transformers 5.19 LlamaConfig, Qwen3Config", remedy=mend),
    Rule("target-hidden-size-absent", "a draft of another width than the target that does not say "
        "so", at("error", "info", "error", "info"), compared(_target_width),
        both("builds fc for the draft's width"),
        f"{_VLLM}; {_SGLANG}", remedy=mend),
    Rule("draft-vocab-size-absent", "draft_vocab_size is absent",
        at("error", "info", "error", "info"), compared(_draft_vocab),
        {"vllm": "builds a head for the full vocabulary and fails to load",
         "sglang": "fails with an AttributeError"}, f"{_VLLM}; {_SGLANG}", remedy=mend),
    Rule("tie-flag", "tied by the flag, with an lm_head of its own in the file",
        at("info", "info", "error", "info"), compared(_tied),
        {"vllm": "does not look at the flag",
         "sglang": "takes embed_tokens for the lm_head: the head in the file has no place and is "
         "thrown away, in silence; the first ids of the vocabulary are proposed, nothing accepted"},
        f"{_SGLANG}:303; measured: 1,524 rounds for 1,524 tokens", remedy=mend),
    Rule("lm-head-source", "SGLang takes another lm_head than the draft's",
        at(sglang="error", sglang_plugin="info"), compared(_head_source),
        {"sglang": "takes the target's if draft_vocab_size is null, else expects one in the file"},
        f"{_SGLANG}, __init__", remedy=mend),
    Rule("d2t-full-vocabulary", "a vocabulary map over the full vocabulary",
        at("error", "info"), compared(_full_map), {"vllm": "fails to load d2t"},
        "seen in a run of vLLM 0.32",
        plugin="The plugin puts the lm_head's rows in the target's order.", remedy=mend),
    Rule("own-embedding", "an embedding of the draft's own",
        at(sglang="warning", sglang_plugin="info"), compared(_own_embedding),
        {"sglang": "replaces it by the target's: right only if it is a copy of it"},
        "SGLang 0.5.23 models/llama.py:910",
        remedy=_keep_embedding),
)  # fmt: skip
