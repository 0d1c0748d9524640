"""How a watched engine looks."""

from __future__ import annotations

import re

from rich.console import Console

from eagle3_plugin.errors import EngineError
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import Engine
from eagle3_plugin.settings import chain
from eagle3_plugin.show_watch import NO_POSITIONS, line, view
from eagle3_plugin.watching.advice import Advice
from eagle3_plugin.watching.expected import expectation
from eagle3_plugin.watching.reading import Reading, Watched
from eagle3_plugin.watching.rule import Rule, Verdict
from eagle3_plugin.watching.watch import Sight
from eagle3_plugin.watching.window import Step
from tests.watching.fixtures import SCORE

COUNTS = AcceptanceCounts(1000, 3000, 900, (600, 200, 100))
RULE = Rule(expectation(SCORE, chain(3), None, where="s"))
ALARM = Verdict(1.0, 0.2, 40, 1000, 900)
ADVICE = Advice(chain(2), 1.27, 4)


def sight(engine: Engine = "vllm", **changes: object) -> Sight:
    values: dict[str, object] = {
        "watched": Watched("http://host:8000", engine, chain(3)),
        "reading": Reading(9.0, 4, 1, 1900, 40, COUNTS),
        "total": Step(30.0, 1900, 40, COUNTS),
        "num_running": 4.0,
        "verdict": ALARM,
        "trouble": None,
        "num_restarts": 0,
    }
    return Sight(**(values | changes))  # type: ignore[arg-type]


def timeless(text: str) -> str:
    return re.sub(r"\d\d:\d\d:\d\d", "TIME", text)


def rendered(seen: Sight, advice: Advice | None = None) -> str:
    console = Console(width=100, record=True)
    with console.capture() as capture:
        console.print(view(seen, RULE, advice))
    return timeless(capture.get())


def test_a_reading_is_one_line() -> None:
    assert timeless(line(sight(), RULE, ADVICE)) == (
        "TIME | 4 running, 1 waiting, 63.3 tokens/s over 30 s | 1.90 tokens per verify, expected "
        "2.20, healthy from 1.96 | accepted 60.0 % 20.0 % 10.0 % | ALARM 100.0 % of an alarm, from "
        "40 requests, 1000 rounds | planner would set 2,1,3 now, at 4 request(s), 1.27x predicted"
    )


def test_a_view_has_each_position_beside_what_is_expected() -> None:
    shown = rendered(sight(), ADVICE)
    assert "http://host:8000  vllm, settings 3,1,4" in shown
    assert re.search(r"0\s+60\.0 %\s+60\.0 %\s+█{18}\|", shown)
    assert re.search(r"1\s+20\.0 %\s+40\.0 %\s+█{6}\s+\|", shown)
    assert "ALARM" in shown


def test_sglang_is_said_to_have_no_positions_and_a_least_value() -> None:
    counts = AcceptanceCounts(1000, 3000, 900, ())
    shown = rendered(sight("sglang", total=Step(30.0, 1900, 40, counts)))
    assert NO_POSITIONS in shown
    assert "at least 1.90 tokens per verify" in shown


def test_a_server_that_is_gone_is_said_to_be() -> None:
    gone = sight(reading=None, trouble=EngineError("it does not answer"), num_restarts=2)
    assert "cannot be read: it does not answer" in rendered(gone)
    assert "restarts 2, counted anew each time" in line(gone, RULE, None)


def test_what_is_not_judged_is_said() -> None:
    text = line(sight(verdict=None, num_unjudged=70), RULE, None)
    assert text.endswith("not judged 70 rounds of another draft length")


def test_positions_that_were_not_drafted_are_not_held_against_the_draft() -> None:
    """Half of the rounds drafted one token of three."""
    mixed = AcceptanceCounts(1000, 2000, 900, (600, 200, 100))
    seen = sight(total=Step(30.0, 1900, 40, mixed), verdict=None)
    shown = rendered(seen)
    assert re.search(r"2\s+10\.0 %\s+-\s+█{3}\s*\n", shown)
    assert "shares of all rounds, of which some drafted fewer tokens" in shown
    assert "accepted 60.0 % 20.0 % 10.0 % | positions shares of" in line(seen, RULE, None)


def test_advice_that_changes_nothing_says_so() -> None:
    same, off = Advice(chain(3), 1.5, 4), Advice(OFF, 1.0, 64)
    problem = Advice(None, None, 4, "too large")
    texts = [line(sight(), RULE, advice).rpartition(" | ")[2] for advice in (same, off, problem)]
    assert texts == [
        "planner would set 3,1,4 as it runs, at 4 request(s), 1.50x predicted",
        "planner would leave speculation off at 64 request(s)",
        "planner no plan: too large",
    ]


def test_without_speculation_there_is_the_load_alone() -> None:
    plain = sight(
        watched=Watched("http://h", "vllm", None), total=Step(2.0, 100, 1, None), verdict=None
    )
    assert timeless(line(plain, None, None)) == (
        "TIME | 4 running, 1 waiting, 50.0 tokens/s over 2 s"
    )
    assert "no speculation" in rendered(plain)
