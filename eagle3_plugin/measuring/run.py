"""A whole measurement: each server in turn, each load, each set, as often as asked.

A session is one server with all loads and sets. The sessions of one repeat follow each other in
the servers' order, those of the next in the opposite one, so that what drifts over a run does not
always favour the same server; and the last server of a repeat, which is the first of the next, is
not started anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.measuring import counters
from eagle3_plugin.measuring.conversations import AskedSet
from eagle3_plugin.measuring.counters import NOT_COUNTED, Speculation
from eagle3_plugin.measuring.hosts import Host, Opened, ended
from eagle3_plugin.measuring.journal import CellKey, End, Journal, Kept
from eagle3_plugin.measuring.loop import Answer, Asking, Loop, Looped, Place
from eagle3_plugin.measuring.result import Cell, Missing, Served
from eagle3_plugin.measuring.summaries import make_cell
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving.profile_file import now

STOPPED: Final = "the run was stopped (Ctrl-C)"
GIVEN_UP: Final = "the server was given up after failures with no answer between them"

WHY_UNCHECKED: Final = "(no counters, a resume, or requests that failed)"
UNCHECKED: Final = f"rounds not checked against the engine's counters {WHY_UNCHECKED}"
UNKNOWN: Final = f"tokens per verify not known, and not in the figures {WHY_UNCHECKED}"

Progress = Callable[[CellKey, int, int], None]
"""Told after each answer which cell it is of, answers so far, and of how many."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured. hosts: the baseline first, if there is one."""

    hosts: Sequence[Host]
    sets: Sequence[AskedSet]
    concurrency: Sequence[int]
    num_repeats: int
    asking: Asking

    def sessions(self) -> list[tuple[Host, tuple[int, ...]]]:
        """Each server with the repeats that it answers before it is stopped."""
        found: list[tuple[Host, tuple[int, ...]]] = []
        for repeat in range(self.num_repeats):
            hosts = self.hosts if repeat % 2 == 0 else self.hosts[::-1]
            for host in hosts:
                if found and found[-1][0] is host:
                    found[-1] = (host, (*found[-1][1], repeat))
                else:
                    found.append((host, (repeat,)))
        return found

    def keys(self, host: Host, repeats: Sequence[int]) -> list[CellKey]:
        """The cells of a session, in their order."""
        return [
            CellKey(host.name, asked.name, concurrency, repeat)
            for repeat in repeats
            for concurrency in self.concurrency
            for asked in self.sets
        ]


