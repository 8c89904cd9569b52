"""Pictures of a segmentation: contours over every slice, and volume-time curves.

Drawn with matplotlib's Agg canvas alone (no pyplot, no global state). Colours are those of the
structures, a colour-blind-safe set; each structure also has its own place, so that no figure needs
colour to be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel.core.errors import GridError, InputError
from cinelabel.core.files import atomic_write
from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cinelabel.core.measures import Measures
    from cinelabel.studies.study import Study

INK = "#222222"


@dataclass(frozen=True)
class OverlayStyle:
    """Numbers of the overlay figure."""

    window_percentiles: tuple[float, float] = (1.0, 99.0)
    margin_mm: float = 25.0
    tile_inches: float = 2.1
    widest_row: int = 7
    contour_points: float = 1.4
    reference_points: float = 1.1
    fill_opacity: float = 0.14
    dpi: int = 110


@dataclass(frozen=True)
class CropBox:
    """Half-open index ranges of the in-plane axes."""

    x: tuple[int, int]
    y: tuple[int, int]


def overlay_figure(
    path: Path,
    study: Study,
    labels: np.ndarray,
    phases: Mapping[str, int] | None = None,
    *,
    reference: np.ndarray | None = None,
    title: str | None = None,
    style: OverlayStyle | None = None,
) -> None:
    """Write a PNG of all slices at each phase with the contours of LV, MYO and RV.

    study: its frames (x, y, z, t); labels: integer (x, y, z) or (x, y, z, t) on the same grid.
    phases: name -> frame; default: the ED and ES of the study if known, else its first frame.
        A study of one phase gives one panel.
    reference: labels to draw dotted beside the solid contours of `labels`.
    Slices are as stored: first axis to the right, second downwards, numbered from 0.
    Raises GridError where shapes differ, InputError for a frame that does not exist, OutputError
    where the file cannot be written.
    """
    style = style or OverlayStyle()
    labels = _as_frames(labels, study, "labels")
    truth = None if reference is None else _as_frames(reference, study, "reference")
    panels = _panels(study, phases)
    shown = labels if truth is None else np.maximum(labels, truth)
    box = heart_box([shown[..., t] for t in panels.values()], study.grid.spacing, style.margin_mm)
    layout = _Layout.of(study, box, len(panels), style)
    figure = layout.figure()
    for panel, (name, frame) in enumerate(panels.items()):
        counted = f"{name}, frame {frame} of {study.n_frames}" if study.n_frames > 1 else name
        layout.heading(figure, panel, counted)
        tiles = layout.tiles(figure, panel)
        _draw_images(tiles, study, frame, box, style)
        for k, axes in enumerate(tiles):
            draw_contours(axes, _crop(labels[..., frame], box)[..., k], style)
            if truth is not None:
                for mask, _ in _outlines(_crop(truth[..., frame], box)[..., k]):
                    _contour(axes, mask, None, style.reference_points, "dotted")
    _legend(figure, title or study.name, labels, truth)
    _save(figure, path, style.dpi)


def curve_figure(path: Path, measures: Measures, *, title: str | None = None) -> None:
    """Write a PNG of the volumes of LV, RV and MYO over the cardiac cycle, ED and ES marked.

    The axis shows milliseconds where trigger times are known, else frame numbers from 0.
    Raises InputError for curves of fewer than two frames, OutputError where it cannot be written.
    """
    from matplotlib.figure import Figure

    curves: dict[Structure, tuple[float, ...]] = {
        LV: measures.lv_curve_ml,
        RV: measures.rv_curve_ml,
        MYO: measures.myo_curve_ml,
    }
    frames = len(measures.lv_curve_ml)
    if frames < 2:
        raise InputError("a volume-time curve needs at least two frames", where=path)
    times = measures.trigger_times_ms
    axis = np.asarray(times if times is not None else range(frames), dtype=np.float64)
    order = np.argsort(axis, kind="stable")
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for (structure, curve), marker in zip(curves.items(), ("o", "s", "^"), strict=True):
        volume = np.asarray(curve)[order]
        colour = structure_colour(structure)
        axes.plot(axis[order], volume, marker=marker, ms=3.5, lw=1.6, color=colour)
    axes.set_ylim(bottom=0)
    _name_curves(axes, float(axis[order][-1]), {s: c[order[-1]] for s, c in curves.items()})
    for name, frame, volume_ml in (
        ("ED", measures.ed, measures.lv_edv_ml),
        ("ES", measures.es, measures.lv_esv_ml),
    ):
        if frame is not None:
            axes.axvline(axis[frame], color=INK, lw=0.8, ls=(0, (4, 3)), zorder=0)
            text = name if volume_ml is None else f"{name}  LV {volume_ml:.0f} ml"
            _phase_mark(axes, float(axis[frame]), text)
    axes.set_xlabel("time after the R wave (ms)" if times is not None else "frame (from 0)")
    axes.set_ylabel("volume (ml)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", lw=0.7)
    axes.set_axisbelow(True)
    heading = title or "Volume over the cardiac cycle"
    if measures.lv_ef_percent is not None:
        heading += f"   (LV EF {measures.lv_ef_percent:.0f} %)"
    axes.set_title(heading, loc="left", fontsize=11, pad=20)
    _save(figure, path, 130)


def heart_box(
    volumes: list[np.ndarray], spacing: tuple[float, float, float], margin_mm: float
) -> CropBox:
    """In-plane box of everything labelled in the volumes (x, y, z) with a margin in mm.

    The box is a square in mm where the image is large enough; the whole plane if nothing is
    labelled.
    """
    footprint = np.any([np.any(volume > 0, axis=2) for volume in volumes], axis=0)
    if not footprint.any():
        return CropBox((0, footprint.shape[0]), (0, footprint.shape[1]))
    ends = [np.flatnonzero(footprint.any(axis=other))[[0, -1]] for other in (1, 0)]
    side_mm = max((b - a + 1) * spacing[k] for k, (a, b) in enumerate(ends)) + 2 * margin_mm
    ranges = []
    for axis, (first, last) in enumerate(ends):
        size = footprint.shape[axis]
        width = min(size, math.ceil(side_mm / spacing[axis]))
        start = int(np.clip(round((first + last + 1 - width) / 2), 0, size - width))
        ranges.append((start, start + width))
    return CropBox(*ranges)


def columns_for(slices: int, widest_row: int) -> int:
    """Tiles in a row so that the rows of a phase are as full as possible."""
    rows = math.ceil(slices / widest_row)
    return math.ceil(slices / rows)


def _panels(study: Study, phases: Mapping[str, int] | None) -> dict[str, int]:
    if phases is None:
        known = {"ED": study.ed, "ES": study.es}
        phases = {name: frame for name, frame in known.items() if frame is not None}
    for name, frame in phases.items():
        if not 0 <= frame < study.n_frames:
            raise InputError(f"{name} is frame {frame} of {study.n_frames}", where=study.name)
    if study.n_frames == 1 or not phases:
        return {next(iter(phases), "one phase"): 0}
    return dict(phases)


def _as_frames(labels: np.ndarray, study: Study, what: str) -> np.ndarray:
    frames = labels[..., np.newaxis] if labels.ndim == 3 else labels
    if frames.shape != study.frames.shape:
        raise GridError(
            f"the {what} have shape {labels.shape}, the study {study.frames.shape}",
            where=study.name,
        )
    return frames


@dataclass(frozen=True)
class _Layout:
    """Where the tiles of the overlay lie, in inches from the top left corner."""

    slices: int
    columns: int
    rows: int
    panels: int
    tile: tuple[float, float]

    MARGIN = 0.06
    TITLE = 0.34
    HEADING = 0.3
    LEGEND = 0.34

    @classmethod
    def of(cls, study: Study, box: CropBox, panels: int, style: OverlayStyle) -> _Layout:
        slices = study.grid.shape[2]
        columns = columns_for(slices, style.widest_row)
        width_mm = (box.x[1] - box.x[0]) * study.grid.spacing[0]
        height_mm = (box.y[1] - box.y[0]) * study.grid.spacing[1]
        ratio = min(2.0, max(0.5, height_mm / width_mm))
        tile = (style.tile_inches, style.tile_inches * ratio)
        return cls(slices, columns, math.ceil(slices / columns), panels, tile)

    @property
    def size(self) -> tuple[float, float]:
        width = max(self.columns, 3) * self.tile[0] + 2 * self.MARGIN
        return width, self.TITLE + self.panels * self._panel_height + self.LEGEND

    @property
    def _panel_height(self) -> float:
        return self.HEADING + self.rows * self.tile[1]

    def figure(self) -> Figure:
        from matplotlib.figure import Figure

        return Figure(figsize=self.size, facecolor="white")

    def heading(self, figure: Figure, panel: int, text: str) -> None:
        width, height = self.size
        top = self.TITLE + panel * self._panel_height + self.HEADING / 2
        figure.text(
            self.MARGIN / width, 1 - top / height, text, va="center", fontsize=10, weight="bold"
        )

    def tiles(self, figure: Figure, panel: int) -> list[Axes]:
        width, height = self.size
        gap = 0.02
        top = self.TITLE + panel * self._panel_height + self.HEADING
        tiles = []
        for k in range(self.slices):
            left = self.MARGIN + (k % self.columns) * self.tile[0]
            bottom = height - top - (k // self.columns + 1) * self.tile[1]
            rectangle = (
                (left + gap) / width,
                (bottom + gap) / height,
                (self.tile[0] - 2 * gap) / width,
                (self.tile[1] - 2 * gap) / height,
            )
            axes = figure.add_axes(rectangle)
            axes.set_axis_off()
            tiles.append(axes)
        return tiles


def _draw_images(
    tiles: list[Axes], study: Study, frame: int, box: CropBox, style: OverlayStyle
) -> None:
    """The slices of a frame in one common window, each with its number."""
    image = _crop(study.frame(frame), box)
    low, high = np.percentile(image, style.window_percentiles)
    aspect = study.grid.spacing[1] / study.grid.spacing[0]
    for k, axes in enumerate(tiles):
        axes.imshow(
            image[..., k].T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect
        )
        axes.text(
            0.03,
            0.97,
            f"slice {k}",
            transform=axes.transAxes,
            va="top",
            fontsize=8,
            color="white",
            bbox={"facecolor": "black", "alpha": 0.45, "pad": 1.2, "linewidth": 0},
        )


def draw_contours(axes: Axes, labels: np.ndarray, style: OverlayStyle) -> None:
    """Fills of the exact labels, and lines: the endocardium, the epicardium and the RV."""
    for structure in STRUCTURES:
        mask = labels == structure.value
        if mask.any():
            fill = np.zeros((*mask.T.shape, 4))
            fill[mask.T] = (*structure_colour(structure), style.fill_opacity)
            axes.imshow(fill, aspect=axes.get_aspect(), interpolation="nearest")
    for mask, structure in _outlines(labels):
        _contour(axes, mask, structure, style.contour_points, "solid")


def _outlines(labels: np.ndarray) -> list[tuple[np.ndarray, Structure]]:
    """Masks whose border is drawn; the myocardium's is that of LV and MYO together."""
    wall = (labels == MYO.value).any()
    epicardium = (labels == MYO.value) | (labels == LV.value)
    return [
        (labels == RV.value, RV),
        (epicardium if wall else np.zeros_like(epicardium), MYO),
        (labels == LV.value, LV),
    ]


