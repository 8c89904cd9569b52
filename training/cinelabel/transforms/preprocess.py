"""From a study's grid to what a network sees, and back: windows, in-plane resampling, intensities.

The steps of Gong et al. (STACOM 2022, section 2.5); `preparation.py` says which of them a network
wants. Slices are left as they are. Resampling is separable, two small matrix products: linear,
widened to the coarser pixel where it would alias, or a cubic spline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

CLIP_PERCENTILES = (0.5, 99.5)
Over = Literal["slice", "volume"]
"""What intensities are judged by: each slice by itself, or all slices together."""


def clip(
    images: np.ndarray, over: Over = "slice", percentiles: tuple[float, float] = CLIP_PERCENTILES
) -> np.ndarray:
    """Clip at the percentiles: (..., h, w) -> float32 of the same shape."""
    rows = _rows(images, over)
    low, high = np.percentile(rows, percentiles, axis=1).astype(np.float32)
    return np.clip(rows, low[:, None], high[:, None]).reshape(images.shape)


def standardise(images: np.ndarray, over: Over = "slice") -> np.ndarray:
    """Scale to zero mean and unit spread: (..., h, w) -> float32; what is constant becomes zero."""
    rows = _rows(images, over)
    rows = rows - rows.mean(1, keepdims=True)
    spread = rows.std(1, keepdims=True)
    return (rows / np.maximum(spread, 1e-6)).reshape(images.shape).astype(np.float32)


def normalise(
    images: np.ndarray, over: Over = "slice", percentiles: tuple[float, float] = CLIP_PERCENTILES
) -> np.ndarray:
    """Clip at the percentiles, then scale to zero mean and unit spread.

    Args:
        images: (..., h, w).
        over: each slice by itself, or all together.
        percentiles: lower and upper.

    Returns:
        float32 of the same shape; a constant slice becomes zero.
    """
    return standardise(clip(images, over, percentiles), over)


def unit_range(images: np.ndarray, over: Over = "slice") -> np.ndarray:
    """Scale to lie between 0 and 1 (the transformers' min-max, after clipping).

    Args:
        images: (..., h, w), normalised.
        over: each slice by itself, or all together.

    Returns:
        float32 of the same shape; a constant slice becomes zero.
    """
    rows = _rows(images, over)
    low = rows.min(1, keepdims=True)
    span = rows.max(1, keepdims=True) - low
    return ((rows - low) / np.maximum(span, 1e-6)).reshape(images.shape).astype(np.float32)


def _rows(images: np.ndarray, over: Over) -> np.ndarray:
    """Float32 (k, pixels): one row for what is judged together."""
    size = images.shape[-2] * images.shape[-1] if over == "slice" else images.size
    return np.asarray(images, np.float32).reshape(-1, size)


def pad_slices(images: np.ndarray, multiple: int) -> tuple[np.ndarray, slice]:
    """Repeat the end slices until their number is a multiple, as many at either end as can be.

    Args:
        images: (n, ...), slices first.
        multiple: of which their number shall be.

    Returns:
        The slices, and where the given ones lie among them: `padded[where]` undoes it.
    """
    n = len(images)
    extra = -n % multiple
    before = extra // 2
    chosen = np.clip(np.arange(-before, n + extra - before), 0, n - 1)
    return images[chosen], slice(before, before + n)


def resampling_matrix(
    source: int, target: int, step: float, centre: float, antialias: bool = True
) -> np.ndarray:
    """Weights that resample a line of `source` samples to `target` ones, linearly.

    Target sample p lies at source index centre + (p - (target - 1) / 2) * step.

    Args:
        source, target: number of samples.
        step: target spacing in source samples.
        centre: source index of the middle of the target.
        antialias: widen the triangle to the target spacing where that is coarser.

    Returns:
        float32 (target, source); rows of samples outside the source are zero.
    """
    position = _positions(target, step, centre)
    width = max(1.0, step) if antialias else 1.0
    distance = np.abs(position[:, None] - np.arange(source)[None]) / width
    weights = np.maximum(1.0 - distance, 0.0)
    weights[~_inside(position, source)] = 0.0
    total = weights.sum(1, keepdims=True)
    return (weights / np.where(total > 0.0, total, 1.0)).astype(np.float32)


@lru_cache(maxsize=16)
def cubic_matrix(source: int, target: int, step: float, centre: float) -> np.ndarray:
    """As `resampling_matrix`, by a third-order spline that goes on with the ends' values.

    A spline is linear in its samples: those of the identity give the weights. Like nnU-Net's
    resampling (Isensee et al. 2021), it is not widened where the target is coarser.

    Returns:
        float32 (target, source), read-only.
    """
    from scipy import ndimage

    position = _positions(target, step, centre)
    at = np.meshgrid(position, np.arange(source), indexing="ij")
    weights = ndimage.map_coordinates(np.eye(source), at, order=3, mode="nearest")
    weights[~_inside(position, source)] = 0.0
    matrix: np.ndarray = weights.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def _positions(target: int, step: float, centre: float) -> np.ndarray:
    return centre + (np.arange(target) - (target - 1) / 2) * step


def _inside(position: np.ndarray, source: int) -> np.ndarray:
    """Which positions lie in one of `source` pixels."""
    return (position > -0.5 - 1e-9) & (position < source - 0.5 + 1e-9)


@dataclass(frozen=True)
class Crop:
    """A window on the slices of a grid.

    Attributes:
        centre: in-plane source index of its middle.
        size: its pixels.
        spacing: its pixel size in mm; None for the source's own pixels, which `centre` must then
            fall on (or between, for an even size) so that nothing is interpolated.
        source_shape, source_spacing: the slices' own.
        order: of the spline that resamples images into it, 1 or 3.
    """

    centre: tuple[float, float]
    size: tuple[int, int]
    spacing: float | None
    source_shape: tuple[int, int]
    source_spacing: tuple[float, float]
    order: int = 1

    def apply(self, volume: np.ndarray) -> np.ndarray:
        """Slices in the window: (x, y, n) -> float32 (n, h, w), zero outside the image."""
        rows, columns = (self._to_window(axis, self.order) for axis in (0, 1))
        slices = np.moveaxis(np.asarray(volume, np.float32), 2, 0)
        if slices.itemsize not in slices.strides[1:]:  # BLAS would leave them to a slow loop
            slices = np.ascontiguousarray(slices)
        return np.matmul(np.matmul(rows, slices), columns.T)

    def apply_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels in the window, the structure of the largest share: (x, y, n) -> uint8 (n, h, w).

        Shares are linear, whatever the order of the images' spline.
        """
        rows, columns = (self._to_window(axis, 1) for axis in (0, 1))
        slices = np.ascontiguousarray(np.moveaxis(labels, 2, 0))  # 20 times as fast
        return _largest_share(slices, lambda share: np.matmul(np.matmul(rows, share), columns.T))

    def restore(self, maps: np.ndarray, outside: float = 0.0, order: int = 1) -> np.ndarray:
        """Bring maps back to the source's pixels: (n, h, w) -> float32 (x, y, n).

        Args:
            maps: in the window.
            outside: value of source pixels that the window does not cover.
            order: of the spline; a third-order one may overshoot, so probabilities take 1.
        """
        rows, columns = (self._to_source(axis, order) for axis in (0, 1))
        full = np.matmul(np.matmul(rows, np.asarray(maps, np.float32)), columns.T)
        if outside:
            full[:, ~(rows.any(1)[:, None] & columns.any(1)[None])] = outside
        return np.moveaxis(full, 0, 2)

    def restore_probabilities(self, maps: np.ndarray) -> np.ndarray:
        """Probabilities on the source's pixels: (n, classes, h, w) -> float32 (classes, x, y, n).

        They sum to 1 as before; what the window does not cover is background.
        """
        return np.stack(
            [self.restore(maps[:, c], outside=float(c == 0)) for c in range(maps.shape[1])]
        )

    def restore_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels on the source's pixels, as in `apply_labels`: (n, h, w) -> uint8 (x, y, n)."""
        rows, columns = (self._to_source(axis, 1) for axis in (0, 1))
        slices = np.asarray(labels)
        full = _largest_share(slices, lambda share: np.matmul(np.matmul(rows, share), columns.T))
        return np.moveaxis(full, 0, 2)

    def covered(self) -> tuple[slice, slice]:
        """Rows and columns of the window that lie in the image."""
        found = []
        for axis in (0, 1):
            position = _positions(self.size[axis], self._step(axis), self.centre[axis])
            inside = np.flatnonzero(_inside(position, self.source_shape[axis]))
            found.append(slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0))
        return found[0], found[1]

    def _step(self, axis: int) -> float:
        """The window's pixels in the source's."""
        return 1.0 if self.spacing is None else self.spacing / self.source_spacing[axis]

    def _to_window(self, axis: int, order: int) -> np.ndarray:
        line = (self.source_shape[axis], self.size[axis], self._step(axis), self.centre[axis])
        return cubic_matrix(*line) if order == 3 else resampling_matrix(*line)

    def _to_source(self, axis: int, order: int) -> np.ndarray:
        step = 1.0 if self.spacing is None else self.source_spacing[axis] / self.spacing
        middle = (self.source_shape[axis] - 1) / 2
        centre = (self.size[axis] - 1) / 2 + (middle - self.centre[axis]) * step
        line = (self.size[axis], self.source_shape[axis], step, centre)
        return cubic_matrix(*line) if order == 3 else resampling_matrix(*line, antialias=False)


def _largest_share(slices: np.ndarray, resample: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Each structure resampled by itself; the largest share wins, the lower value when equal."""
    best = resample((slices == 0).astype(np.float32))
    winner = np.zeros(best.shape, np.uint8)
    for value in range(1, int(slices.max(initial=0)) + 1):
        share = resample((slices == value).astype(np.float32))
        larger = share > best
        winner[larger] = value
        best = np.maximum(best, share)
    return winner
