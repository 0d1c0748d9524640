"""The verbs as they are typed: what they print, their JSON, their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from eagle3_plugin import cli
from tests.drafts import draft_config, edit_config, write_random

TARGET = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}


class Shell:
    """Types commands; keeps what the last one printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["eagle3", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self.capsys.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.fixture
def eagle3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return write_random(tmp_path / "draft", draft_config(taps=(3, 4, 7)))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TARGET))
    return folder


def test_inspect_shows_the_draft_and_the_next_command(eagle3: Shell, draft: Path) -> None:
    code, out, _ = eagle3("inspect", draft)
    assert code == 0
    assert "sglang (architectures is LlamaForCausalLMEagle3)" in out
    assert "[3, 4, 7]" in out
    assert f"eagle3 check {draft} --target TARGET --engine vllm" in out


def test_inspect_as_json_is_one_document(eagle3: Shell, draft: Path, target: Path) -> None:
    code, out, _ = eagle3("inspect", draft, "--target", target, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == 1
    assert found["taps"] == [3, 4, 7]
    assert found["fits_target"] is True
    assert found["num_parameters"] == 60288
    assert found["tensors"]["layers.0.mlp.up_proj.weight"] == {
        "stored_as": "midlayer.mlp.up_proj.weight",
        "dtype": "BF16",
        "shape": [96, 64],
    }


def test_convert_ends_with_the_line_that_serves_it(
    eagle3: Shell, draft: Path, target: Path, tmp_path: Path
) -> None:
    out_folder = tmp_path / "out"
    code, out, _ = eagle3("convert", draft, out_folder, "--to", "vllm", "--target", target)
    assert code == 0
    assert "read back as the same draft" in out
    assert f'vllm serve {target} --speculative-config \'{{"method": "eagle3"' in out
    written = json.loads((out_folder / "config.json").read_text())
    assert written["eagle_aux_hidden_state_layer_ids"] == [3, 4, 7]


def test_convert_refuses_an_existing_folder_without_force(
    eagle3: Shell, draft: Path, tmp_path: Path
) -> None:
    eagle3("convert", draft, tmp_path / "out", "--to", "vllm")
    code, _, err = eagle3("convert", draft, tmp_path / "out", "--to", "sglang")
    assert code == 1
    assert "--force" in err
    code, _, _ = eagle3("convert", draft, tmp_path / "out", "--to", "sglang", "--force")
    assert code == 0


def test_what_a_dialect_cannot_say_is_refused_with_the_way_out(
    eagle3: Shell, tmp_path: Path
) -> None:
    draft = write_random(tmp_path / "draft", draft_config(decoder="qwen3"))
    code, _, err = eagle3("convert", draft, tmp_path / "out", "--to", "sglang")
    assert code == 1
    assert "q_norm and k_norm are dropped" in err
    assert "speculators or vllm" in err
    assert not (tmp_path / "out").exists()


def test_an_ambiguous_draft_names_the_flag_that_settles_it(
    eagle3: Shell, draft: Path, tmp_path: Path
) -> None:
    edit_config(draft, eagle_config={"eagle_aux_hidden_state_layer_ids": [2, 4, 5]})
    code, _, err = eagle3("inspect", draft)
    assert code == 1
    assert "--ids output" in err
    code, out, _ = eagle3("inspect", draft, "--ids", "output", "--json")
    assert code == 0
    assert json.loads(out)["config"]["taps"] == [3, 5, 6]
    code, out, _ = eagle3("inspect", draft, "--ids", "boundary", "--json")
    assert json.loads(out)["config"]["taps"] == [2, 4, 5]
    code, out, _ = eagle3("inspect", draft, "--taps", "1,4,7", "--json")
    assert json.loads(out)["config"]["taps"] == [1, 4, 7]


def test_check_passes_with_the_plugin_and_fails_for_stock(
    eagle3: Shell, draft: Path, target: Path
) -> None:
    code, out, _ = eagle3("check", draft, "--target", target, "--engine", "vllm")
    assert code == 0
    assert "vllm serve" in out
    code, out, _ = eagle3("check", draft, "--target", target, "--stock", "--json")
    report = json.loads(out)
    assert code == 1
    assert report["ok"] is False
    assert [f["severity"] for f in report["findings"]].count("error") >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "no/such/place"], "no/such/place"),
        (["convert", "DRAFT", "OUT", "--to", "gguf"], "--to takes one of"),
        (["inspect", "DRAFT", "--ids", "layers"], "--ids layers: expected output or boundary"),
        (
            ["check", "DRAFT", "--image-embedding", "both"],
            "--image-embedding both: expected placeholder or visual",
        ),
        (
            ["convert", "DRAFT", "OUT", "--to", "vllm", "--deepstack-tap", "both"],
            "--deepstack-tap both: expected before or after",
        ),
        (["inspect", "DRAFT", "--taps", "2,x"], "--taps 2,x: expected boundaries"),
        (["inspect", "DRAFT", "--dialect", "gguf"], "unknown dialect 'gguf'"),
        (["check", "DRAFT", "--engine", "trt"], "unknown engine 'trt'"),
        (["plugins", "trt"], "no plugin for 'trt' in this release; there is: vllm, sglang"),
        (["demo", "--engine", "trt"], "no demo for 'trt'; there is: vllm, sglang, both"),
        (["demo", "--engine", "both", "--python", "p"], "--python names one environment"),
        (["bench", "http://127.0.0.1:9", "--prompts", "f", "--humaneval", "3"], "two sets"),
        (["score", "DRAFT", "--target", "T", "--save", "--sweep-taps"], "--save keeps a score"),
        (
            ["score", "DRAFT", "--target", "T", "--tree", "3,4,8", "--sweep-taps"],
            "--tree is part of a score",
        ),
    ],
)
def test_wrong_use_is_one_line_and_no_traceback(
    eagle3: Shell, draft: Path, words: list[str], message: str
) -> None:
    code, out, err = eagle3(*(str(draft) if w == "DRAFT" else w for w in words))
    assert code == (1 if words[0] == "inspect" and words[1].startswith("no/") else 2)
    assert message in err
    assert err.strip().startswith("error: ")
    assert out == ""


