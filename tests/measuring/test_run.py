"""Whole runs against a small server: order, resumption, faults, Ctrl-C, equality, counters."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from pathlib import Path

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.hub import FolderSource
from eagle3_plugin.measuring import describe, equality
from eagle3_plugin.measuring.bench import Wanted, Work, measure
from eagle3_plugin.measuring.conversations import AskedSet
from eagle3_plugin.measuring.equal import TokenLogprobs
from eagle3_plugin.measuring.equality import compare
from eagle3_plugin.measuring.hosts import UrlHost
from eagle3_plugin.measuring.journal import CellKey, journal_path, require_place
from eagle3_plugin.measuring.loop import Answer, Asking
from eagle3_plugin.measuring.result import Request, Result
from eagle3_plugin.measuring.run import STOPPED, Plan
from eagle3_plugin.measuring.wanted import of_urls
from eagle3_plugin.report.missing import notices
from eagle3_plugin.report.view import View
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
    asked = work(ids(3, 5), replace(chats(("one", "two"), ("three", "four")), name="y"),
                 concurrency=(1, 2), num_repeats=2)  # fmt: skip
    found = result_of(asked)
    keys = [(c.server, c.set, c.concurrency, c.repeat, c.num_requests) for c in found.cells]
    assert keys[:4] == [
        ("baseline", "x", 1, 0, 2),
        ("baseline", "y", 1, 0, 4),
        ("baseline", "x", 2, 0, 2),
        ("baseline", "y", 2, 0, 4),
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
    assert (found.equality[0].num_compared, found.equality[0].num_equal) == (24, 24)
    speculative = next(s for s in found.summaries if s.server == "server")
    assert speculative.acceptance is not None
    assert speculative.acceptance.tokens_per_verify == 2.0
    assert found.provenance.versions.engine == "0.32.0"
    assert found.provenance.target.name == "fake"
    assert found.provenance.num_warm_up_requests == 2 * 2 * (1 + 1 + 2 + 2)


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


def test_a_separator_in_an_answer_and_a_cut_inside_a_letter_leave_a_journal_whole(
    tmp_path: Path,
) -> None:
    asked = work(out=tmp_path / "r.json")
    with serving() as baseline, serving(SPECULATING) as server:
        measure(wanted(asked, server, baseline), nothing)
        path = journal_path(tmp_path / "r.json")
        data = path.read_text().replace('"text": " 3', '"text": "\u2028\u0085').encode()
        path.write_bytes(data + '{"problem": "学'.encode()[:-1])
        found = measure(wanted(replace(asked, resume=True), server, baseline), nothing).result
    assert found.provenance.num_resumed == 6
    assert found.problems == ()
    assert path.read_bytes().startswith(data)


def test_something_else_in_a_journal_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = journal_path(tmp_path / "r.json")
    path.write_text("what is this\n")
    with (
        serving() as baseline,
        serving() as server,
        pytest.raises(UsageError, match="line 1 is not of a journal; expected a JSON object"),
    ):
        measure(wanted(work(out=tmp_path / "r.json", resume=True), server, baseline), nothing)


def test_a_run_to_go_on_with_is_not_removed(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    journal_path(out).write_text("")
    with pytest.raises(UsageError, match="--resume keeps what was measured and --force removes it"):
        require_place(out, resume=True, force=True)
    with journal_path(out).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(EngineError, match="another eagle3 bench writes"):
            require_place(out, resume=False, force=True)
    require_place(out, resume=False, force=True)
    assert not journal_path(out).exists()


def test_a_set_smaller_than_the_load_is_refused() -> None:
    with pytest.raises(UsageError, match="x has 3, and 4 conversations are to be asked at a time"):
        result_of(work(concurrency=(1, 4)))


def test_another_server_or_other_files_are_another_run(tmp_path: Path) -> None:
    asked = work(out=tmp_path / "r.json")
    with serving() as baseline, serving(SPECULATING) as server, serving(SPECULATING) as other:
        measure(wanted(asked, server, baseline), nothing)
        with pytest.raises(UsageError, match=r"expected the same\n  servers: .* now\n"):
            measure(wanted(replace(asked, resume=True), other, baseline), nothing)
    weights = tmp_path / "model.safetensors"
    weights.write_text("1")
    was = describe.stamp(str(tmp_path))
    weights.write_text("22")
    assert describe.stamp(str(tmp_path)) != was


def test_a_prompt_that_is_refused_is_said_and_leaves_the_rest_whole(tmp_path: Path) -> None:
    """A further run would be refused it again, so nothing is left to resume."""
    asked = work(ids(3, 4, 5), out=tmp_path / "r.json")
    found = result_of(asked, replace(SPECULATING, refused=(4,)), Behaviour(refused=(4,)))
    assert not found.is_partial
    assert [(m.server, m.num_conversations) for m in found.missing] == [
        ("baseline", 1),
        ("server", 1),
    ]
    assert "answered 400: too long" in found.missing[0].reason
    assert found.equality[0].num_equal == 2
    assert next(c for c in found.cells if c.server == "server").num_rounds_counted == 4
    first = next(notices(View(found)))
    assert (first.kind, first.text) == (
        "doubt",
        "The servers refused 2 conversation(s); the numbers are of the rest.",
    )


def test_a_server_that_came_back_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    asked = work(ids(*range(4)), out=tmp_path / "r.json")

    def stop(key: CellKey, done: int, total: int) -> None:
        if key.server == "server" and done == 2:
            raise KeyboardInterrupt

    with serving() as baseline, serving(replace(SPECULATING)) as server:
        measure(wanted(asked, server, baseline), stop)
        server.behaviour.num_positions = 3
        with pytest.raises(UsageError, match=r"^server runs with 3,1,4; expected 2,1,3, with whi"):
            measure(wanted(replace(asked, resume=True), server, baseline), nothing)


@pytest.mark.parametrize(
    ("says_rounds", "note"),
    [
        (True, "rounds not checked against the engine's counters (no counters, a resume, or"),
        (False, "tokens per verify not known, and not in the figures (no counters, a resume, or"),
    ],
)
def test_a_loop_in_two_parts_says_what_the_counters_do_not_confirm(
    tmp_path: Path, says_rounds: bool, note: str
) -> None:
    asked = work(ids(*range(4)), out=tmp_path / "r.json")
    speculating = Behaviour(speculates=True, says_rounds=says_rounds)

    def stop(key: CellKey, done: int, total: int) -> None:
        if key.server == "server" and done == 2:
            raise KeyboardInterrupt

    with serving() as baseline, serving(speculating) as server:
        measure(wanted(asked, server, baseline), stop)
        found = measure(wanted(replace(asked, resume=True), server, baseline), nothing).result
    assert not found.is_partial
    (said,) = [text for text in found.provenance.notes if text.startswith(note)]
    assert said.endswith(": server, x, 1 at a time, repeat 1")
    assert not any(map(said.startswith, result_of(work()).provenance.notes))


def test_what_a_hub_has_is_the_same_before_and_after_it_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = FolderSource(tmp_path, "org/name", "0123abc")
    monkeypatch.setattr(describe, "resolve", lambda name: source)
    was = describe.stamp("org/name")
    (tmp_path / "model.safetensors").write_text("1")
    assert describe.stamp("org/name") == was == {"revision": "0123abc"}


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


@pytest.mark.parametrize(
    ("words", "limit_nats"),
    [
        ((), 0.25),  # whatever the weights are: float32 runs in 16 bits too
        (("--dtype", "auto"), 0.25),
        (("--dtype", "bfloat16"), 0.25),
        (("--dtype", "float32"), 0.001),
        (("--dtype=float",), 0.001),
    ],
)
def test_a_near_tie_is_of_the_dtype_that_the_engine_computes_in(
    tmp_path: Path, words: tuple[str, ...], limit_nats: float
) -> None:
    (tmp_path / "config.json").write_text('{"torch_dtype": "float32"}')
    with serving() as base, serving(replace(SPECULATING, changes={(5, 2): 42})) as server:
        made = wanted(work(), server, base)
        subject = replace(made.subject, target=str(tmp_path), words=words)
        found = measure(replace(made, subject=subject), nothing).result.equality[0]
    assert (found.near_tie_nats, found.why) == (limit_nats, "")


def test_a_limit_that_is_assumed_is_said_where_it_is_used() -> None:
    found = result_of(work(), replace(SPECULATING, changes={(5, 2): 42})).equality[0]
    assert (found.near_tie_nats, found.why) == (
        0.25,
        "the limit of a near-tie is assumed, for 16 bits: the servers' dtype is not known",
    )
    assert result_of(work()).equality[0].why == ""


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


def test_answers_without_ids_are_compared_by_their_text() -> None:
    found = result_of(work(), Behaviour(speculates=True, changes={(5, 2): 42}),
                      Behaviour(gives_ids=False)).equality[0]  # fmt: skip
    assert (found.compared_by, found.num_equal, found.num_different) == ("text", 2, 1)
    assert found.differences[0].position == len(" 5 6 ")
    assert "a replay needs them" in found.differences[0].why


def test_each_pair_is_compared_by_ids_where_both_have_them() -> None:
    by_ids, by_text = _answer(0, (1, 2), " 1 2"), _answer(1, None, " 3 4")
    changed = _answer(0, (1, 5), " 1 5")
    key = CellKey("server", "x", 1, 0)
    base = {replace(key, server="baseline"): {(0, 0): by_ids, (1, 0): by_text}}
    found = compare("server", {key: {(0, 0): changed, (1, 0): by_text}}, base)
    assert (found.compared_by, found.num_compared) == ("token_ids_or_text", 2)
    assert [(apart.position, apart.common) for apart in found.apart] == [(1, (1,))]


def _answer(conversation: int, token_ids: tuple[int, ...] | None, text: str) -> Answer:
    return Answer(
        Request(
            conversation=conversation,
            turn=0,
            modality="text",
            begin_s=0.0,
            time_to_first_token_s=None,
            request_s=1.0,
            num_prompt_tokens=None,
            num_tokens=2,
            finish_reason=None,
            counts=None,
        ),
        text,
        token_ids,
    )


def test_a_ctrl_c_while_outputs_are_compared_gives_a_partial_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(equality, "replay", stop)
    with serving() as baseline, serving(replace(SPECULATING, changes={(5, 2): 42})) as server:
        found = measure(wanted(work(), server, baseline), nothing)
    assert (found.is_stopped, found.result.is_partial) == (True, True)
    assert found.result.equality[0].differences[0].why == "not explained: the run was stopped"


WARM = Asking(4, 0.7, 0, False, None)


def test_the_distribution_test_gives_each_server_seeds_of_its_own() -> None:
    with serving() as baseline, serving(SPECULATING) as server:
        asked = work(asking=replace(WARM, top_p=0.9, top_k=20), num_seeds=3)
        found = measure(wanted(asked, server, baseline), nothing).result.equality[0]
        seeds = [{b["seed"] for b in one.long_bodies[3:]} for one in (baseline, server)]
        sent = {(b["temperature"], b["top_p"], b["top_k"]) for b in server.long_bodies}
    assert found.how == "distribution"
    assert sent == {(0.7, 0.9, 20)}
    assert seeds == [{0, 1, 2}, {3, 4, 5}]


def test_a_distribution_test_that_cannot_be_made_says_why_and_the_result_stays() -> None:
    for ours, base in (
        (Behaviour(), Behaviour(gives_ids=False)),
        (Behaviour(gives_ids=False),) * 2,
    ):
        found = result_of(work(asking=WARM, num_seeds=3), replace(ours, speculates=True), base)
        assert len(found.cells) == 2
        assert found.equality[0].how == "none"
        assert "gives no token ids; expected them for the" in found.equality[0].why


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
