"""Asks the Python of an environment something, in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from eagle3_plugin.errors import EngineError

Answer = subprocess.CompletedProcess[str]


def ask(python: str, words: Sequence[str], *, what: str, timeout_s: float) -> Answer:
    """What that Python answers to these words of a command line.

    what: what it is asked for, as in "what is installed there". Raises EngineError where there is
    no Python, or one that is silent for too long.
    """
    command = [python, *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except OSError as error:
        raise EngineError(
            f"there is no Python at {python}: {error.strerror}",
            hint="Give the Python of the engine's environment with --python.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{python} did not say within {timeout_s:g} s {what}",
            hint="Run it by hand, or give another with --python.",
        ) from error


def last_words(answer: Answer) -> str:
    """The last line of its errors, or its exit code."""
    return answer.stderr.strip().rpartition("\n")[2] or f"exit code {answer.returncode}"
