"""What a network expects its input to be: one record, kept in the card of its model version.

Three forms exist. Gong et al. (STACOM 2022, section 2.5) give two: `CONVOLUTIONAL`, whole images
at one pixel size, and `TRANSFORMER`, the heart in the image's own pixels. `COMPACT` is the house's:
the heart at a coarse pixel size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from cinelabel.core.errors import InputError, ModelError
from cinelabel.core.grid import Grid
from cinelabel.transforms.preprocess import (
    CLIP_PERCENTILES,
    Crop,
    Over,
    clip,
    standardise,
    unit_range,
)

MARGIN_MM = 24.0
"""Left on every side of the heart in a window that follows its extent."""
WINDOW_STEP = 16
"""Such a window is a multiple of this many pixels."""
WINDOW_GROWTH = 1.5
"""Such a window is at most this many times the least one."""
Z_SCORE_TEXT = "zero mean and unit spread, each slice by itself"
"""How the first cards worded their only way to scale intensities."""


def _rising(percentiles: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError("percentiles rise from 0 or more to 100 or less")
    return percentiles


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Preparation:
    """What is done to a volume before a network sees it.

    Attributes:
        spacing_mm: pixel size in the plane; None keeps the image's own pixels.
        size: height and width of the window; the least ones where it follows the heart's extent.
        window: round the heart, or the middle of the image.
        order: of the spline that resamples, 1 or 3.
        intensity: zero mean and unit spread, or the range from 0 to 1.
        normalised_over: whether percentiles, mean and range are those of each slice or the volume.
        depth: slices of the examples a 3D network learned from; None for a 2D network.
        clip_percentiles: where intensities are clipped.
    """

    spacing_mm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    size: Annotated[int, Field(ge=16)]
    window: Literal["heart", "image"] = "heart"
    order: Literal[1, 3] = 1
    intensity: Literal["z-score", "min-max"] = "z-score"
    normalised_over: Over = "slice"
    depth: Annotated[int, Field(ge=1)] | None = None
    clip_percentiles: Annotated[tuple[float, float], AfterValidator(_rising)] = CLIP_PERCENTILES

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """The preparation of a card's `preprocessing`, also of a card that knew only spacing,
        size, percentiles and a sentence on normalisation.

        Raises:
            ModelError: naming the first key that is unknown, missing or wrong.
        """
        given = dict(values)
        worded = given.pop("normalisation", Z_SCORE_TEXT)
        if worded != Z_SCORE_TEXT:
            raise _unreadable("normalisation", f"unknown, {worded!r}")
        if isinstance(given.get("clip_percentiles"), list):
            given["clip_percentiles"] = tuple(given["clip_percentiles"])
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = str(first["loc"][0]) if first["loc"] else "preprocessing"
            raise _unreadable(key, first["msg"]) from error

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; `from_dict` undoes it."""
        return {**asdict(self), "clip_percentiles": list(self.clip_percentiles)}

    def crop(
        self,
        grid: Grid,
        centre: tuple[float, float] | None = None,
        extent_mm: tuple[float, float] | None = None,
        only: int = 0,
    ) -> Crop:
        """The window on the slices of a grid.

        In the image's own pixels it starts at a whole pixel; of two equally near ones, the lower.

        Args:
            grid: of the volume.
            centre: in-plane index of the heart's middle, for a window round it.
            extent_mm: of the heart; the window then follows it within bounds.
            only: the one size of a network that is made for one size; 0 if there is none.

        Raises:
            InputError: when a window round the heart is wanted and no centre given.
        """
        shape, spacing = grid.shape[:2], grid.spacing[:2]
        if self.window == "image":
            middle, extent_mm = ((shape[0] - 1) / 2, (shape[1] - 1) / 2), None
        elif centre is None:
            raise InputError("a window round the heart needs to know where the heart is")
        else:
            middle = (float(centre[0]), float(centre[1]))
        size = (only or self.size,) * 2
        if extent_mm is not None and not only:
            size = (self._pixels(extent_mm[0], spacing[0]), self._pixels(extent_mm[1], spacing[1]))
        if self.spacing_mm is None:
            middle = (_on_pixels(middle[0], size[0]), _on_pixels(middle[1], size[1]))
        return Crop(middle, size, self.spacing_mm, shape, spacing, self.order)

    def prepare(self, volume: np.ndarray, crop: Crop) -> np.ndarray:
        """What the network sees of a volume: (x, y, n) -> float32 (n, h, w).

        Round the heart, only what the window shows is judged, and what lies beyond the image is
        air. Of whole images, the image's own pixels are clipped, then resampled, then judged by
        those that lie in the window; the rest of the window is zero, the mean or the lowest.
        """
        over, percentiles = self.normalised_over, self.clip_percentiles
        if self.window == "heart":
            return self._scaled(clip(crop.apply(volume), over, percentiles))
        slices = clip(np.moveaxis(np.asarray(volume), 2, 0), over, percentiles)
        seen = crop.apply(np.moveaxis(slices, 0, 2))
        rows, columns = crop.covered()
        seen[:, rows, columns] = self._scaled(seen[:, rows, columns])
        return seen

    def _scaled(self, images: np.ndarray) -> np.ndarray:
        standard = standardise(images, self.normalised_over)
        if self.intensity == "z-score":
            return standard
        return unit_range(standard, self.normalised_over)

    def _pixels(self, extent_mm: float, source_spacing: float) -> int:
        """Pixels that hold the heart with its margin."""
        wide = (extent_mm + 2 * MARGIN_MM) / (self.spacing_mm or source_spacing)
        steps = int(np.ceil(wide / WINDOW_STEP)) * WINDOW_STEP
        return int(np.clip(steps, self.size, WINDOW_GROWTH * self.size))


COMPACT = Preparation(spacing_mm=1.5, size=128)
CONVOLUTIONAL = Preparation(
    spacing_mm=0.66, size=512, window="image", order=3, normalised_over="volume"
)
TRANSFORMER = Preparation(spacing_mm=None, size=224, intensity="min-max")


def heart_centre(labels: np.ndarray) -> tuple[float, float] | None:
    """Middle of the in-plane bounding box of all structures, over all slices and phases.

    Args:
        labels: (x, y, z) or (x, y, z, t).

    Returns:
        In-plane index, or None where nothing is labelled.
    """
    seen = np.argwhere((labels > 0).any(axis=tuple(range(2, labels.ndim))))
    if not len(seen):
        return None
    middle = (seen.min(0) + seen.max(0)) / 2
    return float(middle[0]), float(middle[1])


def _on_pixels(centre: float, size: int) -> float:
    """The nearest middle at which a window of `size` pixels starts at a whole one."""
    half = (size - 1) / 2
    return float(np.ceil(centre - half - 0.5)) + half


def _unreadable(key: str, problem: str) -> ModelError:
    return ModelError(
        f"the preprocessing of the model cannot be read, '{key}': {problem}",
        remedy="Publish the model again, or update CineLabel",
    )
