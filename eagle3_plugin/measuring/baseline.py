"""Whether a baseline that somebody else runs is the same server without speculation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eagle3_plugin.errors import Eagle3Error, UsageError
from eagle3_plugin.measuring import counters, describe
from eagle3_plugin.measuring.record import Engine
from eagle3_plugin.serving.client import Client, get_json


@dataclass(frozen=True)
class Seen:
    """A running server as it says itself. model: the name that it serves it under.

    root: hub id or folder that the model was loaded from. root, release: None = not said.
    """

    url: str
    engine: Engine
    model: str
    root: str | None
    release: str | None

    @classmethod
    def of(cls, client: Client) -> Seen:
        release = describe.versions_of(client).engine
        return cls(client.url, client.engine, client.model, _root(client), release)

    @property
    def serves(self) -> str:
        """Model and release in one line."""
        return f"{self.model} from {self.root}, {self.engine} {self.release}"


def require_off(client: Client) -> None:
    """Raises UsageError for a baseline that speculates, which would make every ratio a lie."""
    how = counters.speculation(client)
    if how.num_positions:
        raise UsageError(
            f"--baseline {client.url} speculates with settings {how.settings}; expected a "
            "server without speculation"
        )


def compared(baseline: Seen, server: Seen) -> tuple[str, ...]:
    """In what they differ that may be, for people; UsageError for another engine or model.

    Of one of the two, name and root, a difference may be: names are free, and a folder may be
    mounted elsewhere.
    """
    if baseline.engine != server.engine:
        raise UsageError(
            f"--baseline {baseline.url} is {baseline.engine}, and {server.url} is {server.engine}; "
            "expected the same engine without speculation",
            hint="Start the baseline with the same command, without the words of speculation.",
        )
    has_root = baseline.root is not None and baseline.root == server.root
    if baseline.model != server.model and not has_root:
        raise UsageError(
            f"--baseline {baseline.url} serves {_named(baseline)}, and {server.url} serves "
            f"{_named(server)}; expected the same model",
            hint="If it is the same, start both with one --served-model-name.",
        )
    notes = []
    if (baseline.model, baseline.root) != (server.model, server.root):
        notes.append(f"the baseline serves {_named(baseline)}, the server {_named(server)}")
    if baseline.release != server.release:
        notes.append(
            f"the baseline is {baseline.engine} {baseline.release or 'of an unknown release'}, the "
            f"server {server.release or 'of an unknown one'}: ratios are of that as well"
        )
    return tuple(notes)


def _root(client: Client) -> str | None:
    """vLLM lists it beside the name; SGLang puts the name there too, and the path elsewhere
    (0.5.23, entrypoints/http_server.py, available_models and model_info)."""
    try:
        if client.engine == "sglang":
            return _text(get_json(client.url, "/model_info").get("model_path"))
        return _text(get_json(client.url, "/v1/models")["data"][0].get("root"))
    except Eagle3Error:
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _named(seen: Seen) -> str:
    return seen.model if seen.root in (None, seen.model) else f"{seen.model} from {seen.root}"
