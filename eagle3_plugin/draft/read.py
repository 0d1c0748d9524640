"""A checkpoint folder -> Draft: find the dialect, read it, and check that the weights fit.

examine      everything that was found, right or wrong (what `check` and `inspect` show)
read_draft   the Draft, or DraftError naming every problem
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects import (
    angelslim,
    eagle,
    mnn,
    modelopt,
    sglang,
    speculators,
    universal,
    vllm,
)
from eagle3_plugin.draft.dialects.choices import read_feedback, read_residual, read_taps
from eagle3_plugin.draft.dialects.fields import Fields, architecture_of
from eagle3_plugin.draft.dialects.names import canonical_names
from eagle3_plugin.draft.dialects.rope import read_rope
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED, Settle, flag_of
from eagle3_plugin.draft.dialects.shape import (
    Stored,
    count_layers,
    read_fc_input_norm,
    read_shape,
    read_widths,
)
from eagle3_plugin.draft.sidecar import sidecar_config
from eagle3_plugin.draft.tensors import VOCAB_MAP, Shape, expected_tensors
from eagle3_plugin.draft.vocab_map import read_vocab_map
from eagle3_plugin.errors import AmbiguousError, DraftError, Problem, UsageError

DIALECTS: Mapping[str, ModuleType] = {
    module.NAME: module
    for module in (speculators, universal, angelslim, modelopt, mnn, eagle, vllm, sglang)
}
"""Every readable dialect, in the order in which they are tried."""

WRITABLE = {name: m for name, m in DIALECTS.items() if hasattr(m, "write_config")}

AMBIGUITIES = frozenset(
    {"dialect-unknown", "taps-ambiguous", "taps-conflict", "residual-ambiguous",
     "norm-output-ambiguous"}
)  # fmt: skip

_IMAGE_INPUTS = ("image_embedding", "deepstack_tap")
"""What only an eagle3.json can say: nothing that could be wrong stands beside it in config.json."""

_WRONG_SIDECAR = "If eagle3.json is wrong, delete it and convert the draft again."
_MISFIT = "The checkpoint is incomplete, or config.json is of another draft."
_EXTRA = (
    "If the draft was trained with it, this kind of draft is not supported; if it was not, remove "
    "the tensor."
)


@dataclass(frozen=True)
class Examination:
    """What a checkpoint turned out to be; `config` is None when something kept it from being read.

    names: canonical -> stored tensor name. notes are facts worth telling that do not stop anything.
    """

    checkpoint: Checkpoint
    dialect: str
    evidence: tuple[str, ...]
    config: DraftConfig | None
    names: Mapping[str, str]
    vocab_map: NDArray[np.int64] | None
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


@dataclass(frozen=True)
class Draft:
    """A draft that can be used: its canonical config and where each canonical tensor is stored.

    vocab_map: absolute target ids [draft_vocab], or None for the full vocabulary.
    """

    config: DraftConfig
    checkpoint: Checkpoint
    dialect: str
    evidence: tuple[str, ...]
    names: Mapping[str, str]
    vocab_map: NDArray[np.int64] | None = field(repr=False)
    notes: tuple[Problem, ...] = ()


def read_draft(checkpoint: Checkpoint, settle: Settle = NOTHING_SETTLED) -> Draft:
    """The draft in this checkpoint; raises DraftError (AmbiguousError) naming every problem."""
    found = examine(checkpoint, settle)
    where = checkpoint.source.name
    if found.problems or found.config is None:
        only_ambiguous = all(p.id in AMBIGUITIES for p in found.problems)
        raise (AmbiguousError if only_ambiguous else DraftError)(found.problems, where=where)
    return Draft(
        found.config,
        checkpoint,
        found.dialect,
        found.evidence,
        found.names,
        found.vocab_map,
        found.notes,
    )


def examine(checkpoint: Checkpoint, settle: Settle = NOTHING_SETTLED) -> Examination:
    """Everything about a checkpoint that its headers and its vocabulary map tell."""
    names, clashes = canonical_names(checkpoint.tensors)
    stored = Stored(
        config=checkpoint.config,
        shapes={name: checkpoint.tensors[at].shape for name, at in names.items()},
        dtypes={name: checkpoint.tensors[at].dtype for name, at in names.items()},
        stored_names=frozenset(checkpoint.tensors),
        problems=list(clashes),
    )
    config, dialect, evidence = _read_config(checkpoint, stored, settle)
    if config is not None:
        stored.problems += tensor_problems(config, stored.shapes)
    vocab_map = read_vocab_map(checkpoint, stored, names, config)
    return Examination(
        checkpoint,
        dialect,
        tuple(evidence),
        config,
        names,
        vocab_map,
        tuple(dict.fromkeys(stored.problems)),
        tuple(dict.fromkeys(stored.notes)),
    )


def detect(stored: Stored, asked: str | None = None) -> tuple[ModuleType, list[str]] | Problem:
    """The dialect of these files and why, or a Problem that names the flag that settles it."""
    if asked is not None and asked not in DIALECTS:
        raise UsageError(f"unknown dialect {asked!r}; known: {', '.join(DIALECTS)}")
    other = _not_eagle3(stored)
    if other is not None:
        return other
    if asked is not None:
        return DIALECTS[asked], [f"--dialect {asked}"]
    for module in DIALECTS.values():
        evidence = module.evidence(stored)
        if evidence:
            return module, evidence
    name = architecture_of(stored.config)
    return Problem(
        "dialect-unknown",
        f"architectures is {name!r}, which no known dialect writes"
        if name
        else "config.json names no architecture, which every known dialect does",
        f"Say which one it is with --dialect: {', '.join(DIALECTS)}.",
    )


def tensor_problems(config: DraftConfig, shapes: Mapping[str, Shape]) -> list[Problem]:
    """Missing, extra and misfit tensors, each by name."""
    problems = []
    num_layers = count_layers(shapes) or min(config.num_layers, 1)
    if num_layers != config.num_layers:
        message = f"the config says {config.num_layers} decoder layers, the file has {num_layers}"
        hint = f"Set num_hidden_layers to {num_layers}, or get the whole file."
        problems.append(Problem("num-layers", message, hint))
    expected = expected_tensors(config.model_copy(update={"num_layers": num_layers}))
    for name in sorted(set(expected) - set(shapes)):
        message = f"{name} {list(expected[name])} is not in the checkpoint"
        problems.append(Problem("tensor-missing", message, _MISFIT))
    for name in sorted(set(shapes) - set(expected) - {VOCAB_MAP}):
        message = f"{name} {list(shapes[name])} has no place in this draft"
        problems.append(Problem("tensor-extra", message, _EXTRA))
    for name in sorted(set(expected) & set(shapes)):
        if tuple(shapes[name]) != expected[name]:
            message = f"{name} is {list(shapes[name])}, expected {list(expected[name])}"
            problems.append(Problem("tensor-shape", message, _MISFIT))
    return problems


def _not_eagle3(stored: Stored) -> Problem | None:
    if "fc.weight" not in stored.shapes:
        return Problem(
            "not-eagle3",
            f"no fc.weight among {len(stored.stored_names)} tensors: this is not an EAGLE-3 draft",
            "Give the draft's folder, not the target's.",
        )
    attended = stored.size("layers.0.self_attn.q_proj.weight", 1)
    if attended is not None and attended == stored.size("fc.weight", 0):
        return Problem(
            "not-eagle3",
            f"attention reads {attended} values, the hidden state alone: this is an EAGLE-1 or "
            f"EAGLE-2 draft; EAGLE-3 reads {2 * attended}, embedding and hidden state",
            "Only EAGLE-3 drafts are supported.",
        )
    return None


def _read_config(
    checkpoint: Checkpoint, stored: Stored, settle: Settle
) -> tuple[DraftConfig | None, str, list[str]]:
    """eagle3.json if there is one, unless the user says how config.json is to be read."""
    if settle.dialect is None and settle.ids is None:
        kept = sidecar_config(checkpoint, stored.problems)
        if kept is not None:
            evidence = ["eagle3.json says what the draft is"]
            return _with_answers(kept, settle, stored), "eagle3", evidence
    found = detect(stored, settle.dialect)
    if isinstance(found, Problem):
        stored.problems.append(found)
        return None, "unknown", []
    module, evidence = found
    return _read_dialect(module, stored, settle), module.NAME, evidence


def _with_answers(config: DraftConfig, settle: Settle, stored: Stored) -> DraftConfig | None:
    for name in _IMAGE_INPUTS:
        stated, answer = getattr(config, name), getattr(settle, name)
        if answer is not None and stated not in (answer, "unknown"):
            flag = f"{flag_of(name)} {answer}"
            message = f"eagle3.json says that {name} is {stated}, and {flag} was given"
            stored.problem("image-inputs-conflict", message, f"Leave {flag} out. {_WRONG_SIDECAR}")
    names = ("taps", "residual", "feedback", *_IMAGE_INPUTS)
    answers = {name: getattr(settle, name) for name in names}
    given = {name: answer for name, answer in answers.items() if answer is not None}
    return _build(config.model_dump() | given, stored)


def _read_dialect(module: ModuleType, stored: Stored, settle: Settle) -> DraftConfig | None:
    top = Fields(stored.config, stored.problems)
    layer = top.section(speculators.LAYER_SECTION) if module is speculators else top
    values = read_shape(stored, layer, top)
    taps = read_taps(module, stored, top, settle)
    num_ids = len(taps) if taps else top.optional_count("num_aux_hidden_states")
    values |= read_widths(stored, top, values["hidden_size"], num_ids)
    values |= {
        "taps": taps or "default",
        "residual": read_residual(module, stored, top, settle),
        "fc_input_norm": read_fc_input_norm(stored, top),
        "feedback": read_feedback(module, stored, top, settle),
        "rope": read_rope(layer, stored.notes),
        "image_embedding": settle.image_embedding or "unknown",
        "deepstack_tap": settle.deepstack_tap or "unknown",
    }
    if taps is None and values["num_taps"] != 3:
        _report_unknown_taps(values, stored)
        return None
    return _build(values, stored)


def _report_unknown_taps(values: Mapping[str, Any], stored: Stored) -> None:
    if any(problem.id == "fc-width" for problem in stored.problems):
        return
    stored.problem(
        "taps-unknown",
        f"fc takes {values['num_taps']} taps of {values['target_hidden_size']} values, but no list "
        "says which; the default has three",
        "Give the boundaries that the draft was trained on with --taps; if the target has another "
        "hidden size, config.json lacks target_hidden_size.",
    )


def _build(values: Mapping[str, Any], stored: Stored) -> DraftConfig | None:
    if any(value is None for value in values.values()):
        return None  # and a problem was reported where it was read
    try:
        return DraftConfig.model_validate(dict(values))
    except ValidationError as error:
        for detail in error.errors():
            at = ".".join(str(part) for part in detail["loc"])
            text = detail["msg"].removeprefix("Value error, ")
            stored.problem("config-inconsistent", f"{at}: {text}" if at else text)
        return None
