"""A sheet of phantom slices beside slices of real cases, dark as a viewing screen.

For the eye: what gives a phantom away shows best beside a real heart, at the same scale and in the
same window. Every row is a case: end-diastole, then end-systole, from base to apex.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.core.files import atomic_write
from cinelabel.core.labels import LV, MYO, RV, STRUCTURES
from cinelabel.phantom.anatomy import GROUPS
from cinelabel.phantom.cohort import PhantomStudy, Progress, make_study
from cinelabel.phantom.settings import PhantomSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cinelabel.phantom.breathing import Manner

PHASES = ("ED", "ES")
FRAMES = 8
"""Cardiac phases of a phantom for the sheet, few but one of them close to the end of systole."""
REALISTIC = PhantomSettings(random_contrast_share=0.0)


@dataclass(frozen=True)
class GalleryStyle:
    """Numbers of the sheet.

    Attributes:
        slices: of each phase, from base to apex.
        field_mm: width of a tile.
        tile: pixels of a tile.
        gap, heading, caption: pixels between tiles, above the sheet and above a row.
        window_percentiles: of the tiles of a row, shown as black and white.
        blood: white lies at most so many times above the brightest of the labelled cavity.
        dpi: of the file; letters are as large as at 100.
    """

    slices: int = 5
    field_mm: float = 200.0
    tile: int = 128
    gap: int = 3
    heading: int = 40
    caption: int = 18
    window_percentiles: tuple[float, float] = (1.0, 99.6)
    blood: float = 1.25
    dpi: int = 100


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A case for the sheet: one stack a phase, on one grid.

    Attributes:
        title: shown above its row.
        images: (x, y, z) float a phase.
        labels: canonical labels (x, y, z) a phase, None where there are none.
        pixel: mm of the first and second axis.
    """

    title: str
    images: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray | None, ...]
    pixel: tuple[float, float]

    @property
    def labelled(self) -> np.ndarray | None:
        """Labels (x, y, z) of the first phase that has any."""
        return next((labels for labels in self.labels if labels is not None), None)


def phantom_exhibits(
    seed: int,
    *,
    group: str | None = None,
    manner: Manner | None = None,
    progress: Progress | None = None,
) -> list[Exhibit]:
    """A phantom of every group with held breath, then one of the first group in every other manner.

    All have the contrast of the bSSFP equation; random ones are for training, not for the eye.

    Args:
        seed: of the first; the next ones count on.
        group, manner: the only one to show; all when None.
        progress: called with phantoms done, phantoms in all, and the last one's title.

    Raises:
        InputError: for a group that the population does not have.
    """
    from cinelabel.phantom.breathing import Manner

    groups = list(GROUPS) if group is None else [group]
    manners = list(Manner) if manner is None else [manner]
    wanted = [(name, manners[0]) for name in groups] + [(groups[0], m) for m in manners[1:]]
    exhibits = []
    for number, (name, how) in enumerate(wanted):
        made = make_study(seed + number, frames=FRAMES, group=name, manner=how, settings=REALISTIC)
        breathing = how.name.lower().replace("_", " ")
        title = f"{name.replace('_', ' ')}, {breathing}, grade {made.truth['grade']}"
        exhibits.append(phantom_exhibit(made, title))
        if progress is not None:
            progress(number + 1, len(wanted), title)
    return exhibits


def phantom_exhibit(made: PhantomStudy, title: str) -> Exhibit:
    """ED and ES of a phantom, turned as scanners show hearts: RV to the left and upwards."""
    phases = (made.study.ed or 0, made.study.es or 0)
    images = tuple(made.study.frame(t) for t in phases)
    labels = tuple(made.labels[..., t] for t in phases)
    geometry = made.truth.get("geometry")
    mirrored = isinstance(geometry, dict) and bool(geometry.get("mirrored"))
    turn, quarters = _upright(labels[0], flipped=not mirrored)
    along_x, along_y, _ = made.study.grid.spacing
    return Exhibit(
        title,
        tuple(turn(image) for image in images),
        tuple(turn(label) for label in labels),
        (along_x, along_y) if quarters % 2 == 0 else (along_y, along_x),
    )


def _upright(labels: np.ndarray, flipped: bool) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """What brings RV to the upper left of LV, and its number of quarter turns.

    `flipped`: whether the stack, shown as stored, has the handedness of a view from the base.
    """

    def turned(array: np.ndarray, quarters: int) -> np.ndarray:
        return np.rot90(array[:, ::-1] if flipped else array, quarters)

    def leftness(quarters: int) -> float:
        centres = [
            np.argwhere(np.isin(turned(labels, quarters), values)).mean(axis=0)
            for values in ((RV.value,), (LV.value, MYO.value))
        ]
        x, y = (centres[0] - centres[1])[:2]
        return float(-x - 0.4 * y)  # x to the right, y downwards

    if not np.isin((LV.value, RV.value), labels).all():
        return partial(turned, quarters=0), 0
    best = max(range(4), key=leftness)
    return partial(turned, quarters=best), best


