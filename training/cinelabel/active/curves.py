"""What a simulation shows: Dice against slices corrected, slices to most of what all would give.

Tables and figures of finished cells. A figure counts only where every fold of it is finished.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel.active.plan import ALL, BEFORE, SimulationConfig
from cinelabel.core.files import atomic_write, write_text
from cinelabel.core.labels import STRUCTURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cinelabel.active.simulation import Result

MEAN = "mean"
"""Beside the structures: the mean over them."""
NAMES = tuple(structure.name for structure in STRUCTURES)
COLUMNS = (*NAMES, MEAN)
SHARES = (0.95, 0.99)
"""Of the Dice that the whole pool gives: how many slices lead there."""
BASELINE = "foreground"
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito (2008)."""
MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Point:
    """All folds of one strategy, method, seed and budget together.

    Attributes:
        strategy, method, seed, budget: as in `plan.Cell`.
        slices: corrected; the most of any fold.
        steps, seconds: of tuning, the mean over the folds.
        patients, cases: scored.
        dice: structure -> mean over the cases, and `MEAN`.
    """

    strategy: str
    method: str
    seed: int
    budget: int | None
    slices: int
    steps: float
    seconds: float
    patients: int
    cases: int
    dice: Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """One strategy and method: medians over the seeds, from the version before on.

    Attributes:
        slices: corrected, rising from 0.
        dice: column of `COLUMNS` -> lowest, median and highest of the seeds, (n, 3).
        seeds: how many, of the point that has fewest.
        needed: slices at which the median Dice reaches each of `SHARES` of the whole pool's; None
            where it does not.
    """

    strategy: str
    method: str
    slices: tuple[int, ...]
    dice: Mapping[str, np.ndarray]
    seeds: int
    needed: tuple[float | None, ...]


def points(results: Sequence[Result]) -> list[Point]:
    """One for each strategy, method, seed and budget of which every fold is finished."""
    folds = {result.cell.fold for result in results}
    groups: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in results:
        cell = result.cell
        groups[cell.strategy, cell.method, cell.seed, cell.budget].append(result)
    return [_point(group) for group in groups.values() if len(group) == len(folds)]


def curves(found: Sequence[Point]) -> list[Curve]:
    """One for each strategy and method; `found` has the version before."""
    before = next(point for point in found if point.strategy == BEFORE)
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in found:
        if point.strategy not in (BEFORE, ALL):
            groups[point.strategy, point.method].append(point)
    return [
        _curve(strategy, method, [before, *group], whole_pool(found, method))
        for (strategy, method), group in groups.items()
    ]


def whole_pool(found: Sequence[Point], method: str) -> list[Point]:
    """By a method, with every slice of the pool corrected: one a seed."""
    return [point for point in found if (point.strategy, point.method) == (ALL, method)]


def slices_to(slices: Sequence[int], dice: Sequence[float], target: float) -> float | None:
    """Where a curve first reaches a Dice, by straight lines between its points; None if never."""
    for k, value in enumerate(dice):
        if value >= target:
            if k == 0:
                return float(slices[0])
            share = (target - dice[k - 1]) / (value - dice[k - 1])
            return float(slices[k - 1] + share * (slices[k] - slices[k - 1]))
    return None


def saved(curve: Curve, others: Sequence[Curve]) -> tuple[float | None, ...]:
    """Slices needed over those that foreground-aware random needs, by the same method."""
    against = [c for c in others if (c.strategy, c.method) == (BASELINE, curve.method)]
    if not against:
        return (None,) * len(SHARES)
    pairs = zip(curve.needed, against[0].needed, strict=True)
    return tuple(own / its if own is not None and its else None for own, its in pairs)


def medians(found: Sequence[Point]) -> dict[str, float]:
    """Column of `COLUMNS` -> median over points."""
    return {name: float(np.median([point.dice[name] for point in found])) for name in COLUMNS}


