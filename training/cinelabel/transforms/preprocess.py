"""From a study's grid to what a network sees, and back: crop, in-plane resampling, normalisation.

Row 000-09 of the first paper in its compact form: in-plane resampling to one pixel size (slices are
left as they are), clipping at the 0.5 and 99.5 percentiles, zero mean and unit spread. The heart is
cropped first and resampled then, which costs a tenth. Resampling is separable: linear
interpolation, widened to the coarser pixel where it would alias, as two small matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLIP_PERCENTILES = (0.5, 99.5)


def normalise(images: np.ndarray) -> np.ndarray:
    """Clip at the percentiles and scale to zero mean, unit spread, each slice by itself.

    Args:
        images: (..., h, w).

    Returns:
        float32 of the same shape; a constant slice becomes zero.
    """
    flat = np.asarray(images, np.float32).reshape(-1, images.shape[-2] * images.shape[-1])
    low, high = np.percentile(flat, CLIP_PERCENTILES, axis=1).astype(np.float32)
    flat = np.clip(flat, low[:, None], high[:, None])
    flat = flat - flat.mean(1, keepdims=True)
    spread = flat.std(1, keepdims=True)
    return (flat / np.maximum(spread, 1e-6)).reshape(images.shape).astype(np.float32)


def unit_range(images: np.ndarray) -> np.ndarray:
    """Scale each slice to lie between 0 and 1 (row 000-10: after clipping and normalising).

    Args:
        images: (..., h, w), normalised.

    Returns:
        float32 of the same shape; a constant slice becomes zero.
    """
    low = images.min((-2, -1), keepdims=True)
    span = images.max((-2, -1), keepdims=True) - low
    return np.asarray((images - low) / np.maximum(span, 1e-6), np.float32)


def resampling_matrix(
    source: int, target: int, step: float, centre: float, antialias: bool = True
) -> np.ndarray:
    """Weights that resample a line of `source` samples to `target` ones.

    Target sample p lies at source index centre + (p - (target - 1) / 2) * step.

    Args:
        source, target: number of samples.
        step: target spacing in source samples.
        centre: source index of the middle of the target.
        antialias: widen the triangle to the target spacing where that is coarser.

    Returns:
        float32 (target, source); rows of samples outside the source are zero.
    """
    position = centre + (np.arange(target) - (target - 1) / 2) * step
    width = max(1.0, step) if antialias else 1.0
    distance = np.abs(position[:, None] - np.arange(source)[None]) / width
    weights = np.maximum(1.0 - distance, 0.0)
    inside = (position > -0.5 - 1e-9) & (position < source - 0.5 + 1e-9)
    weights[~inside] = 0.0
    total = weights.sum(1, keepdims=True)
    return (weights / np.where(total > 0.0, total, 1.0)).astype(np.float32)


@dataclass(frozen=True)
class Crop:
    """A square-pixel window on the slices of a grid.

    `centre` is the in-plane source index of its middle, `size` its pixels, `spacing` its pixel size
    in mm, `source_shape` and `source_spacing` the slices' own.
    """

    centre: tuple[float, float]
    size: tuple[int, int]
    spacing: float
    source_shape: tuple[int, int]
    source_spacing: tuple[float, float]

    def apply(self, volume: np.ndarray) -> np.ndarray:
        """Slices in the window: (x, y, n) -> float32 (n, h, w), zero outside the image."""
        rows, columns = (
            resampling_matrix(
                self.source_shape[axis],
                self.size[axis],
                self.spacing / self.source_spacing[axis],
                self.centre[axis],
            )
            for axis in (0, 1)
        )
        slices = np.moveaxis(np.asarray(volume, np.float32), 2, 0)
        return np.matmul(np.matmul(rows, slices), columns.T)

    def restore(self, maps: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """Bring maps back to the source's pixels: (n, h, w) -> float32 (x, y, n).

        Args:
            maps: in the window.
            outside: value of source pixels that the window does not cover.
        """
        matrices, covered = [], []
        for axis in (0, 1):
            step = self.source_spacing[axis] / self.spacing
            middle = (self.source_shape[axis] - 1) / 2
            matrix = resampling_matrix(
                self.size[axis],
                self.source_shape[axis],
                step,
                (self.size[axis] - 1) / 2 + (middle - self.centre[axis]) * step,
                antialias=False,
            )
            matrices.append(matrix)
            covered.append(matrix.any(1))
        full = np.matmul(np.matmul(matrices[0], np.asarray(maps, np.float32)), matrices[1].T)
        if outside:
            full[:, ~(covered[0][:, None] & covered[1][None])] = outside
        return np.moveaxis(full, 0, 2)
