"""Servers that we start: their commands, their end, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.measuring import describe
from eagle3_plugin.measuring.hosts import Opened, OwnHost, UrlHost, ended
from eagle3_plugin.measuring.loop import Asking
from eagle3_plugin.measuring.protocol import protocol
from eagle3_plugin.measuring.provenance import Versions
from eagle3_plugin.measuring.wanted import Servers, of_card, of_settings
from eagle3_plugin.planning.cards import find_card
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving.compose import Engine, Served
from eagle3_plugin.settings import chain
from tests.measuring.fake_server import Behaviour, serving
from tests.measuring.test_run import work
from tests.serving.fake_engine import survivors, write_fake


def host(python: str, place: Path, **changes: Any) -> OwnHost:
    made = OwnHost(
        name="3,1,4",
        choice=chain(3),
        to_serve=Served("sglang", python, "org/T", "org/D", 0, "gpu"),
        num_gpus=1,
        flags=(),
        words=(),
        log_path=place / "log",
        timeout_s=5.0,
        start_timeout_s=60.0,
        is_proved=True,
        notes=("said",),
        started=lambda name, command: None,
        progress=lambda seconds, line: None,
    )
    return replace(made, **changes)


def test_a_server_of_ours_is_started_proved_described_and_stopped(tmp_path: Path) -> None:
    started: list[tuple[str, str]] = []
    python = str(write_fake(tmp_path / "python"))
    made = host(python, tmp_path, started=lambda name, command: started.append((name, command)))
    with made.opened() as opened:
        assert opened.exit_code is None
        assert ended(opened) is None
        served = opened.served
        pids = [int(w) for w in (tmp_path / "log").read_text().split("pids ")[1].split()[:3]]
    assert (served.name, served.settings, served.url, served.notes) == (
        "3,1,4", "3,1,4", None, ("said",),
    )  # fmt: skip
    assert served.command is not None
    assert "--speculative-num-steps 3" in served.command
    assert [name for name, _ in started] == ["3,1,4"]
    assert survivors(pids) == []


def test_a_draft_that_is_served_as_stock_is_refused(tmp_path: Path) -> None:
    python = str(write_fake(tmp_path / "python", "stock"))
    with (
        pytest.raises(EngineError, match="SGLang serves this draft as stock"),
        host(python, tmp_path).opened(),
    ):
        pass


def test_an_engine_that_was_killed_is_named_with_its_last_lines(tmp_path: Path) -> None:
    python = str(write_fake(tmp_path / "python"))
    with host(python, tmp_path).opened() as opened:
        assert opened.server is not None
        os.kill(opened.server.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while opened.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.05)
        error = ended(opened)
    assert error is not None
    assert error.message.startswith("the engine ended with exit code 137 while it served; its last")
    assert error.hint == f"The whole log: {tmp_path / 'log'}"


def test_a_cache_of_somebody_elses_server_is_left_alone(tmp_path: Path) -> None:
    with serving() as server, UrlHost("server", server.url, 5.0).opened() as opened:
        opened.empty_cache()
        assert server.bodies == []


def test_a_cache_is_emptied_when_the_engine_says_so() -> None:
    """vLLM answers 200 in either case."""
    runs: Any = SimpleNamespace(exit_code=None)
    with serving(Behaviour(resets=[False, False, True])) as server:
        with UrlHost("server", server.url, 5.0).opened() as opened:
            replace(opened, server=runs).empty_cache()
        assert server.behaviour.resets == []


def test_vllm_is_told_to_count_by_request_and_to_let_its_cache_be_emptied(tmp_path: Path) -> None:
    made = host("python", tmp_path, to_serve=Served("vllm", "python", "org/T", "org/D", 0, "gpu"))
    words = made.command().words
    assert words[words.index("--per-request-spec-decode-metrics") + 1] == "summary"
    assert "--enable-per-request-metrics" in words
    assert made.environment == {"VLLM_SERVER_DEV_MODE": "1"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--port", "1"), "--port after --; expected none of them: bench starts several servers"),
        (("--api-key", "x"), "--api-key after --; expected none of them"),
        (("--ssl-keyfile=k",), "--ssl-keyfile after --; expected none of them"),
    ],
)
def test_words_that_are_ours_are_refused(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        host("python", tmp_path, words=words)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--speculative-num-steps", "3"), "--speculative-num-steps"),
        (("--speculative-eagle-topk=1", "--dtype", "float16"), "--speculative-eagle-topk"),
        (("--speculative_num_draft_tokens", "4"), "--speculative_num_draft_tokens"),
        (("--speculative-draft-model-path", "other"), "--speculative-draft-model-path"),
        (("--speculative-algo", "NGRAM"), "--speculative-algo"),
        (("--speculative-config", "{}"), "--speculative-config"),
        (("-sc.num_speculative_tokens", "3"), "-sc.num_speculative_tokens"),
        (("-sc.max_model_len", "9", "--speculative-config.method=ngram"),
         "--speculative-config.method"),
        (("-sc.rejection-sample-method", "synthetic"), "-sc.rejection-sample-method"),
        (("--spec-tokens", "3", "--spec-model", "m"), "--spec-tokens, --spec-model"),
    ],
)  # fmt: skip
def test_speculation_after_the_dashes_is_refused(
    tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    with pytest.raises(UsageError) as raised:
        host("python", tmp_path, words=words)
    assert raised.value.message == (
        f"{named} after --; expected nothing that sets speculation: each server is measured under "
        "the settings that it is named after"
    )
    assert raised.value.hint == (
        "Leave it out: --settings states them, and --draft names the draft."
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--speculative-draft-attention-backend", "triton"),
        ("-sc.draft_tensor_parallel_size", "1"),
        ("--speculative-config.draft-load-config.load_format", "auto"),
    ],
)
def test_words_for_how_a_draft_runs_are_allowed(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert host("python", tmp_path, words=words).command().words[-2:] == words


def test_a_baseline_is_told_nothing_of_a_draft(tmp_path: Path) -> None:
    words = ("--dtype=float32", "-sc.draft_tensor_parallel_size", "1", "--max-model-len", "512")
    served = Served("vllm", "python", "org/T", "org/D", 0, "gpu")
    spoken = host("python", tmp_path, to_serve=served, choice=OFF, words=words).command().words
    assert spoken[-4:] == ("--dtype", "float32", "--max-model-len", "512")


def _servers(engine: Engine, place: Path) -> Servers:
    python = str(write_fake(place / "python"))
    return Servers(
        Served(engine, python, "org/T", "org/D", 0, "gpu"),
        num_gpus=2,
        words=(),
        shown_words=(),
        place=place / "r.json",
        start_timeout_s=60.0,
        silence_s=5.0,
        is_proved=True,
        started=lambda name, command: None,
        progress=lambda seconds, line: None,
    )


def test_a_baseline_is_measured_beside_each_of_the_settings(tmp_path: Path) -> None:
    found = of_settings(work(), _servers("sglang", tmp_path), ["3,1,4", "5,4,16", "3,1,4"])
    hosts = [h for h in found.hosts if isinstance(h, OwnHost)]
    assert [h.name for h in hosts] == ["baseline", "3,1,4", "5,4,16"]
    assert [h.log_path.name for h in hosts] == [
        "r.json.off.log", "r.json.3-1-4.log", "r.json.5-4-16.log",
    ]  # fmt: skip
    assert found.subject.versions.engine == "0.5.23"


def test_settings_without_speculation_are_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--settings names no speculation; expected at least one"):
        of_settings(work(), _servers("sglang", tmp_path), ["off"])


def test_a_tree_in_vllm_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--settings 5,4,16 is a tree of topk 4; expected a chain"):
        of_settings(work(), _servers("vllm", tmp_path), ["5,4,16"])


def test_a_cards_chain_in_vllm_carries_the_note_on_its_server(tmp_path: Path) -> None:
    card = find_card("A")
    found = of_card(work(), _servers("vllm", tmp_path), card, protocol(card, "vllm", "gpu", [], 8))
    assert found.card is not None
    assert found.card.stands_for == {"5,4,16": "5,1,6"}
    assert found.card.notes[0].startswith("vllm drafts chains only: 5,1,6 in place of")
    assert found.card.notes[3:5] == (
        "the target is org/T; the card's is Qwen/Qwen3-4B-Instruct-2507",
        "the draft is org/D; the card's is Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh",
    )
    spoken = [h.notes for h in found.hosts if isinstance(h, OwnHost)]
    assert spoken[0] == ()
    assert spoken[1][0].startswith("vllm drafts chains only: 5,1,6 in place of")


def test_sampling_on_a_cpu_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    servers = _servers("sglang", tmp_path)
    on_cpu = replace(servers, to_serve=replace(servers.to_serve, device="cpu"))
    warm = work(asking=Asking(8, 0.7, 0, False, None))
    with pytest.raises(UsageError, match=r"SGLang 0\.5\.23 verifies greedily on a CPU"):
        of_settings(warm, on_cpu, ["3,1,4"])


def test_an_environment_that_does_not_answer_has_no_versions(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    found = describe.versions_there("vllm", str(python))
    assert found == Versions(
        plugin="0.1.0", engine=None, torch=None, transformers=None, python=None
    )


def test_a_model_is_described_by_its_files_and_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"torch_dtype": "bfloat16"}')
    (tmp_path / "chat_template.jinja").write_text("abc")
    found = describe.model(str(tmp_path))
    assert next((f.name, f.num_bytes, f.sha256) for f in found.files) == (
        "chat_template.jinja",
        3,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    assert describe.template_sha256(str(tmp_path)) == found.files[0].sha256
    assert describe.model(str(tmp_path / "none")).files == ()


def test_a_large_file_in_the_hubs_cache_is_not_read_for_its_hash(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_text("not what it is named after")
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(blob)
    assert describe.model(str(folder)).files[0].sha256 == "ab" * 32


def test_a_server_of_somebody_else_says_its_release() -> None:
    with serving(Behaviour()) as server, UrlHost("server", server.url, 5.0).opened() as opened:
        assert isinstance(opened, Opened)
        assert describe.versions_of(opened.client).engine == "0.32.0"
        assert describe.served_model(opened.client).name == "fake"
