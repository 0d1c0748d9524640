"""The order of measurements, the choice and the going on, with engines of known round times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eagle3_plugin.errors import EngineError
from eagle3_plugin.planning.measured import read_measured
from eagle3_plugin.planning.profile import Counted, Timed
from eagle3_plugin.planning.settings import OFF, Choice
from eagle3_plugin.serving.profile_file import opened, partial_path
from eagle3_plugin.serving.tune import Progress, Start, Todo, Tuned, missing, tune
from eagle3_plugin.settings import Settings, chain
from tests.tuned import DATE, LONG, SUBJECT, profile, timed

TREE = Settings(3, 4, 8)
COUNTS = {
    chain(7): (800, 640, 448, 224, 112, 56, 28),
    chain(3): (800, 640, 448),
    chain(2): (800, 640),
    chain(1): (800,),
    TREE: (900, 800, 600),
}


def _round_s(choice: Choice, num_requests: int) -> float:
    """Affine in steps and tokens, as rounds of real engines are over short stretches."""
    if choice is OFF:
        return 0.010 + 0.001 * num_requests
    per_request = 0.0005 * math.pow(choice.num_draft_tokens, 1.5)
    return 0.011 + 0.001 * choice.num_steps + per_request * num_requests


@dataclass
class Engine:
    """Measures what `_round_s` says; dies before the measurement of that number."""

    dies_at: int | None = None
    started: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __call__(self, todo: Todo) -> Iterator[Timed | Counted]:
        choice = todo.start.choice
        self.started.append(f"{choice} {todo.start.accepts or 'real'}")
        if todo.counts:
            assert choice is not OFF
            self._note(choice)
            yield Counted(
                settings=str(choice),
                num_rounds=1000,
                accepted_by_position=COUNTS[choice],
                measured_at=DATE,
            )
        for num_requests in todo.loads:
            self._note(choice)
            how = "synthetic" if todo.start.accepts else "real"
            yield timed(str(choice), num_requests, _round_s(choice, num_requests), how=how)

    def _note(self, choice: Choice) -> None:
        if self.dies_at == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append(str(choice))


def _tune(
    path: Path, engine: Engine, *, simulates: bool = True, trees: tuple[Settings, ...] = ()
) -> tuple[Tuned, list[Progress]]:
    said: list[Progress] = []
    with opened(path, SUBJECT) as file:
        return tune(file, (1, 4), trees, engine, said.append, simulates=simulates), said


def test_few_servers_find_what_a_sweep_of_all_chains_would(tmp_path: Path) -> None:
    """At 1 request the sweep's best is 3,1,4 with 160 tokens/s, at 4 it is 2,1,3 with 417."""
    engine = Engine()
    tuned, _ = _tune(tmp_path / "p.json", engine)
    assert [tuned.best(1), tuned.best(4)] == [chain(3), chain(2)]
    assert engine.started == [
        "off real", "7,1,8 real", "1,1,2 2", "3,1,4 3", "3,1,4 real", "2,1,3 real",
    ]  # fmt: skip


def test_without_simulation_a_winner_that_was_run_is_not_run_again(tmp_path: Path) -> None:
    engine = Engine()
    tuned, _ = _tune(tmp_path / "p.json", engine, simulates=False)
    assert [tuned.best(1), tuned.best(4)] == [chain(3), chain(2)]
    assert engine.started == [
        "off real", "7,1,8 real", "1,1,2 real", "3,1,4 real", "2,1,3 real",
    ]  # fmt: skip


def test_a_tree_is_run_when_it_is_asked_for(tmp_path: Path) -> None:
    engine = Engine()
    tuned, _ = _tune(tmp_path / "p.json", engine, trees=(TREE,))
    assert "3,4,8 real" in engine.started
    speeds = {s.choice: s for s in dict(tuned.speeds)[1]}
    assert speeds[TREE].tokens_per_s == pytest.approx(3.3 / (0.014 + 0.0005 * 8**1.5), rel=1e-9)
    assert speeds[TREE].is_measured


@pytest.mark.parametrize("dies_at", range(15))
def test_a_run_that_was_stopped_anywhere_measures_nothing_twice(
    tmp_path: Path, dies_at: int
) -> None:
    path = tmp_path / "p.json"
    first, second = Engine(dies_at), Engine()
    with pytest.raises(KeyboardInterrupt):
        _tune(path, first)
    assert not path.exists()
    tuned, _ = _tune(path, second)
    whole = Engine()
    _tune(tmp_path / "whole.json", whole)
    assert Counter([*first.asked, *second.asked]) <= Counter(whole.asked)
    assert [tuned.best(1), tuned.best(4)] == [chain(3), chain(2)]


def test_the_result_is_a_profile_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    _tune(path, Engine())
    found = read_measured(path)
    assert found.loads == (1, 4)
    assert found.has_real(chain(3), 1)
    assert not partial_path(path).exists()


def test_progress_counts_up_and_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr("eagle3_plugin.serving.tune.time.monotonic", lambda: float(next(seconds)))
    _, said = _tune(tmp_path / "p.json", Engine())
    assert said[0] == Progress("starting off", 0, 9, None)
    assert said[1] == Progress("off, 1 request(s): 11.00 ms a round (real, within 0 %)", 1, 9, 80.0)
    assert said[4].what == "7,1,8: 3.31 tokens per verify"
    assert [said[-1].done, said[-1].total, said[-1].left_s] == [15, 15, 0.0]


def test_a_measurement_that_ends_early_is_an_error(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "p.json", SUBJECT) as file,
        pytest.raises(EngineError, match=r"^the measurement of off ended before its end$"),
    ):
        tune(file, (1,), (), lambda todo: iter(()), lambda said: None, simulates=False)


def test_what_is_missing_is_the_loads_that_no_run_has() -> None:
    has = profile(
        {("3,1,4", 1): 0.015},
        (LONG,),
    )
    assert missing(Start(chain(3), 2), (1,), has) is None
    assert missing(Start(chain(3), 2), (1, 4), has) == Todo(Start(chain(3), 2), (4,), False)
    assert missing(Start(chain(3)), (1,), has) == Todo(Start(chain(3)), (), True)
    assert missing(Start(chain(7)), (1,), has) == Todo(Start(chain(7)), (1,), False)
