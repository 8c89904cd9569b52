"""A comparison of fine-tuning methods as table, CSV and figures (Chen et al. 2022, Table 3).

Figures are the median over seeds of the mean over test cases, as in the paper, with the range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel.core.files import atomic_write
from cinelabel.core.labels import STRUCTURES
from cinelabel.datasets.phantom import NAME as PHANTOM
from cinelabel.evaluation.comparison import BEFORE, FIGURES, Outcome, Result, Search
from cinelabel.evaluation.figures import INK, structure_colour
from cinelabel.evaluation.report import write_csv, write_scores_csv
from cinelabel.evaluation.summary import structure_names
from cinelabel.learning.comparison import SIDES, TEST, VALIDATION, Comparison, Layers
from cinelabel.learning.rates import read_rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table
    from rich.text import Text

SEED_COLUMNS = (
    *("method", "seed", "layers_kept", "steps", "seconds", "structure"),
    *("figure", "value", "cases", "one_side_empty"),
)
TABLE_COLUMNS = (
    *("method", "structure", "figure", "median", "lowest", "highest"),
    *("seeds", "patients", "cases"),
)
LEARNED_RATES = ("metalr", "autolr")
"""Methods whose rates are worth drawing."""


def write_report(folder: Path, comparison: Comparison, result: Result) -> list[Path]:
    """Write table.csv, seeds.csv, cases.csv and figures; their paths. Raises OutputError.

    Figures: scores.png, grid-<row>.png of each bi-directional search, rates-<row>.png of rows
    that learn their rates.
    """
    write_csv(folder / "table.csv", TABLE_COLUMNS, _table_rows(comparison, result))
    write_csv(folder / "seeds.csv", SEED_COLUMNS, _seed_rows(result))
    seeded = [
        replace(score, groups={"seed": "" if o.seed is None else str(o.seed), **score.groups})
        for o in result.outcomes
        for score in o.scores
    ]
    write_scores_csv(folder / "cases.csv", seeded)
    written = [folder / name for name in ("table.csv", "seeds.csv", "cases.csv", "scores.png")]
    scores_figure(written[-1], comparison, result)
    for search in result.searches:
        if any(m > 1 for m, _ in search.dice):
            written.append(folder / f"grid-{search.row}.png")
            grid_figure(written[-1], search, _counted(comparison, VALIDATION))
    config = comparison.config
    for row in config.methods:
        if config.run(row, 1, (1, 1) if config.searches(row) else None).method in LEARNED_RATES:
            written.append(folder / f"rates-{row}.png")
            runs = {
                outcome.seed: read_rates(outcome.run / "metrics.csv")[1]
                for outcome in result.of(row)
                if outcome.run is not None and outcome.seed is not None
            }
            rates_figure(written[-1], runs, title=f"{row}: learning rates of {config.member}")
    return written


def comparison_table(comparison: Comparison, result: Result) -> Table:
    """Rows of a method, columns Dice, PPV and sensitivity of each structure and their mean Dice.

    Median over seeds, and below it the range; the best median is bold.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{comparison.config.name}: {_counted(comparison, TEST)}",
        title_justify="left",
        caption=_caption(comparison, result),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    columns = _columns(result)
    table.add_column("", overflow="fold", min_width=16)
    for figure, structure in columns:
        table.add_column(f"{figure[:4]}\n{structure or 'mean'}", justify="right")
    rows = [BEFORE, *comparison.config.methods]
    medians = {(row, c): _median(result.of(row), *c) for row in rows for c in columns}
    for row in rows:
        outcomes = result.of(row)
        cells = [
            _cell(outcomes, *column, best=_is_best(medians, row, column)) for column in columns
        ]
        table.add_row(_head(row, outcomes), *cells)
    return table


def _columns(result: Result) -> list[tuple[str, str | None]]:
    """(figure, structure) of each column."""
    names = structure_names([score for o in result.outcomes for score in o.scores])
    return [("Dice", None), *((figure, name) for figure in FIGURES for name in names)]


def _values(outcomes: Sequence[Outcome], figure: str, structure: str | None) -> list[float]:
    return [v for o in outcomes if (v := o.figure(figure, structure)) is not None]


def _median(outcomes: Sequence[Outcome], figure: str, structure: str | None) -> float | None:
    values = _values(outcomes, figure, structure)
    return float(np.median(values)) if values else None


