from __future__ import annotations

from dataclasses import replace

import pytest

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.planning.cost import Engine, Machine
from eagle3_plugin.planning.gpus import find_gpu, parse_gpu
from eagle3_plugin.planning.limit_rules import Server
from eagle3_plugin.planning.memory import (
    Memory,
    memory,
    memory_flags,
    require_target_fits,
    reserved_tokens,
)
from eagle3_plugin.planning.pair import Pair, read_pair
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.settings import Settings, chain
from tests.planned import SEED_A, SEED_B

RTX_4090 = find_gpu("RTX 4090")
TREE = Settings(5, 4, 16)


def pair(names: tuple[str, str] = SEED_A) -> Pair:
    return read_pair(*names)[0]


def used(
    choice: Choice = TREE, engine: Engine = "sglang", gpu: str = "RTX 4090", num_gpus: int = 1
) -> Memory:
    found = memory(pair(), Machine(find_gpu(gpu), num_gpus, engine), choice, 16, 1024)
    assert found is not None
    return found


def test_a_small_memory_is_shared_out_by_hand() -> None:
    """1000 bytes: 400 target, 100 draft, 100 engine; 400 for tokens of 3 + 1 bytes."""
    found = Memory(1000, 400, 100, 100, 3, 1, 20)

    assert (found.kv_bytes, found.num_kv_tokens, found.max_requests) == (400, 100, 5)
    assert found.static_fraction == 0.7  # the target and 100 tokens of 3 bytes
    assert found.to_json()["max_requests"] == 5


def test_seed_a_has_the_weights_of_its_card() -> None:
    """Qwen3-4B: 4.02 G weights of two bytes, and an embedding of 151936 x 2560. The draft has
    218,429,056 parameters, its norms and vocabulary maps included."""
    found = used()

    assert found.target_bytes == pytest.approx(8.04e9 + 0.778e9, rel=2e-3)
    assert found.draft_bytes == pytest.approx(2 * 218_429_056, rel=1e-3)
    assert found.target_kv_bytes_per_token == 36 * 2 * 8 * 128 * 2


def test_off_loads_no_draft() -> None:
    found = used(OFF)

    assert (found.draft_bytes, found.draft_kv_bytes_per_token) == (0, 0)
    assert found.max_requests > used().max_requests


def test_gpus_share_weights_and_cache() -> None:
    assert used(num_gpus=2).target_bytes == pytest.approx(used().target_bytes / 2, abs=1)
    assert used(num_gpus=2).num_kv_tokens > 2 * used().num_kv_tokens


@pytest.mark.parametrize(
    ("choice", "engine", "num_tokens"),
    [(TREE, "sglang", 40), (chain(3), "sglang", 8), (chain(3), "vllm", 4), (OFF, "vllm", 1)],
)
def test_a_request_reserves_slots_ahead(choice: Choice, engine: Engine, num_tokens: int) -> None:
    """SGLang: 2 * max(5 * 4, 16) = 40."""
    assert reserved_tokens(choice, Machine(RTX_4090, 1, engine)) == num_tokens


def test_the_reserve_is_what_sglang_takes_itself() -> None:
    """RTX 4090: 512 MiB, 1.5 for each of 4096 tokens, 1024 / 8, 2 for each of 16 requests, 8 for
    each of 58 prefill graphs. Above 60 GiB at least 10 GiB."""
    assert used().reserve_bytes == pytest.approx((512 + 6144 + 128 + 32 + 464) * 2**20, abs=64)
    assert used(gpu="H200").reserve_bytes >= 10 * 2**30


def test_images_take_five_per_cent_more() -> None:
    machine = Machine(RTX_4090, 1, "sglang")
    text = replace(pair(SEED_B), is_multimodal=False)
    images, alone = (memory(p, machine, OFF, 1, 1024) for p in (pair(SEED_B), text))

    assert images is not None
    assert alone is not None
    kept = alone.total_bytes - alone.reserve_bytes
    assert images.total_bytes - images.reserve_bytes == pytest.approx(0.95 * kept, rel=1e-6)


def test_sglang_is_told_all_three_and_the_draft_stays_outside() -> None:
    found = used()
    flags = memory_flags(found, TREE, Server(Machine(RTX_4090, 1, "sglang"), 16))

    assert flags == (
        "--mem-fraction-static", f"{found.static_fraction:.3f}", "--max-running-requests", "16",
        "--cuda-graph-max-bs-decode", "16",
    )  # fmt: skip
    outside = (1 - found.static_fraction) * found.total_bytes
    assert outside > found.draft_bytes + found.reserve_bytes


@pytest.mark.parametrize(
    ("choice", "requests", "graphs"),
    [
        (chain(3), 128, ()),
        (chain(7), 128, ("--max-cudagraph-capture-size", "1024")),
        (OFF, 512, ()),
    ],
)
def test_vllm_is_told_of_graphs_beyond_its_ceiling_only(
    choice: Choice, requests: int, graphs: tuple[str, ...]
) -> None:
    flags = memory_flags(
        used(choice, "vllm"), choice, Server(Machine(RTX_4090, 1, "vllm"), requests)
    )

    assert flags == (
        "--gpu-memory-utilization", "0.92", "--max-num-seqs", str(requests), *graphs,
    )  # fmt: skip


def test_a_target_that_does_not_fit_is_said_with_both_sizes() -> None:
    """32.76 G weights of its card in 16 bits, and 7250 MiB for the engine: 61.0 + 7.1 GiB."""
    names = ("Qwen/Qwen3-32B", SEED_A[1])
    machine = Machine(RTX_4090, 1, "sglang")
    found = memory(pair(names), machine, OFF, 1, 1024)
    with pytest.raises(Eagle3Error) as error:
        require_target_fits(found, pair(names), machine)

    assert error.value.message.startswith("Qwen/Qwen3-32B needs 68.1 GiB on each")
    assert "NVIDIA GeForce RTX 4090 has 24 GiB; expected room for one request" in str(error.value)
    larger = Machine(find_gpu("H200"), 1, "vllm")
    require_target_fits(memory(pair(names), larger, OFF, 1, 1024), pair(names), larger)


def test_without_a_memory_size_nothing_is_shared_out() -> None:
    gpu = replace(parse_gpu("mem_gib=1,mem_bw_gbps=1000,bf16_tflops=100"), mem_gib=None)
    machine = Machine(gpu, 1, "sglang")

    assert memory(pair(), machine, OFF, 1, 1024) is None
    require_target_fits(None, pair(), machine)
