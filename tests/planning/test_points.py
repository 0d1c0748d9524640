"""Which published rows can be fitted, and what is worked out of them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from eagle3_plugin.planning.fit import as_fit, prior_constants
from eagle3_plugin.planning.points import PATH, Excluded, Point, read_points
from eagle3_plugin.settings import Settings

PRIOR = as_fit(prior_constants())
ROW = {
    "source": "a card", "target": "Qwen3-4B", "draft": "d", "engine": "SGLang", "gpu": "RTX 4090",
    "num_gpus": "1", "dtype": "", "concurrency": "4", "num_steps": "3", "topk": "1",
    "num_draft_tokens": "4", "dataset": "", "temperature": "", "tokens_per_verify": "3.0",
    "baseline_tokens_per_s": "400", "tokens_per_s": "800", "speedup": "2", "speedup_kind": "stated",
    "trust": "A", "notes": "",
}  # fmt: skip


def read(tmp_path: Path, **changes: str) -> tuple[list[Point], list[Excluded]]:
    path = tmp_path / "points.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerow(ROW | changes)
    return read_points(PRIOR, path)


def reason(tmp_path: Path, **changes: str) -> str:
    points, excluded = read(tmp_path, **changes)
    assert points == []
    (only,) = excluded
    assert only.source == "a card"
    return only.reason


def test_times_are_worked_out_of_throughput(tmp_path: Path) -> None:
    """400 tok/s for four requests: 10 ms a step; 3 of 800 tok/s: 15 ms a round."""
    (point,), excluded = read(tmp_path)

    assert excluded == []
    assert point.baseline_s == 0.01
    assert point.round_s == pytest.approx(0.015)
    assert point.speedup == pytest.approx(2.0)
    assert point.settings == Settings(3, 1, 4)
    assert point.is_dense


def test_throughput_of_one_request_is_not_shared(tmp_path: Path) -> None:
    changes = {"notes": "tok/s are per request", "baseline_tokens_per_s": "90"}
    (point,), _ = read(tmp_path, **changes, tokens_per_s="180")

    assert point.load.num_requests == 4
    assert point.baseline_s == pytest.approx(1 / 90)


def test_vllm_counts_drafted_tokens_only(tmp_path: Path) -> None:
    (point,), _ = read(tmp_path, engine="vLLM 0.11.2", num_draft_tokens="3")

    assert point.machine.engine == "vllm"
    assert point.settings == Settings(3, 1, 4)


def test_h100_alone_is_the_sxm_card(tmp_path: Path) -> None:
    changes = {"gpu": "H100", "baseline_tokens_per_s": "800", "tokens_per_s": "1600"}
    (point,), _ = read(tmp_path, **changes)

    assert point.machine.gpu.name == "NVIDIA H100 80GB HBM3"


def test_what_a_row_does_not_state_excludes_it(tmp_path: Path) -> None:
    assert reason(tmp_path, num_gpus="", tokens_per_verify="1.57-2.17") == (
        "not stated: num_gpus, tokens_per_verify"
    )


def test_claims_are_excluded(tmp_path: Path) -> None:
    assert reason(tmp_path, trust="C") == "trust C: a blog figure or a claim"


def test_a_round_shorter_than_a_step_is_excluded(tmp_path: Path) -> None:
    """SpecBundle's Llama-4-Scout has such rows."""
    assert reason(tmp_path, tokens_per_s="1300") == "impossible: a round shorter than a step"


def test_a_step_faster_than_the_memory_is_excluded(tmp_path: Path) -> None:
    """8.04 GB at 1008 GB/s take 8.0 ms."""
    assert (
        reason(tmp_path, baseline_tokens_per_s="600") == "impossible: a step faster than the memory"
    )


def test_a_baseline_that_holds_more_than_decoding_is_excluded(tmp_path: Path) -> None:
    """AngelSlim's MATH-500 column is four times slower than its text columns."""
    assert reason(tmp_path, baseline_tokens_per_s="100", tokens_per_s="200") == (
        "baseline over 2 times the modelled: more than decoding"
    )


def test_the_file_holds_what_is_fitted_and_what_is_not() -> None:
    points, excluded = read_points(PRIOR)

    with PATH.open(encoding="utf-8", newline="") as file:
        assert len(points) + len(excluded) == len(list(csv.DictReader(file))) == 262
    assert Counter(p.is_dense for p in points) == {True: 94, False: 21}
    assert not any("MMMU" in e.reason for e in excluded)


def test_every_row_of_the_file_names_its_source() -> None:
    with PATH.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert set(rows[0]) == set(ROW)
    assert all(row["source"] and row["trust"] in {"A", "B", "C"} for row in rows)
