"""From what is wanted to a result: the run, the comparison, and where it all comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.measuring import describe
from eagle3_plugin.measuring.bootstrap import BOOTSTRAP
from eagle3_plugin.measuring.card import card_table
from eagle3_plugin.measuring.conversations import AskedSet
from eagle3_plugin.measuring.equal import Equality
from eagle3_plugin.measuring.explain import equalities
from eagle3_plugin.measuring.hosts import Host
from eagle3_plugin.measuring.journal import Journal, opened
from eagle3_plugin.measuring.loop import Asking
from eagle3_plugin.measuring.provenance import (
    Chat,
    Machine,
    Model,
    Provenance,
    Sampling,
    Versions,
)
from eagle3_plugin.measuring.record import Engine
from eagle3_plugin.measuring.result import CardTable, Prediction, Result, Summary
from eagle3_plugin.measuring.run import Plan, Progress, Run
from eagle3_plugin.measuring.summaries import summaries
from eagle3_plugin.planning.cards import Card
from eagle3_plugin.serving.client import NEUTRAL
from eagle3_plugin.serving.profile_file import now
from eagle3_plugin.serving.words import value_of


@dataclass(frozen=True)
class Subject:
    """What runs where. target, draft: as typed; None where only URLs are known.

    words: for the engine, without keys. versions, model: of the environment, or of the server.
    """

    engine: Engine
    target: str | None
    draft: str | None
    machine: Machine
    words: tuple[str, ...]
    versions: Versions
    model: Model | None


@dataclass(frozen=True)
class CardRun:
    """A card and how this run stands for its own. stands_for: see card_table."""

    card: Card
    stands_for: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """What every server is asked, and where it is kept. command: as typed, without keys.

    limit: conversations of each set. num_seeds: of the distribution test at temperature > 0. out:
    where the result will be, and beside it the journal; None = nothing is kept.
    """

    command: str
    sets: Sequence[AskedSet]
    concurrency: tuple[int, ...]
    num_repeats: int
    asking: Asking
    limit: int | None
    num_seeds: int
    out: Path | None
    resume: bool


@dataclass(frozen=True)
class Wanted:
    """One measurement. hosts: the baseline first, if there is one. notes: for people."""

    work: Work
    subject: Subject
    hosts: Sequence[Host]
    card: CardRun | None = None
    notes: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()

    @property
    def plan(self) -> Plan:
        work = self.work
        return Plan(self.hosts, work.sets, work.concurrency, work.num_repeats, work.asking)

    @property
    def identity(self) -> dict[str, Any]:
        """What has to be the same for a run to be gone on with."""
        subject, work = self.subject, self.work
        return {
            "engine": subject.engine,
            "engine_version": subject.versions.engine,
            "plugin_version": subject.versions.plugin,
            "target": subject.target,
            "draft": subject.draft,
            "model": subject.model and subject.model.name,
            "files": {
                name: describe.stamp(name) for name in (subject.target, subject.draft) if name
            },
            "words": list(subject.words),
            "device": subject.machine.device,
            "hardware": subject.machine.hardware,
            "num_gpus": subject.machine.num_gpus,
            "servers": {host.name: host.where for host in self.hosts},
            "serves": {host.name: host.serves for host in self.hosts},
            "sets": {asked.name: asked.used.sha256 for asked in work.sets},
            "concurrency": list(work.concurrency),
            "repeats": work.num_repeats,
            "asking": vars(work.asking),
        }


@dataclass(frozen=True)
class Bench:
    """A result, and whether a Ctrl-C ended the run."""

    result: Result
    is_stopped: bool = False


def measure(wanted: Wanted, progress: Progress) -> Bench:
    """Carries it out; raises EngineError only where nothing at all could be measured."""
    work = wanted.work
    _require_enough(work)
    with opened(work.out, wanted.identity, now(), resume=work.resume) as journal:
        run = Run(wanted.plan, journal, progress)
        run.measure()
        if not run.is_stopped and not run.cells():
            raise _nothing(run)
        found = equalities(run, dtype=_dtype(wanted.subject), num_seeds=work.num_seeds)
        return Bench(_result(wanted, run, journal, found), run.is_stopped)


def _require_enough(work: Work) -> None:
    """Fewer conversations than are asked at a time would be another load than the result says."""
    most = max(work.concurrency)
    few = [asked for asked in work.sets if len(asked.conversations) < most]
    if few:
        named = ", ".join(f"{asked.name} has {len(asked.conversations)}" for asked in few)
        raise UsageError(
            f"{named}, and {most} conversations are to be asked at a time; expected as many in "
            "each set",
            hint="Lower --concurrency, raise --limit, or give larger sets.",
        )


def _nothing(run: Run) -> EngineError:
    reasons = dict.fromkeys(f"{m.server}: {m.reason}" for m in run.missing())
    return EngineError(
        "nothing could be measured; expected answers\n" + "\n".join(reasons),
        hint="Mend what the servers say, then run it again.",
    )


def _result(wanted: Wanted, run: Run, journal: Journal, equality: tuple[Equality, ...]) -> Result:
    cells = run.cells()
    found = summaries(cells)
    missing = run.missing()
    return Result(
        is_partial=run.is_stopped or not run.is_whole,
        provenance=_provenance(wanted, run, journal),
        servers=tuple(journal.served[h.name] for h in wanted.hosts if h.name in journal.served),
        sets=tuple(asked.used for asked in wanted.work.sets),
        summaries=found,
        equality=equality,
        card=_card(wanted.card, found),
        predictions=wanted.predictions,
        missing=missing,
        problems=tuple(journal.problems),
        bootstrap=BOOTSTRAP,
        cells=cells,
    )


def _card(run: CardRun | None, found: Sequence[Summary]) -> CardTable | None:
    return None if run is None else card_table(run.card, found, run.stands_for, run.notes)


def _provenance(wanted: Wanted, run: Run, journal: Journal) -> Provenance:
    subject, work, asking = wanted.subject, wanted.work, wanted.work.asking
    target = subject.model or describe.model(subject.target or "")
    draft = None if subject.draft is None else describe.model(subject.draft)
    unseen = [m.name for m in (target, draft) if m is not None and not m.files]
    notes = [f"the files of {name} were not seen on this machine" for name in unseen]
    return Provenance(
        command=work.command,
        started_at=journal.begun_at,
        finished_at=now(),
        duration_s=journal.spent_s,
        num_resumed=journal.num_resumed,
        engine=subject.engine,
        versions=subject.versions,
        machine=subject.machine,
        target=target,
        draft=draft,
        words=subject.words,
        settings=tuple(s.settings for s in journal.served.values() if s.settings != "off"),
        concurrency=work.concurrency,
        num_repeats=work.num_repeats,
        limit=work.limit,
        num_warm_up_requests=run.num_warm_up_requests,
        sampling=Sampling(
            temperature=asking.temperature,
            seed=asking.seed,
            max_tokens=asking.max_tokens,
            ignore_eos=asking.ignore_eos,
            top_p=asking.top_p,
            top_k=asking.top_k,
            **NEUTRAL,
        ),
        chat=Chat(
            template_sha256=subject.target and describe.template_sha256(subject.target),
            thinking=asking.thinking,
        ),
        notes=(*wanted.notes, *notes, *run.unchecked()),
    )


def _dtype(subject: Subject) -> str | None:
    """What the engine was told, or `auto`; None for a server that somebody else started."""
    if subject.target is None:
        return None
    return value_of(subject.words, "--dtype") or "auto"
