"""The table of scores, drawn: a row a method and group, a panel a figure and structure, as boxes.

Colours are those of the structures; every row and panel is named, so none is needed to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.files import atomic_write
from cinelabel.core.labels import STRUCTURES
from cinelabel.evaluation.figures import INK, structure_colour
from cinelabel.evaluation.metrics import Score
from cinelabel.evaluation.summary import split_by

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {"penalised_dice": "Dice", "hd95_mm": "HD95 (mm)"}
"""What is drawn. A structure that one side lacks is a Dice of 0; HD95 has no place for it, and says
how many there are."""
LEGEND = "box: quartiles and median; diamond: mean; whiskers: 1.5 times the box; in brackets: cases"
ROW_INCHES = 0.34
FEW = 40
"""Most values of a box that are also shown one by one."""


@dataclass(frozen=True)
class _Row:
    """A row of the figure: its name, the scores in it, and whether a group ends with it."""

    name: str
    scores: Sequence[Score]
    last: bool


def scores_figure(
    path: Path, scores: Sequence[Score], *, by: str | None = None, title: str = ""
) -> None:
    """Write a PNG of box plots of Dice and HD95 of each structure, a row a group and method.

    Boxes span the quartiles with the median in them, whiskers reach 1.5 times as far as the box is
    wide, a diamond is the mean. `PANELS` says what becomes of empty structures.
    by: the grouping to break down by. Raises InputError where there is nothing to draw, OutputError
    where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figures = [name for name in PANELS if any(getattr(s, name) is not None for s in scores)]
    structures = [s for s in STRUCTURES if any(score.structure == s.name for score in scores)]
    if not figures:
        raise InputError("there is no score to draw", where=path)
    rows = _rows(scores, by)
    height = len(figures) * (len(rows) * ROW_INCHES + 0.75) + 0.7
    figure = Figure(figsize=(2.2 + 2.7 * len(structures), height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(figures), len(structures), sharey=True, squeeze=False)
    for panels, name in zip(grid, figures, strict=True):
        for axes, structure in zip(panels, structures, strict=True):
            own = [[s for s in row.scores if s.structure == structure.name] for row in rows]
            values = [[v for s in row if (v := getattr(s, name)) is not None] for row in own]
            _draw_boxes(axes, values, structure_colour(structure))
            axes.set_title(f"{PANELS[name]}  {structure.name}", fontsize=9, loc="left")
            if name == "hd95_mm":
                axes.set_xlim(left=0.0)
                _count_empty(axes, own)
            else:
                axes.set_xlim(right=1.0)
        _name_rows(panels, rows)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.supxlabel(LEGEND, fontsize=7.5, x=0.01, ha="left", color="#555555")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _rows(scores: Sequence[Score], by: str | None) -> list[_Row]:
    groups = {"": list(scores)} if by is None else split_by(scores, by)
    methods = list(dict.fromkeys(score.method for score in scores))
    rows = []
    for group, members in groups.items():
        there = [method for method in methods if any(s.method == method for s in members)]
        for method in there:
            own = [score for score in members if score.method == method]
            parts = [group, method if len(methods) > 1 else ""]
            name = "  ·  ".join(part for part in parts if part) or method or "all cases"
            count = len({score.volume for score in own})
            rows.append(_Row(f"{name}  ({count})", own, method == there[-1]))
    return rows


def _draw_boxes(
    axes: Axes, values: Sequence[Sequence[float]], colour: tuple[float, float, float]
) -> None:
    """Horizontal boxes from the top down; a row without values stays free."""
    shown = [(row, found) for row, found in enumerate(values) if found]
    if shown:
        axes.boxplot(
            [found for _, found in shown],
            positions=[row for row, _ in shown],
            orientation="horizontal",
            widths=0.6,
            showmeans=True,
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": (*colour, 0.45), "edgecolor": colour},
            medianprops={"color": INK, "linewidth": 1.4},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            meanprops={"marker": "D", "markersize": 4, "mfc": "white", "mec": INK},
        )
    for row, found in shown:
        if len(found) <= FEW:
            spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(found))
            axes.plot(found, row + spread, ".", color=INK, ms=3, alpha=0.5, zorder=3)
    axes.grid(axis="x", color="#e4e4e4", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _count_empty(axes: Axes, rows: Sequence[Sequence[Score]]) -> None:
    """At the right end of each row how many of its structures one side lacks."""
    for number, row in enumerate(rows):
        empty = sum(score.empty in ("prediction", "reference") for score in row)
        if empty:
            place = (1.0, number - 0.32)
            axes.text(
                *place,
                f"{empty} empty",
                transform=axes.get_yaxis_transform(),
                fontsize=7,
                ha="right",
            )


def _name_rows(panels: Sequence[Axes], rows: Sequence[_Row]) -> None:
    """Names at the left of the first panel, and a line below each group but the last."""
    panels[0].set_yticks(range(len(rows)), [row.name for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    ends = [number for number, row in enumerate(rows[:-1]) if row.last]
    if len(ends) + 1 == len(rows):
        return
    for axes in panels:
        for number in ends:
            axes.axhline(number + 0.5, color="#b0b0b0", lw=0.7)
