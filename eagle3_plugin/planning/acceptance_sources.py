"""The forms in which a draft's acceptance is given: files that we write, lists, single numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from eagle3_plugin.draft.json_text import parse_json_object
from eagle3_plugin.errors import Eagle3Error, NotFoundError, UsageError
from eagle3_plugin.planning.acceptance import (
    Acceptance,
    Interval,
    RankWise,
    counted_interval,
    from_rates,
    from_total,
)
from eagle3_plugin.planning.bench_results import from_result
from eagle3_plugin.planning.cards import card_acceptance
from eagle3_plugin.planning.probe_constants import probe_constants
from eagle3_plugin.planning.rates import decaying
from eagle3_plugin.planning.settings import OFF, parse
from eagle3_plugin.settings import Settings

Json = Mapping[str, Any]

SIDECAR = "eagle3.json"
MAX_BYTES = 64 * 1024 * 1024
"""A score of many prompts is a megabyte."""

FORMS = (
    "typical, card:DRAFT or card:DRAFT:BENCHMARK, 3.33@5,4,16 (tokens per verify at settings), "
    "0.81,0.73,0.68 (conditional rates by depth), or a file of `eagle3 score --json` or "
    "`eagle3 bench` or an eagle3.json"
)

TYPICAL_DEPTH = 7

ROUNDING = 1e-6

_RATES_KEY = "acceptance_rate_conditional"
_SETTINGS_KEYS = ("num_steps", "topk", "num_draft_tokens")
_NUMBER = r"\s*\d*\.?\d+(?:[eE][-+]?\d+)?\s*"
_TOTAL = re.compile(rf"({_NUMBER})@(.*)", re.DOTALL)
_RATES = re.compile(rf"[-+]?{_NUMBER}(?:,[-+]?{_NUMBER})*")


def parse_acceptance(text: str) -> Acceptance:
    """What `--acceptance` names, in one of FORMS."""
    if text == "typical":
        return typical()
    if text.startswith("card:"):
        draft, _, benchmark = text.removeprefix("card:").partition(":")
        return card_acceptance(draft, benchmark or None)
    if total := _TOTAL.fullmatch(text):
        settings = parse(total[2])
        if settings is OFF:
            raise UsageError(
                f"{text!r} is a measurement without speculation, expected settings after the @",
                hint="For example 3.33@5,4,16.",
            )
        return from_total(float(total[1]), settings, f"given: {text}")
    if _RATES.fullmatch(text):
        return _given_rates([float(number) for number in text.split(",")], text)
    return read_acceptance(Path(text))


def typical() -> Acceptance:
    """Assumed: the median of published pairs with Qwen3 targets, from their 10th to their 90th
    percentile (probe_fit.py, planning/data/)."""
    c = probe_constants()
    firsts = (c.typical_low, c.typical_high)
    return Acceptance(
        "assumed",
        "median of published EAGLE-3 drafts for Qwen3 targets",
        decaying(c.typical_rate, c.decay, TYPICAL_DEPTH),
        tuple(decaying(f, d, TYPICAL_DEPTH) for f in firsts for d in (c.decay_low, c.decay_high)),
    )


def read_acceptance(path: Path) -> Acceptance:
    """From a file that a score or a bench wrote, an eagle3.json, or the folder that has one."""
    file = path / SIDECAR if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"--acceptance {path}: {error.strerror or error}, expected {FORMS}",
            hint="--acceptance typical needs no measurement.",
        ) from error
    return from_json(parse_json_object(data, file.name, max_bytes=MAX_BYTES), file.name)


def from_json(given: Json, where: str) -> Acceptance:
    """From the JSON of a score, a bench or an eagle3.json, told apart by their keys."""
    readers = (
        ("cells", from_result),
        ("config_sha256", from_sidecar),
        (_RATES_KEY, from_score),
        ("speed", from_bench),
    )
    if given.get("schema") != 1:
        raise Eagle3Error(f"{where} has schema {given.get('schema')!r}, expected 1", hint=_MADE_BY)
    for key, reader in readers:
        if key in given:
            return reader(given, where)
    found = ", ".join(list(given)[:6]) or "nothing"
    raise Eagle3Error(
        f"{where} has the keys {found}; expected a score, a bench result or an eagle3.json",
        hint=_MADE_BY,
    )


def from_sidecar(given: Json, where: str) -> Acceptance:
    """From the expected acceptance that `eagle3 score --save` keeps in eagle3.json."""
    expected = given.get("expected_acceptance")
    if not isinstance(expected, Mapping):
        raise Eagle3Error(
            f"{where} has no expected_acceptance, expected what a score measured",
            hint="eagle3 score DRAFT --target TARGET --save",
        )
    return from_score(expected, f"{where}, measured with {expected.get('target')}")


def from_score(given: Json, where: str) -> Acceptance:
    """From a score: rates by depth, tokens per verify of chains and of trees, ranks if any."""
    problems: list[str] = []
    rates = _rates(given.get(_RATES_KEY), _RATES_KEY, problems)
    known = _by_chain(given.get("tokens_per_verify"), problems)
    rank_wise = _rank_wise(given.get("rank_wise"), problems)
    trees = _trees(given.get("trees"), problems)
    num_rounds = _count(given.get("num_rounds"), "num_rounds", problems)
    _raise(problems, where)
    return from_rates(
        rates, where, num_rounds=num_rounds, known=known, trees=trees, rank_wise=rank_wise
    )


def from_bench(given: Json, where: str) -> Acceptance:
    """From a bench of a server that drafts chains: the engine's own counts by position.

    A bench does not say which settings the server runs. A tree shows by the tokens it drafts a
    round; one with as many as a chain of its depth does not: give that as tokens per verify.
    """
    counts = given.get("acceptance")
    if not isinstance(counts, Mapping):
        raise Eagle3Error(
            f"{where} is a bench of a server without speculation, expected acceptance counts",
            hint="Bench the server that has the draft.",
        )
    problems: list[str] = []
    rates = _rates(counts.get(_RATES_KEY), f"acceptance.{_RATES_KEY}", problems)
    num_rounds = _count(counts.get("num_rounds"), "acceptance.num_rounds", problems)
    num_drafted = _count(counts.get("num_draft_tokens"), "acceptance.num_draft_tokens", problems)
    _raise(problems, where)
    total, num_positions = counts.get("tokens_per_verify"), len(counts[_RATES_KEY])
    if num_rounds and num_drafted and num_drafted > num_rounds * num_positions:
        problems.append(
            f"{num_drafted / num_rounds:.3g} tokens drafted a round for {num_positions} positions "
            "is a tree, expected a chain: for a tree write --acceptance T@s,k,n with its tokens "
            f"per verify, here {total}"
        )
    known = _by_chain({str(num_positions): total}, problems)
    _raise(problems, where)
    return from_rates(rates, where, num_rounds=num_rounds, known=known)


_MADE_BY = (
    "Make one with: eagle3 score DRAFT --target TARGET --json, or eagle3 bench URL --out FILE"
)


def _given_rates(rates: Sequence[float], text: str) -> Acceptance:
    problems: list[str] = []
    checked = _rates(list(rates), "the list", problems)
    if problems:
        raise UsageError(
            f"--acceptance {text}: " + "; ".join(problems),
            hint="Give the conditional rate of each depth; for tokens per verify write T@s,k,n.",
        )
    return from_rates(checked, f"given: {text}")


def _rates(value: Any, name: str, problems: list[str]) -> tuple[float, ...]:
    """The rates up to the first depth that no round reached (null)."""
    if not isinstance(value, list) or not value:
        problems.append(f"{name} is {_short(value)}, expected a list of rates")
        return ()
    known = value[: value.index(None)] if None in value else value
    wrong = [f"{name}[{i}] is {_short(v)}" for i, v in enumerate(known) if not _is_rate(v)]
    if not known:
        wrong = [f"{name} has no rate: no round was counted"]
    problems += [f"{text}, expected a number from 0 to 1" for text in wrong]
    return tuple(map(float, known)) if not wrong else ()


def _by_chain(value: Any, problems: list[str]) -> dict[int, float]:
    """Tokens per verify keyed by chain length; of chain k at most k + 1."""
    if not isinstance(value, Mapping):
        problems.append(f"tokens_per_verify is {_short(value)}, expected numbers by chain length")
        return {}
    known: dict[int, float] = {}
    for key, total in value.items():
        length = int(key) if key.isdecimal() and len(key) <= 3 else 0
        if length and _is_number(total) and 1 <= total <= length + 1:
            known[length] = float(total)
        else:
            problems.append(
                f"tokens_per_verify of chain {key} is {_short(total)}, "
                "expected 1 to the chain's length and one"
            )
    return known


def _rank_wise(value: Any, problems: list[str]) -> RankWise | None:
    if value is None:
        return None
    rows = value.get(_RATES_KEY) if isinstance(value, Mapping) else None
    name = f"rank_wise.{_RATES_KEY}"
    if not isinstance(rows, list) or not rows:
        problems.append(f"{name} is {_short(rows)}, expected a list of rates for each depth")
        return None
    reached = list(takewhile(_is_reached, rows))
    checked = [_rates(row, f"{name}[{depth}]", problems) for depth, row in enumerate(reached)]
    for depth, row in enumerate(checked):
        if sum(row) > 1 + ROUNDING:
            problems.append(f"{name}[{depth}] adds up to {sum(row):g}, expected at most 1")
    return RankWise(tuple(checked)) if checked else None


def _is_reached(row: Any) -> bool:
    """A depth that no round reached has null, or nulls, instead of rates."""
    return row not in (None, []) and not (isinstance(row, list) and row[0] is None)


def _trees(value: Any, problems: list[str]) -> dict[Settings, Interval]:
    """Tokens per verify of the trees that a score judged; those without a round are left out."""
    found: dict[Settings, Interval] = {}
    if value is not None and not isinstance(value, list):
        problems.append(f"trees is {_short(value)}, expected a list")
        return {}
    for index, tree in enumerate(value or ()):
        try:
            settings = Settings(*(tree[key] for key in _SETTINGS_KEYS))
            if tree["num_rounds"]:
                total = float(tree["tokens_per_verify"])
                found[settings] = counted_interval(total, settings, tree["num_rounds"])
        except (KeyError, TypeError, ValueError, UsageError) as error:
            message = error.message if isinstance(error, UsageError) else repr(error)
            problems.append(f"trees[{index}]: {message}, expected settings and what they yield")
    return found


def _count(value: Any, name: str, problems: list[str]) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    problems.append(f"{name} is {_short(value)}, expected a count")
    return None


def _raise(problems: Sequence[str], where: str) -> None:
    if problems:
        lines = [f"{where}: {len(problems)} problem(s)", *(f"  {text}" for text in problems)]
        raise Eagle3Error("\n".join(lines), hint=_MADE_BY)


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
