"""Volume nodes made from an array and its affine, and read back on the very same grid.

Slicer's own readers reverse the slices of left-handed files and refuse sheared ones; a node made
here has the voxels and the affine as they are. Arrays are (x, y, z), VTK's are (z, y, x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from CineLabelLib.core.grid import Grid

# Directions further than this from perpendicular are told: SimpleITK refuses to write them.
SKEW_TOLERANCE_DEGREES = 0.1


def matrix_of(affine: np.ndarray) -> vtk.vtkMatrix4x4:
    """A (4, 4) affine as VTK has it."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(affine, np.float64).ravel().tolist())
    return matrix


def array_of_matrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """A VTK matrix as a (4, 4) float64 array."""
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def set_voxels(image: vtk.vtkImageData, voxels: np.ndarray) -> None:
    """Put voxels (x, y, z) into an image of VTK, copied, in a type that VTK knows."""
    flat = np.ascontiguousarray(voxels.transpose(2, 1, 0)).ravel()
    if flat.dtype == np.float16 or flat.dtype == bool:
        flat = flat.astype(np.float32 if flat.dtype == np.float16 else np.uint8)
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    image.SetDimensions(voxels.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))


def voxels_of(image: vtk.vtkImageData) -> np.ndarray:
    """The voxels (x, y, z) of an image of VTK, a view."""
    flat = vtk_to_numpy(image.GetPointData().GetScalars())
    return flat.reshape(image.GetDimensions()[::-1]).transpose(2, 1, 0)


def fill(node: Any, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Give a volume node voxels (x, y, z) on the grid of `affine` (index to RAS+ mm)."""
    image = vtk.vtkImageData()
    set_voxels(image, voxels)
    node.SetIJKToRASMatrix(matrix_of(affine))
    node.SetAndObserveImageData(image)


def grid_of(node: Any) -> Grid:
    """The grid of a volume node."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return Grid(node.GetImageData().GetDimensions(), array_of_matrix(matrix))


def oriented_image(voxels: np.ndarray, affine: np.ndarray) -> Any:
    """A vtkOrientedImageData of voxels (x, y, z), as segments hold them."""
    image = slicer.vtkOrientedImageData()
    set_voxels(image, voxels)
    image.SetImageToWorldMatrix(matrix_of(affine))
    return image


def window_of(voxels: np.ndarray) -> tuple[float, float]:
    """Window and level between the 1st and the 99.5th percentile, for any finite voxels."""
    low, high = np.percentile(voxels, (1, 99.5))
    return max(float(high - low), 1e-6), float(high + low) / 2


def skew_degrees(affine: np.ndarray) -> float:
    """How far the axes of an affine are from perpendicular, at the worst pair."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs((columns.T @ columns)[np.triu_indices(3, 1)])
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))).max())


def remark_on(grid: Grid) -> str | None:
    """What a reader must know of a grid that other tools refuse, or None."""
    skew = skew_degrees(grid.affine)
    if skew <= SKEW_TOLERANCE_DEGREES:
        return None
    return (
        f"The axes of this study are {skew:.2g} degrees from perpendicular: it is shown and "
        "labelled on its own grid, but Slicer cannot save it in most formats."
    )
