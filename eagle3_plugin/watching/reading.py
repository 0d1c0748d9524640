"""What a running engine says of itself at one moment: one value for both engines.

vLLM counts rounds and accepted draft tokens by position as they happen. SGLang counts at
`/metrics` when a request ends: its rounds and its tokens, nothing by position. Accepted draft
tokens of SGLang are tokens less rounds less one a request, which the prefill gives. What its last
round yields past the end of an answer is in no counter, so that is a little low (`lost_tokens` in
expected.py).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import Engine, get_json, get_text
from eagle3_plugin.serving.metrics import LABEL, SAMPLE
from eagle3_plugin.settings import Settings, chain
from eagle3_plugin.watching.lengths import Histogram

TIMEOUT_S: Final = 5.0

KEY_NAME: Final = "EAGLE3_API_KEY"
"""In the environment: the --api-key of the server. SGLang asks for it but at /metrics and /health,
vLLM below /v1 only."""

Sample = tuple[str, Mapping[str, str], float]


@dataclass(frozen=True)
class Watched:
    """A server that can be watched. settings: None when it runs without speculation."""

    url: str
    engine: Engine
    settings: Settings | None

    @property
    def reports_positions(self) -> bool:
        """Whether acceptance by position is in its metrics; SGLang has it in each answer only."""
        return self.engine == "vllm" and self.settings is not None


@dataclass(frozen=True)
class Reading:
    """What an engine had counted since its start, and its load.

    time_s: of a clock that only grows. num_finished: requests that ended. num_generated_tokens:
    of all requests, as they are generated. counts: None without speculation; SGLang's are of the
    requests that ended, and have no positions. lengths: of the requests that ended; None where the
    engine has no histogram of them.
    """

    time_s: float
    num_running: float
    num_waiting: float
    num_generated_tokens: float
    num_finished: float
    counts: AcceptanceCounts | None
    lengths: Histogram | None = None


def connect(url: str) -> Watched:
    """Finds out which engine answers there and how it drafts.

    Raises EngineError for a server that cannot be watched.
    """
    url = url.rstrip("/")
    text = _metrics(url)
    engine = _engine(url, text)
    if engine == "vllm":
        return Watched(url, engine, _vllm_settings(samples(text)))
    return Watched(url, engine, _sglang_settings(url))


def read(watched: Watched, clock: Callable[[], float] = time.monotonic) -> Reading:
    """The engine's counters now; raises EngineError when they cannot be had or are not numbers."""
    found = samples(_metrics(watched.url))
    if watched.engine == "vllm":
        return vllm_reading(found, clock(), watched.settings)
    return sglang_reading(found, clock(), watched.settings)


def samples(text: str) -> list[Sample]:
    """Name, labels and value of each line of a Prometheus text; EngineError for another text."""
    found: list[Sample] = []
    for line in text.splitlines():
        match = SAMPLE.match(line.strip())
        if match:
            found.append((match[1], dict(LABEL.findall(match[2] or "")), _number(line, match[3])))
    return found


def vllm_reading(found: list[Sample], time_s: float, settings: Settings | None) -> Reading:
    """Names of vLLM 0.32 (v1/metrics/loggers.py, v1/spec_decode/metrics.py)."""
    counts = None
    if settings is not None:
        prefix = "vllm:spec_decode_num_"
        positions = f"{prefix}accepted_tokens_per_pos_total"
        counts = AcceptanceCounts(
            _count(found, f"{prefix}drafts_total"),
            _count(found, f"{prefix}draft_tokens_total"),
            _count(found, f"{prefix}accepted_tokens_total"),
            tuple(_count(found, positions, position=str(i)) for i in range(settings.num_steps)),
        )
    return Reading(
        time_s,
        _sum(found, "vllm:num_requests_running"),
        _sum(found, "vllm:num_requests_waiting"),
        _sum(found, "vllm:generation_tokens_total"),
        _sum(found, "vllm:request_success_total"),
        counts,
        _histogram(found, "vllm:request_generation_tokens"),
    )


def sglang_reading(found: list[Sample], time_s: float, settings: Settings | None) -> Reading:
    """Names of SGLang 0.5.23 (observability/metrics_collector.py).

    Running and waiting requests are as of the last of every 40 decode steps
    (managers/scheduler_components/metrics_reporter.py, report_decode_stats).
    """
    num_finished = _sum(found, "sglang:num_requests_total", default=0)
    counts = None
    if settings is not None:
        num_tokens = _sum(found, "sglang:generation_tokens_total", default=0)
        num_rounds = _count(found, "sglang:spec_verify_calls_total", default=0)
        accepted = round(num_tokens - num_finished) - num_rounds
        num_drafted = num_rounds * (settings.num_draft_tokens - 1)
        counts = AcceptanceCounts(num_rounds, num_drafted, max(0, accepted), ())
    first = [s for s in found if _is_first_rank(s[1])]
    decoded = _sum(first, "sglang:realtime_tokens_total", default=0, mode="decode")
    return Reading(
        time_s,
        _sum(first, "sglang:num_running_reqs"),
        _sum(first, "sglang:num_queue_reqs"),
        decoded + num_finished,
        num_finished,
        counts,
        _histogram(found, "sglang:generation_tokens_histogram"),
    )


