"""A study: one patient's short-axis stack, its cardiac phases on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.files import check_identifier
from cinelabel.core.grid import Grid

LARGEST_BYTES = 2 * 2**30
"""Of the voxels, as float32 or as they are stored, of an image that a client hands in."""


@dataclass(frozen=True, eq=False)
class Study:
    """Frames on one grid, when they were taken, and where they came from.

    Attributes:
        name: identifier, `[A-Za-z0-9._-]+`.
        frames: (x, y, z, t) float32, four axes also for one phase.
        grid: grid of every frame.
        is_cine: False if the source was one phase (a 3D file).
        trigger_times_ms: time after the R wave of each frame.
        ed, es: frames of end-diastole and end-systole counted from 0, if the source names them.
        source: file or folder it was read from.
        kind: "nifti", "dicom" or "phantom".
        header: the NIfTI header of the source, so that labels are written with the same geometry.
        series_uid: DICOM series (the first, if one series a slice was joined).
        slice_thickness_mm: thickness of the excited slice, often less than the slice step.
        notes: what the reader had to decide, in sentences.
    """

    name: str
    frames: np.ndarray
    grid: Grid
    is_cine: bool
    trigger_times_ms: tuple[float, ...] | None = None
    ed: int | None = None
    es: int | None = None
    source: Path | None = None
    kind: str = "nifti"
    header: object | None = None
    series_uid: str | None = None
    slice_thickness_mm: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_identifier(self.name, "study name")
        if self.frames.ndim != 4 or self.frames.dtype != np.float32:
            raise InputError(
                f"frames are {self.frames.ndim}D {self.frames.dtype}, not (x, y, z, t) float32",
                where=self.name,
            )
        if self.frames.shape[:3] != self.grid.shape:
            raise InputError(
                f"frames of shape {self.frames.shape} do not fit the grid {self.grid.shape}",
                where=self.name,
            )
        times = self.trigger_times_ms
        if times is not None and len(times) != self.n_frames:
            raise InputError(
                f"{len(times)} trigger times are given for {self.n_frames} frames", where=self.name
            )
        for phase, frame in (("ED", self.ed), ("ES", self.es)):
            if frame is not None and not 0 <= frame < self.n_frames:
                raise InputError(
                    f"{phase} is frame {frame} of {self.n_frames}, counted from 0", where=self.name
                )

    @property
    def n_frames(self) -> int:
        """Number of cardiac phases."""
        return int(self.frames.shape[3])

    def frame(self, t: int) -> np.ndarray:
        """The image (x, y, z) float32 of phase `t`, a view."""
        return self.frames[..., t]


def require_image(frames: np.ndarray, where: object) -> None:
    """Refuse frames (x, y, z, t) that hold no image: voxels not finite, or all the same.

    Raises:
        InputError: naming `where`, how many voxels are not finite and the first slice with one.
    """
    bad = np.zeros(frames.shape[2:], np.int64)
    low, high = np.inf, -np.inf
    for t in range(frames.shape[3]):  # a frame at a time, to keep the masks small
        finite = np.isfinite(frames[..., t])
        bad[:, t] = np.count_nonzero(~finite, axis=(0, 1))
        if not bad[:, t].any():
            low, high = min(low, frames[..., t].min()), max(high, frames[..., t].max())
    if bad.any():
        t = int(bad.any(axis=0).argmax())
        z = int(bad[:, t].argmax())
        frame = f" of frame {t}" if frames.shape[3] > 1 else ""
        raise InputError(
            f"has {bad.sum()} voxels that are NaN or infinite, the first in slice {z}{frame} "
            "(counted from 0)",
            where=where,
            remedy="Repair or export the image again",
        )
    if low == high:
        raise InputError(f"is constant, every voxel is {low:g}", where=where)
