"""What a baseline at a URL may differ in, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.measuring.baseline import Seen, compared
from eagle3_plugin.measuring.wanted import KEPT, of_urls
from tests.measuring.fake_server import Behaviour, serving
from tests.measuring.test_run import work

SERVER = Seen("http://b", "vllm", "chat", "org/T", "0.32.0")


def _at(**changes: Any) -> Seen:
    return replace(SERVER, url="http://a", **changes)


@pytest.mark.parametrize(
    ("baseline", "server", "notes"),
    [
        (_at(), SERVER, ()),
        (_at(root=None), replace(SERVER, root=None), ()),
        (_at(model="plain"), SERVER,
         ("the baseline serves plain from org/T, the server chat from org/T",)),
        (_at(root="/mnt/T"), SERVER,
         ("the baseline serves chat from /mnt/T, the server chat from org/T",)),
        (_at(release="0.31.0"), SERVER,
         ("the baseline is vllm 0.31.0, the server 0.32.0: ratios are of that as well",)),
        (_at(release=None), SERVER,
         ("the baseline is vllm of an unknown release, the server 0.32.0: ratios are of that as "
          "well",)),
    ],
)  # fmt: skip
def test_what_may_differ_is_said(baseline: Seen, server: Seen, notes: tuple[str, ...]) -> None:
    assert compared(baseline, server) == notes


@pytest.mark.parametrize(
    ("baseline", "server", "message"),
    [
        (_at(engine="sglang"), SERVER,
         "--baseline http://a is sglang, and http://b is vllm; expected the same engine without "
         "speculation"),
        (_at(model="org/U", root="org/U"), replace(SERVER, model="org/T"),
         "--baseline http://a serves org/U, and http://b serves org/T; expected the same model"),
        (_at(model="plain", root="org/U"), SERVER,
         "--baseline http://a serves plain from org/U, and http://b serves chat from org/T; "
         "expected the same model"),
        (_at(model="plain", root=None), replace(SERVER, root=None),
         "--baseline http://a serves plain, and http://b serves chat; expected the same model"),
    ],
)  # fmt: skip
def test_another_model_or_engine_is_wrong_use(baseline: Seen, server: Seen, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        compared(baseline, server)
    assert raised.value.message == message


def _says(model: str, **more: Any) -> Behaviour:
    return Behaviour(says={"data": [{"id": model, **more}]})


def test_the_servers_themselves_are_asked() -> None:
    plain, chat = _says("plain", root="org/T"), _says("chat", root="org/T")
    with serving(plain) as baseline, serving(chat) as server:
        found = of_urls(work(), server.url, baseline.url, 1.0)
    assert found.notes == (
        KEPT, "the baseline serves plain from org/T, the server chat from org/T",
    )  # fmt: skip
    assert [(host.name, host.serves) for host in found.hosts] == [
        ("baseline", "plain from org/T, vllm 0.32.0"),
        ("server", "chat from org/T, vllm 0.32.0"),
    ]


def test_sglang_says_elsewhere_where_its_model_is_from() -> None:
    said = {"data": [{"id": "a", "root": "a", "owned_by": "sglang"}], "model_path": "org/T"}
    with serving(Behaviour(says=said)) as server:
        found = of_urls(work(), server.url, None, 1.0)
    assert [host.serves for host in found.hosts] == ["a from org/T, sglang 0.32.0"]


def test_vllm_beside_sglang_is_wrong_use() -> None:
    with (
        serving(_says("fake", owned_by="sglang")) as baseline,
        serving() as server,
        pytest.raises(UsageError, match=r"is sglang, and .* is vllm; expected the same engine"),
    ):
        of_urls(work(), server.url, baseline.url, 1.0)


def test_a_server_alone_is_said_to_keep_its_prompts() -> None:
    with serving() as server:
        assert of_urls(work(), server.url, None, 1.0).notes == (
            "the prefix caches of servers at a URL are not emptied: times to first token may be of "
            "prompts that a server still held, from a warm-up or from before",
        )