def test_an_unknown_flag_is_wrong_use(eagle3: Shell, draft: Path) -> None:
    code, _, err = eagle3("inspect", draft, "--tops")
    assert code == 2
    assert "--tops" in err


def test_score_keeps_the_expected_acceptance_beside_the_draft(
    eagle3: Shell, tmp_path: Path
) -> None:
    from tests.engines.random_target import write_random_target

    target = write_random_target(tmp_path / "target")
    draft = write_random(tmp_path / "draft", draft_config())
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt_token_ids": [3, 5, 7, 9]}\n{"prompt_token_ids": [4, 5, 6]}\n')
    words: list[Any] = ["score", draft, "--target", target, "--prompts", prompts]
    code, out, _ = eagle3(*words, "--max-new-tokens", "8", "--chain", "2", "--save", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found["tokens_per_verify"]) == {"1", "2"}
    kept = json.loads((draft / "eagle3.json").read_text())
    assert kept["expected_acceptance"]["tokens_per_verify"] == found["tokens_per_verify"]
    assert kept["expected_acceptance"]["target"] == "target"
    code, out, _ = eagle3("inspect", draft, "--json")
    assert json.loads(out)["expected_acceptance"] == kept["expected_acceptance"]


def test_score_judges_every_tree_that_is_asked_for(eagle3: Shell, tmp_path: Path) -> None:
    from tests.engines.random_target import write_random_target

    target = write_random_target(tmp_path / "target")
    draft = write_random(tmp_path / "draft", draft_config())
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt_token_ids": [3, 5, 7, 9]}\n')
    words: list[Any] = ["score", draft, "--target", target, "--prompts", prompts]
    words += ["--max-new-tokens", "8", "--tree", "3,4,8"]
    code, out, _ = eagle3(*words, "--tree", "5,4,16", "--json")
    found = json.loads(out)["trees"]
    assert code == 0
    assert [(t["num_steps"], t["topk"], t["num_draft_tokens"]) for t in found] == [
        (3, 4, 8),
        (5, 4, 16),
    ]
    assert all(1 <= t["tokens_per_verify"] <= t["num_steps"] + 1 for t in found)
    code, out, _ = eagle3(*words)
    assert code == 0
    assert "trees as SGLang drafts them" in out
    assert "3,4,8" in out
    code, _, err = eagle3(*words, "--tree", "3,1,8")
    assert code == 2
    assert "settings 3,1,8: num_draft_tokens is 8, expected 4" in err


def test_a_missing_target_is_an_error_of_the_name(eagle3: Shell, draft: Path) -> None:
    code, _, err = eagle3("score", draft, "--target", "./nowhere")
    assert code == 1
    assert "nowhere" in err
