"""What is wanted of running servers, of servers of our own, and of a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring import describe
from eagle3_plugin.measuring.baseline import Seen, compared, require_off
from eagle3_plugin.measuring.bench import CardRun, Subject, Wanted, Work
from eagle3_plugin.measuring.distribution import require_sound
from eagle3_plugin.measuring.hosts import OwnHost, UrlHost
from eagle3_plugin.measuring.predicted import predictions
from eagle3_plugin.measuring.protocol import Protocol, differences
from eagle3_plugin.measuring.record import BASELINE
from eagle3_plugin.planning.cards import Card
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.serving.choice import read_settings
from eagle3_plugin.serving.client import Client, get_json
from eagle3_plugin.serving.compose import Served
from eagle3_plugin.serving.process import Progress
from eagle3_plugin.settings import Settings

EMPTIED = "the prefix cache is emptied after the warm-up of each loop"
KEPT = (
    "the prefix caches of servers at a URL are not emptied: times to first token may be of prompts "
    "that a server still held, from a warm-up or from before"
)

SERVER = "server"
"""The name of a server of which only the URL is known."""


@dataclass(frozen=True)
class Servers:
    """How servers of our own are started. words: as typed after --; shown_words: without keys.

    place: of the result; each server's log is beside it. is_proved: the log must say that our class
    holds the draft.
    """

    to_serve: Served
    num_gpus: int
    words: tuple[str, ...]
    shown_words: tuple[str, ...]
    place: Path
    start_timeout_s: float
    silence_s: float
    is_proved: bool
    started: Callable[[str, str], None]
    progress: Progress


def of_urls(work: Work, url: str, baseline: str | None, silence_s: float) -> Wanted:
    """Servers that somebody else runs."""
    client = Client.connect(url, timeout_s=silence_s)
    require_sound(client.engine, _device(client), work.asking.temperature)
    subject = Subject(
        client.engine,
        target=None,
        draft=None,
        machine=describe.machine(None, None),
        words=(),
        versions=describe.versions_of(client),
        model=describe.served_model(client),
    )
    seen = Seen.of(client)
    hosts = [UrlHost(SERVER, url, silence_s, seen.serves)]
    if baseline is None:
        return Wanted(work, subject, hosts, notes=(KEPT,))
    other = Client.connect(baseline, timeout_s=silence_s)
    require_off(other)
    seen_there = Seen.of(other)
    notes = (KEPT, *compared(seen_there, seen))
    hosts = [UrlHost(BASELINE, baseline, silence_s, seen_there.serves), *hosts]
    return Wanted(work, subject, hosts, notes=notes)


def of_settings(work: Work, servers: Servers, settings: Sequence[str]) -> Wanted:
    """A baseline, and a server for each of the settings."""
    chosen = [read_settings(text, servers.to_serve.engine) for text in settings]
    drafting = tuple(dict.fromkeys(c for c in chosen if isinstance(c, Settings)))
    if not drafting:
        raise UsageError(
            "--settings names no speculation; expected at least one beside the baseline, which "
            "is always measured",
            hint="For example --settings 3,1,4",
        )
    return _own(work, servers, drafting, flags=(), notes={})


def of_card(work: Work, servers: Servers, card: Card, protocol: Protocol) -> Wanted:
    """The servers of a card's protocol."""
    stands_for = {asked: str(run) for asked, run in protocol.settings.items()}
    notes = {run: protocol.notes[:1] for asked, run in stands_for.items() if asked != run}
    drafting = tuple(dict.fromkeys(protocol.settings.values()))
    wanted = _own(work, servers, drafting, flags=protocol.flags, notes=notes)
    served = servers.to_serve
    otherwise = differences(card, served.target, served.draft, work)
    return replace(wanted, card=CardRun(card, stands_for, (*protocol.notes, *otherwise)))


def _own(
    work: Work,
    servers: Servers,
    drafting: Sequence[Settings],
    *,
    flags: tuple[str, ...],
    notes: dict[str, tuple[str, ...]],
) -> Wanted:
    served = servers.to_serve
    require_sound(served.engine, served.device, work.asking.temperature)
    subject = Subject(
        served.engine,
        served.target,
        served.draft,
        describe.machine(served.device, servers.num_gpus),
        servers.shown_words,
        describe.versions_there(served.engine, served.python),
        None,
    )
    choices: tuple[Choice, ...] = (OFF, *drafting)
    hosts = [
        OwnHost(
            name=BASELINE if choice is OFF else str(choice),
            choice=choice,
            to_serve=served,
            num_gpus=servers.num_gpus,
            flags=flags,
            words=servers.words,
            log_path=_log(servers.place, choice),
            timeout_s=servers.silence_s,
            start_timeout_s=servers.start_timeout_s,
            is_proved=servers.is_proved,
            notes=notes.get(str(choice), ()),
            started=servers.started,
            progress=servers.progress,
        )
        for choice in choices
    ]
    hardware = subject.machine.hardware
    predicted, why = predictions(served, hardware, servers.num_gpus, drafting, work.concurrency)
    notes_of_run = (EMPTIED, why) if why else (EMPTIED,)
    return Wanted(work, subject, hosts, notes=notes_of_run, predictions=predicted)


def _log(place: Path, choice: Choice) -> Path:
    return place.with_name(f"{place.name}.{str(choice).replace(',', '-')}.log")


def _device(client: Client) -> str | None:
    """SGLang says what it runs on; vLLM does not."""
    if client.engine == "sglang":
        found = get_json(client.url, "/server_info").get("device")
        return None if found is None else str(found)
    return None