def _contour(
    axes: Axes, mask: np.ndarray, structure: Structure | None, points: float, style: str
) -> None:
    if not mask.any():
        return
    padded = np.pad(mask, 1).T.astype(np.float32)
    colour: Any = "white" if structure is None else structure_colour(structure)
    across, down = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
    axes.contour(
        across, down, padded, levels=[0.5], colors=[colour], linewidths=points, linestyles=style
    )
    axes.set_xlim(-0.5, mask.shape[0] - 0.5)
    axes.set_ylim(mask.shape[1] - 0.5, -0.5)


def _legend(figure: Figure, title: str, labels: np.ndarray, truth: np.ndarray | None) -> None:
    from matplotlib.lines import Line2D

    height = figure.get_size_inches()[1]
    empty = "" if labels.any() else "   (nothing is labelled)"
    figure.text(0.006, 1 - 0.06 / height, title + empty, ha="left", va="top", fontsize=12)
    handles = [
        Line2D([], [], color=structure_colour(s), lw=2.5, label=f"{s.name}  {s.title}")
        for s in STRUCTURES
    ]
    if truth is not None:
        handles.append(Line2D([], [], color="#666666", lw=1.5, ls="dotted", label="reference"))
    figure.legend(
        handles=handles,
        loc="lower left",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        bbox_to_anchor=(0.0, 0.0),
        borderaxespad=0.3,
        columnspacing=1.6,
        handlelength=1.6,
    )


