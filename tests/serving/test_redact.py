"""Keys and tokens, in commands, in environments and in logs."""

from __future__ import annotations

import pytest

from eagle3_plugin.serving.redact import Secrets, shown_command


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--api-key", "abc", "--port", "1"], "--api-key *** --port 1"),
        (["--api-key=abc"], "--api-key=***"),
        (["--api-key", "abc", "def", "--x"], "--api-key *** *** --x"),
        (["--admin_api_key", "abc"], "--admin_api_key ***"),
        (["--hf-token", "abc"], "--hf-token ***"),
        (["--ssl-keyfile-password", "abc"], "--ssl-keyfile-password ***"),
        (["--ssl-keyfile", "/a b"], "--ssl-keyfile '/a b'"),
        (["--tokenizer", "abc", "--max-total-tokens", "9"],
         "--tokenizer abc --max-total-tokens 9"),
        (["--x", "hf_ABCDEFGHIJKLMNOPQRSTU"], "--x '***'"),
    ],
)  # fmt: skip
def test_a_command_is_shown_without_its_secrets(words: list[str], shown: str) -> None:
    assert shown_command(words) == shown


def test_a_log_is_shown_without_what_the_command_and_the_environment_hold() -> None:
    secrets = Secrets.of(
        ["--api-key", "from-words", "--hf-token=from-token"],
        {"HF_TOKEN": "from-environment", "A_SECRET": "", "PATH": "/bin", "KEY": "short"},
    )
    text = "from-words from-token from-environment /bin short hf_ABCDEFGHIJKLMNOPQRSTU"
    assert secrets.hide(text) == "*** *** *** /bin short ***"


def test_a_secret_that_holds_another_is_masked_whole() -> None:
    assert Secrets.of(["--api-key", "abcdef", "abcdefgh"], {}).hide("abcdefgh") == "***"


def test_secrets_are_not_in_their_own_name() -> None:
    assert "abcdef" not in repr(Secrets.of(["--api-key", "abcdef"], {}))
