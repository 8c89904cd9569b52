"""Smooth random fields, drawn on a coarse lattice and interpolated by cubic B-splines.

Two small matrix products per field; the spline weights are those of Unser (IEEE Signal Processing
Magazine 1999, eq. 3, cubic).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=256)
def _spline_weights(size: int, knots: int) -> np.ndarray:
    """Cubic B-spline weights of `size` samples over `knots` intervals, (size, knots + 3)."""
    position = np.linspace(0.0, knots, size, endpoint=False)
    distance = np.abs(position[:, None] - (np.arange(knots + 3)[None] - 1.0))
    near = 2.0 / 3.0 - distance**2 + 0.5 * distance**3
    far = np.maximum(2.0 - distance, 0.0) ** 3 / 6.0
    return np.where(distance < 1.0, near, far).astype(np.float32)


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], knots: int) -> np.ndarray:
    """A smooth field of zero mean and about unit spread.

    Args:
        rng: source of randomness.
        shape: (n, m) of the field.
        knots: intervals of the lattice along each axis; more is rougher.

    Returns:
        float32 (n, m).
    """
    coarse = rng.standard_normal((knots + 3, knots + 3), dtype=np.float32)
    rows, columns = _spline_weights(shape[0], knots), _spline_weights(shape[1], knots)
    return np.float32(2.0) * (rows @ coarse @ columns.T)
