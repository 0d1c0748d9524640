"""An alarm told to a URL: one POST of JSON."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.watching.rule import Verdict

TIMEOUT_S: Final = 10.0


@dataclass
class Webhook:
    """Where an alarm is told: once, and again after all evidence for it was gone."""

    url: str
    _told: Literal["alarm", "trouble"] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        require_url(self.url)

    def tell(self, verdict: Verdict | None, message: Mapping[str, Any]) -> None:
        """Posts the message when the verdict is an alarm that was not told yet; may raise."""
        if verdict is None or verdict.evidence == 0:
            self._told = None
        elif verdict.is_alarm and self._told != "alarm":
            post(self.url, message)
            self._told = "alarm"

    def tell_trouble(self, message: Mapping[str, Any]) -> None:
        """Posts the message of a trouble that leaves no verdict, once while it lasts; may raise."""
        if self._told != "trouble":
            post(self.url, message)
            self._told = "trouble"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error with its status: followed, a POST would become a GET of nothing."""

    def redirect_request(self, *given: Any) -> None:
        return None


def require_url(url: str) -> None:
    """Raises UsageError for what cannot be posted to."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise UsageError(
            f"--webhook {url!r} is not a URL; expected for example https://example.com/hook"
        )


def post(url: str, message: Mapping[str, Any]) -> None:
    """Posts the message; raises EngineError unless the answer's status is of the 200s.

    Only the host is named in errors: the rest of such a URL is often a secret.
    """
    body = json.dumps(message).encode()
    headers = {"Content-Type": "application/json"}
    host = urlsplit(url).hostname
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(urllib.request.Request(url, body, headers), timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        found = f"answered {error.code}"
    except OSError as error:
        found = f"does not answer: {getattr(error, 'reason', None) or error}"
    except (http.client.HTTPException, UnicodeError) as error:
        found = f"cannot be posted to: {type(error).__name__}"
    raise EngineError(
        f"the webhook at {host} {found}; expected a status of the 200s",
        hint="The alarm is posted again at the next reading.",
    )
