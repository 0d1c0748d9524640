"""Rope settings in their spellings, and those that cannot be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.drafts import draft_config, edit_config, read
from tests.reading import problems


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"rope_parameters": {"rope_theta": 5e6}},
            (
                "rope-conflict",
                "config.json gives rope_theta twice, differently: 1000000.0 and 5000000.0",
                "Leave one of the spellings.",
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "longrope"}},
            (
                "rope-type",
                "rope type 'longrope' is not supported; known: default, linear, yarn, llama3",
                None,
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 32}},
            (
                "rope-parameter",
                "config.json: rope_scaling.beta_fast = 32 has no meaning for a rope of type "
                "'linear'",
                "Remove the key.",
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            (
                "rope",
                "config.json: rope type 'yarn': unknown parameters [], missing "
                "['original_max_position_embeddings']",
                None,
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "default", "mrope_section": [8, 8]}},
            (
                "rope",
                "config.json: rope_scaling.mrope_section is [8, 8]; expected three positive "
                "integers (time, height, width)",
                None,
            ),
        ),
        (
            {"rope_scaling": {"rope_type": "default", "mrope_interleaved": True}},
            ("rope", "config.json: mrope_interleaved without mrope_section", None),
        ),
        (
            {"rope_scaling": {"mrope_section": [8, 8, 8], "mrope_interleaved": True}},
            (
                "config-inconsistent",
                "mrope_section [8, 8, 8] sums to 24, not to half of head_dim 32",
                None,
            ),
        ),
    ],
)
def test_a_rope_that_cannot_be_right_is_named(
    folder: Path, changes: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    edit_config(folder, **changes)

    assert expected in problems(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": None, "rope_theta": None, "rope_parameters": {"rope_theta": 1e6}},
        {"rope_scaling": {"rope_type": "default", "factor": 1.0}},
        {"rope_scaling": {"type": "default", "partial_rotary_factor": 1.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000}},
    ],
)
def test_every_spelling_of_a_plain_rope_means_the_same(
    folder: Path, changes: dict[str, Any]
) -> None:
    edit_config(folder, **changes)

    assert read(folder).config == draft_config()
