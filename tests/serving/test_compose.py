"""The whole command: revisions, ports, hosts, keys, a CPU's variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.serving.choice import Chosen
from eagle3_plugin.serving.compose import (
    Command,
    Served,
    compose,
    require_reachable,
    split_name,
)
from eagle3_plugin.settings import Settings

ADAPTIVE = Path("log.adaptive.json")


CHAIN_3 = Settings(3, 1, 4)


def _command(*theirs: str, choice: Choice = CHAIN_3, **changes: Any) -> Command:
    values: dict[str, Any] = {
        "engine": "vllm", "python": "py", "target": "org/T", "draft": "org/D", "port": 8000,
        "device": "gpu",
    }  # fmt: skip
    chosen = changes.pop("chosen", Chosen(choice, ("--max-num-seqs", "4")))
    return compose(Served(**values | changes), chosen, theirs, ADAPTIVE)


def test_vllms_command() -> None:
    assert _command().words == (
        *("py", "-m", "vllm.entrypoints.openai.api_server", "--model", "org/T", "--port", "8000"),
        *("--max-num-seqs", "4", "--speculative-config"),
        '{"method": "eagle3", "model": "org/D", "num_speculative_tokens": 3}',
    )


def test_without_speculation_there_is_no_draft() -> None:
    for engine in ("vllm", "sglang"):
        words = _command(choice=OFF, engine=engine).words
        assert "org/D" not in " ".join(words)
        assert not [word for word in words if "speculative" in word]


def test_revisions_are_handed_on_in_each_engines_spelling() -> None:
    vllm = _command(target="org/T@v1", draft="org/D@v2").words
    assert vllm[vllm.index("--revision") + 1] == "v1"
    assert json.loads(vllm[-1])["revision"] == "v2"
    sglang = _command(engine="sglang", target="org/T@v1", draft="org/D@v2").words
    assert sglang[sglang.index("--revision") + 1] == "v1"
    assert sglang[-2:] == ("--speculative-draft-model-revision", "v2")


def test_a_schedule_is_in_vllms_config_and_in_a_file_for_sglang() -> None:
    table = ((1, 4, 3), (5, 16, 0))
    vllm = _command(chosen=Chosen(Settings(3, 1, 4), schedule=table)).words
    assert json.loads(vllm[-1])["num_speculative_tokens_per_batch_size"] == [[1, 4, 3], [5, 16, 0]]
    adaptive = {"1": {"candidate_steps": [3]}}
    command = _command(engine="sglang", chosen=Chosen(Settings(3, 1, 4), adaptive=adaptive))
    assert command.words[-3:] == (
        "--speculative-adaptive", "--speculative-adaptive-config", "log.adaptive.json",
    )  # fmt: skip
    assert command.adaptive is not None
    assert command.adaptive[0] == ADAPTIVE
    assert json.loads(command.adaptive[1]) == adaptive


@pytest.mark.parametrize(
    ("theirs", "url"),
    [
        ((), "http://127.0.0.1:8000"),
        (("--port", "9"), "http://127.0.0.1:9"),
        (("--host", "0.0.0.0"), "http://127.0.0.1:8000"),
        (("--host", "10.0.0.5"), "http://10.0.0.5:8000"),
        (("--host", "::1"), "http://[::1]:8000"),
    ],
)
def test_the_server_is_asked_where_it_listens(theirs: tuple[str, ...], url: str) -> None:
    assert _command(*theirs).url == url


def test_a_port_that_is_none_is_wrong_use() -> None:
    with pytest.raises(UsageError) as caught:
        _command("--port", "http")
    assert caught.value.message == "the port is 'http'; expected a number from 1 to 65535"


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        (("--ssl-certfile", "c.pem", "--ssl_keyfile=k.pem"), "--ssl-certfile, --ssl_keyfile"),
        (("--uds", "/run/s"), "--uds"),
    ],
)
def test_a_server_that_does_not_answer_plain_http_is_wrong_use(
    theirs: tuple[str, ...], found: str
) -> None:
    with pytest.raises(UsageError) as caught:
        require_reachable(theirs)
    assert caught.value.message == (
        f"{found} after --; expected a server that answers plain HTTP at its port, for serve asks "
        "it there whether it is healthy"
    )
    require_reachable(("--port", "1", "--ssl-ca-certs", "x"))


def test_the_key_is_used_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    command = _command("--api-key", "the-key")
    assert command.api_key == "the-key"
    assert command.shown.endswith("    --api-key ***")
    assert "the-key" not in repr(command)
    assert _command().api_key is None
    monkeypatch.setenv("VLLM_API_KEY", "of-the-environment")
    assert _command().api_key == "of-the-environment"


def test_a_command_is_shown_a_flag_to_a_line() -> None:
    assert _command("--dtype", "float16").shown == (
        "py -m vllm.entrypoints.openai.api_server \\\n"
        "    --model org/T \\\n"
        "    --port 8000 \\\n"
        "    --max-num-seqs 4 \\\n"
        "    --speculative-config "
        '\'{"method": "eagle3", "model": "org/D", "num_speculative_tokens": 3}\' \\\n'
        "    --dtype float16"
    )


def test_a_cpu_gets_its_variables_and_yours_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "8")
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    command = _command(device="cpu")
    assert command.env == {"VLLM_PLUGINS": "eagle3"}
    assert command.shown.startswith("VLLM_PLUGINS=eagle3 \\\n    py -m vllm")


def test_a_name_is_split_as_engines_take_it(tmp_path: Path) -> None:
    assert split_name(str(tmp_path)) == (str(tmp_path), None)
    assert split_name("org/name") == ("org/name", None)
    assert split_name("org/name@v1") == ("org/name", "v1")
    with pytest.raises(UsageError) as caught:
        split_name("modelscope:org/name")
    assert caught.value.message == (
        "'modelscope:org/name' is on ModelScope; the engines and their plugins would look for it "
        "on Hugging Face; expected a folder or a Hugging Face id"
    )
    assert caught.value.hint == (
        "modelscope download org/name --local_dir FOLDER, then name the folder"
    )
