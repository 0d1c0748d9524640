"""GPU profiles: published numbers, found by what tools and people call a card."""

from __future__ import annotations

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.gpus import GpuProfile, find_gpu, gpu_profiles, parse_gpu

HINT = (
    "hint: `eagle3 tune` measures this machine; or state the numbers: "
    '--gpu "mem_gib=24,mem_bw_gbps=1008,bf16_tflops=165".'
)


def refusal(name: str, mem_gib: float | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        find_gpu(name, mem_gib)
    return str(caught.value)


def test_every_device_of_the_facts_has_a_profile() -> None:
    names = {p.name for p in gpu_profiles()}

    assert len(names) == len(gpu_profiles()) == 40
    assert {"NVIDIA GeForce RTX 4090", "NVIDIA H20", "AMD Instinct MI300X", "Tesla T4"} <= names


def test_a_profile_carries_its_figures_and_their_source() -> None:
    """waredb.com prints 1008 GB/s, 165.2 dense BF16 TFLOPS with FP32 accumulate, 450 W."""
    card = find_gpu("NVIDIA GeForce RTX 4090")

    assert (card.mem_gib, card.mem_bw_gbps, card.bf16_tflops, card.tdp_w) == (24, 1008, 165.2, 450)
    assert card.source == "waredb.com/processor/nvidia-geforce-rtx-4090"
    assert (card.confidence, card.unsourced) == ("high", ())


def test_a_figure_without_a_source_is_named() -> None:
    assert find_gpu("H100 NVL").unsourced == ("bf16_tflops", "fp16_tflops", "fp8_tflops")


@pytest.mark.parametrize("profile", gpu_profiles(), ids=lambda p: p.name)
def test_every_profile_says_where_it_is_from(profile: GpuProfile) -> None:
    assert profile.source
    assert profile.confidence in {"high", "medium", "low", "none"}
    assert find_gpu(profile.name, profile.mem_gib) == profile


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("rtx_4090", "NVIDIA GeForce RTX 4090"),
        ("4090", "NVIDIA GeForce RTX 4090"),
        ("GeForce RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("NVIDIA_H100_80GB_HBM3", "NVIDIA H100 80GB HBM3"),
        ("h100 sxm", "NVIDIA H100 80GB HBM3"),
        ("H200", "NVIDIA H200"),
        ("H20", "NVIDIA H20"),
        ("T4", "Tesla T4"),
        ("A100 80 GB PCIe", "NVIDIA A100 80GB PCIe"),
        ("AMD Instinct MI300X OAM", "AMD Instinct MI300X"),
        ("L40", "NVIDIA L40"),
        ("A10", "NVIDIA A10"),
    ],
)
def test_case_brands_and_dashes_do_not_matter(written: str, name: str) -> None:
    assert find_gpu(written).name == name


@pytest.mark.parametrize(
    ("printed", "mem_gib", "name"),
    [
        ("NVIDIA H20", 95.6, "NVIDIA H20"),
        ("NVIDIA H20", 140.4, "NVIDIA H20-3e"),
        ("NVIDIA GH200 480GB", 95.6, "NVIDIA GH200 480GB"),
        ("NVIDIA GH200 480GB", 141.0, "NVIDIA GH200 144G HBM3e"),
        ("NVIDIA L40S", 44.99, "NVIDIA L40S"),
        ("AMD Instinct MI250X", 63.98, "AMD Instinct MI250X (one GCD)"),
        ("V100", 31.7, "Tesla V100-SXM2-32GB"),
    ],
)
def test_memory_decides_between_cards_of_one_name(printed: str, mem_gib: float, name: str) -> None:
    assert find_gpu(printed, mem_gib).name == name


def test_a_name_that_fits_several_cards_lists_them() -> None:
    assert refusal("H100") == (
        "GPU 'H100' fits 3 profiles: NVIDIA H100 80GB HBM3 (80 GiB), NVIDIA H100 PCIe (80 GiB), "
        "NVIDIA H100 NVL (94 GiB)\n"
        'hint: Write one of these names, or add the memory, as in "GH200 96GB".'
    )


def test_an_unknown_name_lists_near_ones_and_what_else_to_do() -> None:
    assert refusal("GeForce RTX 4080") == (
        "no profile of GPU 'GeForce RTX 4080'; the nearest are NVIDIA GeForce RTX 4090, "
        "NVIDIA GeForce RTX 5090, NVIDIA GeForce RTX 3090\n" + HINT
    )


def test_a_laptop_card_is_not_taken_for_the_desktop_card() -> None:
    said = refusal("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99)

    assert said.startswith(
        "no profile of GPU 'NVIDIA GeForce RTX 4090 Laptop GPU' with 15.99 GiB; "
        "the nearest are NVIDIA GeForce RTX 4090"
    )


@pytest.mark.parametrize("name", ["", "NVIDIA", "xyz 77"])
def test_a_name_that_says_nothing_is_refused(name: str) -> None:
    assert refusal(name) == f"no profile of GPU {name!r}; no profile has a similar name\n" + HINT


def test_numbers_stand_for_a_card() -> None:
    assert parse_gpu("mem_gib=24, mem_bw_gbps=1008, bf16_tflops=165.2") == GpuProfile(
        name="as stated",
        source="the command line",
        confidence="stated",
        mem_gib=24.0,
        mem_bw_gbps=1008.0,
        bf16_tflops=165.2,
    )


def test_a_name_is_parsed_too() -> None:
    assert parse_gpu("H20").name == "NVIDIA H20"


def test_all_that_is_wrong_with_numbers_is_listed() -> None:
    with pytest.raises(UsageError) as caught:
        parse_gpu("mem_gib=24,mem_gib=24,mem_bw_gbps=-3,tflops=1")

    assert str(caught.value) == (
        "GPU 'mem_gib=24,mem_gib=24,mem_bw_gbps=-3,tflops=1': mem_gib is there twice; "
        "mem_bw_gbps is '-3', expected a positive number; "
        "'tflops' is not one of mem_gib, mem_bw_gbps, bf16_tflops, fp16_tflops, fp8_tflops, "
        "tdp_w; bf16_tflops is missing\n" + HINT
    )


def test_a_profile_without_bandwidth_cannot_be_used() -> None:
    with pytest.raises(UsageError) as caught:
        find_gpu("Ascend 910B").bytes_per_s  # noqa: B018

    assert str(caught.value).startswith("Ascend 910B: no memory bandwidth is known: left blank")
    assert str(caught.value).endswith(HINT)


def test_eight_bit_weights_are_multiplied_at_the_fp8_rate() -> None:
    h100 = find_gpu("H100 SXM")

    assert h100.flops(2.0) == 989.4e12
    assert h100.flops(1.0) == 1978.9e12
    assert h100.flops(0.52) == 989.4e12
    assert find_gpu("A100-SXM4-80GB").flops(1.0) == 312e12
    assert find_gpu("T4").flops(2.0) == 65e12


def test_a_card_without_a_rate_gets_an_assumed_one() -> None:
    """864 GB/s times 110 FLOP a byte."""
    l20 = find_gpu("L20")

    assert not l20.has_rate
    assert l20.flops() == pytest.approx(95.04e12)
