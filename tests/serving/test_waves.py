"""The time of a round from answers, and whether an engine accepts what it is told to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.serving import waves as module
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.completion import Completion
from eagle3_plugin.serving.waves import Wave, first_token_s, follows, round_time, waves


def _answer(num_tokens: int, first_s: float | None, elapsed_s: float) -> Completion:
    return Completion("", None, num_tokens, first_s, elapsed_s, "length")


def test_a_round_is_the_decoding_time_over_the_rounds() -> None:
    counts = AcceptanceCounts(50, 150, 13, (13, 0, 0))
    assert round_time([_answer(64, 0.1, 2.1)], counts, 0.1) == pytest.approx(0.04, abs=1e-12)


def test_a_round_of_many_is_one_in_which_all_of_them_took_part() -> None:
    """Rounds of 40 ms while both decode, then 20 rounds of 20 ms of the second alone."""
    one, other = (AcceptanceCounts(n, 3 * n, 63 - n, (63 - n, 0, 0)) for n in (30, 50))
    answers = [
        replace(_answer(64, 0.1, 0.1 + 30 * 0.04 + 20 * 0.02), acceptance=other),
        replace(_answer(64, 0.1, 0.1 + 30 * 0.04), acceptance=one),
    ]
    counts = AcceptanceCounts.total([one, other], 3)
    assert round_time(answers, counts, 0.1) == pytest.approx(0.04, abs=1e-12)


def test_answers_of_many_that_do_not_say_their_own_rounds_are_an_error() -> None:
    answers = [_answer(64, 0.1, 1.1), _answer(64, 0.1, 1.2)]
    with pytest.raises(EngineError, match=r"^an answer does not say its own rounds; the server"):
        round_time(answers, AcceptanceCounts(50, 150, 76, (40, 26, 10)), 0.1)


def test_without_speculation_every_token_after_the_first_is_a_round() -> None:
    assert round_time([_answer(11, 0.5, 1.5)], None, 0.5) == pytest.approx(0.1, abs=1e-12)


def test_a_first_token_that_was_read_late_does_not_count() -> None:
    answers = [_answer(64, 0.1, 1.0), _answer(64, 0.9, 1.0), _answer(64, 0.1, 1.0)]
    assert first_token_s(answers) == 0.1
    assert first_token_s([_answer(0, None, 1.0)]) == 0.0


@pytest.mark.parametrize("answer", [_answer(1, 0.5, 0.6), _answer(64, 0.1, 0.4)])
def test_answers_without_a_round_give_no_time(answer: Completion) -> None:
    with pytest.raises(EngineError, match=r"^the first of 1 request\(s\) to end took \d+ rounds"):
        round_time([answer], None, 0.5)


@pytest.mark.parametrize(("accepted", "is_followed"), [(100, True), (95, True), (40, False)])
def test_an_engine_follows_when_it_accepts_what_it_was_told(
    accepted: int, is_followed: bool
) -> None:
    counts = AcceptanceCounts(100, 300, accepted, (accepted, 0, 0))
    assert follows([Wave(0.01, counts), Wave(0.01, counts)], 2) is is_followed


def test_a_server_without_speculation_follows_nothing() -> None:
    assert not follows([Wave(0.01, None)], 2)


class _Meter:
    """Counts nothing: a server without speculation."""

    def counts(self, answers: object) -> None:
        return None


def test_each_wave_sends_its_requests_at_once_and_takes_the_prompts_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []

    def completion(self: Client, *, prompt: str, max_tokens: int, ignore_eos: bool) -> Completion:
        sent.append(f"{prompt} {max_tokens} {ignore_eos}")
        return _answer(11, 0.5, 1.5)

    monkeypatch.setattr(Client, "completion", completion)
    monkeypatch.setattr(module, "METERS", {"vllm": lambda url: _Meter()})
    prompts = [{"prompt": text, "set": "s"} for text in "abc"]
    found = waves(Client("http://x", "m"), prompts, 2, 11)
    assert [wave.round_s for wave in found] == pytest.approx([0.1] * 5, abs=1e-12)
    pairs = [sorted(sent[i : i + 2]) for i in range(0, 12, 2)]
    names = [[text[0] for text in pair] for pair in pairs]
    assert names == [["a", "b"], ["a", "b"], ["a", "c"], ["b", "c"], ["a", "b"], ["a", "c"]]
    assert {text[1:] for text in sent} == {" 11 True"}


@pytest.mark.parametrize(("most_s", "num_waves"), [(0, 5), (60, 9)])
def test_waves_go_on_until_their_median_is_sure_or_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, most_s: float, num_waves: int
) -> None:
    """One wave in five takes twice as long; of nine, two may be slow and the median is sure."""
    number = iter(range(-1, 1000))

    def completion(self: Client, **given: object) -> Completion:
        return _answer(11, 0.5, 2.5 if next(number) % 5 == 4 else 1.5)

    monkeypatch.setattr(Client, "completion", completion)
    monkeypatch.setattr(module, "METERS", {"vllm": lambda url: _Meter()})
    found = waves(Client("http://x", "m"), [{"prompt": "a"}], 1, 11, most_s)
    assert len(found) == num_waves


def test_a_request_that_fails_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def completion(self: Client, **given: object) -> Completion:
        raise EngineError("no such head")

    monkeypatch.setattr(Client, "completion", completion)
    with pytest.raises(EngineError, match=r"^no such head$"):
        waves(Client("http://x", "m"), [{"prompt": "a"}], 1, 8)
