"""An alarm that is posted: once, until it has passed."""

from __future__ import annotations

import socket
import threading

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.watching.rule import Verdict
from eagle3_plugin.watching.webhook import Webhook, post
from tests.watching.conftest import FakeMetrics

HEALTHY = Verdict(0.0, 0.05, 0, 0, 0)
GROWING = Verdict(0.5, 0.05, 10, 100, 0)
ALARM = Verdict(1.0, 0.05, 20, 200, 0)


def test_an_alarm_is_posted_once_until_all_evidence_is_gone(fake: FakeMetrics) -> None:
    hook = Webhook(fake.url + "/hook")
    for number, verdict in enumerate([None, GROWING, ALARM, ALARM, GROWING, ALARM, HEALTHY, ALARM]):
        hook.tell(verdict, {"number": number})
    assert fake.posted == [{"number": 2}, {"number": 7}]


def test_a_trouble_is_posted_once_while_it_lasts_even_after_an_alarm(fake: FakeMetrics) -> None:
    hook = Webhook(fake.url)
    hook.tell(ALARM, {"number": 0})
    hook.tell_trouble({"number": 1})
    hook.tell_trouble({"number": 2})
    hook.tell(None, {"number": 3})
    hook.tell_trouble({"number": 4})
    assert [each["number"] for each in fake.posted] == [0, 1, 4]


def test_a_post_that_failed_is_made_again(fake: FakeMetrics) -> None:
    fake.statuses = [500]
    hook = Webhook(fake.url)
    with pytest.raises(EngineError) as caught:
        hook.tell(ALARM, {"number": 1})
    assert caught.value.message == (
        "the webhook at 127.0.0.1 answered 500; expected a status of the 200s"
    )
    assert caught.value.hint == "The alarm is posted again at the next reading."
    hook.tell(ALARM, {"number": 2})
    assert fake.posted == [{"number": 2}]


def test_a_webhook_that_is_gone_is_named_by_its_host_alone(fake: FakeMetrics) -> None:
    fake.close()
    with pytest.raises(EngineError) as caught:
        post(fake.url + "/secret", {})
    assert "the webhook at 127.0.0.1 does not answer: " in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_for_it_delivers_nothing(fake: FakeMetrics, status: int) -> None:
    fake.texts["/page"] = "a page"
    fake.statuses = [status]
    with pytest.raises(EngineError) as caught:
        post(fake.url, {})
    assert caught.value.message == (
        f"the webhook at 127.0.0.1 answered {status}; expected a status of the 200s"
    )


def test_what_does_not_speak_http_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer_nonsense, args=(listening,), daemon=True).start()
        with pytest.raises(EngineError) as caught:
            post(f"http://127.0.0.1:{listening.getsockname()[1]}/secret", {})
    assert caught.value.message == (
        "the webhook at 127.0.0.1 cannot be posted to: BadStatusLine; expected a status of the 200s"
    )


def answer_nonsense(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"nonsense\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "kind"), [("/a secret", "InvalidURL"), ("/ä-secret", "UnicodeEncodeError")]
)
def test_a_url_that_http_cannot_say_is_a_failure_without_its_secret(path: str, kind: str) -> None:
    with pytest.raises(EngineError) as caught:
        post(f"http://127.0.0.1:1{path}", {})
    assert caught.value.message == (
        f"the webhook at 127.0.0.1 cannot be posted to: {kind}; expected a status of the 200s"
    )


@pytest.mark.parametrize("url", ["", "example.com/hook", "ftp://example.com", "http://[x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Webhook(url)
    assert caught.value.message == (
        f"--webhook {url!r} is not a URL; expected for example https://example.com/hook"
    )
