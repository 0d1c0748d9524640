"""Whole runs against a small server: order, resumption, faults, Ctrl-C, equality, counters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.measuring.bench import Wanted, Work, measure
from eagle3_plugin.measuring.conversations import AskedSet
from eagle3_plugin.measuring.equal import TokenLogprobs
from eagle3_plugin.measuring.hosts import UrlHost
from eagle3_plugin.measuring.journal import CellKey, journal_path
from eagle3_plugin.measuring.result import Result
from eagle3_plugin.measuring.run import STOPPED, Plan
from eagle3_plugin.measuring.wanted import of_urls
from tests.measuring.fake_server import Behaviour, FakeServer, serving
from tests.measuring.test_loop import ASKING, chats, ids

SPECULATING = Behaviour(speculates=True)


def work(*sets: AskedSet, out: Path | None = None, **changes: object) -> Work:
    made = Work("eagle3 bench", sets or (ids(3, 5, 7),), (1,), 1, ASKING, None, 0, out, False)
    return replace(made, **changes)  # type: ignore[arg-type]


def nothing(key: CellKey, done: int, total: int) -> None:
    """No progress."""


def result_of(asked: Work, ours: Behaviour = SPECULATING, base: Behaviour | None = None) -> Result:
    """The work, done by a baseline and a server of these behaviours."""
    with serving(base) as baseline, serving(replace(ours)) as server:
        return measure(wanted(asked, server, baseline), nothing).result


def wanted(asked: Work, server: FakeServer, baseline: FakeServer) -> Wanted:
    return of_urls(asked, server.url, baseline.url, 1.0)


def test_sessions_alternate_over_repeats_and_the_last_server_stays() -> None:
    hosts = [UrlHost(name, "", 1.0) for name in ("baseline", "a", "b")]
    plan = Plan(hosts, (ids(1),), (1,), 3, ASKING)
    assert [(host.name, repeats) for host, repeats in plan.sessions()] == [
        ("baseline", (0,)),
        ("a", (0,)),
        ("b", (0, 1)),
        ("a", (1,)),
        ("baseline", (1, 2)),
        ("a", (2,)),
        ("b", (2,)),
    ]


def test_a_result_has_all_that_was_asked() -> None:
    asked = work(ids(3, 5), replace(chats(("one", "two")), name="y"), concurrency=(1, 2),
                 num_repeats=2)  # fmt: skip
    found = result_of(asked)
    keys = [(c.server, c.set, c.concurrency, c.repeat, c.num_requests) for c in found.cells]
    assert keys[:4] == [
        ("baseline", "x", 1, 0, 2),
        ("baseline", "y", 1, 0, 2),
        ("baseline", "x", 2, 0, 2),
        ("baseline", "y", 2, 0, 2),
    ]
    assert len(keys) == 16
    assert [(s.server, s.set, s.concurrency) for s in found.summaries[:2]] == [
        ("baseline", "x", 1),
        ("server", "x", 1),
    ]
    assert [(s.name, s.settings) for s in found.servers] == [
        ("baseline", "off"),
        ("server", "2,1,3"),
    ]
    assert not found.is_partial
    assert found.problems == ()
    assert (found.equality[0].num_compared, found.equality[0].num_equal) == (16, 16)
    speculative = next(s for s in found.summaries if s.server == "server")
    assert speculative.acceptance is not None
    assert speculative.acceptance.tokens_per_verify == 2.0
    assert found.provenance.versions.engine == "0.32.0"
    assert found.provenance.target.name == "fake"
    assert found.provenance.num_warm_up_requests == 2 * 2 * (1 + 1 + 2 + 1)


def test_answers_and_counters_that_disagree_are_a_problem_with_both_numbers() -> None:
    found = result_of(work(), Behaviour(speculates=True, extra_rounds=1))
    (problem,) = found.problems
    assert problem.startswith(
        "server, x, 1 at a time, repeat 1: the answers and the engine's counters tell of 6 rounds "
        "and "
    )
    assert "expected the same: another client used the server" in problem


def test_counters_stand_in_for_answers_that_do_not_say() -> None:
    found = result_of(work(), Behaviour(speculates=True, says_rounds=False))
    cell = next(c for c in found.cells if c.server == "server")
    assert cell.acceptance_from == "counters"
    assert cell.num_rounds_counted == 6


def test_a_server_that_dies_leaves_what_was_finished_and_a_resumed_run_adds_the_rest(
    tmp_path: Path,
) -> None:
    out = tmp_path / "r.json"
    asked = work(ids(*range(8)), out=out)
    with serving() as baseline:
        with serving(Behaviour(speculates=True, fault="500", healthy=5)) as server:
            first = measure(wanted(asked, server, baseline), nothing).result
            server.behaviour.fault = ""
            again = measure(wanted(replace(asked, resume=True), server, baseline), nothing).result
            assert len(server.long_bodies) == 8
        assert len(baseline.long_bodies) == 8
    assert first.is_partial
    (missing,) = first.missing
    assert (missing.server, missing.set, missing.num_conversations) == ("server", "x", 3)
    assert "answered 500: out of memory" in missing.reason
    assert [c.num_requests for c in first.cells] == [8, 5]
    assert first.equality[0].num_not_compared == 3
    assert not again.is_partial
    assert [c.num_requests for c in again.cells] == [8, 8]
    assert again.equality[0].num_equal == 8
    assert again.provenance.num_resumed == 13
    assert again.provenance.started_at == first.provenance.started_at
    assert again.cells[1].num_rounds_counted is None


def test_the_other_servers_are_still_measured() -> None:
    with serving() as baseline, serving(SPECULATING) as good:
        made = wanted(work(), good, baseline)
        dead = UrlHost("dead", "http://127.0.0.1:9", 1.0)
        found = measure(replace(made, hosts=[made.hosts[0], dead, made.hosts[1]]), nothing).result
    assert [(m.server, m.num_conversations) for m in found.missing] == [("dead", 3)]
    assert "does not answer" in found.missing[0].reason
    assert {c.server for c in found.cells} == {"baseline", "server"}
    assert [(e.server, e.how) for e in found.equality] == [("dead", "none"), ("server", "outputs")]


def test_a_run_without_any_answer_is_an_error() -> None:
    with serving() as baseline, serving() as server:
        made = wanted(work(), server, baseline)
        for one in (server, baseline):
            one.behaviour = Behaviour(fault="500", healthy=0)
        with pytest.raises(EngineError, match="nothing could be measured; expected answers\nbase"):
            measure(made, nothing)


def test_a_ctrl_c_gives_a_partial_result_that_can_be_resumed(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    asked = work(ids(*range(6)), out=out)

    def stop(key: CellKey, done: int, total: int) -> None:
        if key.server == "server" and done == 2:
            raise KeyboardInterrupt

    with serving() as baseline, serving(SPECULATING) as server:
        found = measure(wanted(asked, server, baseline), stop)
        again = measure(wanted(replace(asked, resume=True), server, baseline), nothing)
    assert found.is_stopped
    assert found.result.is_partial
    assert [(m.server, m.num_conversations, m.reason) for m in found.result.missing] == [
        ("server", 4, STOPPED)
    ]
    assert not again.is_stopped
    assert [c.num_requests for c in again.result.cells] == [6, 6]


def test_a_journal_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    asked = work(out=tmp_path / "r.json")
    with serving() as baseline, serving(SPECULATING) as server:
        measure(wanted(asked, server, baseline), nothing)
        other = replace(asked, resume=True, sets=(ids(1),), num_repeats=2)
        with pytest.raises(UsageError, match=r"is of another run; expected the same\n  sets: .*\n  "
                           r"repeats: 1 there, 2 now"):  # fmt: skip
            measure(wanted(other, server, baseline), nothing)
        with pytest.raises(UsageError, match="did not come to its end; expected none, or --resume"):
            measure(wanted(asked, server, baseline), nothing)


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    asked = work(out=tmp_path / "r.json")
    with serving() as baseline, serving(SPECULATING) as server:
        measure(wanted(asked, server, baseline), nothing)
        path = journal_path(tmp_path / "r.json")
        whole = path.read_text().splitlines()
        cut = [i for i, line in enumerate(whole) if '"request"' in line][-1]
        path.write_text("\n".join(whole[:cut]) + "\n" + whole[cut][:40])
        found = measure(wanted(replace(asked, resume=True), server, baseline), nothing).result
    assert [c.num_requests for c in found.cells] == [3, 3]
    assert found.provenance.num_resumed == 5


def test_a_difference_is_explained_by_both_servers() -> None:
    tied = {42: -0.7, 7: -0.7001}
    ours = Behaviour(speculates=True, changes={(5, 2): 42}, logprobs=tied)
    found = result_of(work(), ours, Behaviour(logprobs=tied)).equality[0]
    assert (found.num_compared, found.num_equal, found.num_near_ties) == (3, 2, 1)
    (difference,) = found.differences
    assert (difference.conversation, difference.position) == (1, 2)
    assert (difference.found, difference.expected) == ((42, 8), (7, 8))
    assert difference.logprobs == TokenLogprobs(found=-0.7, expected=-0.7001)
    assert difference.is_near_tie is True
    assert found.ok


def test_tokens_that_are_far_apart_are_no_near_tie() -> None:
    apart = {42: -3.0, 7: -0.1}
    ours = Behaviour(speculates=True, changes={(5, 2): 42}, logprobs=apart)
    found = result_of(work(), ours, Behaviour(logprobs=apart)).equality[0]
    assert (found.num_near_ties, found.num_different, found.ok) == (0, 1, False)
    assert found.differences[0].why == "the two tokens are 2.9 nats apart, expected at most 0.25"


def test_a_difference_that_no_server_explains_counts_as_different() -> None:
    ours = Behaviour(speculates=True, changes={(5, 2): 42}, logprobs={42: -0.7})
    found = result_of(work(), ours).equality[0]
    assert (found.num_different, found.differences[0].is_near_tie) == (1, False)
    assert "not among the likeliest" in found.differences[0].why


def test_turns_after_a_difference_are_not_compared() -> None:
    ours = Behaviour(speculates=True, changes={(3, 1): 42})
    asked = work(chats(("one", "two", "three"), ("four", "five")))
    found = result_of(asked, ours).equality[0]
    assert (found.num_compared, found.num_equal, found.num_not_compared) == (3, 2, 2)


def test_a_baseline_that_speculates_is_refused() -> None:
    with (
        serving(SPECULATING) as server,
        pytest.raises(
            UsageError,
            match="speculates with settings 2,1,3; expected a server without speculation",
        ),
    ):
        wanted(work(), server, server)


def test_the_journal_is_json_a_line(tmp_path: Path) -> None:
    with serving() as baseline, serving(SPECULATING) as server:
        measure(wanted(work(out=tmp_path / "r.json"), server, baseline), nothing)
    lines = [json.loads(s) for s in journal_path(tmp_path / "r.json").read_text().splitlines()]
    assert lines[0]["schema"] == 1
    assert [next(iter(line)) for line in lines[1:]] == [
        "served", "key", "key", "key", "key", "served", "key", "key", "key", "key", "spent_s",
    ]  # fmt: skip
