"""Detection, against scripts that print what the real tools print."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from eagle3_plugin.errors import Eagle3Error
from eagle3_plugin.planning.local_gpus import LocalGpu, local_gpus

HINT = "Run the query by hand to see what is wrong, or name the GPU with --gpu."

ROCM_6 = """WARNING: AMD GPU device(s) is/are in a low-power state.
{"card10": {"VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "297934848", \
"Card Series": "AMD Instinct MI300X OAM", "Card Model": "0x74a1", "GFX Version": "gfx942"}, \
"card2": {"VRAM Total Memory (B)": "68702699520", "Card Series": "AMD Instinct MI250X"}, \
"system": {"Driver version": "6.10.5"}}"""

ROCM_5 = (
    '{"card0": {"VRAM Total Memory (B)": "68702699520", "Card series": "AMD INSTINCT MI250", '
    '"Card model": "0x0b0c", "Card vendor": "Advanced Micro Devices, Inc. [AMD/ATI]"}}'
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH but the shell's own tools."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("nvidia-smi", "rocm-smi"):
        if any((Path(folder) / name).exists() for folder in ("/usr/bin", "/bin")):
            pytest.skip(f"{name} is installed on this machine")
    return tmp_path


def put(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def says(text: str) -> str:
    return f"cat <<'END'\n{text}\nEND"


def refusal(timeout_s: float = 10.0) -> str:
    with pytest.raises(Eagle3Error) as caught:
        local_gpus(timeout_s)
    return str(caught.value)


def test_without_a_tool_there_are_no_gpus(tools: Path) -> None:
    assert local_gpus() == ()


def test_nvidia_smi_lists_several_in_their_order(tools: Path) -> None:
    put(tools, "nvidia-smi", says("NVIDIA GeForce RTX 4090, 24564\nNVIDIA L40S, 46068"))

    assert local_gpus() == (
        LocalGpu("NVIDIA GeForce RTX 4090", 23.98828125),
        LocalGpu("NVIDIA L40S", 44.98828125),
    )


def test_nvidia_smi_is_asked_for_name_and_memory(tools: Path) -> None:
    put(tools, "nvidia-smi", 'echo "$*" >"$0.asked"; echo "NVIDIA H20, 97871"')
    local_gpus()

    asked = (tools / "nvidia-smi.asked").read_text(encoding="utf-8")
    assert asked == "--query-gpu=name,memory.total --format=csv,noheader,nounits\n"


def test_unified_memory_has_no_size(tools: Path) -> None:
    put(tools, "nvidia-smi", says("NVIDIA GB10, [N/A]"))

    assert local_gpus() == (LocalGpu("NVIDIA GB10", None),)


def test_a_driver_without_devices_is_none(tools: Path) -> None:
    put(tools, "nvidia-smi", 'echo "No devices were found"; exit 6')

    assert local_gpus() == ()


def test_rocm_smi_lists_cards_by_number_after_its_warnings(tools: Path) -> None:
    put(tools, "rocm-smi", says(ROCM_6))

    assert local_gpus() == (
        LocalGpu("AMD Instinct MI250X", 63.984375),
        LocalGpu("AMD Instinct MI300X OAM", 191.984375),
    )


def test_the_spelling_of_rocm_5_is_read(tools: Path) -> None:
    put(tools, "rocm-smi", says(ROCM_5))

    assert local_gpus() == (LocalGpu("AMD INSTINCT MI250", 63.984375),)


def test_a_rocm_without_cards_is_none(tools: Path) -> None:
    put(tools, "rocm-smi", "true")

    assert local_gpus() == ()


def test_a_broken_driver_is_an_error_with_its_words(tools: Path) -> None:
    said = (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running."
    )
    put(tools, "nvidia-smi", f"{says(said)}\nexit 9")

    assert refusal() == f"nvidia-smi failed with exit code 9: {said}\nhint: {HINT}"


def test_a_tool_that_fails_without_a_word_is_an_error(tools: Path) -> None:
    put(tools, "rocm-smi", "exit 2")

    assert refusal() == f"rocm-smi failed with exit code 2: nothing\nhint: {HINT}"


def test_a_hanging_query_ends_with_its_children(tools: Path) -> None:
    put(tools, "nvidia-smi", "sleep 60 & wait")
    start = time.monotonic()

    assert refusal(0.2) == (
        "nvidia-smi did not answer within 0.2 s; expected the list of GPUs\n"
        f"hint: A hanging query points to the driver. {HINT}"
    )
    assert time.monotonic() - start < 50


@pytest.mark.parametrize("line", ["H100", "NVIDIA H100, a lot", ", 80000"])
def test_other_lines_of_nvidia_smi_are_refused(tools: Path, line: str) -> None:
    put(tools, "nvidia-smi", says(line))

    assert refusal() == (
        f'nvidia-smi answered {line!r}; expected lines of "name, memory in MiB"\nhint: {HINT}'
    )


@pytest.mark.parametrize("text", ["{not json", "[]", "no cards here"])
def test_other_answers_of_rocm_smi_are_refused(tools: Path, text: str) -> None:
    put(tools, "rocm-smi", says(text))

    assert refusal() == (
        f"rocm-smi answered {text!r}; expected a JSON object with one entry per card\nhint: {HINT}"
    )


@pytest.mark.parametrize("card", ['{"Card Series": "AMD Instinct MI300X"}', '"MI300X"'])
def test_a_card_without_memory_is_refused(tools: Path, card: str) -> None:
    put(tools, "rocm-smi", says(f'{{"card0": {card}}}'))

    assert refusal() == (
        f"rocm-smi answered {card!r}; expected Card Series and VRAM Total Memory (B)\nhint: {HINT}"
    )
