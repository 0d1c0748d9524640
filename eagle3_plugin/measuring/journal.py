"""Finished requests, on the disk as they come: a run that was cut off goes on from there.

The journal is a jsonl beside the result. Its first line says what the run is of; each other line
is an answer, or the end of a cell. A last line that was cut off by a crash is left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from eagle3_plugin.draft.atomic import output_errors
from eagle3_plugin.errors import EngineError, OutputError, UsageError
from eagle3_plugin.measuring.loop import Answer, Place
from eagle3_plugin.measuring.record import Counts
from eagle3_plugin.measuring.result import Request, Served
from eagle3_plugin.serving.acceptance import AcceptanceCounts

SUFFIX: Final = ".journal"
SCHEMA: Final = 1


@dataclass(frozen=True, order=True)
class CellKey:
    """Which loop."""

    server: str
    set: str
    concurrency: int
    repeat: int


@dataclass(frozen=True)
class End:
    """How a cell ended. counted: see Counted in counters.py; failures, refusals: see Looped.

    is_whole: every conversation was asked to its end or refused, in however many parts.
    """

    begun_at: str
    counted: AcceptanceCounts | None
    num_rounds_counted: int | None
    failures: Mapping[int, str]
    refusals: Mapping[int, str]
    is_whole: bool


@dataclass
class Kept:
    """What is known of a cell: its answers, and how it ended; None while it runs."""

    answers: dict[Place, Answer] = field(default_factory=dict)
    end: End | None = None

    @property
    def elapsed_s(self) -> float:
        """To the last byte of the last answer."""
        ends = (a.request.begin_s + a.request.request_s for a in self.answers.values())
        return max(ends, default=0.0)


@dataclass
class Journal:
    """What was measured so far; with a path, on the disk after each call."""

    cells: dict[CellKey, Kept]
    served: dict[str, Served]
    problems: list[str]
    num_resumed: int
    begun_at: str
    spent_s: float
    _file: IO[str] | None

    @classmethod
    def new(cls, begun_at: str, file: IO[str] | None) -> Journal:
        """Of a run that begins."""
        return cls({}, {}, [], 0, begun_at, 0.0, file)

    def answer(self, key: CellKey, found: Answer) -> None:
        """Keeps an answer."""
        self._kept(key).answers[found.place] = found
        ids = None if found.token_ids is None else list(found.token_ids)
        request = found.request.model_dump(mode="json")
        self._write({"key": vars(key), "request": request, "text": found.text, "ids": ids})

    def end(self, key: CellKey, end: End) -> None:
        """Keeps how a cell, or a part of it, ended."""
        self._kept(key).end = end
        counted = end.counted and vars(end.counted)
        self._write({"key": vars(key), "end": {**vars(end), "counted": counted}})

    def serve(self, served: Served) -> None:
        """Keeps what a server was."""
        self.served[served.name] = served
        self._write({"served": served.model_dump(mode="json")})

    def problem(self, text: str) -> None:
        """Keeps what makes figures doubtful."""
        self.problems.append(text)
        self._write({"problem": text})

    def spend(self, seconds: float) -> None:
        """Keeps how long this part of the run took."""
        self.spent_s += seconds
        self._write({"spent_s": seconds})

    def kept(self, key: CellKey) -> Kept:
        """What is known of a cell."""
        return self.cells.get(key, Kept())

    def _kept(self, key: CellKey) -> Kept:
        return self.cells.setdefault(key, Kept())

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is not None:
            with output_errors(Path(self._file.name), 0):
                self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                self._file.flush()


def journal_path(out: Path) -> Path:
    """Where the journal of a result is."""
    return out.with_name(out.name + SUFFIX)


@contextlib.contextmanager
def opened(
    out: Path | None, subject: Mapping[str, Any], begun_at: str, *, resume: bool
) -> Iterator[Journal]:
    """The journal of a result, begun anew or gone on with; held against a second run.

    subject: what the run is of. Raises UsageError where a journal is there and not asked for, and
    where the one to go on with is of something else.
    """
    if out is None:
        yield Journal.new(begun_at, None)
        return
    path = journal_path(out)
    _require(path, resume)
    with output_errors(path, 0):
        file = path.open("a+", encoding="utf-8")
    with file:
        _hold(file, path)
        journal = _read(file, path, subject, begun_at)
        yield journal


def require_place(out: Path | None, *, resume: bool, force: bool) -> None:
    """A result is not written over; with `force` it is, and a journal beside it goes."""
    if resume and force:
        raise UsageError(
            "--resume keeps what was measured and --force removes it; expected one of the two",
            hint="Leave --force out to go on: a result that is not whole is replaced anyway.",
        )
    if out is None:
        if resume:
            raise UsageError("--resume without --out; expected the result that was begun")
        return
    if not out.parent.is_dir():
        raise OutputError(
            f"{out.parent} is not a folder, expected one to write {out.name!r} into",
            hint=f"Make it first: mkdir -p {out.parent}",
        )
    if force:
        return _discard(journal_path(out))
    if out.exists() and not journal_path(out).exists():
        raise OutputError(
            f"{out} exists, expected a name that is free",
            hint="Choose another name with --out, or add --force to replace it.",
        )


def remove(out: Path) -> None:
    """Removes the journal of a result that is whole."""
    journal_path(out).unlink(missing_ok=True)


def _discard(path: Path) -> None:
    """Removes a journal, unless a run that goes on writes it."""
    if path.exists():
        with path.open("a", encoding="utf-8") as file:
            _hold(file, path)
            path.unlink()


def _require(path: Path, resume: bool) -> None:
    if path.exists() and not resume:
        raise UsageError(
            f"{path} is of a run that did not come to its end; expected none, or --resume",
            hint=f"Add --resume to go on with it, or remove it: rm {path}",
        )
    if resume and not path.exists():
        raise UsageError(
            f"there is no {path} to resume; expected the journal of a run that was cut off",
            hint="Leave --resume out, or name the --out of that run.",
        )


def _hold(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EngineError(
            f"another eagle3 bench writes {path}; expected one at a time",
            hint="Wait for it, or name another --out.",
        ) from None


def _read(file: IO[str], path: Path, subject: Mapping[str, Any], begun_at: str) -> Journal:
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        os.ftruncate(file.fileno(), len(whole))
    lines = [_line(path, n, line) for n, line in enumerate(whole.split(b"\n")[:-1], start=1)]
    if not lines:
        journal = Journal.new(begun_at, file)
        journal._write({"schema": SCHEMA, "subject": subject, "begun_at": begun_at})
        return journal
    _require_same(path, lines[0].get("subject", {}), json.loads(json.dumps(subject)))
    journal = Journal.new(lines[0]["begun_at"], file)
    for line in lines[1:]:
        _apply(journal, line)
    return journal


def _line(path: Path, number: int, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(
            f"{path}, line {number} is not of a journal; expected a JSON object",
            hint=f"Something else wrote into it. Begin anew: rm {path}",
        )
    return value


def _require_same(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if names:
        lines = [f"{path} is of another run; expected the same"]
        lines += [f"  {name}: {was.get(name)!r} there, {now.get(name)!r} now" for name in names]
        raise UsageError(
            "\n".join(lines),
            hint=f"Type the command as it was begun, or begin anew: rm {path}",
        )


def _apply(journal: Journal, line: Mapping[str, Any]) -> None:
    if "spent_s" in line:
        journal.spent_s += line["spent_s"]
        return
    if "problem" in line:
        journal.problems.append(line["problem"])
        return
    if "served" in line:
        served = Served.model_validate_json(json.dumps(line["served"]))
        journal.served[served.name] = served
        return
    kept = journal._kept(CellKey(**line["key"]))
    if "end" in line:
        kept.end = _end(line["end"])
        return
    request = Request.model_validate_json(json.dumps(line["request"]))
    ids = None if line["ids"] is None else tuple(line["ids"])
    answer = Answer(request, line["text"], ids)
    kept.answers[answer.place] = answer
    journal.num_resumed += 1


def _end(value: Mapping[str, Any]) -> End:
    counted = value["counted"] and Counts.model_validate_json(json.dumps(value["counted"])).value
    said = {
        kind: {int(index): text for index, text in value.get(kind, {}).items()}
        for kind in ("failures", "refusals")
    }
    return End(**{**value, **said, "counted": counted})
