"""`eagle3 bench`: the same work with and without speculation, measured, compared, and kept."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eagle3_plugin import console
from eagle3_plugin.arguments import AsJson, DeviceName, EnginePython, PromptFile, read_device
from eagle3_plugin.cli_serve import WORDS
from eagle3_plugin.engine_ready import engine_python, ready_to_measure
from eagle3_plugin.errors import UsageError

if TYPE_CHECKING:
    from eagle3_plugin.measuring.bench import Bench, Wanted
    from eagle3_plugin.serving.compose import Engine
    from eagle3_plugin.show_bench import Voice

MAX_NEW_TOKENS = 128
ENGINES = ("vllm", "sglang")
ALL_TOKENS = -1
"""As serving.client has it, which a light start does not load."""

INTERRUPTED = 130
EXAMPLE = "eagle3 bench vllm --target T --draft D --settings 3,1,4"


def bench(
    ctx: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(
            help="A running server's URL; or vllm or sglang, to start the servers itself.",
            show_default="sglang with --card",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="URL of the same without speculation.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="The target: a folder or hub id.", show_default="the card's"),
    ] = None,
    draft: Annotated[
        str | None, typer.Option("--draft", help="The draft, named alike.", show_default="as above")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--settings", help="steps,topk,draft tokens (5,4,16). Repeatable."),
    ] = None,
    card: Annotated[
        str | None, typer.Option("--card", help="A card's protocol: A, B or the draft's hub id.")
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(
            "--sets",
            help="With commas between: humaneval, gsm8k, math-500, c-eval, cmmlu, mt-bench-en, "
            "NAME=FILE of that schema, or your own FILE.jsonl.",
            show_default="bundled prompts, or the card's",
        ),
    ] = None,
    prompts: PromptFile = None,
    humaneval: Annotated[
        int | None,
        typer.Option("--humaneval", min=1, help="The first N problems of HumanEval, as bare text."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Conversations of each set.", show_default="all"),
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency", help="Parallel conversations: 4 or 1,4.", show_default="1, or card's"
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Of everything.")] = 1,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens", min=1, help="Of each answer.", show_default="128, or the card's"
        ),
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0)] = 0.0,
    top_p: Annotated[
        float,
        typer.Option("--top-p", min=0, max=1, help="Probability that is drawn from; 1 = all."),
    ] = 1.0,
    top_k: Annotated[
        int,
        typer.Option("--top-k", min=-1, help="Likeliest tokens drawn from; -1 = all."),
    ] = ALL_TOKENS,
    num_seeds: Annotated[
        int,
        typer.Option("--num-seeds", min=0, help="Of the test at temperature > 0; 0 = no test."),
    ] = 200,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Every answer has all its tokens.")
    ] = False,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking", help="Told to the chat template.", show_default="not told"
        ),
    ] = None,
    device: DeviceName = "gpu",
    num_gpus: Annotated[int, typer.Option("--num-gpus", min=1, help="Tensor parallel.")] = 1,
    python: EnginePython = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds until a server has to be healthy.")
    ] = 1200,
    silence_s: Annotated[
        float, typer.Option("--request-timeout", min=1, help="Longest silence in an answer.")
    ] = 600,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The result.", show_default="eagle3-bench-ENGINE.json; none for a URL"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was cut off.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure servers with and without speculation: speed, acceptance, equality of outputs."""
    from eagle3_plugin.measuring.bench import Work
    from eagle3_plugin.measuring.journal import require_place
    from eagle3_plugin.measuring.loop import Asking
    from eagle3_plugin.measuring.protocol import parse_loads, protocol
    from eagle3_plugin.measuring.sets import chosen_sets
    from eagle3_plugin.measuring.wanted import Servers, of_card, of_settings, of_urls
    from eagle3_plugin.planning.cards import find_card
    from eagle3_plugin.serving.compose import Served
    from eagle3_plugin.serving.redact import Secrets, shown_command
    from eagle3_plugin.show_bench import speaking

    words: tuple[str, ...] = ctx.meta[WORDS]
    known = None if card is None else find_card(card)
    url = what if what is not None and what not in ENGINES else None
    _require_consistent(
        url is not None,
        {"--baseline": baseline, "--card": card, "--settings": settings, "words after --": words,
         "--prompts": prompts, "--humaneval": humaneval, "--sets": sets, "--python": python,
         "--target": target, "--draft": draft},
        {"vllm or sglang": what, "--target": target, "--draft": draft, "--settings": settings},
    )  # fmt: skip
    _require_sampling(temperature, top_p, top_k)
    engine: Engine = "vllm" if what == "vllm" else "sglang"
    place = out or Path(f"eagle3-bench-{engine}.json")
    kept = place if out or url is None else None
    require_place(kept, resume=resume, force=force)
    secrets = Secrets.of(words, os.environ)
    tokens = max_new_tokens or (known.max_new_tokens if known else MAX_NEW_TOKENS)
    listed = [] if sets is None else sets.split(",")
    way = known and protocol(known, engine, device, listed, tokens)
    most = limit or (known.limit if known else None)
    work = Work(
        secrets.hide(shown_command(["eagle3", *sys.argv[1:]])),
        chosen_sets(way.sets if way else listed, prompts, humaneval, most),
        parse_loads(concurrency, known.concurrency if known else (1,)),
        repeats,
        Asking(tokens, temperature, 0, ignore_eos, thinking, top_p, top_k),
        most,
        num_seeds,
        kept,
        resume,
    )
    with speaking(quiet=as_json) as voice:
        if url is not None:
            wanted = of_urls(work, url, baseline, silence_s)
        else:
            pair = (
                target or (known.target if known else ""),
                draft or (known.draft if known else ""),
            )
            served = Served(engine, engine_python(engine, python), *pair, 0, read_device(device))
            _, is_proved = ready_to_measure(served, words, quiet=as_json)
            servers = Servers(
                served,
                num_gpus,
                words,
                tuple(map(secrets.hide, words)),
                place,
                timeout_s,
                silence_s,
                is_proved,
                voice.started,
                voice.loading,
            )
            if known and way:
                wanted = of_card(work, servers, known, way)
            else:
                wanted = of_settings(work, servers, settings or ())
        found = _measured(wanted, voice)
    _report(found, kept, as_json=as_json)