def _is_best(
    medians: Mapping[tuple[str, tuple[str, str | None]], float | None],
    row: str,
    column: tuple[str, str | None],
) -> bool:
    others = [m for (_, other), m in medians.items() if other == column and m is not None]
    return bool(others) and medians[row, column] == max(others)


def _cell(outcomes: Sequence[Outcome], figure: str, structure: str | None, *, best: bool) -> Text:
    from rich.text import Text

    values = _values(outcomes, figure, structure)
    if not values:
        return Text("-")
    text = Text(f"{np.median(values):.3f}", style="bold" if best else "")
    if len(values) > 1:
        text.append(f"\n{min(values):.3f}\n{max(values):.3f}", style="dim")
    return text


def _head(row: str, outcomes: Sequence[Outcome]) -> Text:
    from rich.text import Text

    text, first = Text(row), outcomes[0]
    if first.seed is None:
        return text
    kept = f"{first.frozen[0]} to {first.frozen[1]} stay\n" if first.frozen else ""
    seconds = np.median([outcome.seconds for outcome in outcomes])
    steps = np.median([outcome.steps for outcome in outcomes])
    text.append(f"\n{kept}{steps:.0f} steps, {seconds:.0f} s", style="dim")
    return text


def _caption(comparison: Comparison, result: Result) -> str:
    config = comparison.config
    sides = "; ".join(f"{side}: {_counted(comparison, side)}" for side in SIDES)
    tries = sum(len(search.dice) for search in result.searches)
    searched = f" Layers that stay were chosen in {tries} runs on validation patients." * bool(
        tries
    )
    slices = comparison.examples.slice_count
    simulated = any(case.set == PHANTOM for case in comparison.sides[TEST])
    warning = " Phantoms are simulated: this tells nothing certain of patients." * simulated
    return (
        f"Median, lowest and highest of {_many(len(config.seeds), 'seed')}; a value is the mean "
        "over cases of whole studies, a structure that one side alone has counts as 0. Member "
        f"{config.member} of {config.model} alone. {sides}; {_many(slices, 'training slice')}."
        f"{searched}{warning}"
    )


def _counted(comparison: Comparison, side: str) -> str:
    cases = comparison.sides[side]
    patients = len({case.group for case in cases})
    return f"{_many(patients, 'patient')}, {_many(len(cases), 'case')}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _table_rows(comparison: Comparison, result: Result) -> list[dict[str, Any]]:
    rows, cases = [], comparison.sides[TEST]
    counts = len({case.group for case in cases}), len(cases)
    for row in (BEFORE, *comparison.config.methods):
        for figure, structure in _columns(result):
            if values := _values(result.of(row), figure, structure):
                found = (row, structure or "mean", figure, float(np.median(values)))
                numbers = (*found, min(values), max(values), len(values), *counts)
                rows.append(dict(zip(TABLE_COLUMNS, numbers, strict=True)))
    return rows


def _seed_rows(result: Result) -> list[dict[str, Any]]:
    rows = []
    for outcome in result.outcomes:
        kept = f"{outcome.frozen[0]}-{outcome.frozen[1]}" if outcome.frozen else None
        told = (outcome.row, outcome.seed, kept, outcome.steps, outcome.seconds)
        for structure in structure_names(outcome.scores):
            own = [score for score in outcome.scores if score.structure == structure]
            missed = sum(score.empty in ("prediction", "reference") for score in own)
            for figure in FIGURES:
                values = (structure, figure, outcome.figure(figure, structure), len(own), missed)
                rows.append(dict(zip(SEED_COLUMNS, (*told, *values), strict=True)))
    return rows


