"""The entry point `sglang.srt.plugins: eagle3`.

This release does not change how SGLang reads drafts, and says so in SGLang's log: a user who
installed the package beside SGLang must not take a stock server for a mended one.
"""

from __future__ import annotations

import logging

from eagle3_plugin import __version__

MESSAGE = (
    f"eagle3_plugin {__version__} has no plugin for SGLang: drafts are read as stock SGLang reads "
    "them. Run `eagle3 check DRAFT --target TARGET --engine sglang` before you rely on one."
)


def register() -> None:
    """Tell SGLang's log that drafts are served as stock; safe to call any number of times."""
    logging.getLogger(__name__).warning(MESSAGE)
