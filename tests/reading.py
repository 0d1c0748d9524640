"""What reading a folder finds: short forms for the tests of reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from eagle3_plugin.draft.checkpoint import Checkpoint
from eagle3_plugin.draft.dialects.settle import NOTHING_SETTLED, Settle
from eagle3_plugin.draft.read import examine, read_draft
from eagle3_plugin.errors import DraftError
from eagle3_plugin.hub import resolve
from tests.drafts import read

TAP_IDS = "eagle_aux_hidden_state_layer_ids"


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint.open(resolve(str(folder)))


def problems(folder: Path, settle: Settle = NOTHING_SETTLED) -> list[tuple[str, str, str | None]]:
    """What is wrong, in the order of the report; read_draft must then raise it all."""
    found = examine(checkpoint(folder), settle).problems
    if found:
        with pytest.raises(DraftError) as caught:
            read_draft(checkpoint(folder), settle)
        assert caught.value.problems == found
    return [(p.id, p.message, p.hint) for p in found]


def notes(folder: Path) -> list[tuple[str, str]]:
    """What is told of a draft that reads."""
    return [(note.id, note.message) for note in read(folder).notes]