def draw_gallery(
    path: Path,
    phantoms: Sequence[Exhibit],
    real: Sequence[Exhibit] = (),
    *,
    contours: bool = False,
    style: GalleryStyle | None = None,
) -> None:
    """Write a PNG: phantoms in the left half, real cases in the right one (if there are any).

    Args:
        path: of the picture.
        phantoms, real: a row each; stacks are shown as stored, first axis to the right.
        contours: whether the borders of the labels are drawn.
        style: numbers of the sheet.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    style = style or GalleryStyle()
    halves = [("Phantom", phantoms)] + ([("Real", real)] if real else [])
    rows = max(len(exhibits) for _, exhibits in halves)
    step = style.tile + style.gap
    half = len(PHASES) * (style.slices * step + 3 * style.gap) + 5 * style.gap
    width = half * len(halves)
    height = style.heading + rows * (step + style.caption)
    sheet = np.zeros((height, width, 3), np.uint8)
    figure = Figure(figsize=(width / 100, height / 100), facecolor="black")
    for column, (name, exhibits) in enumerate(halves):
        left = column * half + 2 * style.gap
        _write(figure, name, left, 4, sheet.shape, size=11)
        for row, exhibit in enumerate(exhibits):
            top = style.heading + row * (step + style.caption)
            _draw_row(sheet, figure, exhibit, (top, left), contours, style)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(sheet, interpolation="none", aspect="auto")
    axes.set_zorder(-1)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=style.dpi, format="png", facecolor="black")


def _draw_row(
    sheet: np.ndarray,
    figure: Figure,
    exhibit: Exhibit,
    corner: tuple[int, int],
    contours: bool,
    style: GalleryStyle,
) -> None:
    """One case: its title, and the tiles of its phases in one window."""
    top, left = corner
    shown = _slices(exhibit, style.slices)
    centre = _centre(exhibit)
    tiles = [
        [_resample(image[..., z], centre, exhibit.pixel, style, 1) for z in shown]
        for image in exhibit.images
    ]
    low, high = _window(exhibit, np.array(tiles), style)
    for p, (phase, row) in enumerate(zip(PHASES, tiles, strict=False)):
        start = left + p * (style.slices * (style.tile + style.gap) + 3 * style.gap)
        title = f"{exhibit.title}   {phase}" if p == 0 else phase
        _write(figure, title, start, top, sheet.shape, size=7.5)
        for k, tile in enumerate(row):
            x, y = start + k * (style.tile + style.gap), top + style.caption
            grey = np.clip((tile - low) / (high - low), 0, 1) * 255
            picture = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
            labels = exhibit.labels[p]
            if contours and labels is not None:
                _outline(picture, _resample(labels[..., shown[k]], centre, exhibit.pixel, style, 0))
            sheet[y : y + style.tile, x : x + style.tile] = picture


def _window(exhibit: Exhibit, tiles: np.ndarray, style: GalleryStyle) -> tuple[float, float]:
    """Grey values shown as black and white; bright fat does not darken the heart."""
    low, high = (float(v) for v in np.percentile(tiles, style.window_percentiles))
    cavity = [
        image[labels == LV.value]
        for image, labels in zip(exhibit.images, exhibit.labels, strict=True)
        if labels is not None
    ]
    blood = np.concatenate(cavity) if cavity else np.empty(0)
    if blood.size:
        high = min(high, low + style.blood * (float(np.percentile(blood, 95)) - low))
    return low, max(high, low + 1e-6)


def _slices(exhibit: Exhibit, count: int) -> list[int]:
    """Slice numbers from beyond the base to the apex, evenly; the whole stack without labels."""
    depth = exhibit.images[0].shape[2]
    first, last = 0, depth - 1
    if exhibit.labelled is not None and exhibit.labelled.any():
        area = np.isin(exhibit.labelled, (LV.value, MYO.value)).sum(axis=(0, 1))
        heart = np.flatnonzero(area)
        base, apex = int(heart[0]), int(heart[-1])
        outwards = -1
        if area[: (base + apex) // 2 + 1].sum() < area[(base + apex + 1) // 2 :].sum():
            base, apex, outwards = apex, base, 1
        first, last = int(np.clip(base + outwards, 0, depth - 1)), apex
    return [int(round(z)) for z in np.linspace(first, last, count)]


def _centre(exhibit: Exhibit) -> tuple[float, float]:
    """In-plane index of the middle of the heart, or of the picture."""
    if exhibit.labelled is None or not exhibit.labelled.any():
        shape = exhibit.images[0].shape
        return (shape[0] - 1) / 2, (shape[1] - 1) / 2
    x, y = (float(index.mean()) for index in np.nonzero(exhibit.labelled)[:2])
    return x, y


def _resample(
    plane: np.ndarray,
    centre: tuple[float, float],
    pixel: tuple[float, float],
    style: GalleryStyle,
    order: int,
) -> np.ndarray:
    """A tile (row, column) of `field_mm` around a centre; black beyond the picture."""
    from scipy.ndimage import map_coordinates

    reach = (np.arange(style.tile) - (style.tile - 1) / 2) * style.field_mm / style.tile
    x, y = np.meshgrid(centre[0] + reach / pixel[0], centre[1] + reach / pixel[1])
    return map_coordinates(plane.astype(np.float32), (x, y), order=order, cval=0.0)


def _outline(picture: np.ndarray, labels: np.ndarray) -> None:
    """Draw the inner borders of every structure into a picture (row, column, 3) in its colour."""
    from scipy.ndimage import binary_erosion

    for structure in STRUCTURES:
        mask = np.rint(labels) == structure.value
        picture[mask & ~binary_erosion(mask)] = structure.colour


def _write(
    figure: Figure, text: str, left: int, top: int, shape: tuple[int, ...], size: float
) -> None:
    """Light letters whose upper left corner is at a pixel of the sheet."""
    height, width = shape[:2]
    figure.text(
        left / width, 1 - (top + 3) / height, text, color="0.75", fontsize=size, va="top", ha="left"
    )
