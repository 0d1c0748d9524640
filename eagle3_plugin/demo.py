"""The whole way on this machine: train a tiny pair, convert the draft, serve it, compare.

Two real vLLM servers answer the same prompts, one with the draft and one without; what they print
is compared token by token.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eagle3_plugin import console
from eagle3_plugin.engines.plugins import registered
from eagle3_plugin.engines.vllm.command import CPU_ENVIRONMENT, serve_line, server_command
from eagle3_plugin.errors import EngineError

if TYPE_CHECKING:
    from eagle3_plugin.serving.bench import BenchResult
    from eagle3_plugin.serving.process import Server

CHAIN = 3
NUM_PROMPTS = 12
MAX_TOKENS = 128
START_TIMEOUT_S = 600.0
ENGINE_FLAGS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512",
                "--max-num-seqs", "8", "--no-enable-prefix-caching")  # fmt: skip


@dataclass(frozen=True)
class Demo:
    """What the demo saw. expected_tokens_per_verify: the oracle's, on the same prompts."""

    target: str
    draft: str
    converted: str
    expected_tokens_per_verify: float
    bench: BenchResult

    @property
    def ok(self) -> bool:
        """Whether every output was the baseline's, and the draft was accepted at all."""
        equality, acceptance = self.bench.equality, self.bench.acceptance
        equal = equality is not None and equality.num_equal == equality.num_compared
        return equal and acceptance is not None and (acceptance.tokens_per_verify or 0) > 1

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "ok": self.ok,
            "target": self.target,
            "draft": self.draft,
            "converted": self.converted,
            "expected_tokens_per_verify": self.expected_tokens_per_verify,
            "bench": self.bench.to_json(),
        }


def run_demo(*, variant: str, python: str | None, work: Path | None, quiet: bool) -> Demo:
    """Runs the five steps; prints what it does unless quiet."""
    engine_python = python or find_engine_python()
    with ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eagle3-")))
        folder.mkdir(parents=True, exist_ok=True)
        return _Steps(engine_python, folder, quiet).run(variant)


def find_engine_python() -> str:
    """This Python if it has vLLM, else the one of `.venvs/vllm` (what `make setup` builds)."""
    if importlib.util.find_spec("vllm") is not None:
        return sys.executable
    local = Path(".venvs/vllm/bin/python")
    if local.exists():
        return str(local.absolute())
    raise EngineError(
        "vLLM is not installed here, and there is no .venvs/vllm",
        hint="Run `make setup`, or name the Python of an environment with vLLM with --python.",
    )


@dataclass(frozen=True)
class _Steps:
    python: str
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
        self._prove_plugin()
        bench = self._serve(pair.target, converted, prompts)
        done = Demo(str(pair.target), str(pair.draft), str(converted), expected, bench)
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

        self._say("2. convert the draft from SpecForge's layout to vLLM's")
        known = read_target(str(target))
        source = read_draft(
            Checkpoint.open(resolve(str(draft))), Settle(target_num_layers=known.num_layers)
        )
        out = self.folder / "draft-for-vllm"
        done = convert(source, out, "vllm", target=known, force=True)
        self._say(
            f"   {done.source_dialect} -> {done.dialect}, taps {list(done.config.taps)}, "
            f"{len(done.renamed)} tensors renamed, to the bit"
        )
        return out

    def _score(self, draft: Path, target: Path, prompts: list[list[int]]) -> float:
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
        return value

    def _prove_plugin(self) -> None:
        report = registered("vllm", self.python)
        if not report["ok"]:
            raise EngineError(
                "the plugin is not in place in vLLM's environment",
                hint=f"eagle3 plugins vllm --python {self.python}",
            )
        version = report["engine_version"]
        self._say(f"4. serve it with vLLM {version} (plugin proved in place), with and without")

    def _serve(self, target: Path, draft: Path, prompts: list[list[int]]) -> BenchResult:
        from eagle3_plugin.serving.bench import bench

        with ExitStack() as stack:
            servers = [stack.enter_context(self._server(target, d)) for d in (None, draft)]
            self._say(f"5. the same {len(prompts)} prompts to both, {MAX_TOKENS} tokens each")
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
    def _server(self, target: Path, draft: Path | None) -> Iterator[Server]:
        from eagle3_plugin.serving.process import free_port, running

        port = free_port()
        name = "speculative" if draft else "baseline"
        command = server_command(
            self.python,
            str(target),
            port,
            draft=None if draft is None else str(draft),
            num_speculative_tokens=CHAIN,
            flags=ENGINE_FLAGS,
        )
        env = dict(CPU_ENVIRONMENT, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))
        begin = time.monotonic()
        with (
            console.progress_bar(f"start {name}", hidden=self.quiet) as update,
            running(
                command,
                env=env,
                port=port,
                log_path=self.folder / f"{name}.log",
                timeout_s=START_TIMEOUT_S,
                progress=lambda elapsed_s, line: update(elapsed_s, None),
            ) as server,
        ):
            self._say(f"   {name} up in {time.monotonic() - begin:.0f} s")
            yield server

    def _summary(self, done: Demo) -> None:
        from eagle3_plugin.show import show_bench

        console.out.print()
        show_bench(done.bench)
        console.out.print(
            f"expected by the oracle: {done.expected_tokens_per_verify:.2f} tokens per verify\n"
            "(speed of a tiny model on a CPU says nothing about a GPU; equality and acceptance do)"
        )
        console.print_next(
            "eagle3 check DRAFT --target TARGET --engine vllm", serve_line("TARGET", "DRAFT")
        )

    def _say(self, text: str) -> None:
        if not self.quiet:
            console.out.print(text, markup=False)
