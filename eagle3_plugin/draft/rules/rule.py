"""What a rule is, and what it is shown.

A rule is data and one small function. The function looks at a case and says what it saw; how bad
that is in which engine, and what to do about it, is data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from eagle3_plugin.draft.config import DraftConfig, TargetConfig
from eagle3_plugin.draft.dialects.settle import Settle, flag_of
from eagle3_plugin.draft.read import WRITABLE, Examination
from eagle3_plugin.draft.rules.stock import StockReading

Engine = Literal["vllm", "sglang"]
Severity = Literal["error", "warning", "info"]
Column = Literal["vllm", "vllm+plugin", "sglang", "sglang+plugin"]

COLUMNS: tuple[Column, ...] = ("vllm", "vllm+plugin", "sglang", "sglang+plugin")
WITH_PLUGIN: Mapping[Engine, Column] = {"vllm": "vllm+plugin", "sglang": "sglang+plugin"}
JUDGED: Mapping[Engine, str] = {"vllm": "0.32.0", "sglang": "0.5.23"}
"""The release of each engine that the rules describe."""

TITLES: Mapping[Engine, str] = {"vllm": "vLLM", "sglang": "SGLang"}

AS_TRAINED = "The plugin reads it as it was trained."
AS_STOCK = "As without the plugin."
REFUSES = "The plugin refuses to start and names it."


@dataclass(frozen=True)
class Case:
    """One (draft, target, engine) and everything that is known of it.

    plugin_asked: the user said that the plugin is there. plugin_serves: it knows the draft's
    architecture and the target's family, and so takes this pair over where it is there.
    by_itself: the draft read without the user's answers, as the plugin reads it.
    reading: what the stock engine takes from config.json; of a config that it cannot read at all,
    what it would take after a conversion. None = the draft itself could not be read.
    """

    found: Examination
    by_itself: Examination
    target: TargetConfig | None
    engine: Engine
    engine_version: str | None
    plugin_asked: bool
    plugin_serves: bool
    settle: Settle
    reading: StockReading | None

    @property
    def plugin(self) -> bool:
        """Whether the plugin is what reads this draft here."""
        return self.plugin_asked and self.plugin_serves

    @property
    def column(self) -> Column:
        return WITH_PLUGIN[self.engine] if self.plugin else self.engine

    @property
    def raw(self) -> Mapping[str, Any]:
        return self.found.checkpoint.config

    @property
    def config(self) -> DraftConfig | None:
        return self.found.config

    @property
    def num_layers(self) -> int | None:
        return self.target.num_layers if self.target else None

    @property
    def title(self) -> str:
        return f"{TITLES[self.engine]} {JUDGED[self.engine]}"


@dataclass(frozen=True)
class Seen:
    """One thing that a rule saw; without a remedy the rule's own holds."""

    found: str
    expected: str
    remedy: str | None = None


@dataclass(frozen=True)
class Rule:
    """severity: by column; a column that is absent is one where the rule does not apply.

    what: one line for the table. stock: what each stock engine does. plugin: what the plugin makes
    of it, in either engine. source: where the fact was read. muted_by: problems after which the
    rule could only guess.
    """

    id: str
    what: str
    severity: Mapping[Column, Severity]
    look: Callable[[Case], Iterable[Seen]]
    stock: Mapping[Engine, str]
    source: str
    plugin: str = AS_TRAINED
    remedy: str | Callable[[Case], str] = ""
    muted_by: frozenset[str] = frozenset()


def at(
    vllm: Severity | None = None,
    vllm_plugin: Severity | None = None,
    sglang: Severity | None = None,
    sglang_plugin: Severity | None = None,
) -> dict[Column, Severity]:
    """Severities by column: each engine stock, then with the plugin."""
    given = zip(COLUMNS, (vllm, vllm_plugin, sglang, sglang_plugin), strict=True)
    return {column: severity for column, severity in given if severity is not None}


def everywhere(severity: Severity) -> dict[Column, Severity]:
    """The same severity in each column."""
    return dict.fromkeys(COLUMNS, severity)


def both(text: str) -> dict[Engine, str]:
    """What both stock engines do."""
    return {"vllm": text, "sglang": text}


def compared(
    look: Callable[[Case, DraftConfig, StockReading], Iterable[Seen]],
) -> Callable[[Case], Iterable[Seen]]:
    """A rule's function that is only asked when the draft could be read."""

    def checked(case: Case) -> Iterable[Seen]:
        if case.config is not None and case.reading is not None:
            yield from look(case, case.config, case.reading)

    return checked


def paired(
    look: Callable[[Case, DraftConfig, TargetConfig], Iterable[Seen]],
) -> Callable[[Case], Iterable[Seen]]:
    """A rule's function that is only asked when both the draft and the target are known."""

    def checked(case: Case) -> Iterable[Seen]:
        if case.config is not None and case.target is not None:
            yield from look(case, case.config, case.target)

    return checked


def mend(case: Case) -> str:
    """The command that makes a folder which the stock engine reads rightly, or the way around."""
    if case.found.problems:
        return "First mend what keeps the draft from being read."
    config = case.config
    if config is not None and case.target is not None:
        config = config.resolved(case.target.num_layers)
    dialect = None if config is None else writable(config, ("universal", case.engine))
    if dialect is not None:
        return f"{convert_command(case, dialect)}; then serve OUT."
    return _way_around(case, config)


def writable(config: DraftConfig, dialects: Iterable[str]) -> str | None:
    """The first of the dialects that can be written for this draft."""
    return next((name for name in dialects if not WRITABLE[name].losses(config)), None)


def _way_around(case: Case, config: DraftConfig | None) -> str:
    """What is left when there is nothing that the stock engine could be given."""
    stock = f"stock {TITLES[case.engine]}"
    if case.plugin:
        return f"{stock} cannot run it."
    if not case.plugin_serves:
        return f"Use another draft: {stock} cannot run it, and the plugin leaves the pair to it."
    taps = () if config is None or config.taps == "default" else config.taps
    if case.engine == "sglang" and case.num_layers in taps:
        return "Serve the draft in vLLM, with the plugin: SGLang cannot run it."
    return f"Serve the draft with the plugin (no conversion needed): {stock} cannot run it."


def convert_command(case: Case, dialect: str) -> str:
    """The convert command, with the answers that the user gave to this check."""
    target = " --target TARGET" if case.target is not None else ""
    draft = case.found.checkpoint.source.name
    return f"Run: eagle3 convert {draft} OUT --to {dialect}{target}{_flags(case.settle)}"


def _flags(settle: Settle) -> str:
    taps = ",".join(map(str, settle.taps)) if settle.taps is not None else None
    given = asdict(settle) | {"taps": taps}
    del given["target_num_layers"]
    return "".join(f" {flag_of(name)} {value}" for name, value in given.items() if value)
