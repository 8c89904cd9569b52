"""How a slice is turned on screen, in the views and in thumbnails alike; numpy only."""

from __future__ import annotations

import numpy as np

from CineLabelLib.core.grid import Grid

# Of a short-axis view: right is the patient's left and back, up is the head and the front.
_RIGHT, _UP = np.array([-1.0, -1.0, 0.0]) / 2**0.5, np.array([0.0, 1.0, 2.0]) / 5**0.5
_QUARTER_TURN = 0.5


def plane_axes(grid: Grid) -> np.ndarray:
    """(3, 3) directions in RAS+ of a view's right, up and depth, one a column.

    Right and up are the image's own two axes, turned about so that the right ventricle lies left
    and the front wall above; they change places only where a stack was acquired a quarter turn
    off. Depth follows the slice numbers.
    """
    i, j = grid.columns[:, 0], grid.columns[:, 1]
    as_acquired = abs(i @ _RIGHT) + abs(j @ _UP)
    turned = abs(j @ _RIGHT) + abs(i @ _UP)
    right, up = (j, i) if turned > as_acquired + _QUARTER_TURN else (i, j)
    up = up - right * (right @ up)
    up = up / np.linalg.norm(up)
    right = right if right @ _RIGHT >= 0 else -right
    up = up if up @ _UP >= 0 else -up
    return np.stack([right, up, grid.normal], axis=1)


def as_viewed(slice_xy: np.ndarray, grid: Grid) -> np.ndarray:
    """A slice (x, y) turned as the views show it: first axis to the right, second axis down."""
    right, up, _ = plane_axes(grid).T
    i, j = grid.columns[:, 0], grid.columns[:, 1]
    if abs(i @ right) < abs(j @ right):
        slice_xy, i, j = slice_xy.T, j, i
    if i @ right < 0:
        slice_xy = slice_xy[::-1]
    return slice_xy[:, ::-1] if j @ up > 0 else slice_xy
