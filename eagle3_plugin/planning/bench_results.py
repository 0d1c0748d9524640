"""What a result of `eagle3 bench` says to the planner: acceptance, and the times of rounds.

Acceptance is of all rounds of each server, of all sets and loads. A round's time is had from each
loop: the decoding time of its answers by their rounds, as `eagle3 tune` has it from its waves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.planning.acceptance import (
    Acceptance,
    Interval,
    counted_interval,
    from_rates,
    from_total,
)
from eagle3_plugin.planning.profile import Counted, Profile, Subject, Timed, full_name
from eagle3_plugin.settings import Settings

Json = Mapping[str, Any]


@dataclass(frozen=True)
class _Counted:
    """The rounds of one server. accepted[i]: rounds that accepted draft position i."""

    settings: Settings
    num_rounds: int
    accepted: tuple[int, ...]

    @property
    def tokens_per_verify(self) -> float:
        return 1 + sum(self.accepted) / self.num_rounds

    @property
    def rates(self) -> tuple[float, ...]:
        """Conditional, up to the first position that no round reached."""
        before = (self.num_rounds, *self.accepted)
        pairs = zip(self.accepted, before, strict=False)
        return tuple(after / whole for after, whole in pairs if whole)


def from_result(given: Json, where: str) -> Acceptance:
    """The longest chain gives the rates by depth; every other server what it yielded itself.

    Without a chain, one tree's tokens per verify are all that is known.
    """
    with _read(where):
        found = list(_counted(given))
    chains = sorted((c for c in found if c.settings.is_chain), key=lambda c: c.settings.num_steps)
    trees = [c for c in found if not c.settings.is_chain]
    if not chains and not trees:
        raise Eagle3Error(
            f"{where} has no server that speculates with known settings; expected one",
            hint="Bench one: eagle3 bench ENGINE --target T --draft D --settings 3,1,4",
        )
    if not chains:
        best = max(trees, key=lambda c: c.num_rounds)
        return from_total(best.tokens_per_verify, best.settings, where)
    longest = chains[-1]
    return from_rates(
        longest.rates,
        where,
        num_rounds=longest.num_rounds,
        known={c.settings.num_steps: c.tokens_per_verify for c in chains},
        trees={c.settings: _interval(c) for c in trees},
    )


def profile_of(given: Json, where: str) -> Profile:
    """The same as a measured profile; raises Eagle3Error for a result that is not whole.

    The loads, settings and prompts are those of the result, and so is the hardware.
    """
    with _read(where):
        made = given["provenance"]
        if given["is_partial"] or made["machine"]["device"] is None or made["draft"] is None:
            raise Eagle3Error(
                f"{where} is a part of a run, or of servers that it did not start; expected a "
                "whole result with its hardware and draft",
                hint="Go on with eagle3 bench … --resume, or start the servers with eagle3 bench "
                "vllm|sglang.",
            )
        timed, counted = list(_timed(given)), list(_counted(given))
        return Profile(
            subject=_subject(given, made),
            begun_at=made["started_at"],
            finished_at=made["finished_at"],
            timed=tuple(timed),
            counted=tuple(
                Counted(
                    settings=str(c.settings),
                    num_rounds=c.num_rounds,
                    accepted_by_position=c.accepted,
                    measured_at=made["started_at"],
                )
                for c in counted
            ),
        )


@contextlib.contextmanager
def _read(where: str) -> Iterator[None]:
    """Meanwhile a key that lacks, or a value of another kind, is an error of the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Eagle3Error(
            f"{where} is no whole result of eagle3 bench: {error!r}; expected its cells",
            hint="Make one with: eagle3 bench ENGINE --target T --draft D --out RESULT.json",
        ) from error


def _subject(given: Json, made: Json) -> Subject:
    machine, versions = made["machine"], made["versions"]
    return Subject(
        engine=made["engine"],
        target=full_name(made["target"]["name"]),
        draft=full_name(made["draft"]["name"]),
        device=machine["device"],
        hardware=machine["hardware"] or "unknown",
        num_gpus=machine["num_gpus"] or 1,
        engine_version=versions["engine"] or "unknown",
        plugin_version=versions["plugin"],
        words=tuple(made["words"]),
        prompts_sha256=" ".join(used["sha256"] for used in given["sets"]),
        num_prompts=sum(used["num_conversations"] for used in given["sets"]),
        max_new_tokens=made["sampling"]["max_tokens"],
    )


def _timed(given: Json) -> Iterator[Timed]:
    """One time for each loop, together where settings and load are the same."""
    settings = {server["name"]: server["settings"] for server in given["servers"]}
    times: dict[tuple[str, int], list[float]] = {}
    for cell in given["cells"]:
        found = _round_s(cell)
        if found is not None:
            times.setdefault((settings[cell["server"]], cell["concurrency"]), []).append(found)
    for (name, num_requests), round_s in times.items():
        yield Timed(
            settings=name,
            num_requests=num_requests,
            how="real",
            round_s=tuple(round_s),
            measured_at=given["provenance"]["started_at"],
        )


def _round_s(cell: Json) -> float | None:
    """Seconds of decoding, of all answers together, by their rounds; None where nothing says it."""
    answers = [r for r in cell["requests"] if r["time_to_first_token_s"] is not None]
    if len(answers) < len(cell["requests"]):
        return None
    seconds = sum(r["request_s"] - r["time_to_first_token_s"] for r in answers)
    accepted = cell["acceptance"]
    rounds = accepted["num_rounds"] if accepted else sum(r["num_tokens"] - 1 for r in answers)
    return float(seconds / rounds) if rounds > 0 and seconds > 0 else None


def _counted(given: Json) -> Iterator[_Counted]:
    settings = {server["name"]: _settings(server["settings"]) for server in given["servers"]}
    for name, known in settings.items():
        cells = [cell for cell in given["cells"] if cell["server"] == name]
        counts = [cell["acceptance"] for cell in cells if cell["acceptance"]]
        num_rounds = sum(c["num_rounds"] for c in counts)
        if known is not None and num_rounds:
            by_position = [c["accepted_by_position"] for c in counts]
            yield _Counted(known, num_rounds, _summed(by_position))


def _summed(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    longest = max(map(len, rows))
    return tuple(sum(row[i] for row in rows if i < len(row)) for i in range(longest))


def _settings(text: str) -> Settings | None:
    """None for a server that does not speculate, or of which that is not known."""
    try:
        return Settings.parse(text)
    except UsageError:
        return None


def _interval(counted: _Counted) -> Interval:
    return counted_interval(counted.tokens_per_verify, counted.settings, counted.num_rounds)
