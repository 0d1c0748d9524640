"""How tune's servers are started, and what it asks of them; real engines are in test_tune_real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.planning.profile import Counted
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving import tune_server
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.client import Client
from eagle3_plugin.serving.compose import Engine, Served
from eagle3_plugin.serving.tune import Start, Todo
from eagle3_plugin.serving.tune_server import TuneServers, simulates
from eagle3_plugin.serving.waves import Wave
from eagle3_plugin.settings import chain

Running = Callable[..., Any]


def _servers(engine: Engine, *words: str) -> TuneServers:
    return TuneServers(
        Served(engine, "python", "org/T", "org/D", 0, "gpu"),
        num_gpus=2,
        words=words,
        prompts=({"prompt": "a"}, {"prompt": "b"}),
        max_new_tokens=16,
        timeout_s=60,
        is_proved=True,
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What `running` would have been given; nothing is started."""
    calls: list[Mapping[str, Any]] = []

    class StoppedError(Exception):
        """Instead of a server."""

    def running(words: tuple[str, ...], **given: Any) -> Any:
        calls.append({"words": words, **given})
        raise StoppedError

    monkeypatch.setattr(tune_server, "running", running)
    monkeypatch.setattr(tune_server, "free_port", lambda: 4242)
    return calls


def _start(servers: TuneServers, start: Start) -> str:
    shown: list[str] = []
    measure = servers.measuring(
        Path("log"), lambda settings, command: shown.append(settings), lambda s, line: None
    )
    with pytest.raises(Exception, match=r"^$"):
        list(measure(Todo(start, (1,), False)))
    return shown[0]


def test_vllm_is_told_the_acceptance_in_its_config(started: list[Mapping[str, Any]]) -> None:
    servers = _servers("vllm", "--max-model-len", "512")
    assert _start(servers, Start(chain(3), 2)) == "3,1,4"
    words = " ".join(started[0]["words"])
    assert "--tensor-parallel-size 2 --per-request-spec-decode-metrics summary" in words
    assert "--max-model-len 512 --speculative-config.rejection_sample_method synthetic" in words
    assert words.endswith("--speculative-config.synthetic_acceptance_length 2.0")
    assert "SGLANG_SIMULATE_ACC_LEN" not in started[0]["env"]
    assert started[0]["proof"] is not None


def test_sglang_is_told_the_acceptance_in_its_environment(
    started: list[Mapping[str, Any]],
) -> None:
    _start(_servers("sglang"), Start(chain(3), 2))
    assert started[0]["env"] == {
        "SGLANG_SIMULATE_ACC_LEN": "2",
        "SGLANG_SIMULATE_ACC_TOKEN_MODE": "real-draft-token",
    }
    assert "--speculative-num-steps 3" in " ".join(started[0]["words"])


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_real_run_is_told_nothing_and_off_needs_no_proof(
    engine: Engine, started: list[Mapping[str, Any]]
) -> None:
    _start(_servers(engine), Start(OFF))
    assert "synthetic" not in " ".join(started[0]["words"])
    assert started[0]["env"] == {}
    assert started[0]["proof"] is None


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("sglang", ("--speculative-num-steps", "3")),
        ("vllm", ("--speculative-config", '{"num_speculative_tokens": 3}')),
        ("vllm", ("-sc.num_speculative_tokens", "3")),
    ],
)
def test_words_that_set_speculation_are_refused(engine: Engine, words: tuple[str, ...]) -> None:
    """They would win in every start, so that one server would be timed under many names."""
    with pytest.raises(UsageError) as raised:
        _servers(engine, "--max-model-len", "512", *words)
    assert raised.value.message == (
        f"{words[0]} after --; expected nothing that sets speculation: tune starts each server "
        "with settings of its own, and one without a draft"
    )
    assert raised.value.hint == (
        "Leave it out: tune finds the settings, and --draft names the draft."
    )


@pytest.mark.parametrize(
    "name", ["--port", "--host", "--api-key", "--config", "--ssl-certfile", "--uds"]
)
def test_words_that_are_for_one_server_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name} after --; expected none of them"):
        _servers("vllm", name, "1")


def test_only_vllm_on_a_cpu_cannot_be_told() -> None:
    assert [simulates(e, d) for e in ("vllm", "sglang") for d in ("gpu", "cpu")] == [
        True,
        False,
        True,
        True,
    ]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[AcceptanceCounts | None], None]:
    """A server whose bench counts that, and whose waves accept two tokens a round."""
    counts = AcceptanceCounts(100, 300, 100, (100, 0, 0))
    monkeypatch.setattr(Client, "connect", lambda url: Client(url, "m"))
    monkeypatch.setattr(tune_server, "waves", lambda *given: (Wave(0.02, counts),) * 5)

    def set_counts(found: AcceptanceCounts | None) -> None:
        class Result:
            acceptance = found

        monkeypatch.setattr(tune_server, "bench", lambda *given, **named: Result())

    return set_counts


def test_counts_come_first_and_have_a_place_for_each_step(
    counted: Callable[[AcceptanceCounts | None], None],
) -> None:
    counted(AcceptanceCounts(10, 30, 8, (6, 2)))
    found = list(_servers("sglang")._asked("http://x", Todo(Start(chain(3)), (1, 4), True)))
    first = found[0]
    assert isinstance(first, Counted)
    assert (first.settings, first.num_rounds, first.accepted_by_position) == (
        "3,1,4",
        10,
        (6, 2, 0),
    )
    assert [f.model_dump()["num_requests"] for f in found[1:]] == [1, 4]
    assert [f.model_dump()["how"] for f in found[1:]] == ["real", "real"]


@pytest.mark.parametrize(("accepts", "how"), [(2, "synthetic"), (3, "real")])
def test_a_wave_is_synthetic_only_where_the_engine_did_as_told(
    counted: Callable[[AcceptanceCounts | None], None], accepts: int, how: str
) -> None:
    todo = Todo(Start(chain(3), accepts), (1,), False)
    (found,) = _servers("sglang")._asked("http://x", todo)
    assert found.model_dump()["how"] == how


@pytest.mark.parametrize("counts", [None, AcceptanceCounts(0, 0, 0, (0, 0, 0))])
def test_prompts_without_a_round_are_an_error(
    counted: Callable[[AcceptanceCounts | None], None], counts: AcceptanceCounts | None
) -> None:
    counted(counts)
    with pytest.raises(EngineError) as raised:
        list(_servers("sglang")._asked("http://x", Todo(Start(chain(3)), (), True)))
    assert raised.value.message == (
        "http://x counted no verify round over 2 prompts with settings 3,1,4; expected some"
    )


def test_one_gpu_needs_no_flag(started: list[Mapping[str, Any]]) -> None:
    _start(replace(_servers("vllm"), num_gpus=1), Start(OFF))
    assert "--tensor-parallel-size" not in started[0]["words"]
