"""Rules about the check itself: the target, the engine's release, the plugin, given answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eagle3_plugin.draft.config import DraftConfig
from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.read import WRITABLE
from eagle3_plugin.draft.rules.rule import (
    AS_STOCK,
    JUDGED,
    TITLES,
    Case,
    Engine,
    Rule,
    Seen,
    at,
    both,
    convert_command,
    everywhere,
    writable,
)
from eagle3_plugin.draft.rules.stock import PLUGIN_TARGETS

_COMPATIBLE = {"vllm": "0.32.", "sglang": "0.5.23"}


@dataclass(frozen=True)
class Since:
    """What an engine has had since a release (read in the released wheels)."""

    engine: Engine
    release: tuple[int, int, int]
    what: str
    is_needed: Callable[[Case], bool]


def _beside(model_type: str) -> Callable[[Case], bool]:
    return lambda case: case.target is not None and case.target.model_type.startswith(model_type)


def _has_qk_norms(case: Case) -> bool:
    return case.config is not None and case.config.decoder == "qwen3"


SINCE = (
    Since("vllm", (0, 10, 2), "EAGLE-3 beside Qwen3", _beside("qwen3")),
    Since("vllm", (0, 12, 0), "EAGLE-3 beside Qwen3-VL", _beside("qwen3_vl")),
    Since("vllm", (0, 24, 0), "draft layers with q and k norms", _has_qk_norms),
    Since("sglang", (0, 5, 11), "EAGLE-3 beside Qwen3-VL", _beside("qwen3_vl")),
    Since("sglang", (0, 5, 11), "plugins", lambda case: case.plugin_asked),
)


def _too_old(case: Case) -> Iterable[Seen]:
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", case.engine_version or "")
    if numbers is None:
        return
    release = tuple(map(int, numbers.groups()))
    for since in SINCE:
        if since.engine == case.engine and release < since.release and since.is_needed(case):
            first = ".".join(map(str, since.release))
            yield Seen(
                f"{TITLES[case.engine]} {case.engine_version} does not have {since.what}",
                f"{first} or later",
            )


def _not_ours(case: Case) -> Iterable[Seen]:
    if not case.plugin_asked or case.plugin:
        return
    left = f"the plugin leaves %s to {TITLES[case.engine]}"
    if case.target is not None and not case.target.model_type.startswith(PLUGIN_TARGETS):
        name = case.target.model_type
        remedy = f"Go by what is said here of stock {TITLES[case.engine]}."
        yield Seen(left % f"a target of type {name!r}", "a target of the Qwen3 family", remedy)
        return
    name = architecture_of(case.raw) or "this config"
    remedy = f"Convert the draft: eagle3 convert DRAFT OUT --to {case.engine} --dialect DIALECT"
    yield Seen(left % repr(name), "a name that it knows", remedy)


def _told_answers(case: Case) -> Iterable[Seen]:
    """Nobody tells the plugin what the user told this check."""
    if not case.plugin or case.config is None:
        return
    alone = case.by_itself
    if alone.problems != case.found.problems or _as_served(alone.config) != _as_served(case.config):
        yield Seen(
            "the draft reads as judged here only with the answers given on the command line",
            "files that say it themselves",
            _written_down(case, case.config),
        )


def _as_served(config: DraftConfig | None) -> DraftConfig | None:
    """The draft with what the plugins take for image inputs that are not known."""
    taken = {"image_embedding": "placeholder", "deepstack_tap": "after"}
    if config is None:
        return None
    unknown = {name: value for name, value in taken.items() if getattr(config, name) == "unknown"}
    return config.model_copy(update=unknown)


def _written_down(case: Case, config: DraftConfig) -> str:
    """The command that writes the answers into the files."""
    dialect = writable(config, (case.engine, *WRITABLE))
    if dialect is None:
        return "Mend config.json: no dialect's stock engine reads this draft, so none is written."
    return f"{convert_command(case, dialect)}; then serve OUT."


def _no_target(case: Case) -> Iterable[Seen]:
    if case.target is None:
        yield Seen("no target was given: nothing about the pair was judged", "--target TARGET")


def _release(case: Case) -> Iterable[Seen]:
    if case.engine_version is None:
        return
    if not f"{case.engine_version}.".startswith(_COMPATIBLE[case.engine]):
        found = f"{TITLES[case.engine]} {case.engine_version} is installed"
        yield Seen(found, f"{TITLES[case.engine]} {JUDGED[case.engine]}, which the rules describe")


def _unknown_release(case: Case) -> Iterable[Seen]:
    if case.engine_version is None:
        found = f"{TITLES[case.engine]}'s release is not known here"
        yield Seen(found, f"{TITLES[case.engine]} {JUDGED[case.engine]}, which the rules describe")


def _high_tap(case: Case) -> Iterable[Seen]:
    noted = any(note.id == "taps-angelslim" for note in case.found.notes)
    named = "angelslim" in case.found.checkpoint.source.name.lower()
    if case.config is not None and case.config.taps == "default" and (noted or named):
        yield Seen(
            "an AngelSlim draft without tap ids; one version of the trainer took the high tap one "
            "layer later (n - 2)",
            "tap ids in config.json",
        )


def _untrained_norm(case: Case) -> Iterable[Seen]:
    for note in case.found.notes:
        if note.id == "norm-output-false":
            yield Seen(note.message, "norm_output true or absent", note.hint)


_ANY = both("may differ from what is said here")
_NONE = both("does not matter")
_MADE_FOR = "The plugin is made for vLLM 0.32 and SGLang 0.5.23."
_SWEEP = "Find out: eagle3 score DRAFT --target TARGET --sweep-taps"

SETTING: tuple[Rule, ...] = (
    Rule("plugin-not-ours", "the plugin does not know this architecture, or this kind of target",
        at("warning", sglang="warning"), _not_ours, both("reads the draft itself; so judged here"),
        "engines/names.py"),
    Rule("answers-not-in-files", "the plugin would read the draft otherwise than the answers say",
        at(vllm_plugin="error", sglang_plugin="error"), _told_answers,
        both("is judged with the answers"), "engines/draft_config.py",
        plugin="The plugin refuses the draft, or reads it without the answers.",
        muted_by=frozenset({"image-inputs-conflict"})),
    Rule("target-unknown", "no target", everywhere("info"), _no_target, _NONE,
        "this check", plugin="The plugin sees the target, and refuses one that does not fit.",
        remedy="Give --target TARGET."),
    Rule("engine-version", "another release of the engine", everywhere("warning"),
        _release, _ANY, "this check", plugin=_MADE_FOR,
        remedy="Install the release that the rules describe, or measure the acceptance."),
    Rule("engine-too-old", "a release without something that the pair needs", everywhere("error"),
        _too_old, both("has it"),
        "wheels of vLLM 0.10.2, 0.12.0, 0.24.0 and of SGLang 0.5.10.post1, 0.5.11",
        plugin="The plugin cannot add it to an older release.",
        remedy="Install the release that the rules describe."),
    Rule("engine-version-unknown", "the engine's release is not known", everywhere("info"),
        _unknown_release, _ANY, "this check",
        plugin=_MADE_FOR,
        remedy="Run the check in the environment that the engine is installed in."),
    Rule("taps-angelslim", "an AngelSlim draft whose high tap is in doubt", everywhere("warning"),
        _high_tap,
        both("captures the default taps"),
        "AngelSlim target_model_wrapper.py at 0725bc8",
        plugin="The plugin captures the default taps.", remedy=_SWEEP),
    Rule("norm-output-false", "norm_output is false", everywhere("info"),
        _untrained_norm, both("norms before the head all the same"),
        "SpecForge llama3_eagle.py:1690", plugin=AS_STOCK,
        remedy="If it accepts little: eagle3 score DRAFT --target TARGET"),
)  # fmt: skip
