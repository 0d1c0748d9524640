"""`eagle3 watch`: a running engine beside what its draft should do. Parse, call, print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eagle3_plugin import console
from eagle3_plugin.arguments import TargetName
from eagle3_plugin.errors import Eagle3Error, EngineError, UsageError

if TYPE_CHECKING:
    from eagle3_plugin.serving.client import Engine
    from eagle3_plugin.show_watch import Show
    from eagle3_plugin.watching.advice import Advice, Adviser
    from eagle3_plugin.watching.expected import Slack
    from eagle3_plugin.watching.reading import Watched
    from eagle3_plugin.watching.rule import Rule
    from eagle3_plugin.watching.watch import Sight, Watch
    from eagle3_plugin.watching.webhook import Webhook

CONTEXT_TOKENS = 1024
"""Of each request, for the planner; an engine's metrics do not say how long they are now."""


def watch(
    url: Annotated[str, typer.Argument(help="A running vLLM, or SGLang with --enable-metrics.")],
    draft: Annotated[
        str | None, typer.Option("--draft", help="Its draft, whose eagle3.json has what to expect.")
    ] = None,
    expected: Annotated[
        Path | None,
        typer.Option("--expected", help="A file of score --json or bench --json instead."),
    ] = None,
    target: TargetName = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="As in eagle3 plan.", show_default="the GPU of this machine"),
    ] = None,
    num_gpus: Annotated[int, typer.Option("--num-gpus", min=1)] = 1,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between readings.")
    ] = 1.0,
    window: Annotated[
        float, typer.Option("--window", min=1, help="Seconds that rates are taken over.")
    ] = 60.0,
    slack: Annotated[
        str | None,
        typer.Option(
            "--slack",
            help="How far the traffic's mean may honestly be below the file's: a share such as "
            "0.1, or replay for a canary that sends the score's own prompts in turn.",
            show_default="down to the worst prompt set, or 0.2",
        ),
    ] = None,
    alarm: Annotated[
        bool, typer.Option("--alarm", help="Exit with 1 once acceptance is below expectation.")
    ] = False,
    webhook: Annotated[
        str | None, typer.Option("--webhook", help="POST a JSON alarm there, and go on watching.")
    ] = None,
    until_gone: Annotated[
        bool, typer.Option("--until-gone", help="Exit with 1 when the server does not answer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document a line.")] = False,
) -> None:
    """Watch a running engine: acceptance, speed, load, and what the planner would set now.

    Acceptance that stays below what the draft's score promises is an alarm: on average at most one
    false alarm in ten million requests that have a round, at the lowest acceptance that still
    counts as healthy. Lengths of requests are taken from the engine's histogram of generated
    tokens; longer and shorter ones have to be as likely accepted.

    EAGLE3_API_KEY in the environment is sent as the server's --api-key.
    """
    from eagle3_plugin.watching.expected import parse_slack
    from eagle3_plugin.watching.reading import connect
    from eagle3_plugin.watching.watch import Watch
    from eagle3_plugin.watching.webhook import Webhook
    from eagle3_plugin.watching.window import Window

    _require(draft, expected, target, gpu, needs_expected=alarm or webhook is not None)
    hook = None if webhook is None else Webhook(webhook)
    given, where = _expected(draft, expected, is_needed=alarm or hook is not None)
    allowed = parse_slack(slack)
    watched = connect(url)
    if (hook is not None or alarm) and (problem := _no_speculation(watched)):
        raise problem
    adviser = None
    if target is not None and draft is not None:
        adviser = _adviser(target, draft, watched.engine, gpu, num_gpus)
    seen = Watch(watched, Window(window), lambda found: _rule(found, given, where, allowed))
    _run(seen, interval, adviser, hook, alarm=alarm, until_gone=until_gone, as_json=as_json)


def _require(
    draft: str | None,
    expected: Path | None,
    target: str | None,
    gpu: str | None,
    *,
    needs_expected: bool,
) -> None:
    """Raises UsageError for options that say nothing without each other."""
    if needs_expected and draft is None and expected is None:
        raise UsageError(
            "an alarm needs what to expect, and there is neither --draft nor --expected",
            hint="eagle3 score DRAFT --target TARGET --save, then eagle3 watch URL --draft DRAFT",
        )
    if target is not None and draft is None:
        raise UsageError("--target is for the planner, which needs --draft beside it")
    if gpu is not None and target is None:
        raise UsageError("--gpu is for the planner, which needs --target and --draft beside it")


def _cannot_judge(sight: Sight) -> Eagle3Error | None:
    """Why no alarm can come of this server any more; None while one can, or while it is away."""
    if sight.trouble is not None and not isinstance(sight.trouble, EngineError):
        return sight.trouble
    return _no_speculation(sight.watched)