def _crop(volume: np.ndarray, box: CropBox) -> np.ndarray:
    return volume[box.x[0] : box.x[1], box.y[0] : box.y[1]]


def _name_curves(axes: Axes, position: float, last_ml: dict[Structure, float]) -> None:
    """Names at the right ends of the curves, moved apart where the curves end together."""
    top = axes.get_ylim()[1]
    height = -math.inf
    for structure, volume in sorted(last_ml.items(), key=lambda item: item[1]):
        height = max(volume, height + 0.055 * top)
        axes.annotate(
            structure.name,
            (position, height),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=structure_colour(structure),
            weight="bold",
            annotation_clip=False,
        )


def _phase_mark(axes: Axes, position: float, text: str) -> None:
    """A phase's name over its line, to the left of it where the curves' own names stand."""
    first, last = axes.get_xlim()
    at_the_end = position > first + 0.85 * (last - first)
    axes.annotate(
        text,
        (position, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right" if at_the_end else "center",
        va="bottom",
        fontsize=9,
        color=INK,
        annotation_clip=False,
    )


def structure_colour(structure: Structure) -> tuple[float, float, float]:
    """Red, green and blue from 0 to 1."""
    red, green, blue = structure.colour
    return red / 255, green / 255, blue / 255


def _save(figure: Figure, path: Path, dpi: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
