"""A sheet of overlays: first, middle and last labelled slice of many cases, a row a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.files import atomic_write
from cinelabel.core.labels import STRUCTURES
from cinelabel.evaluation.figures import OverlayStyle, draw_contours, heart_box, structure_colour

if TYPE_CHECKING:
    from cinelabel.studies.study import Study

SLICES = 3
"""Slices shown of a case: first, middle and last of those that are labelled."""
HEADING = 0.3
"""Inches above a row, for its title."""


@dataclass(frozen=True, eq=False)
class Row:
    """A case on the sheet.

    Attributes:
        title: written beside it.
        images: (x, y, n) float32, cropped around the heart.
        labels: (x, y, n) uint8, canonical; zero where the case has none.
        slices: numbers of the n slices, from 0.
        aspect: height of a pixel divided by its width.
    """

    title: str
    images: np.ndarray
    labels: np.ndarray
    slices: tuple[int, ...]
    aspect: float


def sheet_row(title: str, study: Study, labels: np.ndarray | None) -> Row:
    """What the sheet shows of a case; the whole study can be let go of.

    study: its first frame is shown, of a cine the first that is labelled. labels: canonical,
    (x, y, z) or (x, y, z, t), or None: then slices from the whole stack are shown.
    """
    frame = 0
    if labels is not None and labels.ndim == 4:
        frame = int(labels.any(axis=(0, 1, 2)).argmax())
        labels = labels[..., frame]
    image = study.frame(frame)
    truth = np.zeros(image.shape, np.uint8) if labels is None else labels
    inside = np.flatnonzero(truth.any(axis=(0, 1)))
    if not inside.size:
        inside = np.arange(image.shape[2])
    chosen = np.unique(np.linspace(inside[0], inside[-1], SLICES).round().astype(int))
    box = heart_box([truth], study.grid.spacing, OverlayStyle().margin_mm)
    window = (slice(*box.x), slice(*box.y), chosen)
    along_x, along_y, _ = study.grid.spacing
    numbers = tuple(int(k) for k in chosen)
    return Row(title, image[window].copy(), truth[window].copy(), numbers, along_y / along_x)


def sheet_figure(
    path: Path, rows: Sequence[Row], *, title: str, style: OverlayStyle | None = None
) -> None:
    """Write a PNG of the rows with the contours of LV, MYO and RV.

    Slices are as stored: first axis to the right, second downwards. Raises InputError for no rows,
    OutputError where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not rows:
        raise InputError("there is no case to draw", where=path)
    style = style or OverlayStyle()
    tile = style.tile_inches
    figure = Figure(figsize=(SLICES * tile, len(rows) * (tile + HEADING) + 0.6), facecolor="white")
    FigureCanvasAgg(figure)
    height = figure.get_size_inches()[1]
    figure.suptitle(title, x=0.01, ha="left", y=1 - 0.06 / height, va="top", fontsize=10)
    for number, row in enumerate(rows):
        top = 1 - (0.26 + number * (tile + HEADING)) / height
        figure.text(0.01, top - 0.2 / height, row.title, va="center", fontsize=8, weight="bold")
        low, high = np.percentile(row.images, style.window_percentiles)
        for k, which in enumerate(row.slices):
            bottom = top - (tile + HEADING) / height
            axes = figure.add_axes((k / SLICES, bottom, 0.98 / SLICES, tile / height))
            axes.set_axis_off()
            shown = row.images[..., k].T
            axes.imshow(shown, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=row.aspect)
            draw_contours(axes, row.labels[..., k], style)
            box = {"facecolor": "black", "alpha": 0.45, "pad": 1.0, "linewidth": 0}
            axes.text(
                0.03,
                0.97,
                f"slice {which}",
                transform=axes.transAxes,
                va="top",
                fontsize=7,
                color="white",
                bbox=box,
            )
    handles = [
        Line2D([], [], color=structure_colour(s), label=f"{s.name}  {s.title}") for s in STRUCTURES
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        ncols=SLICES,
        frameon=False,
        fontsize=6.5,
        bbox_to_anchor=(0.0, 0.0),
        borderaxespad=0.2,
        columnspacing=1.0,
        handlelength=1.2,
    )
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=style.dpi, format="png")