def _no_speculation(watched: Watched) -> EngineError | None:
    """Why there is nothing to alarm about; None while the server drafts."""
    if watched.settings is not None:
        return None
    return EngineError(
        f"{watched.url} runs without speculation; expected a draft whose acceptance can fall",
        hint="Start it with eagle3 serve, or leave --alarm and --webhook out.",
    )


def _expected(
    draft: str | None, file: Path | None, *, is_needed: bool
) -> tuple[Mapping[str, Any] | None, str]:
    """What to expect, and where that is from; None, with a warning, when it is only looked at."""
    from eagle3_plugin.watching.expected import expected_of_draft, read_expected

    if file is not None:
        return read_expected(file), str(file)
    if draft is None:
        return None, ""
    try:
        given = expected_of_draft(draft)
        if "expected_acceptance" in given or is_needed:
            return given, f"{draft}: eagle3.json"
    except Eagle3Error as error:
        if is_needed:
            raise
        _warn(error.message, error.hint)
    return None, ""


def _rule(
    watched: Watched, given: Mapping[str, Any] | None, where: str, slack: Slack
) -> Rule | None:
    from eagle3_plugin.watching.expected import expectation
    from eagle3_plugin.watching.rule import Rule

    if given is None or watched.settings is None:
        return None
    expected = expectation(given, watched.settings, slack, where=where)
    return Rule(expected, misses_end=watched.engine == "sglang")


def _adviser(
    target: str, draft: str, engine: Engine, gpu: str | None, num_gpus: int
) -> Adviser | None:
    """None, with a warning, where this machine's GPU is meant and cannot be found."""
    from eagle3_plugin.planning.asked import read_asked
    from eagle3_plugin.watching.advice import Adviser

    try:
        asked = read_asked(
            target,
            draft,
            engine,
            gpu=gpu,
            num_gpus=num_gpus,
            acceptance=None,
            concurrency="1",
            context_tokens=CONTEXT_TOKENS,
            goal="latency",
            baseline_tokens_per_s=None,
            server_flags=(),
        )
    except Eagle3Error as error:
        if gpu is not None:
            raise
        _warn(f"no plan: {error.message}", error.hint)
        return None
    return Adviser(asked)


def _run(
    seen: Watch,
    interval_s: float,
    adviser: Adviser | None,
    hook: Webhook | None,
    *,
    alarm: bool,
    until_gone: bool,
    as_json: bool,
) -> None:
    """Watches until there is a reason to stop; only an error or Ctrl-C ends it."""
    from eagle3_plugin.show_watch import showing
    from eagle3_plugin.watching.watch import sights

    with _printing() if as_json else showing() as show:
        for sight in sights(seen, interval_s):
            show(sight, seen.rule, _advice(adviser, sight))
            if until_gone and sight.trouble is not None:
                raise sight.trouble
            if hook is not None:
                _tell(hook, sight)
            if alarm and (problem := _alarm(sight, seen.rule)):
                raise problem


def _advice(adviser: Adviser | None, sight: Sight) -> Advice | None:
    settings, counts = sight.watched.settings, sight.total.counts if sight.total else None
    if adviser is None or sight.reading is None or settings is None or counts is None:
        return None
    return adviser.advise(sight.reading.time_s, sight.num_running, settings, counts)


def _alarm(sight: Sight, rule: Rule | None) -> Eagle3Error | None:
    """A server that came back without its draft or with settings that nothing is expected of, or
    acceptance that fell; None without an alarm."""
    from eagle3_plugin.watching.watch import fallen

    if rule is not None and sight.is_alarm:
        return fallen(sight, rule)
    return _cannot_judge(sight)


def _tell(hook: Webhook, sight: Sight) -> None:
    """A webhook that fails is a warning: the watch goes on, and tries again."""
    try:
        if problem := _cannot_judge(sight):
            hook.tell_trouble(replace(sight, trouble=problem).to_json())
        else:
            hook.tell(sight.verdict, sight.to_json())
    except EngineError as error:
        _warn(error.message, error.hint)


def _warn(message: str, hint: str | None) -> None:
    """On stderr, so that --json stays whole."""
    console.err.print(f"warning: {message}", markup=False)
    for each in (hint or "").splitlines():
        console.err.print(f"hint: {each}", markup=False)


@contextmanager
def _printing() -> Iterator[Show]:
    """A JSON document a line, each written out at once."""

    def show(sight: Sight, rule: Rule | None, advice: Advice | None) -> None:
        found = sight.to_json()
        found["expected"] = rule.expected.to_json() if rule else None
        found["planner"] = advice.to_json() if advice else None
        print(json.dumps(found), flush=True)

    yield show
