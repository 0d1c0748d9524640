"""Fits the constants of the cost model: `python -m eagle3_plugin.planning.fit [--write]`.

Least squares on relative errors, with a prior for each constant, so that one that a fold of the
data says nothing about keeps its prior value. Every source is left out once and predicted from
the others; the errors of those predictions are printed and, with --write, go to constants.toml
beside the constants. The rows of HELD_OUT train no constant that ships.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Final

import numpy as np

from eagle3_plugin.planning.constants import PATH, CostConstants, Errors, Fitted, ModelError
from eagle3_plugin.planning.cost import baseline_step, round_cost
from eagle3_plugin.planning.points import Excluded, Point, read_points

HELD_OUT: Final = "https://huggingface.co/Zjcxy-SmartAI/Eagle3-Qwen3-4B-Instruct-2507-zh"

PRIORS: Final = {
    "bandwidth_factor": (1.25, 0.1),
    "compute_factor": (1.3, 0.4),
    "step_s": (1.0e-3, 0.5e-3),
    "layer_s": (10e-6, 10e-6),
    "pass_s": (150e-6, 100e-6),
    "host_s": (0.5e-3, 0.5e-3),
    "sglang_host_s": (0.0, 0.5e-3),
    "tree_layer_s": (20e-6, 20e-6),
    "expert_overlap": (0.7, 0.3),
    "num_gpus_round_s": (1.0e-3, 1.0e-3),
}
"""Mean and standard deviation before any row is seen. Kernels take 5 to 10 microseconds each:
some ten for a draft pass beside its products, two more a layer for a tree; a round synchronises
with the host a few times. Reads reach 75 to 85 % of the published bandwidth, products 60 to 100 %
of the rate.
"""

ERROR_OF_ROUND: Final = {True: 0.03, False: 0.20}
"""Standard deviation of a round's relative error, for dense targets on one GPU and for others:
repeated runs of one setting differ by 3 %; expert kernels and engine versions by far more."""

ERROR_OF_BASELINE: Final = {True: 0.10, False: 0.30}
"""The same for a modelled baseline step. Engine versions differ by 70 % for one expert target on
one GPU (AngelSlim: 3.1 ms and 5.5 ms for the two 30B-A3B)."""

NUM_ITERATIONS: Final = 5
"""The model is linear but for the overlap of experts times the bandwidth."""

_LINE = "{:<62} {:>5} {:>7} {:>7} {:>7}"


@dataclass(frozen=True)
class Observation:
    """The mean of runs that differ in their prompts only; `predict`: constants to seconds."""

    seconds: float
    relative_sd: float
    predict: Callable[[CostConstants], float]


@dataclass(frozen=True)
class Prediction:
    """A row and what a fit without its source says of it; errors are predicted / measured - 1."""

    point: Point
    round_error: float
    baseline_error: float
    ratio_error: float


def prior_constants() -> CostConstants:
    return CostConstants(**{name: mean for name, (mean, _) in PRIORS.items()})


def as_fit(constants: CostConstants) -> Fitted:
    """Constants whose errors are not known yet."""
    none = Errors(ModelError(0, 0), ModelError(0, 0), ModelError(0, 0))
    return Fitted(constants, none, none, max_requests=1)


def fit_constants(points: Sequence[Point]) -> CostConstants:
    """The most likely constants given the points and the priors (Gauss-Newton)."""
    seen = _observations(points)
    mean, sd = np.array(list(PRIORS.values())).T
    values = mean.copy()
    for _ in range(NUM_ITERATIONS):
        residuals, slopes = _linearised(seen, values, sd)
        rows = np.vstack([slopes, np.diag(1 / sd)])
        aims = np.concatenate([residuals, (mean - values) / sd])
        step = np.linalg.lstsq(rows, aims, rcond=None)[0]
        values = np.maximum(values + step, 0.0)
    return CostConstants(*map(float, values))


def leave_one_out(points: Sequence[Point]) -> list[Prediction]:
    """Each point, predicted by a fit on the points of all other sources."""
    found = []
    for source in dict.fromkeys(p.source for p in points):
        fit = as_fit(fit_constants([p for p in points if p.source != source]))
        found += [_prediction(p, fit) for p in points if p.source == source]
    return found


def predicted_round_s(point: Point, fit: Fitted) -> float:
    """The round of a point from its measured baseline step."""
    args = (point.target, point.draft, point.machine, point.load, point.settings)
    return round_cost(*args, baseline_s=point.baseline_s, fit=fit).total_s


def model_error(errors: Iterable[float]) -> ModelError:
    sizes = np.abs(np.array(list(errors)))
    return ModelError(round(float(sizes.mean()), 4), round(float(np.quantile(sizes, 0.9)), 4))


def _prediction(p: Point, fit: Fitted) -> Prediction:
    baseline_s = baseline_step(p.target, p.machine, p.load, fit=fit).total_s
    round_s = round_cost(p.target, p.draft, p.machine, p.load, p.settings, fit=fit).total_s
    return Prediction(
        point=p,
        round_error=predicted_round_s(p, fit) / p.round_s - 1,
        baseline_error=baseline_s / p.baseline_s - 1,
        ratio_error=(round_s / baseline_s) / (p.round_s / p.baseline_s) - 1,
    )


def _observations(points: Sequence[Point]) -> list[Observation]:
    """One for each setting and one for each baseline: prompts repeat a measurement of time."""
    rounds = defaultdict(list)
    baselines = defaultdict(list)
    for p in points:
        where = (p.source, p.target_name, p.machine, p.load)
        rounds[(*where, p.settings)].append(p)
        baselines[where].append(p)
    seen = [_round_observation(same) for same in rounds.values()]
    return seen + [_baseline_observation(same) for same in baselines.values()]


def _round_observation(same: Sequence[Point]) -> Observation:
    mean = replace(
        same[0],
        baseline_s=_mean(p.baseline_s for p in same),
        round_s=_mean(p.round_s for p in same),
    )

    def predict(c: CostConstants) -> float:
        return predicted_round_s(mean, as_fit(c))

    return Observation(mean.round_s, ERROR_OF_ROUND[mean.is_dense], predict)


def _baseline_observation(same: Sequence[Point]) -> Observation:
    first = same[0]

    def predict(c: CostConstants) -> float:
        return baseline_step(first.target, first.machine, first.load, fit=as_fit(c)).total_s

    return Observation(
        _mean(p.baseline_s for p in same), ERROR_OF_BASELINE[first.is_dense], predict
    )


Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _linearised(seen: Sequence[Observation], values: Floats, sd: Floats) -> tuple[Floats, Floats]:
    """What is left to explain, and how it changes with each constant, in standard deviations."""
    scale = np.array([1 / (o.seconds * o.relative_sd) for o in seen])

    def predict(at: Floats) -> Floats:
        constants = CostConstants(*map(float, at))
        return np.array([o.predict(constants) for o in seen])

    now = predict(values)
    residuals = (np.array([o.seconds for o in seen]) - now) * scale
    nudges = np.diag(1e-3 * sd)
    columns = [(predict(values + n) - now) / n.sum() * scale for n in nudges]
    return residuals, np.array(columns).T


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def fit_all(points: Sequence[Point]) -> tuple[Fitted, list[Prediction]]:
    """The fit that ships, with the errors that leaving one source out finds."""
    predictions = leave_one_out(points)
    constants = fit_constants([p for p in points if p.source != HELD_OUT])
    dense, other = (
        _errors([p for p in predictions if p.point.is_dense is is_dense])
        for is_dense in (True, False)
    )
    most = max(p.load.num_requests for p in points)
    return Fitted(constants, dense, other, most), predictions


def _errors(predictions: Sequence[Prediction]) -> Errors:
    """A baseline counts once, however many rounds were measured beside it."""
    baselines = {(p.point.source, p.point.target_name, p.point.load): p for p in predictions}
    return Errors(
        round=model_error(p.round_error for p in predictions),
        baseline=model_error(p.baseline_error for p in baselines.values()),
        ratio=model_error(p.ratio_error for p in predictions),
    )


def report(fit: Fitted, predictions: Sequence[Prediction], excluded: Sequence[Excluded]) -> str:
    """Errors by source and overall, in per cent, and the rows that were not used."""
    lines = [_LINE.format("left out", "rows", "mean", "bias", "largest")]
    for is_dense, title in ((True, "dense, one GPU"), (False, "experts or several GPUs")):
        chosen = [p for p in predictions if p.point.is_dense is is_dense]
        for source in dict.fromkeys(p.point.source for p in chosen):
            errors = [p.round_error for p in chosen if p.point.source == source]
            lines.append(_error_line(source, errors))
        lines.append(_error_line(f"all: {title}", [p.round_error for p in chosen]))
        lines.append(_error_line("  baseline step modelled", [p.baseline_error for p in chosen]))
        lines.append(_error_line("  rounds in modelled steps", [p.ratio_error for p in chosen]))
    lines += ["", "not used:"]
    lines += [f"{n:>4} {reason}" for reason, n in Counter(e.reason for e in excluded).items()]
    values = zip(fields(CostConstants), astuple(fit.constants), strict=True)
    lines += ["", *(f"{f.name} = {value:.4g}" for f, value in values)]
    return "\n".join(lines)


def _error_line(name: str, errors: Sequence[float]) -> str:
    sizes = np.abs(errors)
    cells = (sizes.mean(), float(np.mean(errors)), sizes.max())
    return _LINE.format(name[:62], len(errors), *(f"{100 * cell:.1f} %" for cell in cells))


def constants_toml(fit: Fitted, predictions: Sequence[Prediction]) -> str:
    """The text of constants.toml."""
    sources = Counter(p.point.source for p in predictions if p.point.source != HELD_OUT)
    lines = [
        "# Written by `python -m eagle3_plugin.planning.fit --write`; do not edit.",
        "# Fitted on data/published_points.csv, without the rows of",
        f"# {HELD_OUT}",
        "",
        "[constants]",
        *(
            f"{f.name} = {value:.6g}"
            for f, value in zip(fields(CostConstants), astuple(fit.constants), strict=True)
        ),
        "",
        "# Relative errors, each source left out in turn.",
        "[error]",
        f"max_requests = {fit.max_requests}",
        "",
    ]
    for kind, errors in (("dense", fit.dense), ("other", fit.other)):
        for f in fields(Errors):
            error: ModelError = getattr(errors, f.name)
            lines += [f"[error.{kind}.{f.name}]", f"mean = {error.mean}", f"p90 = {error.p90}", ""]
    lines += ["# Rows of each source.", "[provenance]"]
    lines += [f'"{source}" = {n}' for source, n in sources.items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {PATH.name}")
    write: bool = parser.parse_args(arguments).write
    points, excluded = read_points(as_fit(prior_constants()))
    fit, predictions = fit_all(points)
    print(report(fit, predictions, excluded))
    if write:
        PATH.write_text(constants_toml(fit, predictions), encoding="utf-8")


if __name__ == "__main__":
    main()
