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
from eagle3_plugin.engines.plugins import registered
from eagle3_plugin.errors import EngineError

if TYPE_CHECKING:
    from eagle3_plugin.draft.config import DraftConfig
    from eagle3_plugin.draft.rounds import ScoreResult
    from eagle3_plugin.serving.bench import BenchResult
    from eagle3_plugin.serving.process import Server

NUM_PROMPTS = 12
MAX_TOKENS = 128
LAYOUTS = {
    "vllm": "vLLM's",
    "sglang": "SGLang's",
    "speculators": "that of speculators",
    "universal": "one that both engines read",
}


@dataclass(frozen=True)
class Demo:
    """What the demo saw. expected_*: the oracle's, on the same prompts; bench: by engine."""

    target: str
    draft: str
    converted: str
    expected_num_rounds: int
    expected_tokens_per_verify: float
    bench: Mapping[str, BenchResult]

    @property
    def ok(self) -> bool:
        """Whether every output was its baseline's, and the draft was accepted at all."""
        return all(map(_is_ok, self.bench.values()))

    def to_json(self) -> dict[str, Any]:
        """The public form, schema 1."""
        bench = {engine: result.to_json() for engine, result in self.bench.items()}
        return {"schema": 1, "ok": self.ok, **vars(self), "bench": bench}


def run_demo(
    *, engine: str | None, variant: str, python: str | None, work: Path | None, quiet: bool
) -> Demo:
    """Runs all steps; prints what it does unless quiet."""
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

    def run(self, variant: str) -> Demo:
        from eagle3_plugin.tiny import tiny_pair

        self._say(f"1. train a tiny Qwen3 and its EAGLE-3 draft ({variant}; cached afterwards)")
        pair = tiny_pair(variant)
        self._say(f"   target {console.shown(pair.target)}\n   draft  {console.shown(pair.draft)}")
        converted = self._convert(pair.draft, pair.target)
        prompts = [list(p) for p in pair.prompts[:NUM_PROMPTS]]
        expected = self._score(converted, pair.target, prompts)
        bench = {}
        for index, engine in enumerate(self.engines):
            version = self._prove_plugin(engine)
            self._say(
                f"{4 + 2 * index}. serve it with {engine.title} {version} (plugin proved in "
                "place), with and without"
            )
            bench[engine.name] = self._serve(engine, pair.target, converted, prompts, index)
        done = Demo(
            target=str(pair.target),
            draft=str(pair.draft),
            converted=str(converted),
            expected_num_rounds=expected.num_rounds,
            expected_tokens_per_verify=expected.tokens_per_verify[CHAIN],
            bench=bench,
        )
        if not self.quiet:
            self._summary(done)
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

    def _score(self, draft: Path, target: Path, prompts: list[list[int]]) -> ScoreResult:
        from eagle3_plugin.draft.checkpoint import Checkpoint
        from eagle3_plugin.draft.prompts import Prompt
        from eagle3_plugin.draft.read import read_draft
        from eagle3_plugin.draft.reference import read_weights
        from eagle3_plugin.draft.score import score
        from eagle3_plugin.hub import resolve

        self._say("3. score it without an engine")
        source = read_draft(Checkpoint.open(resolve(str(draft))))
        with console.progress_bar("score", hidden=self.quiet) as update:
            result = score(
                source.config,
                read_weights(source),
                source.vocab_map,
                target,
                [Prompt("prompt_token_ids", tuple(p)) for p in prompts],
                chain=CHAIN,
                max_new_tokens=MAX_TOKENS,
                ignore_end=True,
                progress=update,
            )
        value = result.tokens_per_verify[CHAIN]
        self._say(f"   {value:.3f} tokens per verify with a chain of {CHAIN} (oracle, float32)")
        return result

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
        self, engine: DemoEngine, target: Path, draft: Path, prompts: list[list[int]], index: int
    ) -> BenchResult:
        from eagle3_plugin.serving.bench import bench

        with ExitStack() as stack:
            servers = [stack.enter_context(self._server(engine, target, d)) for d in (None, draft)]
            self._say(
                f"{5 + 2 * index}. the same {len(prompts)} prompts to both, "
                f"{MAX_TOKENS} tokens each"
            )
            with console.progress_bar("bench", hidden=self.quiet) as update:
                return bench(
                    servers[1].url,
                    [{"prompt_token_ids": p} for p in prompts],
                    baseline_url=servers[0].url,
                    max_tokens=MAX_TOKENS,
                    ignore_eos=True,
                    progress=lambda phase, done, total: update(done, total, phase),
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

    def _summary(self, done: Demo) -> None:
        from eagle3_plugin.show import SERVE_LINES, show_bench

        for engine in self.engines:
            console.out.print()
            if len(self.engines) > 1:
                console.out.print(engine.title, style="bold")
            show_bench(done.bench[engine.name])
        if len(self.engines) > 1:
            self._side_by_side(done)
        console.out.print(
            f"expected by the oracle: {done.expected_tokens_per_verify:.2f} tokens per verify\n"
            "(speed of a tiny model on a CPU says nothing about a GPU; equality and acceptance do)"
        )
        lines: list[str] = []
        for name in done.bench:
            lines.append(f"eagle3 check DRAFT --target TARGET --engine {name}")
            lines.append(SERVE_LINES[name]("TARGET", "DRAFT"))
        console.print_next(*lines)

    def _side_by_side(self, done: Demo) -> None:
        expected = (done.expected_num_rounds, done.expected_tokens_per_verify)
        rows = [["oracle", str(expected[0]), f"{expected[1]:.3f}"]]
        for engine in self.engines:
            counts = done.bench[engine.name].acceptance
            assert counts is not None
            shown = f"{counts.tokens_per_verify or 0:.3f}"
            rows.append([engine.title, str(counts.num_rounds), shown])
        console.out.print()
        title = f"the same draft, prompts and chain of {CHAIN}"
        console.print_table(title, ["", "rounds", "tokens per verify"], rows)

    def _say(self, text: str) -> None:
        if not self.quiet:
            console.out.print(text, markup=False)
