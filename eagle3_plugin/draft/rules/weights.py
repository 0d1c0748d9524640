"""Rules about the stored tensors: values, names, types."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from eagle3_plugin.draft.checkpoint import Checkpoint, TensorInfo
from eagle3_plugin.draft.rules.rule import (
    AS_STOCK,
    REFUSES,
    Case,
    Engine,
    Rule,
    Seen,
    at,
    both,
    everywhere,
    mend,
)
from eagle3_plugin.draft.tensors import DEAD_TENSORS, VOCAB_MAP, VOCAB_MASK

WHOLE_BYTES = 1 << 20
"""Tensors up to this size are read whole."""

SAMPLE_PIECES, SAMPLE_PIECE_BYTES = 16, 32 << 10
"""Of bigger ones: so many pieces, evenly spaced, half a megabyte together."""

_EXPONENTS = {"BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00)}
_FLOATS = {"F32": "<f4", "F64": "<f8"}


def count_not_finite(checkpoint: Checkpoint, info: TensorInfo) -> tuple[int, int]:
    """How many values are NaN or infinite, and how many were looked at."""
    bad = seen = 0
    for piece in _pieces(checkpoint, info):
        wrong = _not_finite(piece, info.dtype)
        bad, seen = bad + int(wrong.sum()), seen + wrong.size
    return bad, seen


def is_sampled(info: TensorInfo) -> bool:
    return info.nbytes > WHOLE_BYTES


def _pieces(checkpoint: Checkpoint, info: TensorInfo) -> Iterable[bytes]:
    if not is_sampled(info):
        yield from checkpoint.chunks(info.name)
        return
    last = info.nbytes - SAMPLE_PIECE_BYTES
    for index in range(SAMPLE_PIECES):
        start = last * index // (SAMPLE_PIECES - 1) // 8 * 8
        yield next(iter(checkpoint.chunks(info.name, SAMPLE_PIECE_BYTES, skip=start)))


def _not_finite(data: bytes, dtype: str) -> NDArray[np.bool_]:
    if dtype in _EXPONENTS:
        kind, exponent = _EXPONENTS[dtype]
        wrong = (np.frombuffer(data, dtype=kind) & exponent) == exponent
    else:
        wrong = ~np.isfinite(np.frombuffer(data, dtype=_FLOATS[dtype]))
    return np.asarray(wrong, dtype=np.bool_)


def _floating(case: Case) -> list[TensorInfo]:
    tensors = case.found.checkpoint.tensors
    used = [tensors[stored] for name, stored in case.found.names.items() if name != VOCAB_MAP]
    return [t for t in used if t.nbytes and (t.dtype in _EXPONENTS or t.dtype in _FLOATS)]


def _not_finite_values(case: Case) -> Iterable[Seen]:
    if not case.found.checkpoint.is_local:
        return
    for info in _floating(case):
        bad, seen = count_not_finite(case.found.checkpoint, info)
        if bad:
            of = f"a sample of {seen}" if is_sampled(info) else f"{seen}"
            yield Seen(f"{info.name}: {bad} of {of} values are NaN or infinite", "finite weights")


def _unread_values(case: Case) -> Iterable[Seen]:
    if not case.found.checkpoint.is_local:
        found = "the weights are not on this machine: no value was looked at"
        yield Seen(found, "finite weights", "Download the draft to have its values looked at.")
        return
    sampled = [info for info in _floating(case) if is_sampled(info)]
    if sampled:
        size = SAMPLE_PIECES * SAMPLE_PIECE_BYTES >> 10
        found = f"of {len(sampled)} tensor(s) above 1 MiB, a sample of {size} KiB was looked at"
        yield Seen(found, "finite weights")


def _prefixed(case: Case) -> Iterable[Seen]:
    names = sorted(name for name in case.found.checkpoint.tensors if name.startswith("model."))
    if case.engine == "sglang":
        names = [name for name in names if name == "model.lm_head.weight"]
    if names:
        yield Seen(
            f"{len(names)} tensor names start with `model.` (first: {names[0]})",
            "names without a prefix",
        )


def _aux_norm_names(case: Case) -> Iterable[Seen]:
    names = sorted(n for n in case.found.checkpoint.tensors if "aux_norm_" in n)
    if names:
        yield Seen(f"norms are called {', '.join(names)}", "fc_norm.0.weight and so on")


def _dead_tensors(case: Case) -> Iterable[Seen]:
    stored = case.found.checkpoint.tensors
    names = [n for n in DEAD_TENSORS if n != VOCAB_MASK and (n in stored or f"model.{n}" in stored)]
    if names:
        yield Seen(f"the file keeps {', '.join(names)}, which no draft computes with", "not there")


def _mask_disagrees(case: Case) -> Iterable[Seen]:
    for note in case.found.notes:
        if note.id in ("t2d-disagrees", "t2d-length"):
            yield Seen(note.message, "the mask that follows from d2t", note.hint)


def _mixed_types(case: Case) -> Iterable[Seen]:
    used = {t.dtype for t in _floating(case)}
    if len(used) > 1:
        yield Seen(f"the weights mix {', '.join(sorted(used))}", "one type")


def _wide_type(case: Case) -> Iterable[Seen]:
    if case.config is not None and case.config.dtype in ("F32", "F64"):
        yield Seen(f"the weights are {case.config.dtype}", "the target's type")


_SAME = both("does not look at it")
_CAST_SOURCE = "seen in a run of vLLM 0.32; SGLang configs/model_config.py:2284"
_CASTS: dict[Engine, str] = {
    "vllm": "casts it to the target's type",
    "sglang": "casts it to the type that it runs the draft in",
}

WEIGHTS: tuple[Rule, ...] = (
    Rule("tensor-not-finite", "NaN or infinite weights", everywhere("error"), _not_finite_values,
        both("runs in silence, nothing accepted"),
        "seen in a run of vLLM 0.32", plugin=REFUSES,
        remedy="The training or the export broke: use another checkpoint."),
    Rule("weights-not-read", "values that were not looked at, or in a sample only",
        everywhere("info"), _unread_values, _SAME, "draft/rules/weights.py",
        plugin="The plugin looks at every value when it loads the draft."),
    Rule("tensor-prefix", "tensor names with a `model.` prefix",
        at("error", "info", "error", "info"), _prefixed,
        {"vllm": "refuses to load", "sglang": "does not find the lm_head, in silence"},
        "seen in a run of vLLM 0.32; SGLang models/llama_eagle3.py:363", remedy=mend),
    Rule("tensor-aux-norm-names", "per-tap norms under their old names",
        at("error", "info"), _aux_norm_names, {"vllm": "refuses to load"},
        "vLLM models/llama_eagle3.py load_weights; SGLang models/llama_eagle3.py:338", remedy=mend),
    Rule("tensor-dead", "tensors of the trainer that no draft computes with",
        at("error", "info"), _dead_tensors, {"vllm": "refuses to load"},
        "vLLM models/llama_eagle3.py load_weights", remedy=mend),
    Rule("t2d-disagrees", "t2d does not follow from d2t", everywhere("warning"),
        _mask_disagrees, both("follows d2t"),
        "vLLM models/llama_eagle3.py load_weights; SGLang models/llama_eagle3.py:338",
        plugin="The plugin follows d2t.",
        remedy="See whether it accepts: eagle3 score DRAFT --target TARGET"),
    Rule("tensor-dtype-mixed", "weights of several types", everywhere("info"),
        _mixed_types, _CASTS, _CAST_SOURCE, plugin=AS_STOCK),
    Rule("tensor-dtype-wide", "weights in F32 or F64", everywhere("info"),
        _wide_type, _CASTS, _CAST_SOURCE, plugin=AS_STOCK),
)  # fmt: skip
