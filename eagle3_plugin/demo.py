"""The whole way on this machine: train a tiny pair, convert the draft, serve it, compare.

Two real servers of an engine answer the same prompts, one with the draft and one without; what
they print is compared token by token. With both engines, the same converted draft is in both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eagle3_plugin import console
from eagle3_plugin.demo_engines import CHAIN, DemoEngine, choose
from eagle3_plugin.demo_subjects import Asked, Subject, text_subject, vl_subject
from eagle3_plugin.engines.plugins import registered
from eagle3_plugin.errors import EngineError

if TYPE_CHECKING:
    from eagle3_plugin.draft.config import DraftConfig
    from eagle3_plugin.draft.rounds import ScoreResult
    from eagle3_plugin.serving.bench import BenchResult
    from eagle3_plugin.serving.process import Server

LAYOUTS = {
    "vllm": "vLLM's",
    "sglang": "SGLang's",
    "speculators": "that of speculators",
    "universal": "one that both engines read",
}


@dataclass(frozen=True)
class Seen:
    """One modality. expected_*: the oracle's, on the same prompts; bench: by engine."""

    expected_num_rounds: int
    expected_tokens_per_verify: float
    bench: Mapping[str, BenchResult]

    @property
    def ok(self) -> bool:
        """Whether every output was its baseline's, and the draft was accepted at all."""
        return all(map(_is_ok, self.bench.values()))

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        bench = {engine: result.to_json() for engine, result in self.bench.items()}
        return {**vars(self), "bench": bench}


@dataclass(frozen=True)
class Demo:
    """What the demo saw, by modality. answer: to the first picture, by engine."""

    target: str
    draft: str
    converted: str
    seen: Mapping[str, Seen]
    answer: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return all(seen.ok for seen in self.seen.values())

    def to_json(self) -> dict[str, Any]:
        """The public form, schema 1; what was seen of text is at the top too."""
        modalities = {name: seen.to_json() for name, seen in self.seen.items()}
        named = {"target": self.target, "draft": self.draft, "converted": self.converted}
        return {
            "schema": 1,
            "ok": self.ok,
            **named,
            **modalities["text"],
            "modalities": modalities,
            "answer": dict(self.answer),
        }


def run_demo(
    *,
    engine: str | None,
    variant: str | None,
    python: str | None,
    work: Path | None,
    quiet: bool,
) -> Demo:
    """Runs all steps; prints what it does unless quiet. variant: None = the Qwen3-VL pair."""
    engines = choose(engine, python)
    with ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eagle3-")))
        folder.mkdir(parents=True, exist_ok=True)
        return _Steps(engines, folder, quiet).run(variant)


def dialect_for(engines: tuple[DemoEngine, ...], config: DraftConfig) -> str:
    """The engine's own dialect, for two engines the universal one.

    Where a stock engine would misread that: one that can say the draft, which our plugin reads in
    both engines.
    """
    from eagle3_plugin.draft.read import WRITABLE

    wished = engines[0].name if len(engines) == 1 else "universal"
    able = (name for name in (wished, "vllm", "speculators") if not WRITABLE[name].losses(config))
    return next(able, wished)


def _is_ok(result: BenchResult) -> bool:
    equality, acceptance = result.equality, result.acceptance
    equal = equality is not None and equality.num_equal == equality.num_compared
    return equal and acceptance is not None and (acceptance.tokens_per_verify or 0) > 1