def scores_figure(path: Path, comparison: Comparison, result: Result) -> None:
    """Write a PNG: Dice of each structure, a row a method, a dot a seed, a bar the median."""
    rows = [BEFORE, *comparison.config.methods]
    names = structure_names([score for o in result.outcomes for score in o.scores])
    structures = [s for s in STRUCTURES if s.name in names]
    figure = _figure(2.2 + 2.5 * len(structures), 1.1 + 0.32 * len(rows))
    panels = figure.subplots(1, len(structures), sharey=True, squeeze=False)[0]
    for axes, structure in zip(panels, structures, strict=True):
        for height, row in enumerate(rows):
            values = _values(result.of(row), "Dice", structure.name)
            axes.plot(values, [height] * len(values), "o", ms=4, color=structure_colour(structure))
            if values:
                axes.plot([np.median(values)], [height], "|", ms=14, mew=1.8, color=INK)
        axes.set_title(f"Dice  {structure.name}", fontsize=9, loc="left")
        axes.locator_params(axis="x", nbins=4)
        _plain(axes, "x")
    panels[0].set_ylim(-0.6, len(rows) - 0.4)
    panels[0].set_yticks(range(len(rows)), rows, fontsize=8)
    panels[0].invert_yaxis()
    figure.suptitle(
        f"{comparison.config.name}: {_counted(comparison, TEST)}, dots are seeds, bars medians",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    _save(figure, path)


def grid_figure(path: Path, search: Search, counted: str) -> None:
    """Write a PNG of the mean Dice over (m, n), the layers from m to n staying (Fig. 3 a)."""
    size = search.depth - 1
    values = np.full((size, size), np.nan)
    for (m, n), dice in search.dice.items():
        values[n - 1, m - 1] = dice
    figure = _figure(1.8 + 0.62 * size, 1.6 + 0.5 * size)
    axes = figure.subplots()
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (m, n), dice in search.dice.items():
        _grid_cell(axes, (m, n), dice, dark=dice < middle, chosen=(m, n) == search.chosen)
    axes.set_xticks(range(size), [str(k + 1) for k in range(size)])
    axes.set_yticks(range(size), [str(k + 1) for k in range(size)])
    axes.set_xlabel(f"m: first layer that stays, of {search.depth}")
    axes.set_ylabel("n: last layer that stays")
    figure.colorbar(image, label="mean Dice")
    axes.set_title(
        f"{search.row}: validation, {counted}, one seed", loc="left", fontsize=9, wrap=True
    )
    _save(figure, path)


def _grid_cell(axes: Axes, kept: Layers, dice: float, *, dark: bool, chosen: bool) -> None:
    from matplotlib.patches import Rectangle

    m, n = kept
    colour = "white" if dark else INK
    axes.text(m - 1, n - 1, f"{dice:.3f}", ha="center", va="center", fontsize=7, color=colour)
    if chosen:
        frame = Rectangle((m - 1.47, n - 1.47), 0.94, 0.94, fill=False, ec="#d55e00", lw=2.4)
        axes.add_patch(frame)


def rates_figure(
    path: Path, runs: Mapping[int, Mapping[str, np.ndarray]], *, title: str = ""
) -> None:
    """Write a PNG of learned rates: over the steps of the first seed, and at the end along depth.

    runs: seed -> rates of each layer group, as `learning.rates.read_rates` gives them. At the end
    there is a line a seed, their median, and the first rates (Figs. 3 b and 4 of the paper).
    """
    from matplotlib import colormaps

    figure = _figure(10.5, 4.0)
    over, along = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    seed, first = next(iter(runs.items()))
    colours = colormaps["viridis"](np.linspace(0, 0.95, len(first)))
    for (group, rates), colour in zip(first.items(), colours, strict=True):
        over.plot(np.arange(1, len(rates) + 1), rates, color=colour, lw=1.3, label=group)
    over.set_xlabel("step")
    over.set_ylabel("learning rate")
    over.set_title(f"seed {seed}", loc="left", fontsize=9)
    over.legend(fontsize=6.5, frameon=False, ncols=2)
    ends = np.array([[rates[-1] for rates in run.values()] for run in runs.values()])
    for end in ends:
        along.plot(end, color="#888888", lw=0.9, marker=".", ms=4)
    along.plot(np.median(ends, axis=0), color="#d55e00", lw=2.2, marker="o", label="median")
    along.plot([r[0] for r in first.values()], color=INK, lw=1, ls=(0, (4, 3)), label="first step")
    along.set_xticks(range(len(first)), list(first), rotation=60, ha="right", fontsize=7)
    along.set_title(f"last step, {len(runs)} seeds, input to output", loc="left", fontsize=9)
    along.legend(fontsize=7, frameon=False)
    for axes in (over, along):
        axes.set_yscale("log")
        _plain(axes, "y")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes, lines: str) -> None:
    axes.grid(axis=lines, color="#e4e4e4", lw=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