@dataclass
class Run:
    """A plan being carried out; all that is found is in the journal and in here."""

    plan: Plan
    journal: Journal
    progress: Progress
    num_warm_up_requests: int = 0
    is_stopped: bool = False
    _given_up: dict[CellKey, str] = field(default_factory=dict, init=False)

    def measure(self) -> None:
        """All that is not yet in the journal. A Ctrl-C ends it, and what was found stays."""
        with self._stoppable():
            for host, repeats in self.plan.sessions():
                keys = self.plan.keys(host, repeats)
                if not all(self._is_whole(key) for key in keys):
                    self._session(host, keys)

    def host(self, name: str) -> Host:
        """The host of a server."""
        return next(host for host in self.plan.hosts if host.name == name)

    def answers(self, server: str) -> dict[CellKey, dict[Place, Answer]]:
        """What a server answered, by cell."""
        return {key: self.journal.kept(key).answers for key in self.keys if key.server == server}

    def cells(self) -> tuple[Cell, ...]:
        """Those with an answer, in the order in which they are measured."""
        kept = [(key, self.journal.kept(key)) for key in self.keys]
        return tuple(_cell(key, found) for key, found in kept if found.answers)

    @property
    def is_whole(self) -> bool:
        """Whether --resume would find nothing to do."""
        return all(self._is_whole(key) for key in self.keys)

    def missing(self) -> tuple[Missing, ...]:
        """The cells that are not whole, or that the server refused a part of, and why."""
        sizes = {asked.name: asked for asked in self.plan.sets}
        kept = {key: self.journal.kept(key) for key in self.keys}
        lacking = [k for k in kept if not self._is_whole(k) or _refusals(kept[k])]
        return tuple(_missing(k, kept[k], sizes[k.set], self._reason(k, kept[k])) for k in lacking)

    def unchecked(self) -> tuple[str, ...]:
        """Which loops' acceptance is not known, or not checked against the engine's counters."""
        found: dict[str, list[str]] = {}
        for key in self.keys:
            kept, served = self.journal.kept(key), self.journal.served.get(key.server)
            is_checked = kept.end is not None and kept.end.num_rounds_counted is not None
            if not kept.answers or is_checked or served is None or served.settings == str(OFF):
                continue
            is_told = any(a.request.counts is not None for a in kept.answers.values())
            found.setdefault(UNCHECKED if is_told else UNKNOWN, []).append(_where(key))
        return tuple(f"{what}: {'; '.join(where)}" for what, where in found.items())

    @property
    def keys(self) -> list[CellKey]:
        """All cells, in the order in which they are measured."""
        return [k for host, repeats in self.plan.sessions() for k in self.plan.keys(host, repeats)]

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        except KeyboardInterrupt:
            self.is_stopped = True
        finally:
            self.journal.spend(time.monotonic() - begin)

    def _session(self, host: Host, keys: Sequence[CellKey]) -> None:
        """What goes wrong ends the session, not the run: the other servers are still measured."""
        reason = ""
        try:
            with host.opened() as opened:
                how = counters.speculation(opened.client)
                self._serve(_described(opened.served, how))
                for key in keys:
                    if not self._is_whole(key) and not self._cell(key, opened, how):
                        break
                gone = ended(opened)
                reason = gone.message if gone else reason
        except UsageError:
            raise
        except Eagle3Error as error:
            reason = error.message
        self._given_up |= dict.fromkeys(keys, reason or GIVEN_UP)

    def _serve(self, served: Served) -> None:
        """Answers with other settings are not pooled with those of an earlier part."""
        was = self.journal.served.get(served.name, served)
        if was.settings != served.settings:
            raise UsageError(
                f"{served.name} runs with {served.settings}; expected {was.settings}, with which "
                "this run was begun",
                hint=f"Start it with {was.settings} again, or begin a run with another --out.",
            )
        self.journal.serve(served)

    def _cell(self, key: CellKey, opened: Opened, how: Speculation) -> bool:
        """Whether the server is still good for another."""
        asked = next(s for s in self.plan.sets if s.name == key.set)
        kept = self.journal.kept(key)
        loop = self._loop(key, asked, kept, opened, how)
        self.num_warm_up_requests += loop.warm_up()
        opened.empty_cache()
        before, begun_at = counters.read(opened.client, how), now()
        is_first = not kept.answers
        done = loop.run()
        self._end(key, done, begun_at, before, is_first)
        return not done.is_given_up

    def _loop(
        self, key: CellKey, asked: AskedSet, kept: Kept, opened: Opened, how: Speculation
    ) -> Loop:
        total = sum(c.num_turns for c in asked.conversations)
        known = dict(kept.answers)

        def answered(found: Answer) -> None:
            self.journal.answer(key, found)
            self.progress(key, len(self.journal.kept(key).answers), total)

        return Loop(
            opened.client,
            asked,
            key.concurrency,
            self.plan.asking,
            how.num_positions,
            known,
            kept.elapsed_s,
            answered,
        )

    def _end(
        self, key: CellKey, done: Looped, begun_at: str, before: counters.Reading, is_first: bool
    ) -> None:
        """Counters are compared where they saw all of the cell, and nothing that was lost."""
        counted = NOT_COUNTED
        if is_first and not done.failures:
            counted = before.since()
            wrong = counters.disagreement(_where(key), done.answers, counted)
            if wrong is not None:
                self.journal.problem(wrong)
        self.journal.end(
            key,
            End(
                begun_at,
                counted.acceptance,
                counted.num_rounds,
                done.failures,
                done.refusals,
                is_whole=not done.is_given_up and not done.failures,
            ),
        )

    def _is_whole(self, key: CellKey) -> bool:
        end = self.journal.kept(key).end
        return end is not None and end.is_whole

    def _reason(self, key: CellKey, kept: Kept) -> str:
        """The end of the server, else what its requests failed with."""
        said = [*kept.end.failures.values(), *kept.end.refusals.values()] if kept.end else []
        reason = self._given_up.get(key, STOPPED)
        is_better = said and (reason in (GIVEN_UP, STOPPED) or self._is_whole(key))
        return "; ".join(list(dict.fromkeys(said))[:3]) if is_better else reason


def _refusals(kept: Kept) -> Mapping[int, str]:
    return kept.end.refusals if kept.end else {}


def _missing(key: CellKey, kept: Kept, asked: AskedSet, reason: str) -> Missing:
    """How many conversations have not all of their answers."""
    whole = sum(
        all((index, turn) in kept.answers for turn in range(conversation.num_turns))
        for index, conversation in enumerate(asked.conversations)
    )
    return Missing(**vars(key), num_conversations=len(asked.conversations) - whole, reason=reason)


def _cell(key: CellKey, kept: Kept) -> Cell:
    answers = [kept.answers[place] for place in sorted(kept.answers)]
    end = kept.end
    return make_cell(
        **vars(key),
        begun_at=end.begun_at if end else "",
        elapsed_s=kept.elapsed_s,
        requests=[answer.request for answer in answers],
        counted=end.counted if end else None,
        num_rounds_counted=end.num_rounds_counted if end else None,
    )


def _described(served: Served, how: Speculation) -> Served:
    """With the settings that the server itself says; ours, where they are known, are the same."""
    if served.settings not in ("unknown", how.settings):
        raise UsageError(
            f"the server was started with {served.settings} and says that it runs {how.settings}",
            hint="Leave flags of speculation out of the words after --; --settings has them.",
        )
    return Served(**{**dict(served), "settings": how.settings})


def _where(key: CellKey) -> str:
    return f"{key.server}, {key.set}, {key.concurrency} at a time, repeat {key.repeat + 1}"
