"""What the images themselves show of each breath-hold, without a model: a picture and findings."""

Findings compare the slices of one study with each other, around the heart: how bright it is
against lung and air, how sharp its edges are, where it lies against the slices beside it, and
whether there is anything at all. They rank slices for a look; they grade nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CineLabelLib.study import CineStudy

THUMBNAIL_SIZE = 96
WINDOW_PERCENT = (1.0, 99.0)
HEART_MM = 65.0
"""Half the side of the square around the heart that is looked at."""
FRAMES_READ = 8
"""So many frames, evenly spaced, tell where something moves."""
NEARLY_EMPTY = 0.15
"""Share of the other slices' signal below which a slice shows next to nothing."""


@dataclass(frozen=True)
class Limits:
    """From where a finding is told, and where it is as bad as can be; set by eye on phantoms."""

    shift_mm: tuple[float, float] = (5.0, 15.0)
    widening: tuple[float, float] = (1.35, 2.2)
    fading: tuple[float, float] = (0.75, 0.3)


@dataclass(frozen=True, eq=False)
class SliceLook:
    """What is seen of one slice.

    Attributes:
        index: slice, from 0.
        thumbnail: (x, y) uint8, the longer side `THUMBNAIL_SIZE` pixels, square millimetres.
        contrast: of heart to lung and air, 0 (none) to 1; Michelson's.
        edge_width_mm: of the sharpest edges around the heart; None where there are none.
        shift_mm: in plane along x and y against the slices beside it; None where not known.
        signal: range of grey values around the heart, as a share of the other slices' median.
        findings: in a few words with their unit, the worst first; empty where nothing stands out.
        badness: 0 (nothing found) to 1.
    """

    index: int
    thumbnail: np.ndarray
    contrast: float
    edge_width_mm: float | None
    shift_mm: tuple[float, float] | None
    signal: float
    findings: tuple[str, ...]
    badness: float


def look(study: CineStudy, frame: int | None = None) -> tuple[SliceLook, ...]:
    """Look at every slice of a frame; ED, else the first, where `frame` is None. Takes a moment."""
    frame = (study.ed or 0) if frame is None else frame
    dx, dy, _ = study.grid.spacing
    return look_at(study.voxels, (dx, dy), frame)


def look_at(
    voxels: np.ndarray, spacing: tuple[float, float], frame: int, limits: Limits | None = None
) -> tuple[SliceLook, ...]:
    """Look at the slices of frame `frame` of voxels (x, y, z, t) with in-plane spacing in mm."""
    limits = limits or Limits()
    step = max(1, -(-voxels.shape[3] // FRAMES_READ))
    some = np.nan_to_num(voxels[..., ::step].astype(np.float32))
    here = np.nan_to_num(voxels[..., frame].astype(np.float32))
    box = heart_box(some, spacing)
    crops = [here[(*box, k)] for k in range(here.shape[2])]
    levels = np.array([np.percentile(crop, (10, 95)) for crop in crops])
    ranges = levels[:, 1] - levels[:, 0]
    signals = ranges / max(float(np.median(ranges)), 1e-6)
    contrasts = ranges / np.maximum(np.abs(levels).sum(axis=1), 1e-6)
    shown = signals >= NEARLY_EMPTY
    widths = np.array([edge_width(c, spacing) if s else np.nan for c, s in zip(crops, shown)])
    shifts = shifts_between([c.mean(axis=2) for c in _crops(some, box)], spacing, shown)
    pictures = thumbnails(here, spacing)
    looks = []
    for k in range(len(crops)):
        told = _findings(k, signals, contrasts, widths, shifts, limits)
        looks.append(
            SliceLook(
                index=k,
                thumbnail=pictures[k],
                contrast=float(contrasts[k]),
                edge_width_mm=float(widths[k]) if np.isfinite(widths[k]) else None,
                shift_mm=(float(shifts[k, 0]), float(shifts[k, 1])) if shown[k] else None,
                signal=float(signals[k]),
                findings=tuple(sentence for _, sentence in told),
                badness=told[0][0] if told else 0.0,
            )
        )
    return tuple(looks)
