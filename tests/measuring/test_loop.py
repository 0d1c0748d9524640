"""The closed loop: order, history, how many at a time, and what happens when a server fails."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from eagle3_plugin.errors import EngineError, RefusedError
from eagle3_plugin.measuring.conversations import AskedSet, Conversation
from eagle3_plugin.measuring.loop import Answer, Asking, Loop, Looped, Place
from eagle3_plugin.measuring.record import Counts
from eagle3_plugin.serving.client import Client
from tests.measuring.fake_server import Behaviour, FakeServer, serving

ASKING = Asking(4, 0.0, 0, False, None)


def chats(*conversations: tuple[str, ...]) -> AskedSet:
    """Each conversation's turns, as user's messages."""
    return AskedSet("x", "x.jsonl", None, tuple(
        Conversation(turns=tuple(({"role": "user", "content": text},) for text in texts))
        for texts in conversations
    ))  # fmt: skip


def ids(*first: int) -> AskedSet:
    """Prompts of one token each."""
    made = tuple(Conversation(given={"prompt_token_ids": [token]}) for token in first)
    return AskedSet("x", "x.jsonl", None, made)


def run(
    server: FakeServer,
    asked: AskedSet,
    concurrency: int = 1,
    *,
    asking: Asking = ASKING,
    known: Mapping[Place, Answer] | None = None,
    begin_s: float = 0.0,
    num_positions: int = 0,
    timeout_s: float = 10.0,
) -> Looped:
    client = Client(server.url, "fake", timeout_s)
    return Loop(
        client, asked, concurrency, asking, num_positions, known or {}, begin_s, lambda answer: None
    ).run()


def test_each_turn_has_the_answers_so_far_in_its_history() -> None:
    with serving() as server:
        found = run(server, chats(("one two", "three", "four five")))
        sent = [body["messages"] for body in server.bodies]
    assert [answer.place for answer in found.answers] == [(0, 0), (0, 1), (0, 2)]
    assert [[m["role"] for m in messages] for messages in sent] == [
        ["user"],
        ["user", "assistant", "user"],
        ["user", "assistant", "user", "assistant", "user"],
    ]
    assert sent[1][1]["content"] == found.answers[0].text == " 3 4 5 6"
    assert [answer.request.num_prompt_tokens for answer in found.answers] == [2, 7, 13]


def test_as_many_conversations_run_at_a_time_as_asked() -> None:
    with serving(Behaviour(busy_s=0.05)) as server:
        found = run(server, ids(*range(9)), 3)
        assert server.most_running == 3
    assert [answer.place for answer in found.answers] == [(index, 0) for index in range(9)]
    assert found.failures == {}
    assert not found.is_given_up


def test_times_go_on_from_an_earlier_part() -> None:
    with serving() as server:
        (answer,) = run(server, ids(5), begin_s=100.0).answers
    assert 100.0 <= answer.request.begin_s < 101.0
    assert answer.token_ids == (5, 6, 7, 8)
    assert answer.request.finish_reason is None


def test_what_is_known_is_not_asked_again() -> None:
    asked = chats(("one two", "three"), ("four",))
    with serving() as server:
        first = run(server, asked).answers[0]
        server.bodies.clear()
        found = run(server, asked, known={first.place: first})
        assert len(server.bodies) == 2
    assert [answer.place for answer in found.answers] == [(0, 0), (0, 1), (1, 0)]


def test_counts_are_of_the_request_and_have_all_positions() -> None:
    with serving(Behaviour(speculates=True)) as server:
        (answer,) = run(server, ids(5), num_positions=3).answers
    assert answer.request.counts == Counts(
        num_rounds=2, num_draft_tokens=4, accepted_draft_tokens=2, accepted_by_position=(2, 0, 0)
    )


def test_how_it_is_asked_is_sent_with_every_request() -> None:
    with serving() as server:
        run(server, chats(("one",)), asking=Asking(6, 0.7, 3, True, False, 0.9, 20))
        (body,) = server.bodies
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    expected = {"max_tokens": 6, "temperature": 0.7, "seed": 3, "ignore_eos": True,
                "top_p": 0.9, "top_k": 20}  # fmt: skip
    assert {name: body[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", "answered 500: out of memory"),
        ("cut", "ended after 1 chunks; expected a last line"),
        ("hang", "was silent for 0.3 s"),
        ("die", "does not answer"),
    ],
)
def test_a_server_that_fails_midway_is_given_up_and_finished_answers_are_kept(
    fault: str, said: str
) -> None:
    with serving(Behaviour(fault=fault, healthy=4)) as server:
        found = run(server, ids(*range(20)), 2, timeout_s=0.3)
    assert found.is_given_up
    in_flight = 1 if fault == "die" else 0  # what the other client was reading is lost too
    assert 4 - in_flight <= len(found.answers) <= 4
    assert len(found.failures) >= 3
    assert all(said in message for message in found.failures.values())


def test_a_conversation_that_fails_alone_does_not_end_the_loop() -> None:
    """Its later turns are missing; the others go on."""
    asked = chats(("one",), ("two", "boom"), ("three",))
    with serving() as server:
        flaky = _Flaky(server.url, "fake", 10.0)
        found = Loop(flaky, asked, 1, ASKING, 0, {}, 0.0, lambda answer: None).run()
    assert not found.is_given_up
    assert [answer.place for answer in found.answers] == [(0, 0), (1, 0), (2, 0)]
    assert found.failures == {1: "boom"}


def test_requests_that_a_server_refuses_do_not_end_the_loop() -> None:
    with serving(Behaviour(refused=(1, 2, 3, 4))) as server:
        found = run(server, ids(*range(1, 8)))
    assert not found.is_given_up
    assert [answer.place for answer in found.answers] == [(4, 0), (5, 0), (6, 0)]
    assert found.failures == {}
    assert list(found.refusals) == [0, 1, 2, 3]
    assert "answered 400: too long" in found.refusals[0]


@pytest.mark.parametrize(("refused", "is_error"), [((1,), False), ((1, 2), True)])
def test_a_warm_up_is_an_error_when_all_of_it_is_refused(
    refused: tuple[int, ...], is_error: bool
) -> None:
    with serving(Behaviour(refused=refused)) as server:
        loop = Loop(Client(server.url, "fake"), ids(1, 2, 3), 2, ASKING, 0, {}, 0.0, lambda a: None)
        if not is_error:
            assert loop.warm_up() == 2
            return
        with pytest.raises(RefusedError, match="answered 400: too long"):
            loop.warm_up()


def test_an_answer_without_a_token_is_a_failure() -> None:
    with serving() as server:
        found = run(server, ids(5), asking=Asking(0, 0.0, 0, False, None))
    assert found.answers == ()
    assert "answered with no token; expected at least one" in found.failures[0]


def test_a_warm_up_asks_the_first_conversations_for_a_few_tokens() -> None:
    with serving() as server:
        loop = Loop(Client(server.url, "fake"), ids(1, 2, 3), 2, ASKING, 0, {}, 0.0, lambda a: None)
        assert loop.warm_up() == 2
        assert sorted(body["prompt"][0] for body in server.bodies) == [1, 2]
        assert {body["max_tokens"] for body in server.bodies} == {8}


def test_a_warm_up_that_fails_is_an_error() -> None:
    loop = Loop(Client("http://127.0.0.1:9", "fake"), ids(1), 1, ASKING, 0, {}, 0.0, lambda a: None)
    with pytest.raises(EngineError, match="does not answer"):
        loop.warm_up()


class _Flaky(Client):
    """A client whose request fails when the last message says so."""

    def completion(self, **given: object) -> object:  # type: ignore[override]
        messages = given["messages"]
        assert isinstance(messages, list)
        if messages[-1]["content"] == "boom":
            raise EngineError("boom")
        return super().completion(**given)  # type: ignore[arg-type]
