"""What motion costs: Dice and sharpness of phantom slices by the grade of their motion.

Every study is made four times, in the four manners of CMRxMotion (Wang et al., CMRxMotion
challenge 2022), with the same heart, body and protocol: only breathing, where the slices were held
and the noise differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.core.files import atomic_write
from cinelabel.core.labels import STRUCTURES
from cinelabel.evaluation.metrics import dice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from cinelabel.segmentation import Segmenter

GRADES = {1: "mild", 2: "intermediate", 3: "severe"}
MARGIN_MM = 10.0
COLOUR = "#0072B2"


@dataclass(frozen=True)
class GradedSlice:
    """A labelled slice at ED or ES: its grade, sharpness, and mean Dice of what is in its truth."""

    study: str
    manner: str
    slice: int
    phase: str
    grade: int
    severity_mm: float
    sharpness: float
    dice: float


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
    progress: Callable[[int, int, str], None] | None = None,
) -> list[GradedSlice]:
    """Score ED and ES of each seed's study in the four manners, slice by slice."""
    from cinelabel.phantom.breathing import Manner
    from cinelabel.phantom.cohort import make_study

    found: list[GradedSlice] = []
    jobs = [(seed, manner) for seed in seeds for manner in Manner]
    for number, (seed, manner) in enumerate(jobs):
        made = make_study(seed, frames=3, manner=manner)
        study, truth = made.study, made.labels
        spacing = (float(study.grid.spacing[0]), float(study.grid.spacing[1]))
        labels = segmenter.segment(study).labels
        entries = made.truth["slices"]
        assert isinstance(entries, list)
        for phase, t in (("ED", study.ed or 0), ("ES", study.es or 0)):
            for z, entry in enumerate(entries):
                if not truth[:, :, z, t].any():
                    continue
                found.append(
                    GradedSlice(
                        study.name,
                        manner.name.lower(),
                        z,
                        phase,
                        int(entry["grade"]),
                        float(entry["severity_mm"]),
                        sharpness(study.frames[:, :, z, t], truth[:, :, z, t], spacing),
                        _mean_dice(labels[:, :, z, t], truth[:, :, z, t]),
                    )
                )
        if progress is not None:
            progress(number + 1, len(jobs), f"{study.name} {manner.name.lower()}")
    return found


def _mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean Dice of the structures in the truth, 0 for one that was not found."""
    there = [structure for structure in STRUCTURES if (truth == structure.value).any()]
    return float(np.mean([dice(found, truth, structure) or 0.0 for structure in there]))


def motion_table(slices: Sequence[GradedSlice]) -> Table:
    """A row a grade: slices, displacement, sharpness and Dice, mean and spread."""
    from rich.table import Table

    table = Table(title="Phantom slices by grade of motion", title_justify="left")
    table.add_column("Grade")
    for heading in ("slices", "displacement mm", "sharpness 1/mm", "Dice"):
        table.add_column(heading, justify="right")
    for grade, name in GRADES.items():
        chosen = [entry for entry in slices if entry.grade == grade]
        if not chosen:
            table.add_row(f"{grade} {name}", "0", "-", "-", "-")
            continue
        table.add_row(
            f"{grade} {name}",
            str(len(chosen)),
            *(
                f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"
                for values, digits in (
                    ([entry.severity_mm for entry in chosen], 2),
                    ([entry.sharpness for entry in chosen], 4),
                    ([entry.dice for entry in chosen], 3),
                )
            ),
        )
    return table


def motion_figure(path: Path, slices: Sequence[GradedSlice], *, title: str) -> None:
    """Write a PNG of sharpness and Dice by grade, a box a grade with its mean and count.

    Raises OutputError where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _boxes(left, slices, "sharpness", "gradient at the true borders (1/mm of contrast)")
    _boxes(right, slices, "dice", "Dice, mean of the structures present")
    figure.suptitle(title, fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _boxes(axes: Axes, slices: Sequence[GradedSlice], value: str, label: str) -> None:
    values = [[getattr(entry, value) for entry in slices if entry.grade == g] for g in GRADES]
    shown = [(g, v) for g, v in zip(GRADES, values, strict=True) if v]
    axes.boxplot(
        [v for _, v in shown],
        positions=[g for g, _ in shown],
        widths=0.5,
        showmeans=True,
        showfliers=False,
        meanprops={"marker": "D", "markerfacecolor": COLOUR, "markeredgecolor": COLOUR},
        medianprops={"color": COLOUR},
    )
    axes.set_xticks(
        [g for g, _ in shown], [f"{g} {GRADES[g]}\n{len(v)} slices" for g, v in shown]
    )
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