def write_tables(folder: Path, results: Sequence[Result]) -> None:
    """`points.csv`, `cases.csv` and, for curves, `curves.csv`. Raises OutputError."""
    found = points(results)
    write_text(folder / "points.csv", _csv(_point_rows(found)))
    write_text(folder / "cases.csv", _csv(_case_rows(results)))
    drawn = curves(found) if any(p.strategy == ALL for p in found) else []
    if drawn:
        write_text(folder / "curves.csv", _csv(_curve_rows(drawn)))


def draw_curves(path: Path, config: SimulationConfig, found: Sequence[Point]) -> None:
    """Dice against slices corrected: a row a method, a column a structure. Raises OutputError."""
    from matplotlib.figure import Figure

    drawn = curves(found)
    methods = list(dict.fromkeys(curve.method for curve in drawn))
    figure = Figure(figsize=(3.3 * len(COLUMNS), 3.0 * len(methods) + 1.2), layout="constrained")
    grid = figure.subplots(len(methods), len(COLUMNS), squeeze=False, sharex=True, sharey="col")
    for row, method in zip(grid, methods, strict=True):
        for axes, column in zip(row, COLUMNS, strict=True):
            _draw_panel(axes, column, [c for c in drawn if c.method == method])
            _draw_ends(axes, column, found, method)
        row[0].set_ylabel(f"{method}\nDice")
    for axes, column in zip(grid[0], COLUMNS, strict=True):
        axes.set_title(column, loc="left", fontsize=11)
    for axes in grid[-1]:
        axes.set_xlabel("slices corrected")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    seeds = min((curve.seeds for curve in drawn), default=0)
    _save(figure, path, f"{_scored(config, found)} Lines: median of {_many(seeds, 'seed')}; bands: "
          "lowest to highest.")  # fmt: skip


def draw_left_out(path: Path, config: SimulationConfig, found: Sequence[Point]) -> None:
    """Dice before and after: a panel a structure, a dot a seed, a bar their median."""
    from matplotlib.figure import Figure

    before = [point for point in found if point.strategy == BEFORE]
    groups = by_method(found)
    figure = Figure(figsize=(3.3 * len(COLUMNS), 4.2), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(COLUMNS)), COLUMNS, strict=True):
        axes.axhline(before[0].dice[column], color="#222222", lw=1.0, ls=(0, (4, 3)))
        for k, group in enumerate(groups.values()):
            values = [point.dice[column] for point in group]
            colour = COLOURS[k % len(COLOURS)]
            axes.plot([k] * len(values), values, "o", ms=5, color=colour, alpha=0.7)
            axes.plot([k - 0.3, k + 0.3], [np.median(values)] * 2, lw=2.4, color=colour)
        names = [" ".join(key) for key in groups]
        axes.set_xticks(range(len(groups)), names, rotation=60, ha="right", fontsize=8)
        axes.set_title(column, loc="left", fontsize=11)
        _plain(axes)
    seeds = min((len(group) for group in groups.values()), default=0)
    text = f"Each patient scored by what was corrected of the others. {_scored(config, found)} "
    _save(figure, path, f"{text}Dashed: before. Dots: {_many(seeds, 'seed')}; bars: their median.")


def by_method(found: Sequence[Point]) -> dict[tuple[str, ...], list[Point]]:
    """Points after tuning, by method, and by strategy and budget where there are several."""
    tuned = [point for point in found if point.strategy not in (BEFORE, ALL)]
    several = len({(point.strategy, point.budget) for point in tuned}) > 1
    groups: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in tuned:
        more = (point.strategy, str(point.budget)) if several else ()
        groups[(point.method, *more)].append(point)
    return dict(groups)


def _point(group: Sequence[Result]) -> Point:
    scores = [score for result in group for score in result.scores]
    dice = {
        name: float(np.mean(values))
        for name in NAMES
        if (values := [score.dice for score in scores if score.structure == name])
    }
    cell = group[0].cell
    return Point(
        strategy=cell.strategy,
        method=cell.method,
        seed=cell.seed,
        budget=cell.budget,
        slices=max(result.slices for result in group),
        steps=float(np.mean([result.steps for result in group])),
        seconds=float(np.mean([result.seconds for result in group])),
        patients=len({score.patient for score in scores}),
        cases=len({score.case for score in scores}),
        dice={name: dice.get(name, float("nan")) for name in NAMES}
        | {MEAN: float(np.mean(list(dice.values())))},
    )


