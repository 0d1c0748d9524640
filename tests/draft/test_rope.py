"""Expected values come from transformers 5.19."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from eagle3_plugin.draft.config import Rope
from eagle3_plugin.draft.rope import cos_sin, frequencies, rotate

HEAD_DIM = 32
YARN = {"factor": 4.0, "original_max_position_embeddings": 4096.0}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512.0,
}
SCALED = {
    "linear": Rope(theta=5e5, type="linear", parameters={"factor": 3.0}),
    "yarn": Rope(theta=1e6, type="yarn", parameters=YARN),
    "yarn, own betas": Rope(
        theta=1e6, type="yarn", parameters=YARN | {"beta_fast": 16.0, "beta_slow": 2.0}
    ),
    "yarn, own attention factor": Rope(
        theta=1e6, type="yarn", parameters=YARN | {"attention_factor": 0.7}
    ),
    "yarn, factor 1": Rope(theta=1e4, type="yarn", parameters=YARN | {"factor": 1.0}),
    "yarn, short context": Rope(
        theta=1e4, type="yarn", parameters=YARN | {"original_max_position_embeddings": 16.0}
    ),
    "llama3": Rope(theta=5e5, type="llama3", parameters=LLAMA3),
}


def llama_config(rope: Rope) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        head_dim=HEAD_DIM,
        max_position_embeddings=16384,
        rope_parameters={"rope_type": rope.type, "rope_theta": rope.theta, **rope.parameters},
    )


@pytest.mark.parametrize("rope", SCALED.values(), ids=SCALED)
def test_frequencies_and_factor_equal_transformers(rope: Rope) -> None:
    expected, expected_factor = ROPE_INIT_FUNCTIONS[rope.type](llama_config(rope))

    found, factor = frequencies(rope, HEAD_DIM)

    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)  # float32 rounding
    assert factor == pytest.approx(expected_factor, rel=1e-12)


def test_a_rotated_query_equals_transformers() -> None:
    rope = Rope(theta=1e6)
    positions = torch.tensor([[0, 1, 5, 300], [7, 8, 9, 4000]])
    x = torch.randn(2, 3, 4, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    theirs = LlamaRotaryEmbedding(llama_config(rope))(x, positions)
    expected, _ = apply_rotary_pos_emb(x, x, *theirs)

    found = rotate(x, *cos_sin(rope, HEAD_DIM, positions, torch.float32))

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # float32 rounding


def test_known_frequencies_of_qwen3() -> None:
    found, factor = frequencies(Rope(theta=1e6), 4)

    assert found.tolist() == pytest.approx([1.0, 1e-3], rel=1e-6)
    assert factor == 1.0


@pytest.fixture
def image_positions() -> Tensor:
    """[3, 1, 6]: two text tokens, a 2 x 2 image, as Qwen-VL numbers them."""
    return torch.tensor([[[0, 1, 2, 2, 2, 2]], [[0, 1, 2, 2, 3, 3]], [[0, 1, 2, 3, 2, 3]]])


def test_interleaved_mrope_equals_qwen3_vl(image_positions: Tensor) -> None:
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

    section: Any = [6, 5, 5]
    config = Qwen3VLTextConfig(
        hidden_size=64,
        num_attention_heads=2,
        head_dim=HEAD_DIM,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": section},
    )
    x = torch.zeros(1)
    expected = Qwen3VLTextRotaryEmbedding(config)(x, image_positions)
    rope = Rope(theta=1e4, mrope_section=tuple(section), mrope_interleaved=True)

    found = cos_sin(rope, HEAD_DIM, image_positions, torch.float32)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # float32 rounding


def test_mrope_in_blocks_takes_each_block_from_its_axis(image_positions: Tensor) -> None:
    """Qwen2-VL: of the frequencies, the first section turns by time, then height, then width."""
    rope = Rope(theta=1e4, mrope_section=(8, 4, 4))
    plain = Rope(theta=1e4)
    by_axis = [cos_sin(plain, HEAD_DIM, p, torch.float32)[0] for p in image_positions]

    cos, _ = cos_sin(rope, HEAD_DIM, image_positions, torch.float32)

    half = torch.cat([by_axis[0][..., :8], by_axis[1][..., 8:12], by_axis[2][..., 12:16]], dim=-1)
    assert torch.equal(cos, torch.cat([half, half], dim=-1))


@pytest.mark.parametrize("interleaved", [False, True])
def test_one_position_for_all_axes_is_ordinary_rope(interleaved: bool) -> None:
    positions = torch.arange(9)[None]
    rope = Rope(theta=1e4, mrope_section=(8, 4, 4), mrope_interleaved=interleaved)

    found = cos_sin(rope, HEAD_DIM, positions.expand(3, 1, 9), torch.float32)

    assert torch.equal(found[0], cos_sin(rope, HEAD_DIM, positions, torch.float32)[0])
    assert torch.equal(found[1], cos_sin(Rope(theta=1e4), HEAD_DIM, positions, torch.float32)[1])
