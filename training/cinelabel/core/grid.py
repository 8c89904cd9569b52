"""The grid of a stack: shape and affine (RAS+, millimetres), and when two grids are the same.

The affine follows the NIfTI-1 convention: column vectors, voxel centres, index (i, j, k, 1) to
world (x, y, z, 1). Left-handed and slightly non-orthonormal affines are kept as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import GridError

SAME_GRID_TOLERANCE_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a stack lie.

    Attributes:
        shape: number of voxels along i, j (in plane) and k (slices).
        affine: (4, 4) float64, read-only; voxel index to RAS+ millimetres.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GridError(f"the grid's shape {shape} is not three positive sizes")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GridError("the affine is not a 4 x 4 matrix of finite numbers")
        if not np.allclose(affine[3], (0, 0, 0, 1)):
            raise GridError("the affine's last row is not 0 0 0 1")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if not (spacing > 0).all() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
            raise GridError(
                "the affine is singular: two of its axes are parallel or have no length"
            )
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def columns(self) -> np.ndarray:
        """(3, 3) unit vectors of the i, j, k axes in RAS+, one a column."""
        return self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit normal of the slices in RAS+, pointing to growing slice numbers."""
        cross = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        return cross * (self.handedness / np.linalg.norm(cross))

    @property
    def handedness(self) -> int:
        """+1 for a right-handed grid, -1 for a left-handed one."""
        return 1 if np.linalg.det(self.affine[:3, :3]) > 0 else -1

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def index_to_world(self, ijk: np.ndarray) -> np.ndarray:
        """RAS+ millimetres (..., 3) of voxel indices (..., 3)."""
        return np.asarray(ijk, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def world_to_index(self, xyz: np.ndarray) -> np.ndarray:
        """Fractional voxel indices (..., 3) of RAS+ millimetres (..., 3)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(xyz, np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners(self) -> np.ndarray:
        """(8, 3) RAS+ millimetres of the centres of the corner voxels."""
        ends = [(0, n - 1) for n in self.shape]
        return self.index_to_world(np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3))

    def equals(self, other: Grid, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
        """Whether the shapes agree and no voxel lies further apart than the tolerance."""
        return self._difference(other, tolerance_mm) is None

    def difference(self, other: Grid, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> str | None:
        """What tells `other` from this grid, in words, or None when they are equal."""
        return self._difference(other, tolerance_mm)

    def require_equal(self, other: Grid, what: str) -> None:
        """Raise GridError naming `what` (the file or array on `other`) unless the grids agree."""
        difference = self.difference(other)
        if difference is not None:
            raise GridError(
                f"does not lie on the study's grid, {difference}",
                where=what,
                remedy="Bring it to the study's grid first",
            )

    def _difference(self, other: Grid, tolerance_mm: float) -> str | None:
        if self.shape != other.shape:
            return f"its shape is {_sizes(other.shape)} and should be {_sizes(self.shape)}"
        apart = float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())
        axes_apart = float(np.abs(self.affine - other.affine)[:3, :3].max())
        if max(apart, axes_apart) <= tolerance_mm:
            return None
        if self.handedness != other.handedness:
            words = {1: "right-handed", -1: "left-handed"}
            return f"it is {words[other.handedness]} and should be {words[self.handedness]}"
        if not np.allclose(self.spacing, other.spacing, atol=1e-3, rtol=0):
            return (
                f"its spacing is {_sizes(other.spacing)} mm and should be {_sizes(self.spacing)} mm"
            )
        cosines = np.clip((self.columns * other.columns).sum(axis=0), -1, 1)
        angle = float(np.degrees(np.arccos(cosines)).max())
        if angle > 0.1:
            return f"its axes are turned by up to {angle:.1f} degrees"
        return f"its voxels lie up to {apart:.3g} mm away"


def _sizes(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
