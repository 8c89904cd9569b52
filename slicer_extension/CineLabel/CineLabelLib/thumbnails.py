"""A small picture of each slice, and what can be said of a breath-hold without any model.

Findings compare the slices of one study with each other, around the heart: how bright it is
against lung and air, how sharp its edges are, where it lies against the slices beside it, and
whether there is anything at all. They rank slices for a look; they grade nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CineLabelLib.core.review import SliceReview
from CineLabelLib.study import CineStudy

SIZE = 96
"""Pixels along a side of a thumbnail."""
HEART_MM = 75.0
"""Half the side of the square around the heart that is shown and looked at."""
TOLD_FROM = 0.25
"""Badness from which a finding is put into words."""
FRAMES_READ = 8
"""So many frames, evenly spaced, tell where something moves."""


@dataclass(frozen=True)
class Limits:
    """From where a finding is told, and where it is as bad as can be.

    Attributes:
        shift_mm: off the course of the other slices.
        widening: width of edges as a share of the other slices' median.
        fading: contrast as a share of the other slices' median.
        empty: signal as a share of the other slices' median, below which there is next to nothing.
    """

    shift_mm: tuple[float, float] = (6.0, 15.0)
    widening: tuple[float, float] = (1.15, 1.6)
    fading: tuple[float, float] = (0.93, 0.6)
    empty: float = 0.15


@dataclass(frozen=True, eq=False)
class SliceLook:
    """What is seen of one slice.

    Attributes:
        index: slice, from 0.
        thumbnail: (x, y) uint8, `SIZE` square, of the square around the heart.
        signal: range of grey values as a share of the other slices' median.
        contrast: of heart to lung and air, 0 (none) to 1 (Michelson's).
        edge_width_mm: of the sharpest edges; None in a slice that shows nothing.
        shift_mm: in plane along x and y, off the course of the other slices; None where not known.
        findings: in a few words with their unit, the worst first; empty where nothing stands out.
        badness: 0 (nothing found) to 1.
    """

    index: int
    thumbnail: np.ndarray
    signal: float
    contrast: float
    edge_width_mm: float | None
    shift_mm: tuple[float, float] | None
    findings: tuple[str, ...]
    badness: float

    def review(self) -> SliceReview:
        """The look as a review record holds it; a score of artefacts is left to models."""
        empty = self.edge_width_mm is None
        return SliceReview(
            index=self.index,
            shift_mm=self.shift_mm,
            coverage=self.findings if empty else (),
            contrast=() if empty else self.findings,
        )


def worst_first(looks: Sequence[SliceLook]) -> tuple[int, ...]:
    """The slices in the order in which they are worth a look, empty ones first."""
    order = sorted(looks, key=lambda each: (-each.badness, each.edge_width_mm is not None))
    return tuple(each.index for each in order)


def look(study: CineStudy, frame: int | None = None) -> tuple[SliceLook, ...]:
    """Look at every slice of a frame; ED, else the first, where `frame` is None.

    Takes about a second; call it off the main thread.
    """
    dx, dy, _ = study.grid.spacing
    return look_at(study.voxels, (dx, dy), (study.ed or 0) if frame is None else frame)


def look_at(
    voxels: np.ndarray, spacing: tuple[float, float], frame: int = 0, limits: Limits | None = None
) -> tuple[SliceLook, ...]:
    """Look at the slices of a frame of voxels (x, y, z, t) with in-plane spacing in mm."""
    limits = limits or Limits()
    step = max(1, -(-voxels.shape[3] // FRAMES_READ))
    box = heart_box(voxels[..., ::step], spacing)
    some = np.nan_to_num(voxels[(*box, slice(None), slice(None, None, step))].astype(np.float32))
    here = np.nan_to_num(voxels[(*box, slice(None), frame)].astype(np.float32))
    dark, bright = np.percentile(here, (10, 95), axis=(0, 1))
    signals = _share(bright - dark)
    shown = signals >= limits.empty
    contrasts = (bright - dark) / np.maximum(np.abs(bright) + np.abs(dark), 1e-6)
    slices = range(here.shape[2])
    widths = np.array([edge_width_mm(here[:, :, k], spacing) if shown[k] else 0 for k in slices])
    shifts = np.full((len(slices), 2), np.nan)
    if shown.sum() >= 4:
        shifts[shown] = shifts_mm(some.mean(axis=3)[:, :, shown], spacing)
    pictures = thumbnails(here, spacing)
    usual = (_median(contrasts[shown]), _median(widths[shown]))
    found = [
        _findings(
            (signals[k], contrasts[k], widths[k], float(np.linalg.norm(shifts[k]))),
            usual,
            limits,
        )
        for k in slices
    ]
    return tuple(
        SliceLook(
            index=k,
            thumbnail=pictures[:, :, k],
            signal=float(signals[k]),
            contrast=float(contrasts[k]),
            edge_width_mm=float(widths[k]) if shown[k] else None,
            shift_mm=None if np.isnan(shifts[k, 0]) else (float(shifts[k, 0]), float(shifts[k, 1])),
            findings=found[k][1],
            badness=found[k][0],
        )
        for k in slices
    )


def thumbnails(images: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Pictures (SIZE, SIZE, z) uint8 of images (x, y, z), each in the middle of a square.

    One grey window for all, from the darkest to the brightest but for a hundredth at either end,
    so that a slice that is darker looks darker. The longer side in millimetres fills the square.
    """
    low, high = np.percentile(images, (1, 99))
    grey = np.clip((images - low) / max(high - low, 1e-6), 0, 1)
    sides = [n * mm for n, mm in zip(images.shape, spacing, strict=False)]
    factors = [SIZE * mm / max(sides) for mm in spacing]
    blur = [max(0.0, 0.5 / factor - 0.5) for factor in factors]
    grey = ndimage.gaussian_filter(grey, (*blur, 0))
    small = ndimage.zoom(grey, (*factors, 1), order=1, mode="nearest", grid_mode=True)
    small = small[:SIZE, :SIZE]
    square = np.zeros((SIZE, SIZE, images.shape[2]), np.uint8)
    x, y = ((SIZE - n) // 2 for n in small.shape[:2])
    square[x : x + small.shape[0], y : y + small.shape[1]] = np.round(255 * small)
    return square


def heart_box(frames: np.ndarray, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """The square around what moves most near the middle of frames (x, y, z, t).

    Where frames are too few to tell, it is around the middle.
    """
    middle = [n / 2 for n in frames.shape[:2]]
    if frames.shape[3] > 3:
        every = [max(1, int(3 / mm)) for mm in spacing]  # 3 mm are fine enough to find the heart
        coarse = np.nan_to_num(frames[:: every[0], :: every[1]].astype(np.float32))
        steps = [e * mm for e, mm in zip(every, spacing, strict=True)]
        moves = ndimage.gaussian_filter(
            coarse.std(axis=3).mean(axis=2), [10 / step for step in steps]
        )
        x, y = (np.arange(n) * step for n, step in zip(moves.shape, steps, strict=True))
        away = (x[:, None] - x.mean()) ** 2 + (y[None] - y.mean()) ** 2
        moves *= np.exp(-away / (2 * 80.0**2))
        moves[moves < 0.5 * moves.max()] = 0
        if moves.any():
            best = ndimage.center_of_mass(moves)
            middle = [float(b * e) for b, e in zip(best, every, strict=True)]
    sides = [min(n, 2 * round(HEART_MM / mm)) for n, mm in zip(frames.shape, spacing, strict=False)]
    starts = [
        int(min(max(m - side // 2, 0), n - side))
        for m, side, n in zip(middle, sides, frames.shape, strict=False)
    ]
    return slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])


def edge_width_mm(image: np.ndarray, spacing: tuple[float, float]) -> float:
    """How wide the sharpest edges of an image (x, y) are: its range over its steepest rise."""
    smooth = ndimage.gaussian_filter(image, 0.7)
    steepness = np.hypot(*np.gradient(smooth, *spacing))
    dark, bright = np.percentile(image, (10, 95))
    return float((bright - dark) / max(float(np.percentile(steepness, 98)), 1e-6))


def shifts_mm(images: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """How far each of the images (x, y, z) lies off the course of the others: (z, 2) in mm.

    Phase correlation (Kuglin and Hines 1975) of the edges of slices that are one and two apart
    gives their places by least squares; the course of the places is a parabola that a few slices
    off it do not bend. The first and the last slice bend it more than others, so a shift of
    theirs is underestimated.
    """
    edges = [
        np.hypot(*np.gradient(ndimage.gaussian_filter(images[:, :, k], 1.0)))
        for k in range(images.shape[2])
    ]
    n = len(edges)
    pairs = [(k, k + gap) for gap in (1, 2) for k in range(n - gap)]
    equations = np.zeros((len(pairs) + 1, n))
    moved = np.zeros((len(pairs) + 1, 2))
    weights = np.ones((len(pairs) + 1, 1))
    equations[-1] = 1.0
    for row, (one, other) in enumerate(pairs):
        equations[row, one], equations[row, other] = -1.0, 1.0
        moved[row], weights[row] = _displacement(edges[one], edges[other], spacing)
    places = np.linalg.lstsq(equations * weights, moved * weights, rcond=None)[0]
    return np.stack([_off_course(places[:, axis]) for axis in (0, 1)], axis=1)


def _displacement(
    one: np.ndarray, other: np.ndarray, spacing: tuple[float, float], reach_mm: float = 20.0
) -> tuple[np.ndarray, float]:
    """How far the other image lies from the one, (2,) in mm, and how sure that is, 0 to 1."""
    window = np.outer(*(np.hanning(n) for n in one.shape))
    spectra = [np.fft.fft2((image - image.mean()) * window) for image in (one, other)]
    phases = spectra[1] * np.conj(spectra[0])
    phases /= np.maximum(np.abs(phases), 1e-9 * max(float(np.abs(phases).max()), 1e-30))
    fx, fy = (np.fft.fftfreq(n, mm) for n, mm in zip(one.shape, spacing, strict=True))
    band = np.exp(-np.pi * 9.0 * (fx[:, None] ** 2 + fy[None] ** 2))  # details of 3 mm and more
    peaks = np.fft.fftshift(np.fft.ifft2(phases * band).real)
    middle = [n // 2 for n in peaks.shape]
    reach = [min(m - 1, int(reach_mm / mm)) for m, mm in zip(middle, spacing, strict=True)]
    near = peaks[tuple(slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True))]
    best = np.unravel_index(int(near.argmax()), near.shape)
    moved = [(b - r) * mm for b, r, mm in zip(best, reach, spacing, strict=True)]
    return np.array(moved), float(np.clip(near[best] / band.mean(), 1e-3, 1.0))


def _off_course(places: np.ndarray) -> np.ndarray:
    """Places (n,) less the parabola through most of them, by reweighted least squares."""
    along = np.linspace(-1, 1, len(places))
    powers = np.vander(along, 3 if len(places) > 4 else 2)
    weights = np.ones_like(places)
    off = places
    for _ in range(30):
        bend = np.linalg.lstsq(powers * weights[:, None], places * weights, rcond=None)[0]
        off = places - powers @ bend
        weights = 1 / np.sqrt(np.maximum(np.abs(off), 0.3))
    return off


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else 0.0


def _share(values: np.ndarray) -> np.ndarray:
    median = _median(values)
    return values / median if median > 0 else np.zeros_like(values)


def _findings(
    values: tuple[float, float, float, float], usual: tuple[float, float], limits: Limits
) -> tuple[float, tuple[str, ...]]:
    """A slice's badness, and words on what stands out of its signal, contrast, edges and shift."""
    signal, contrast, width, shift = values
    if signal < limits.empty:
        return 1.0, (f"shows next to nothing, {signal:.0%} of the usual signal",)
    ratios = contrast / max(usual[0], 1e-6), width / max(usual[1], 1e-6)
    found = (
        (_badness(shift, 0, limits.shift_mm), f"lies {shift:.0f} mm off the other slices"),
        (
            _badness(ratios[1], 1, limits.widening),
            f"edges {width:.1f} mm wide, usually {usual[1]:.1f} mm",
        ),
        (
            _badness(ratios[0], 1, limits.fading),
            f"contrast {contrast:.2f} of 1, usually {usual[0]:.2f}",
        ),
    )
    told = sorted((each for each in found if each[0] >= TOLD_FROM), reverse=True)
    return max(badness for badness, _ in found), tuple(words for _, words in told)


def _badness(value: float, usual: float, limits: tuple[float, float]) -> float:
    """0 at what is usual or better, `TOLD_FROM` at the first limit, 1 at the second; 0 for NaN."""
    told, worst = limits
    points = ((usual, 0.0), (told, TOLD_FROM), (worst, 1.0))
    at, badness = zip(*(points if usual < worst else reversed(points)), strict=True)
    return 0.0 if np.isnan(value) else float(np.interp(value, at, badness))
