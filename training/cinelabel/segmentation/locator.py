"""Finding the heart in a whole field of view: one centre and extent a study.

A network trained on crops finds hearts in livers and stomachs. A small one at low resolution looks
at every slice first; its evidence over the stack is one connected body, whose middle and extent say
where to crop. Too little evidence is an answer too: no heart, and why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cinelabel.core.errors import ModelError
from cinelabel.core.grid import Grid
from cinelabel.segmentation.backend import Backend
from cinelabel.segmentation.passes import slice_probabilities, views
from cinelabel.transforms.preparation import Preparation
from cinelabel.transforms.preprocess import Crop


@dataclass(frozen=True)
class LocatorDefaults:
    """When evidence is a heart: probability, area of one slice (mm2), and phases looked at."""

    probability: float = 0.5
    least_area_mm2: float = 350.0
    phases: int = 3
    divisor: int = 16


@dataclass(frozen=True)
class HeartBox:
    """Where the heart is: in-plane centre (source index), extent (mm), slices first to last."""

    centre: tuple[float, float]
    extent_mm: tuple[float, float]
    slices: tuple[int, int]
    probability: float

    def as_dict(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "centre_index": [round(c, 2) for c in self.centre],
            "extent_mm": [round(e, 1) for e in self.extent_mm],
            "slices": list(self.slices),
            "probability": round(self.probability, 4),
        }


@dataclass(frozen=True)
class Located:
    """The heart, or why there is none."""

    heart: HeartBox | None
    reason: str | None


def contiguous(frames: np.ndarray, t: int) -> np.ndarray:
    """Phase t of (x, y, n, t) as (x, y, n), its slices contiguous, which are quick to resample."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(frames[..., t], 2, 0)), 0, 2)


def field_of_view(grid: Grid, preparation: Preparation, divisor: int) -> Crop:
    """The locator's window: at least its size, more pixels where the image is wider."""
    spacing, size = preparation.spacing_mm, preparation.size
    if spacing is None:
        raise ModelError("a locator needs a pixel size, its preparation names none")
    pixels = [
        max(size, int(np.ceil(grid.shape[a] * grid.spacing[a] / spacing / divisor)) * divisor)
        for a in (0, 1)
    ]
    return Crop(
        centre=((grid.shape[0] - 1) / 2, (grid.shape[1] - 1) / 2),
        size=(pixels[0], pixels[1]),
        spacing=spacing,
        source_shape=(grid.shape[0], grid.shape[1]),
        source_spacing=(float(grid.spacing[0]), float(grid.spacing[1])),
    )


def locate(
    frames: np.ndarray,
    grid: Grid,
    network: Backend,
    preparation: Preparation,
    mirror: bool = True,
    defaults: LocatorDefaults | None = None,
) -> Located:
    """Find the heart.

    Args:
        frames: (x, y, z, t); up to `defaults.phases` of them, evenly spread, are looked at.
        grid: of the study.
        network: the locator, two classes.
        preparation: the locator's; its window is widened to the whole image.
        mirror: average over mirrorings.
        defaults: thresholds.
    """
    defaults = defaults or LocatorDefaults()
    window = field_of_view(grid, preparation, defaults.divisor)
    phases = np.unique(np.linspace(0, frames.shape[3], defaults.phases, endpoint=False).astype(int))
    evidence = np.mean(
        [
            slice_probabilities(
                network, preparation.prepare(contiguous(frames, t), window), views(2, mirror, False)
            )[:, 1]
            for t in phases
        ],
        axis=0,
    )
    return _box(evidence, window, defaults)


def _box(evidence: np.ndarray, window: Crop, defaults: LocatorDefaults) -> Located:
    """Centre and extent of the largest connected evidence, (z, h, w) probabilities."""
    best = float(evidence.max())
    mask = evidence > defaults.probability
    if not mask.any():
        return Located(
            None, f"no heart found: the locator's highest probability is {best:.2f} of 1"
        )
    components, _ = ndimage.label(mask, np.ones((3, 3, 3), int))
    mass = np.bincount(components.ravel(), weights=evidence.ravel())
    mass[0] = 0.0
    chosen = components == int(mass.argmax())
    spacing = window.spacing or 1.0
    area = float(chosen.sum((1, 2)).max()) * spacing**2
    if area < defaults.least_area_mm2:
        return Located(
            None,
            f"no heart found: the largest candidate covers {area / 100:.1f} cm2 of a slice, "
            f"less than {defaults.least_area_mm2 / 100:.1f}",
        )
    slices = np.flatnonzero(chosen.any((1, 2)))
    seen = np.argwhere(chosen.any(0))
    low, high = seen.min(0), seen.max(0)
    middle = (low + high) / 2
    centre = [
        window.centre[a]
        + (middle[a] - (window.size[a] - 1) / 2) * spacing / window.source_spacing[a]
        for a in (0, 1)
    ]
    extent = (high - low + 1) * spacing
    return Located(
        HeartBox(
            (float(centre[0]), float(centre[1])),
            (float(extent[0]), float(extent[1])),
            (int(slices[0]), int(slices[-1])),
            float(evidence[chosen].max()),
        ),
        None,
    )
