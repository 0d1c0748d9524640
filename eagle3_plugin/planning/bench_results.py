"""What a result of `eagle3 bench` says to the planner: acceptance, and the times of rounds.

Acceptance is of all rounds of each server, of all sets and loads. A round's time is the decoding
time of answers by their rounds. `eagle3 tune` has one from each of its waves; here each loop is cut
into waves: answers that began one after the other, at least as many as are asked at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.planning.acceptance import (
    Acceptance,
    Interval,
    counted_interval,
    from_rates,
    from_total,
)
from eagle3_plugin.planning.profile import Counted, Profile, Subject, Timed, full_name
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.settings import Settings

Json = Mapping[str, Any]
Loops = dict[tuple[str, int], list[Json]]
"""Cells by the settings of their server and the conversations that were asked at a time."""

NUM_WAVES: Final = 5
"""Of each loop that has the answers for as many, as of `eagle3 tune`; and the fewest of all loops
together whose median has an interval (profile.median_error)."""

FULL_SHARE: Final = 0.9
"""The least share of the load that has to run, in the mean over a loop, for its times to be of it.
Assumed, not fitted: at the end of a small set the clients go idle one after the other."""


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
        counted = list(_counted(given))
        return Profile(
            subject=_subject(given, made),
            begun_at=made["started_at"],
            finished_at=made["finished_at"],
            timed=_timed(given, where),
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


def _timed(given: Json, where: str) -> tuple[Timed, ...]:
    """The loads at which enough waves ran; Eagle3Error where none has a ratio to no speculation."""
    times = {
        key: [t for cell in cells for t in _waves(cell)] for key, cells in _loops(given).items()
    }
    known = {key: tuple(found) for key, found in times.items() if len(found) >= NUM_WAVES}
    bases = {load for settings, load in known if settings == str(OFF)}
    if not any(settings != str(OFF) and load in bases for settings, load in known):
        raise _too_few(times, where)
    return tuple(
        Timed(
            settings=settings,
            num_requests=load,
            how="real",
            round_s=round_s,
            measured_at=given["provenance"]["started_at"],
        )
        for (settings, load), round_s in known.items()
    )


def _loops(given: Json) -> Loops:
    """All sets and repeats together where settings and load are the same; none whose rounds are
    not known."""
    settings = {server["name"]: server["settings"] for server in given["servers"]}
    found: Loops = {}
    for cell in given["cells"]:
        choice = settings[cell["server"]]
        if choice == str(OFF) or cell["acceptance"] is not None:
            found.setdefault((choice, cell["concurrency"]), []).append(cell)
    return found


def _too_few(times: Mapping[tuple[str, int], Sequence[float]], where: str) -> Eagle3Error:
    counts = (f"{settings} has {len(found)} at {load}" for (settings, load), found in times.items())
    return Eagle3Error(
        f"{where} times too few waves of answers for an error of its rounds: "
        f"{', '.join(counts) or 'it has none'}; expected at least {NUM_WAVES} without speculation "
        "and with it at one number of conversations at a time, each of as many answers as that, "
        f"from loops in which {FULL_SHARE:.0%} of that number ran in the mean",
        hint="Bench more conversations: ten times --concurrency or more in each set; or measure "
        "with eagle3 tune.",
    )


def _waves(cell: Json) -> list[float]:
    """Seconds of a round, of each wave; none of a loop that was not timed under its load."""
    answers = sorted(cell["requests"], key=lambda r: float(r["begin_s"]))
    most = min(NUM_WAVES, len(answers) // cell["concurrency"])
    is_timed = all(r["time_to_first_token_s"] is not None for r in answers)
    if not most or not is_timed or _num_running(answers) < FULL_SHARE * cell["concurrency"]:
        return []
    ends = [len(answers) * wave // most for wave in range(most + 1)]
    rounds_per_token = _rounds_per_token(cell)
    found = (_round_s(answers[a:b], rounds_per_token) for a, b in pairwise(ends))
    return [seconds for seconds in found if seconds is not None]


def _num_running(answers: Sequence[Json]) -> float:
    """Requests at a time, in the mean over the seconds in which there was one. In order."""
    busy_s = until_s = 0.0
    for answer in answers:
        end_s = answer["begin_s"] + answer["request_s"]
        busy_s += max(0.0, end_s - max(until_s, answer["begin_s"]))
        until_s = max(until_s, end_s)
    return sum(r["request_s"] for r in answers) / busy_s if busy_s else 0.0


def _rounds_per_token(cell: Json) -> float:
    """Of the whole loop, after the first tokens: for answers that do not say their rounds."""
    num_tokens = sum(r["num_tokens"] - 1 for r in cell["requests"])
    accepted = cell["acceptance"]
    return accepted["num_rounds"] / num_tokens if accepted and num_tokens else 1.0


def _round_s(answers: Sequence[Json], rounds_per_token: float) -> float | None:
    """Seconds of decoding, of all answers together, by their rounds; None where nothing says it."""
    seconds = sum(r["request_s"] - r["time_to_first_token_s"] for r in answers)
    rounds = sum(
        r["counts"]["num_rounds"] if r["counts"] else (r["num_tokens"] - 1) * rounds_per_token
        for r in answers
    )
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
