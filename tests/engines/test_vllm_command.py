"""The look at vLLM's log, without starting one."""

from __future__ import annotations

import pytest

from eagle3_plugin.engines.vllm.command import require_served
from eagle3_plugin.errors import EngineError

SERVED = (
    "(Worker pid=19261) INFO 11-22 05:25:03 [models.py:76] eagle3_plugin 0.1.0 serves this draft "
    "as it was trained, taps [2, 4, 5]"
)


def test_a_log_with_the_line_of_our_class_is_the_proof() -> None:
    require_served(f"loading\n{SERVED}\nready")


def test_a_log_without_it_is_an_error() -> None:
    with pytest.raises(EngineError) as caught:
        require_served("loading\nready")
    assert caught.value.message == (
        "vLLM serves this draft as stock: its log does not name our class; expected the line that "
        "eagle3_plugin writes there when its class holds a draft"
    )
    assert caught.value.hint == (
        "See `eagle3 plugins vllm`. Leave VLLM_PLUGINS unset or name eagle3 in it, leave "
        "VLLM_LOGGING_LEVEL at INFO, and serve a Qwen3 target."
    )
