"""What is started: what was asked for, or what the plan says, with the engine's own flags."""

from __future__ import annotations

from typing import Literal

import pytest

from eagle3_plugin.errors import UsageError
from eagle3_plugin.planning.asked import Asked, read_asked
from eagle3_plugin.planning.settings import OFF
from eagle3_plugin.serving.choice import Chosen, limit_flags, planned, read_settings, stated
from eagle3_plugin.settings import Settings

Engine = Literal["vllm", "sglang"]
A = ("Qwen/Qwen3-4B-Instruct-2507", "Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh")
B = ("Qwen/Qwen3-VL-2B-Instruct", "taobao-mnn/Qwen3-VL-2B-Instruct-Eagle3")
MEMORY_FLAGS = {
    "sglang": ["--mem-fraction-static", "--max-running-requests", "--cuda-graph-max-bs-decode"],
    "vllm": ["--gpu-memory-utilization", "--max-num-seqs"],
}


def _asked(engine: Engine, pair: tuple[str, str] = A, concurrency: str = "1..16") -> Asked:
    return read_asked(
        *pair,
        engine,
        gpu="RTX 4090",
        num_gpus=1,
        acceptance=None,
        concurrency=concurrency,
        context_tokens=1024,
        goal="latency",
        baseline_tokens_per_s=None,
        server_flags=(),
    )


def test_vllm_takes_no_tree() -> None:
    assert read_settings("5,4,16", "sglang") == Settings(5, 4, 16)
    assert read_settings("5,1,6", "vllm") == Settings(5, 1, 6)
    assert read_settings("off", "vllm") is OFF
    with pytest.raises(UsageError) as caught:
        read_settings("5,4,16", "vllm")
    assert caught.value.message == (
        "--settings 5,4,16 is a tree of topk 4; expected a chain, for vLLM drafts nothing else"
    )
    assert caught.value.hint == (
        "The chain of as many steps: --settings 5,1,6; or serve the tree with SGLang."
    )


def test_stated_settings_leave_memory_to_the_engine() -> None:
    assert stated(Settings(5, 4, 16), "sglang", 1) == Chosen(
        Settings(5, 4, 16), reasons=("settings 5,4,16: as asked",)
    )


@pytest.mark.parametrize(
    ("engine", "flag"), [("sglang", "--tp-size"), ("vllm", "--tensor-parallel-size")]
)
def test_several_gpus_share_every_layer(engine: Engine, flag: str) -> None:
    assert stated(Settings(3, 1, 4), engine, 2).flags == (flag, "2")


def test_stated_settings_with_a_gpu_share_its_memory_out_near_the_cards_0_7() -> None:
    """The card of seed A: --mem-fraction 0.7 and --cuda-graph-max-bs 16 on one RTX 4090."""
    chosen = stated(Settings(5, 4, 16), "sglang", 1, _asked("sglang"))
    flags = dict(zip(chosen.flags[::2], chosen.flags[1::2], strict=True))
    assert chosen.choice == Settings(5, 4, 16)
    assert list(flags) == MEMORY_FLAGS["sglang"]
    assert flags["--cuda-graph-max-bs-decode"] == flags["--max-running-requests"] == "16"
    assert float(flags["--mem-fraction-static"]) == pytest.approx(0.7, abs=0.05)
    assert chosen.reasons[1].startswith("memory of NVIDIA GeForce RTX 4090: ")


@pytest.mark.parametrize("pair", [A, B], ids=["A", "B"])
@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_the_plan_chooses_for_both_seeds_and_says_why(
    engine: Engine, pair: tuple[str, str]
) -> None:
    chosen = planned(_asked(engine, pair))
    assert isinstance(chosen.choice, Settings)
    assert list(chosen.flags[::2])[: len(MEMORY_FLAGS[engine])] == MEMORY_FLAGS[engine]
    assert chosen.reasons[0].startswith(f"settings {chosen.choice}: is predicted at ")
    assert chosen.reasons[0].endswith("(modelled)")


def test_a_wide_range_of_loads_gets_the_schedule_that_each_engine_can_follow() -> None:
    """With more requests of a 4B target the first load's chain no longer pays."""
    for_vllm = planned(_asked("vllm", concurrency="1..256"))
    for_sglang = planned(_asked("sglang", B, "1..256"))
    assert for_vllm.schedule is not None
    assert for_vllm.schedule[0][0] == 1
    assert for_vllm.schedule[-1][2] < for_vllm.schedule[0][2]
    assert for_sglang.adaptive is not None
    assert for_sglang.adaptive["1"]["candidate_steps"]
    assert (for_sglang.schedule, for_vllm.adaptive) == (None, None)
    assert any(r.startswith("draft tokens by requests at a time: 1 to ") for r in for_vllm.reasons)


def test_a_tree_stays_at_every_load_and_that_is_said() -> None:
    chosen = planned(_asked("sglang", A, "1..256"))
    assert isinstance(chosen.choice, Settings)
    assert not chosen.choice.is_chain
    assert chosen.adaptive is None
    assert chosen.reasons[-1] == (
        "load: the tree stays at every load; engines follow it with chains only"
    )


def test_words_for_the_engine_that_a_plan_depends_on_reach_it() -> None:
    words = ["--page_size", "64", "--dtype", "float16", "--attention-backend=fa3"]
    assert limit_flags(words, "sglang") == ("page-size=64", "attention-backend=fa3")
    assert limit_flags(["--enable-hisparse"], "sglang") == ("enable-hisparse",)