def _curve(strategy: str, method: str, group: Sequence[Point], whole: Sequence[Point]) -> Curve:
    by_slices: dict[int, list[Point]] = defaultdict(list)
    for point in group:
        by_slices[point.slices].append(point)
    slices = sorted(by_slices)
    dice = {
        column: np.array(
            [
                np.percentile([point.dice[column] for point in by_slices[count]], [0, 50, 100])
                for count in slices
            ]
        )
        for column in COLUMNS
    }
    target = medians(whole)[MEAN] if whole else float("inf")
    middle = [float(value) for value in dice[MEAN][:, 1]]
    return Curve(
        strategy=strategy,
        method=method,
        slices=tuple(slices),
        dice=dice,
        seeds=min((len(by_slices[count]) for count in slices[1:]), default=0),
        needed=tuple(slices_to(slices, middle, share * target) for share in SHARES),
    )


def _draw_panel(axes: Axes, column: str, drawn: Sequence[Curve]) -> None:
    for k, curve in enumerate(drawn):
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        low, middle, high = curve.dice[column].T
        axes.fill_between(curve.slices, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(curve.slices, middle, color=colour, marker=marker, ms=4, label=curve.strategy)
    _plain(axes)


def _draw_ends(axes: Axes, column: str, found: Sequence[Point], method: str) -> None:
    """The version before, and the whole pool's median."""
    before = next(point for point in found if point.strategy == BEFORE)
    axes.axhline(before.dice[column], color="#222222", lw=1.0, ls=(0, (4, 3)), label=BEFORE)
    if whole := whole_pool(found, method):
        label = f"all {max(point.slices for point in whole)} slices"
        level = medians(whole)[column]
        axes.axhline(level, color="#222222", lw=1.0, ls=(0, (1, 2)), label=label)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", lw=0.7)
    axes.set_axisbelow(True)


def _scored(config: SimulationConfig, found: Sequence[Point]) -> str:
    """Data and counts, for below a figure."""
    first = found[0]
    scored = f"{_many(first.patients, 'patient')} ({_many(first.cases, 'frame')})"
    how = "its fast member alone" if config.fast else "all members, mirrored"
    return f"{config.about.strip()} Scored: {scored}; version {config.model}, {how}."


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _save(figure: Figure, path: Path, caption: str) -> None:
    import textwrap

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    wide = int(figure.get_size_inches()[0] * 13)
    figure.supxlabel(textwrap.fill(caption, wide), fontsize=9, x=0.01, ha="left")
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _csv(rows: Iterable[Mapping[str, object]]) -> str:
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()


def _point_rows(found: Sequence[Point]) -> Iterable[Mapping[str, object]]:
    for point in found:
        told = {"strategy": point.strategy, "method": point.method, "seed": point.seed}
        budget = ALL if point.budget is None else point.budget
        cost = {"steps": round(point.steps, 1), "seconds": round(point.seconds, 1)}
        dice = {name: round(value, 5) for name, value in point.dice.items()}
        yield {**told, "budget": budget, "slices": point.slices, **cost, **dice}


def _case_rows(results: Sequence[Result]) -> Iterable[Mapping[str, object]]:
    for result in results:
        cell = result.cell
        told = {"fold": cell.fold, "strategy": cell.strategy, "method": cell.method}
        told |= {"seed": str(cell.seed), "slices": str(result.slices)}
        for score in result.scores:
            yield {**told, **vars(score)}


def _curve_rows(drawn: Sequence[Curve]) -> Iterable[Mapping[str, object]]:
    for curve in drawn:
        ratios = saved(curve, drawn)
        yield {"strategy": curve.strategy, "method": curve.method, "seeds": curve.seeds} | {
            key: None if value is None else round(value, 3)
            for k, share in enumerate(SHARES)
            for key, value in (
                (f"slices_to_{share:.0%}", curve.needed[k]),
                (f"of_{BASELINE}_{share:.0%}", ratios[k]),
            )
        }