def _require_consistent(is_url: bool, given: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
    """UsageError for options that exclude each other, or that nothing would read."""
    is_card = given["--card"] is not None
    of_own = ("--target", "--draft", "--settings", "--card", "--python", "words after --")
    wrong = [name for name in of_own if is_url and given[name]]
    if wrong:
        raise UsageError(
            f"{', '.join(wrong)} with the URL of a running server; expected vllm or sglang in its "
            "place, for servers that bench starts itself",
            hint=EXAMPLE,
        )
    if not is_url and given["--baseline"]:
        raise UsageError(
            "--baseline without the URL of a server; expected both, or none: among the servers "
            "that bench starts itself there is always a baseline"
        )
    if given["--prompts"] is not None and given["--humaneval"] is not None:
        raise UsageError("--prompts and --humaneval are two sets of prompts; give one of them")
    own_sets = [name for name in ("--prompts", "--humaneval") if given[name] is not None]
    if own_sets and (is_card or given["--sets"] is not None):
        named = "--card" if is_card else "--sets"
        raise UsageError(f"{own_sets[0]} beside {named}; expected one of the two")
    if is_card and given["--settings"]:
        raise UsageError("--settings beside --card, which has its own; expected one of the two")
    lacking = [name for name, value in needed.items() if not value]
    if lacking and not is_url and not is_card:
        raise UsageError(
            f"without {', '.join(lacking)}; expected them, or --card, or the URL of a server",
            hint=EXAMPLE,
        )


def _require_sampling(temperature: float, top_p: float, top_k: int) -> None:
    """UsageError for limits that no engine takes (SGLang no top_k of 0), or that nothing reads."""
    if top_p == 0:
        raise UsageError("--top-p 0 leaves no token; expected more than 0")
    if top_k == 0:
        raise UsageError("--top-k 0 leaves no token; expected at least 1, or -1 for all")
    given = [f"--top-p {top_p:g}"] * (top_p != 1) + [f"--top-k {top_k}"] * (top_k != ALL_TOKENS)
    if temperature == 0 and given:
        raise UsageError(
            f"{', '.join(given)} at temperature 0, where the likeliest token is taken whatever "
            "they are; expected a --temperature above 0, or none of them"
        )


def _measured(wanted: Wanted, voice: Voice) -> Bench:
    """The result, written to its place; the journal stays beside one that is not whole."""
    from eagle3_plugin.draft.atomic import write_json_atomic
    from eagle3_plugin.measuring.bench import measure
    from eagle3_plugin.measuring.journal import remove

    found = measure(wanted, voice.cell)
    out = wanted.work.out
    if out is not None:
        write_json_atomic(out, found.result.to_json())
        if not found.result.is_partial:
            remove(out)
    return found


def _report(found: Bench, out: Path | None, *, as_json: bool) -> None:
    """Prints it; exit 1 for outputs that differ, figures in doubt and parts that are missing."""
    from eagle3_plugin.show_report import show_result

    result = found.result
    if as_json:
        console.print_json(result.to_json())
    else:
        show_result(result)
        if out is not None:
            console.out.print(f"result: {console.shown(out)}", markup=False)
            console.print_next(*_next(found, out))
    if found.is_stopped:
        raise typer.Exit(INTERRUPTED)
    differs = any(equality.ok is False for equality in result.equality)
    if differs or result.problems or result.is_partial:
        raise typer.Exit(1)


def _next(found: Bench, out: Path) -> list[str]:
    shown = shlex.quote(str(out))
    if found.result.is_partial:
        return ["the same command with --resume", f"eagle3 report {shown}"]
    return [f"eagle3 report {shown}"]