@dataclass(frozen=True)
class _Steps:
    engines: tuple[DemoEngine, ...]
    folder: Path
    quiet: bool

    def run(self, variant: str | None) -> Demo:
        kind = "Qwen3-VL" if variant is None else f"Qwen3 ({variant})"
        self._say(f"1. train a tiny {kind} and its EAGLE-3 draft (cached afterwards)")
        subject = vl_subject() if variant is None else text_subject(variant)
        shown = console.shown
        self._say(f"   target {shown(subject.target)}\n   draft  {shown(subject.draft)}")
        converted = self._convert(subject.draft, subject.target)
        expected = self._score(converted, subject)
        bench: dict[str, dict[str, BenchResult]] = {name: {} for name in subject.asked}
        answer: dict[str, str] = {}
        for index, engine in enumerate(self.engines):
            version = self._prove_plugin(engine)
            self._say(
                f"{4 + 2 * index}. serve it with {engine.title} {version} (plugin proved in "
                "place), with and without"
            )
            measured, said = self._serve(engine, subject, converted, index)
            for name, result in measured.items():
                bench[name][engine.name] = result
            if said is not None:
                answer[engine.name] = said
        seen = {
            name: Seen(score.num_rounds, score.tokens_per_verify[CHAIN], bench[name])
            for name, score in expected.items()
        }
        done = Demo(str(subject.target), str(subject.draft), str(converted), seen, answer)
        if not self.quiet:
            self._summary(done, subject)
        return done

    def _convert(self, draft: Path, target: Path) -> Path:
        from eagle3_plugin.draft.checkpoint import Checkpoint
        from eagle3_plugin.draft.convert import convert
        from eagle3_plugin.draft.dialects.settle import Settle
        from eagle3_plugin.draft.read import read_draft
        from eagle3_plugin.draft.target_config import read_target
        from eagle3_plugin.hub import resolve

        known = read_target(str(target))
        source = read_draft(
            Checkpoint.open(resolve(str(draft))), Settle(target_num_layers=known.num_layers)
        )
        dialect = dialect_for(self.engines, source.config)
        self._say(f"2. convert the draft from SpecForge's layout to {LAYOUTS[dialect]}")
        out = self.folder / f"draft-for-{dialect}"
        done = convert(source, out, dialect, target=known, force=True)
        self._say(
            f"   {done.source_dialect} -> {done.dialect}, taps {list(done.config.taps)}, "
            f"{len(done.renamed)} tensors renamed, to the bit"
        )
        return out

    def _score(self, draft: Path, subject: Subject) -> dict[str, ScoreResult]:
        from eagle3_plugin.draft.checkpoint import Checkpoint
        from eagle3_plugin.draft.read import read_draft
        from eagle3_plugin.draft.score import load_pair, score
        from eagle3_plugin.hub import resolve

        self._say("3. score it without an engine")
        source = read_draft(Checkpoint.open(resolve(str(draft))))
        pair = load_pair(source, subject.target)
        results = {}
        for name, asked in subject.asked.items():
            with console.progress_bar(f"score {name}", hidden=self.quiet) as update:
                results[name] = score(
                    *pair,
                    asked.prompts,
                    chain=CHAIN,
                    max_new_tokens=asked.max_tokens,
                    ignore_end=asked.ignore_end,
                    progress=update,
                )
            value = results[name].tokens_per_verify[CHAIN]
            figure = f"{value:.3f} tokens per verify with a chain of {CHAIN}"
            self._say(f"   {name}: {figure} (oracle, float32)")
        return results

    def _prove_plugin(self, engine: DemoEngine) -> str:
        """The engine's version; raises EngineError when the plugin is not in place there."""
        report = registered(engine.name, engine.python)
        if not report["ok"]:
            raise EngineError(
                f"the plugin is not in place in {engine.title}'s environment",
                hint=f"eagle3 plugins {engine.name} --python {engine.python}",
            )
        return str(report["engine_version"])

    def _serve(
        self, engine: DemoEngine, subject: Subject, draft: Path, index: int
    ) -> tuple[dict[str, BenchResult], str | None]:
        """Each modality's measurement, and the answer to the first picture, if there is one."""
        with ExitStack() as stack:
            baseline, speculative = (
                stack.enter_context(self._server(engine, subject.target, d)) for d in (None, draft)
            )
            self._say(f"{5 + 2 * index}. the same prompts to both")
            images = subject.asked.get("image")
            answer = None if images is None else _first_answer(speculative.url, images)
            measured = {
                name: self._measured(name, asked, speculative.url, baseline.url)
                for name, asked in subject.asked.items()
            }
            return measured, answer

    def _measured(self, name: str, asked: Asked, url: str, baseline_url: str) -> BenchResult:
        from eagle3_plugin.serving.bench import bench

        with console.progress_bar(f"bench {name}", hidden=self.quiet) as update:
            return bench(
                url,
                asked.bodies,
                baseline_url=baseline_url,
                max_tokens=asked.max_tokens,
                ignore_eos=asked.ignore_end,
                progress=lambda phase, done, total: update(done, total, f"{name}, {phase}"),
            )

    @contextmanager
    def _server(self, engine: DemoEngine, target: Path, draft: Path | None) -> Iterator[Server]:
        name = "speculative" if draft else "baseline"
        log_path = self.folder / f"{engine.name}-{name}.log"
        begin = time.monotonic()
        with (
            console.progress_bar(f"start {name}", hidden=self.quiet) as update,
            engine.server(target, draft, log_path, lambda t, _: update(t, None)) as server,
        ):
            self._say(f"   {name} up in {time.monotonic() - begin:.0f} s")
            yield server

    def _summary(self, done: Demo, subject: Subject) -> None:
        from eagle3_plugin.demo_summary import show_demo

        show_demo(done, subject, self.engines)

    def _say(self, text: str) -> None:
        if not self.quiet:
            console.out.print(text, markup=False)


def _first_answer(url: str, asked: Asked) -> str:
    from eagle3_plugin.serving.client import Client

    body = dict(asked.bodies[0])
    return Client.connect(url).completion(**body, max_tokens=asked.max_tokens).text
