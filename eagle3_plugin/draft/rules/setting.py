"""Rules about the check itself: the target, the engine's release, the plugin, given answers."""

from __future__ import annotations

from collections.abc import Iterable

from eagle3_plugin.draft.dialects.fields import architecture_of
from eagle3_plugin.draft.rules.problems import REFUSES
from eagle3_plugin.draft.rules.rule import (
    JUDGED,
    NO_SGLANG_PLUGIN,
    TITLES,
    Case,
    Rule,
    Seen,
    at,
    both,
    convert_command,
)

_COMPATIBLE = {"vllm": "0.32.", "sglang": "0.5.23"}


def _no_plugin(case: Case) -> Iterable[Seen]:
    if case.plugin_asked and case.engine == "sglang":
        yield Seen(NO_SGLANG_PLUGIN, "vLLM, or SGLang without the plugin")


def _not_ours(case: Case) -> Iterable[Seen]:
    if case.plugin_asked and not case.plugin and case.engine == "vllm":
        name = architecture_of(case.raw)
        yield Seen(f"the plugin leaves {name or 'this config'!r} to vLLM", "a name that it knows")


def _told_answers(case: Case) -> Iterable[Seen]:
    """Nobody tells the plugin what the user told this check."""
    if not case.plugin or case.config is None:
        return
    alone = case.by_itself
    if alone.problems != case.found.problems or alone.config != case.config:
        yield Seen(
            "the draft reads as judged here only with the answers given on the command line",
            "files that say it themselves",
            f"{convert_command(case, 'vllm')}; then serve OUT.",
        )


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
_SWEEP = "Find out: eagle3 score DRAFT --target TARGET --sweep-taps"

SETTING: tuple[Rule, ...] = (
    Rule("plugin-missing", "the plugin was asked for where there is none", at(sglang="error"),
        _no_plugin, {"sglang": "is judged as if no plugin were asked for"},
        "this release", remedy="Check with --stock, or with --engine vllm."),
    Rule("plugin-not-ours", "the plugin does not know this architecture", at("warning"),
        _not_ours, {"vllm": "reads it itself; judged as stock vLLM"}, "engines/names.py",
        remedy="Convert the draft: eagle3 convert DRAFT OUT --to vllm --dialect DIALECT"),
    Rule("answers-not-in-files", "the plugin would read the draft otherwise than the answers say",
        at(plugin="error"), _told_answers, {"vllm": "is judged with the answers"},
        "engines/vllm/draft_config.py", plugin="The vLLM plugin refuses the draft, or reads it "
        "without the answers."),
    Rule("target-unknown", "no target", at("info", "info", "info"), _no_target, _NONE,
        "this check", plugin=REFUSES, remedy="Give --target TARGET."),
    Rule("engine-version", "another release of the engine", at("warning", "warning", "warning"),
        _release, _ANY, "this check", plugin="The vLLM plugin is made for vLLM 0.32.",
        remedy="Install the release that the rules describe, or measure the acceptance."),
    Rule("engine-version-unknown", "the engine's release is not known",
        at("info", "info", "info"), _unknown_release, _ANY, "this check",
        plugin="The vLLM plugin is made for vLLM 0.32.",
        remedy="Run the check in the environment that the engine is installed in."),
    Rule("taps-angelslim", "an AngelSlim draft whose high tap is in doubt",
        at("warning", "warning", "warning"), _high_tap,
        both("captures the default taps"),
        "AngelSlim target_model_wrapper.py at 0725bc8",
        plugin="The vLLM plugin captures the default taps.", remedy=_SWEEP),
    Rule("norm-output-false", "norm_output is false", at("info", "info", "info"),
        _untrained_norm, both("norms before the head all the same"),
        "SpecForge llama3_eagle.py:1690", plugin="As stock vLLM.",
        remedy="If it accepts little: eagle3 score DRAFT --target TARGET"),
)  # fmt: skip
