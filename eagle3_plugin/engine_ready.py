"""What verbs that start servers ask for first: the engine's Python, and a draft that it fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eagle3_plugin.errors import EngineError

if TYPE_CHECKING:
    from eagle3_plugin.serving.compose import Engine, Served


def engine_python(engine: Engine, given: str | None = None) -> str:
    """The Python that was given, else the one that has the engine; EngineError without one."""
    from eagle3_plugin.demo_engines import find_python

    found = given or find_python(engine)
    if found is None:
        raise EngineError(
            f"{engine} is not installed here, and there is no .venvs/{engine}",
            hint="Name the Python of its environment with --python.",
        )
    return found


def ready_to_measure(served: Served, words: Sequence[str], *, quiet: bool) -> tuple[str, bool]:
    """The engine's release, and whether our class will hold the draft; errors end here."""
    from eagle3_plugin.serving.preflight import installed, preflight
    from eagle3_plugin.show_serve import show_preflight

    found = installed(served.engine, served.python)
    flight = preflight(
        served.draft, served.target, served.engine, found, needs_engine=True, words=words
    )
    if not quiet:
        show_preflight(flight)
    if flight.ok:
        return found.engine or "", flight.plugin
    problems = "".join(f"\n  {problem.message}" for problem in flight.problems if quiet)
    raise EngineError(
        f"{flight.num_errors} error(s) in the check of this draft; expected none{problems}",
        hint=f"See eagle3 check {served.draft} --target {served.target} --engine {served.engine}, "
        "and mend them: times and acceptance of a draft that is served wrongly are of no use.",
    )
