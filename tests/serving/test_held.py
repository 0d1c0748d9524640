"""One server for each port and each log."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from eagle3_plugin.errors import EngineError, OutputError
from eagle3_plugin.serving.held import held_log, held_port
from eagle3_plugin.serving.process import free_port


def test_a_port_is_held_once_and_free_afterwards() -> None:
    port = free_port()
    for _ in range(2):
        with held_port(port):
            with pytest.raises(EngineError) as caught, held_port(port):
                pytest.fail("held twice")
            assert caught.value.message == (
                f"another `eagle3 serve` holds port {port}; expected one server for each"
            )
            assert caught.value.hint == ("Stop that server, or choose another port with --port.")


def test_a_log_is_held_once_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier server\n")
    with held_log(log):
        assert log.stat().st_mode & 0o777 == 0o600
        with pytest.raises(EngineError, match=r"holds the log .* expected one server for each"):
            held_log(log).__enter__()
    assert log.read_text() == "of an earlier server\n"


def test_a_lock_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        held_port(1).__enter__()
    with pytest.raises(OutputError) as caught:
        held_log(tmp_path).__enter__()
    assert caught.value.message == (
        f"{tmp_path} cannot be written: Is a directory; expected a file in a folder that exists"
    )