def _metrics(url: str) -> str:
    try:
        with _telling_of_the_key(url, "/metrics"):
            return get_text(url, "/metrics", timeout_s=TIMEOUT_S, headers=_authorization())
    except EngineError as error:
        if " answered 404" not in error.message:
            raise
        raise EngineError(
            f"{url} has no /metrics; expected an engine's counters there",
            hint="Start SGLang with --enable-metrics; vLLM has them unless --disable-log-stats.",
        ) from error


def _authorization() -> dict[str, str]:
    """The key of KEY_NAME for the server; nothing without one. It is in no message."""
    key = os.environ.get(KEY_NAME, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"{KEY_NAME} is not of printable ASCII; expected the server's --api-key")
    return {"Authorization": f"Bearer {key}"} if key else {}


@contextmanager
def _telling_of_the_key(url: str, path: str) -> Iterator[None]:
    """An answer 401 becomes an error that says where a key is taken from."""
    try:
        yield
    except EngineError as error:
        if " answered 401" not in error.message:
            raise
        given = "the key that was sent is not taken" if _authorization() else "no key was sent"
        raise EngineError(
            f"{url}{path} answered 401: {given}; expected the server's --api-key",
            hint=f"Set {KEY_NAME} in the environment to that key.",
        ) from error


def _engine(url: str, text: str) -> Engine:
    names = {name.partition(":")[0] for name, _, _ in samples(text)}
    if "vllm" in names:
        return "vllm"
    if "sglang" in names:
        return "sglang"
    raise EngineError(
        f"{url}/metrics has no metric of vllm: or sglang:; expected one of the two engines",
        hint="Give the URL of the engine itself. Start vLLM without --disable-log-stats and "
        "SGLang with --enable-metrics.",
    )


def _vllm_settings(found: list[Sample]) -> Settings | None:
    """vLLM makes a counter for each position when it starts."""
    name = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
    positions = {labels.get("position") for each, labels, _ in found if each == name}
    return chain(len(positions)) if positions else None


def _sglang_settings(url: str) -> Settings | None:
    with _telling_of_the_key(url, "/server_info"):
        info = get_json(url, "/server_info", timeout_s=4 * TIMEOUT_S, headers=_authorization())
    if info.get("speculative_algorithm") is None:
        return None
    keys = ("speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens")
    if info.get("speculative_adaptive") or not all(isinstance(info.get(k), int) for k in keys):
        found = "speculative_adaptive" if info.get("speculative_adaptive") else "no settings"
        raise EngineError(
            f"{url}/server_info tells of {found}; expected fixed num_steps, topk, draft tokens: "
            "SGLang's counters do not say which settings a round ran with",
            hint="Watch a server that was started without --speculative-adaptive.",
        )
    return Settings(*(info[key] for key in keys))


def _number(line: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise EngineError(
            f"/metrics has the line {line.strip()[:80]!r}; expected metrics with numbers",
            hint="Is it the engine itself that answers there, or something in front of it?",
        ) from error


def _histogram(found: list[Sample], name: str) -> Histogram | None:
    """Over engines and models; None before the first event of an engine that has none till then."""
    ends = sorted({float(s[1].get("le", "inf")) for s in found if s[0] == f"{name}_bucket"})
    if len(ends) < 2 or not math.isinf(ends[-1]):
        return None
    up_to = [
        sum(s[2] for s in found if s[0] == f"{name}_bucket" and float(s[1]["le"]) == end)
        for end in ends
    ]
    counts = tuple(after - before for before, after in pairwise([0.0, *up_to]))
    return Histogram(tuple(ends), counts, _sum(found, f"{name}_sum"))


def _is_first_rank(labels: Mapping[str, str]) -> bool:
    """Ranks of one copy of the model count the same requests."""
    return labels.get("tp_rank", "0") == "0" and labels.get("pp_rank", "0") == "0"


def _count(found: list[Sample], name: str, *, default: float | None = None, **labels: str) -> int:
    return round(_sum(found, name, default=default, **labels))


def _sum(found: list[Sample], name: str, *, default: float | None = None, **labels: str) -> float:
    """Over engines and models. default: of a counter that appears with its first event."""
    values = [
        value
        for each, given, value in found
        if each == name and all(given.get(key) == wanted for key, wanted in labels.items())
    ]
    total = sum(values) if values else default
    if total is None or not math.isfinite(total):
        what = "not there" if total is None else f"{total:g}"
        raise EngineError(
            f"the metric {name} is {what}; expected a number",
            hint="Watch vLLM 0.32 or SGLang 0.5.23, and look into the server's log.",
        )
    return total
