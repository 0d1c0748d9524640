"""Puts a function of ours around one of an engine's, once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from eagle3_plugin.errors import EngineError

MARK = "__eagle3_plugin__"
"""What a wrapped function has: the engine's own."""


def require(holder: Any, name: str, engine: str, supported: str) -> None:
    """Raises EngineError when the engine has no such function to put ours around."""
    if not callable(getattr(holder, name, None)):
        raise EngineError(
            f"{engine} has no {holder.__name__}.{name}, which the plugin needs to read drafts",
            hint=f"Use {supported}, or leave the plugin out.",
        )


def wrap(holder: Any, name: str, around: Callable[..., Any]) -> None:
    """Replaces `holder.name` by a call of `around(original, …)`; a second time does nothing."""
    stored = vars(holder)[name] if isinstance(holder, type) else getattr(holder, name)
    original = stored.__func__ if isinstance(stored, staticmethod) else stored
    if hasattr(original, MARK):
        return

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(wrapped, MARK, original)
    setattr(holder, name, staticmethod(wrapped) if isinstance(stored, staticmethod) else wrapped)


def is_wrapped(holder: Any, name: str) -> bool:
    """Whether a function of ours is around `holder.name`."""
    return hasattr(getattr(holder, name, None), MARK)
