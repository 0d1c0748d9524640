"""What the tests of the tiny Qwen3-VL share: a random target, and dialogues run through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eagle3_plugin.draft.target_model import TargetModel
    from eagle3_plugin.tiny.vl_batches import Batch


@pytest.fixture(scope="session")
def random_vl(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    """A random Qwen3-VL in float32 with deepstack after layers 0 and 1."""
    import torch

    from eagle3_plugin.draft.target_model import TargetModel
    from tests.engines.random_target import write_random_vl_target

    folder = write_random_vl_target(tmp_path_factory.mktemp("vl") / "target")
    return TargetModel.load(folder, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="session")
def shown_batch(random_vl: TargetModel) -> Batch:
    """The dialogues of `shown.py`."""
    from tests.tiny.shown import SHOWN, batch_of

    return batch_of(random_vl, *SHOWN)
