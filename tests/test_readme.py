"""What the README says of commands, dialects and rules is generated, and up to date."""

from __future__ import annotations

import re

from tests.readme_parts import README, generated


def test_the_generated_parts_are_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert generated(text) == text, "run: python -m tests.readme_parts"


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(), re.MULTILINE)
    commands = re.findall(r"^make ([a-z-]+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(commands) <= set(targets)
    assert {"demo", "test"} <= set(commands)
