"""What motion costs: sharpness of phantom slices, and Dice of each member, by grade of motion.

Every study is made four times, in the four manners of CMRxMotion (Wang et al., CMRxMotion
challenge 2022), with the same heart, body and protocol: only breathing, where the slices were held
and the noise differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.core.files import atomic_write
from cinelabel.core.grid import Grid
from cinelabel.core.labels import STRUCTURES, Structure
from cinelabel.datasets.cmrxmotion import MANNERS
from cinelabel.evaluation.figures import INK, structure_colour
from cinelabel.evaluation.groups import GRADES
from cinelabel.evaluation.metrics import Score, score_labels
from cinelabel.evaluation.runs import predictions_of
from cinelabel.evaluation.summary import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from cinelabel.phantom.cohort import PhantomStudy
    from cinelabel.segmentation import Segmenter

MARGIN_MM = 10.0
MARKERS = "osv^DPX*"


@dataclass(frozen=True)
class GradedSlice:
    """A labelled slice at ED or ES: its grade, its sharpness, and the scores of each method.

    `severity_mm` is the residual displacement while it was acquired; methods are as by
    `predictions_of`, and groups of the scores are grade, manner and phase.
    """

    grade: str
    severity_mm: float
    sharpness: float
    scores: tuple[Score, ...]


def sharpness(image: np.ndarray, labels: np.ndarray, spacing: tuple[float, float]) -> float:
    """Mean gradient along the true borders of the cavities, per mm, as a share of the contrast.

    Args:
        image: (n, m) grey values.
        labels: uint8 (n, m), canonical.
        spacing: pixel size along both axes in mm.

    Returns:
        1/mm; 0 for a slice without borders. Contrast is the 5th to 95th percentile round the heart.
    """
    heart = labels > 0
    along = np.zeros(heart.shape, bool)
    along[:-1] |= labels[:-1] != labels[1:]
    along[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    if not along.any():
        return 0.0
    reach = [int(np.ceil(MARGIN_MM / size)) for size in spacing]
    rows, columns = np.flatnonzero(heart.any(1)), np.flatnonzero(heart.any(0))
    box = (
        slice(max(rows[0] - reach[0], 0), rows[-1] + reach[0] + 1),
        slice(max(columns[0] - reach[1], 0), columns[-1] + reach[1] + 1),
    )
    low, high = np.percentile(image[box], (5, 95))
    first, second = np.gradient(np.asarray(image, float), *spacing)
    return float(np.hypot(first, second)[along].mean() / max(high - low, 1e-6))


def grade_slices(
    segmenter: Segmenter,
    seeds: Sequence[int],
    *,
    fast: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[GradedSlice]:
    """Score ED and ES of each seed's study in the four manners, slice by slice.

    fast: one member, without mirroring. progress: is told studies done, studies in all, the name.
    """
    from cinelabel.phantom.breathing import Manner
    from cinelabel.phantom.cohort import make_study

    found: list[GradedSlice] = []
    jobs = [(seed, manner) for seed in seeds for manner in Manner]
    for number, (seed, manner) in enumerate(jobs):
        made = make_study(seed, frames=3, manner=manner)
        phases = {"ED": made.study.ed or 0, "ES": made.study.es or 0}
        segmentation = segmenter.segment(
            made.study, frames=list(phases.values()), fast=fast, keep_members=True
        )
        words = MANNERS[str(int(manner))]
        for phase, t in phases.items():
            labels = {m: x[..., t] for m, x in predictions_of(segmentation).items()}
            found += _graded(made, labels, t, {"manner": words, "phase": phase})
        if progress is not None:
            progress(number + 1, len(jobs), f"{made.study.name} {words}")
    return found


def _graded(
    made: PhantomStudy, labels: Mapping[str, np.ndarray], t: int, groups: Mapping[str, str]
) -> list[GradedSlice]:
    """The labelled slices of a frame; labels: method -> uint8 (x, y, z)."""
    study, truth = made.study, made.labels[..., t]
    spacing = (float(study.grid.spacing[0]), float(study.grid.spacing[1]))
    entries = made.truth["slices"]
    assert isinstance(entries, list)
    found = []
    for z, entry in enumerate(entries):
        if not truth[:, :, z].any():
            continue
        grade = GRADES[str(entry["grade"])]
        case = f"{study.name}_{groups['manner']}_{groups['phase']}_{z}".replace(" ", "-")
        scores = tuple(
            replace(score, method=method, patient=study.name, groups={"grade": grade, **groups})
            for method, predicted in labels.items()
            for score in _score_slice(predicted[:, :, z], truth[:, :, z], study.grid, case)
        )
        image = study.frames[:, :, z, t]
        found.append(
            GradedSlice(
                grade,
                float(entry["severity_mm"]),
                sharpness(image, truth[:, :, z], spacing),
                scores,
            )
        )
    return found


def _score_slice(predicted: np.ndarray, truth: np.ndarray, grid: Grid, case: str) -> list[Score]:
    """Dice of the structures that the slice has: there is nothing to find of the others."""
    there = [structure for structure in STRUCTURES if (truth == structure.value).any()]
    plane = Grid((*grid.shape[:2], 1), grid.affine)
    return score_labels(
        predicted[..., None], truth[..., None], plane, case=case, structures=there, distances=False
    )


def scores_of(slices: Sequence[GradedSlice]) -> list[Score]:
    """All scores, for tables and CSV files."""
    return [score for entry in slices for score in entry.scores]


def motion_table(slices: Sequence[GradedSlice]) -> Table:
    """A row a grade: slices, displacement and sharpness, mean and spread."""
    from rich.table import Table

    table = Table(title="Phantom slices by grade of motion", title_justify="left")
    table.add_column("Grade")
    for heading in ("slices", "displacement mm", "sharpness 1/mm"):
        table.add_column(heading, justify="right")
    for grade in GRADES.values():
        chosen = [entry for entry in slices if entry.grade == grade]
        if not chosen:
            table.add_row(grade, "0", "-", "-")
            continue
        moved = [entry.severity_mm for entry in chosen]
        sharp = [entry.sharpness for entry in chosen]
        table.add_row(
            grade,
            str(len(chosen)),
            f"{np.mean(moved):.2f} ± {np.std(moved):.2f}",
            f"{np.mean(sharp):.4f} ± {np.std(sharp):.4f}",
        )
    return table


def motion_figure(path: Path, slices: Sequence[GradedSlice], *, title: str) -> None:
    """Write a PNG of sharpness, and of the Dice of each structure and method, by grade.

    Dice is the mean over slices, a structure that was not found as 0; bars are the interval over
    patients of the last method, which has the structure's colour. Raises OutputError where the file
    cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 4.1), layout="constrained")
    FigureCanvasAgg(figure)
    first, *others = figure.subplots(1, 1 + len(STRUCTURES))
    _draw_sharpness(first, slices)
    summaries = [s for s in summarise(scores_of(slices), ["grade"]) if s.by == "grade"]
    for axes, structure in zip(others, STRUCTURES, strict=True):
        _draw_dice(axes, [s for s in summaries if s.structure == structure.name], structure)
    lowest = min(axes.get_ylim()[0] for axes in others)
    for axes in others:
        axes.set_ylim(max(lowest, 0.0), 1.0)
    lines, names = others[0].get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside lower right", ncols=len(names), fontsize=8, frameon=False
    )
    for axes in (first, *others):
        axes.set_xticks(range(len(GRADES)), list(GRADES.values()))
        axes.set_xlim(-0.5, len(GRADES) - 0.5)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _draw_sharpness(axes: Axes, slices: Sequence[GradedSlice]) -> None:
    values = [[entry.sharpness for entry in slices if entry.grade == g] for g in GRADES.values()]
    shown = [(place, found) for place, found in enumerate(values) if found]
    axes.boxplot(
        [found for _, found in shown],
        positions=[place for place, _ in shown],
        widths=0.5,
        showmeans=True,
        showfliers=False,
        manage_ticks=False,
        meanprops={"marker": "D", "markersize": 4, "mfc": "white", "mec": INK},
        medianprops={"color": INK},
    )
    axes.set_ylim(bottom=0.0)
    for place, found in enumerate(values):
        axes.annotate(
            f"{len(found)} slices",
            (place, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.set_title("Sharpness: gradient at borders (1/mm)", fontsize=9, loc="left")


def _draw_dice(axes: Axes, summaries: Sequence[Summary], structure: Structure) -> None:
    """Means by grade, a line a method; the last one in the structure's colour."""
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    places = {grade: place for place, grade in enumerate(GRADES.values())}
    for number, method in enumerate(methods):
        shown = [
            (places[str(s.group)], s.penalised_dice)
            for s in summaries
            if s.method == method and s.penalised_dice is not None
        ]
        last = number == len(methods) - 1
        x = [place for place, _ in shown]
        axes.plot(
            x,
            [statistics.mean for _, statistics in shown],
            marker=MARKERS[number % len(MARKERS)],
            ms=5,
            lw=2.2 if last else 1.0,
            color=structure_colour(structure) if last else str(0.25 + 0.5 * number / len(methods)),
            label=method,
            zorder=3 if last else 2,
        )
        if last:
            for place, statistics in shown:
                if statistics.interval is not None:
                    axes.vlines(place, *statistics.interval, color=structure_colour(structure))
    axes.set_title(f"Dice  {structure.name}", fontsize=9, loc="left")
    axes.grid(axis="y", color="#e4e4e4", lw=0.7)
    axes.set_axisbelow(True)
