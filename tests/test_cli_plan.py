"""`eagle3 plan` as it is typed: what it prints, its JSON, its exit codes, what it does not load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from eagle3_plugin import cli
from eagle3_plugin.planning.measurements import COLUMNS
from tests.planned import SEED_A

PAIR = ("--target", SEED_A[0], "--draft", SEED_A[1])
GIVEN = (*PAIR, "--gpu", "RTX 4090", "--engine", "sglang")
ROWS = (
    "T,D,math500,1,3,1,4,3.48,181.8,468.5",
    "T,D,math500,1,5,1,6,4.62,181.8,565.7",
    "T,D,other,1,5,1,6,4.62,181.8,565.7",
)


class Shell:
    """Types `eagle3 plan …`; keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["eagle3", "plan", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self.capsys.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("\n".join((",".join(COLUMNS), *ROWS)))
    return path


def test_seed_a_is_served_as_its_card_says_with_the_command_to_do_so(plan: Shell) -> None:
    code, out, _ = plan(*GIVEN)

    assert code == 0
    assert "5,4,16 is predicted at 2.20x (2.08x to 2.33x)" in out
    for word in ("datasheet", "fitted", "modelled", "card: ", "break-even"):
        assert word in out
    assert "--speculative-num-steps 5 --speculative-eagle-topk 4" in out
    assert "--max-running-requests 1" in out


def test_a_range_shows_blocks_and_both_commands(plan: Shell) -> None:
    code, out, _ = plan(*GIVEN, "--concurrency", "1..32")
    first, second = out.split("next:")[1].strip().splitlines()

    assert code == 0
    assert "█" in out
    assert "speedup by requests at a time, modelled" in out
    assert 'schedule.json: {"1": {"candidate_steps": [' in out
    assert first.endswith("# one setting for all loads")
    assert "--speculative-adaptive --speculative-adaptive-config schedule.json" in second


def test_a_schedule_of_vllm_is_part_of_its_command(plan: Shell) -> None:
    _, out, _ = plan(*PAIR, "--gpu", "H20", "--engine", "vllm", "--concurrency", "1..64")

    assert '"num_speculative_tokens_per_batch_size": [[1, ' in out
    assert "# by batch size, chains only" in out
    assert "[vllm-chains-only] vLLM drafts chains only" in out


def test_off_is_served_without_a_draft(plan: Shell) -> None:
    for engine, start in (("sglang", "launch_server --model-path"), ("vllm", "vllm serve")):
        words = ("--engine", engine, "--acceptance", "1.1@1,1,2")
        code, out, _ = plan(*PAIR, "--gpu", "RTX 4090", *words)

        assert code == 0
        assert "off because no settings are faster at the low end; 1,1,2 is predicted at" in out
        command = out.split("next:")[1]
        assert start in command
        assert "speculative" not in command


def test_the_json_is_one_document(plan: Shell) -> None:
    code, out, err = plan(*GIVEN, "--concurrency", "1..4", "--json")
    made = json.loads(out)

    assert (code, err, made["schema"]) == (0, "", 1)
    assert made["choice"] == {"num_steps": 5, "topk": 4, "num_draft_tokens": 16}


def test_a_measured_baseline_is_said_to_be_measured(plan: Shell) -> None:
    _, out, _ = plan(*GIVEN, "--baseline-tokens-per-s", "101.3", "--context-tokens", "512")

    assert "101.3 tokens/s (measured)" in out
    assert "baseline step 9.87 (measured)" in out


def test_the_flags_of_the_server_change_what_is_allowed(plan: Shell) -> None:
    _, out, _ = plan(*GIVEN, "--server-flag", "attention-backend=trtllm_mha")

    assert "[sglang-tree-trtllm-mha] attention backend trtllm_mha has chains only" in out


def test_more_gpus_and_a_gpu_in_numbers(plan: Shell) -> None:
    gpu = "mem_gib=24,mem_bw_gbps=1008,bf16_tflops=165"
    _, out, _ = plan(*PAIR, "--gpu", gpu, "--num-gpus", "2", "--goal", "throughput")

    assert "2 x as stated: 1008 GB/s, 165 TFLOPS (datasheet)" in out


def test_the_picture_is_written(plan: Shell, tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    code, _, _ = plan(*GIVEN, "--concurrency", "1..8", "--plot", path)

    assert code == 0
    assert ET.parse(path).getroot().tag.endswith("svg")


def test_a_picture_that_cannot_be_written_is_said(plan: Shell, tmp_path: Path) -> None:
    code, _, err = plan(*GIVEN, "--concurrency", "1..8", "--plot", tmp_path / "no" / "out.svg")

    assert code == 1
    assert "No such file or directory; expected a file that can be written" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gpu", "RTX 4090"), "expected --target and --draft, or --from-measurements"),
        ((*PAIR, "--gpu", "RTX 4090", "--engine", "mnn"), "unknown engine 'mnn'"),
        ((*GIVEN, "--concurrency", "1..8", "--baseline-tokens-per-s", "9"), "a measured baseline"),
        ((*GIVEN, "--probe", "3,1,4"), "belong to --from-measurements"),
        ((*GIVEN, "--evaluate"), "belong to --from-measurements"),
        ((*GIVEN, "--plot", "x.svg"), "expected a range"),
        (("--from-measurements", "x.csv", "--gpu", "H20"), "beside it only"),
        (("--from-measurements", "x.csv", "--probe", "off"), "--probe is off, expected settings"),
    ],
)
def test_wrong_use_is_said_and_leaves_with_2(
    plan: Shell, words: tuple[str, ...], message: str
) -> None:
    code, out, err = plan(*words)

    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_measurements_choose_for_each_group_that_has_the_probe(plan: Shell, measured: Path) -> None:
    code, out, _ = plan("--from-measurements", measured, "--probe", "3,1,4", "--json")
    made = json.loads(out)

    assert code == 0
    assert set(made) == {"schema", "probe", "groups", "skipped"}
    (group,) = made["groups"]
    assert {k: group[k] for k in ("target", "draft", "benchmark", "concurrency", "choice")} == {
        "target": "T",
        "draft": "D",
        "benchmark": "math500",
        "concurrency": 1,
        "choice": {"num_steps": 5, "topk": 1, "num_draft_tokens": 6},
    }
    assert set(group["predicted_speedup"]) == {"off", "3,1,4", "5,1,6"}
    assert [key["benchmark"] for key in made["skipped"]] == ["other"]


