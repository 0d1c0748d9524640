"""Which engines the demo takes, in which dialect the draft is, and what it calls a success."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from eagle3_plugin.demo import Demo, Seen, dialect_for
from eagle3_plugin.demo_engines import DemoEngine, choose
from eagle3_plugin.errors import EngineError, UsageError
from eagle3_plugin.serving.acceptance import AcceptanceCounts
from eagle3_plugin.serving.bench import BenchResult, Equality, Speed
from eagle3_plugin.show_picture import as_text, show_picture
from tests.drafts import draft_config

VLLM, SGLANG = DemoEngine("vllm", "v"), DemoEngine("sglang", "s")
Place = Callable[..., None]


@pytest.fixture
def environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """Makes a folder whose `.venvs` has these engines, in a Python that has none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def place(*names: str) -> None:
        for name in names:
            python = tmp_path / ".venvs" / name / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()

    return place


def _python(name: str) -> str:
    return str(Path.cwd() / ".venvs" / name / "bin" / "python")


def test_both_finds_both_environments(environments: Place) -> None:
    environments("vllm", "sglang")
    assert choose("both", None) == (
        DemoEngine("vllm", _python("vllm")),
        DemoEngine("sglang", _python("sglang")),
    )


def test_without_a_name_vllm_is_taken_and_sglang_where_it_is_alone(environments: Place) -> None:
    environments("sglang")
    assert choose(None, None) == (DemoEngine("sglang", _python("sglang")),)
    environments("vllm")
    assert choose(None, None) == (DemoEngine("vllm", _python("vllm")),)


def test_a_python_that_has_the_engine_is_taken(
    environments: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments("sglang")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "sglang" or None)
    assert choose("sglang", None) == (DemoEngine("sglang", sys.executable),)


def test_a_python_that_is_named_is_taken_as_it_is(environments: Place) -> None:
    assert choose("sglang", "p") == (DemoEngine("sglang", "p"),)
    assert choose(None, "p") == (DemoEngine("vllm", "p"),)


@pytest.mark.parametrize(
    ("there", "engine", "message"),
    [
        (["sglang"], "vllm", "vLLM is not installed here, and there is no .venvs/vllm"),
        (["vllm"], "both", "SGLang is not installed here, and there is no .venvs/sglang"),
        (
            [],
            None,
            "vLLM and SGLang are not installed here, and there is no .venvs/vllm and no "
            ".venvs/sglang",
        ),
    ],
)
def test_an_environment_that_is_not_found_is_an_error(
    environments: Place, there: list[str], engine: str | None, message: str
) -> None:
    environments(*there)
    with pytest.raises(EngineError) as caught:
        choose(engine, None)
    assert caught.value.message == message
    assert caught.value.hint == (
        "Run `make setup`, or name one engine with --engine and the Python of its environment "
        "with --python."
    )


def test_an_unknown_engine_is_wrong_use() -> None:
    with pytest.raises(UsageError) as caught:
        choose("trt", None)
    assert caught.value.message == "no demo for 'trt'; there is: vllm, sglang, both"


def test_one_python_for_two_engines_is_wrong_use() -> None:
    with pytest.raises(UsageError) as caught:
        choose("both", "p")
    assert caught.value.message == (
        "--python names one environment, and --engine both needs two; give one engine, or leave "
        "--python out"
    )


@pytest.mark.parametrize(
    ("engines", "fields", "dialect"),
    [
        ((VLLM,), {}, "vllm"),
        ((SGLANG,), {}, "sglang"),
        ((VLLM, SGLANG), {}, "universal"),
        ((VLLM,), {"decoder": "qwen3"}, "vllm"),
        ((SGLANG,), {"decoder": "qwen3"}, "vllm"),
        ((VLLM, SGLANG), {"residual": "normed"}, "vllm"),
        ((SGLANG,), {"attention_bias": True}, "sglang"),
    ],
)
def test_the_draft_is_written_so_that_the_engines_read_it(
    engines: tuple[DemoEngine, ...], fields: dict[str, Any], dialect: str
) -> None:
    """Stock SGLang drops q/k norms and reads no normed residual; our plugin reads both."""
    assert dialect_for(engines, draft_config(**fields)) == dialect


def _bench(num_equal: int, accepted_draft_tokens: int) -> BenchResult:
    counts = AcceptanceCounts(4, 12, accepted_draft_tokens, (accepted_draft_tokens, 0, 0))
    speed = Speed(2, 8, 1.0, None, 0.5)
    equality = Equality(2, num_equal, "token_ids", None)
    return BenchResult("u", "b", "m", 1, 4, 0.0, speed, speed, counts, equality)


def _demo(bench: dict[str, BenchResult]) -> Demo:
    return Demo("t", "d", "c", {"text": Seen(4, 2.0, bench)}, {})


@pytest.mark.parametrize(
    ("benches", "ok"),
    [
        ([_bench(2, 4)], True),
        ([_bench(2, 4), _bench(2, 1)], True),
        ([_bench(2, 4), _bench(1, 4)], False),
        ([_bench(2, 0)], False),
    ],
    ids=["one", "two", "one output differs", "nothing accepted"],
)
def test_it_is_a_success_when_every_engine_equals_its_baseline_and_accepts(
    benches: list[BenchResult], ok: bool
) -> None:
    by_engine = dict(zip(("vllm", "sglang"), benches, strict=False))
    assert _demo(by_engine).ok is ok


def test_the_json_has_a_measurement_for_each_engine() -> None:
    done = _demo({"vllm": _bench(2, 4), "sglang": _bench(2, 4)})
    found = json.loads(json.dumps(done.to_json()))
    assert {key: value for key, value in found.items() if key not in ("bench", "modalities")} == {
        "schema": 1,
        "ok": True,
        "target": "t",
        "draft": "d",
        "converted": "c",
        "expected_num_rounds": 4,
        "expected_tokens_per_verify": 2.0,
        "answer": {},
    }
    assert list(found["modalities"]) == ["text"]
    assert [found["bench"][e]["acceptance"]["num_rounds"] for e in ("vllm", "sglang")] == [4, 4]


def test_a_failure_with_images_is_a_failure() -> None:
    seen = {name: Seen(4, 2.0, {"vllm": _bench(n, 4)}) for name, n in (("text", 2), ("image", 1))}
    assert not Demo("t", "d", "c", seen, {}).ok


def test_a_picture_is_two_pixels_a_character() -> None:
    image = Image.new("RGB", (64, 64), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 32, 32))
    text = as_text(image)
    lines = text.plain.splitlines()
    assert (len(lines), {len(line) for line in lines}) == (16, {32})
    styles = [str(span.style) for span in text.spans]
    assert styles[0] == "#ff0000 on #ff0000"
    assert styles[-1] == "#ffffff on #ffffff"


def test_without_colours_the_picture_is_named_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eagle3_plugin.console.out", Console(color_system=None))
    show_picture(Image.new("RGB", (96, 64)))
    out = capsys.readouterr().out
    assert out == "(a picture of 96 x 64 pixels; a terminal with colours shows it)\n"
