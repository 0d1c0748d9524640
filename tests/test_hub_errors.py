"""Every error of the hub libraries becomes one of ours."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import (
    NotFoundError,
    SourceError,
)
from eagle3_plugin.hub_errors import TRANSLATIONS, translated, translation

CANNOT_COME_OUT = {
    "BucketBatchError", "BucketNotFoundError", "CLIError", "CLIExtensionInstallError",
    "ConfirmationError", "DDUFCorruptedFileError", "DDUFError", "DDUFExportError",
    "DDUFInvalidEntryNameError", "DeviceCodeError", "DryRunError", "FileDuplicationError",
    "GenerationError", "IncompleteGenerationError", "InferenceEndpointError",
    "InferenceEndpointTimeoutError", "InferenceTimeoutError", "JobNotFoundError",
    "NotASafetensorsRepoError", "OIDCError", "OverloadedError", "SafetensorsParsingError",
    "SandboxCommandError", "SandboxError", "StrictDataclassClassValidationError",
    "StrictDataclassDefinitionError", "StrictDataclassError",
    "StrictDataclassFieldValidationError", "TextGenerationError", "UnknownError",
    "ValidationError",
}  # fmt: skip
"""Those of buckets, jobs, sandboxes, inference, logins, dataclasses and the command line."""


def test_every_error_of_huggingface_hub_that_can_come_out_has_a_row_of_its_own() -> None:
    from huggingface_hub import errors

    named = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
    }
    assert sorted(named - CANNOT_COME_OUT - set(TRANSLATIONS)) == []


def test_every_error_of_modelscope_has_a_row() -> None:
    errors = pytest.importorskip("modelscope_hub.errors")
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(classes) > 10
    assert [error.__name__ for error in classes if translation(error) is None] == []


@pytest.mark.parametrize("name", sorted(TRANSLATIONS))
def test_every_row_makes_a_message_that_names_the_repository(name: str) -> None:
    kind, message, hint = TRANSLATIONS[name]
    error = type(name, (Exception,), {})("https://user:secret@host")
    with pytest.raises(SourceError) as caught, translated("org/name", "config.json"):
        raise error
    assert type(caught.value) is kind
    assert "secret" not in caught.value.message
    assert "{" not in caught.value.message
    assert "org/name" in caught.value.message or "org/name" not in message.format_map(_Blank())
    assert caught.value.hint == hint


class _Blank(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "org/name" if key == "repo" else ""


def test_our_own_errors_and_mistakes_pass_the_edge_unchanged() -> None:
    for error in (NotFoundError("x"), AssertionError("a mistake of ours")):
        with pytest.raises(type(error)) as caught, translated("org/name", "x"):
            raise error
        assert caught.value is error
