"""Reads single fields of a Hugging Face style config, and collects what is wrong with them.

Every dialect reads through this one reader, so that a field of the wrong type, an absent size or
two spellings that disagree is reported the same way everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eagle3_plugin.errors import Problem

MAX_COUNT = 2**31 - 1
"""Far above any size of a model; below it no arithmetic or allocation goes wrong."""


class Fields:
    """One JSON object of a config; `problems` grows as fields are read.

    A key that holds null is absent.
    """

    def __init__(self, values: Mapping[str, Any], problems: list[Problem], where: str = "") -> None:
        self.values = values
        self.problems = problems
        self.where = where

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def count(self, name: str, fallback: int | None = None) -> int | None:
        """A positive integer; `fallback` is a value read off a tensor, never a default."""
        value = self.values.get(name)
        if value is None:
            if fallback is None:
                self._report("config-field-missing", name, "is absent", "a positive integer")
            return fallback
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_COUNT:
            self._report("config-field-type", name, f"is {short(value)}", "a positive integer")
            return fallback
        return value

    def optional_count(self, name: str) -> int | None:
        """A positive integer, or None when absent."""
        return self.count(name) if name in self else None

    def number(self, name: str) -> float | None:
        """A positive finite number, or None when absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
            self._report("config-field-type", name, f"is {short(value)}", "a positive number")
            return None
        return float(value)

    def flag(self, name: str) -> bool | None:
        """True, False, or None when absent."""
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        self._report("config-field-type", name, f"is {short(value)}", "true or false")
        return None

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        self._report("config-field-type", name, f"is {short(value)}", "a string")
        return None

    def ids(self, name: str) -> tuple[int, ...] | None:
        """A non-empty list of integers that are not negative, or None when absent."""
        value = self.values.get(name)
        if value is None or value == []:
            return None
        is_ids = isinstance(value, list) and all(
            isinstance(i, int) and not isinstance(i, bool) and 0 <= i <= MAX_COUNT for i in value
        )
        if not is_ids:
            self._report("config-field-type", name, f"is {short(value)}", "a list of integers")
            return None
        return tuple(value)

    def section(self, name: str) -> Fields:
        """A nested object; empty when absent."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            self._report("config-field-type", name, f"is {short(value)}", "an object {…}")
            value = None
        return Fields(value or {}, self.problems, f"{self.where}{name}.")

    def _report(self, rule: str, name: str, found: str, expected: str) -> None:
        message = f"config.json: {self.where}{name} {found}; expected {expected}"
        self.problems.append(Problem(rule, message))


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def architecture_of(config: Mapping[str, Any]) -> str:
    """The first entry of `architectures`, or an empty string."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