def test_an_evaluation_sets_the_choice_beside_each_fixed_setting(
    plan: Shell, measured: Path
) -> None:
    _, out, _ = plan("--from-measurements", measured, "--evaluate")
    _, text, _ = plan("--from-measurements", measured, "--evaluate", "--json")
    by_rule = {r["name"]: round(r["mean"], 3) for r in json.loads(text)["regret"]}

    assert "1 group(s) without that row were left out" in out
    assert "SGLang's default 3,1,4" in out
    assert by_rule["chosen"] == 0.0
    assert by_rule["SGLang's default 3,1,4"] == 0.172


def test_a_plan_needs_neither_torch_nor_an_engine_and_answers_soon(
    record_property: Callable[[str, object], None],
) -> None:
    """The goal is half a second; how long it takes is recorded, a busy machine is no failure."""
    code = (
        "import sys; from eagle3_plugin.cli import main\n"
        f"sys.argv = ['eagle3', 'plan', *{(*GIVEN, '--concurrency', '1..64')!r}]\n"
        "try: main()\n"
        "finally: print('loaded', [m for m in ('torch', 'transformers', 'vllm', 'sglang')"
        " if m in sys.modules])"
    )
    begin = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    record_property("seconds", time.perf_counter() - begin)

    assert run.stdout.splitlines()[-1] == "loaded []"
