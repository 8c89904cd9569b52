"""A cine study as the desk holds it: voxels in the order of their source, never reoriented."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from CineLabelLib.core.errors import InputError
from CineLabelLib.core.files import check_identifier
from CineLabelLib.core.grid import Grid


@dataclass(frozen=True, eq=False)
class CineStudy:
    """Frames on one grid, when they were taken, and where they came from.

    Attributes:
        name: identifier, `[A-Za-z0-9._-]+`.
        voxels: (x, y, z, t), dtype of the source, read-only.
        affine: (4, 4) float64, voxel index to RAS+ mm, read-only.
        trigger_times_ms: time after the R wave of each frame.
        ed, es: frames of end-diastole and end-systole counted from 0, if they are known.
        source: file or folder; None for a case of the server.
        images: the server's image of each frame, `<study>__t<NN>`; empty when local.
        digests: SHA-256 of each image file as the server sent it; empty when local.
        notes: what the reader of the files had to decide, in sentences.
        header: the 348 bytes of the source's NIfTI-1 header, with which labels are written.
    """

    name: str
    voxels: np.ndarray
    affine: np.ndarray
    trigger_times_ms: tuple[float, ...] | None = None
    ed: int | None = None
    es: int | None = None
    source: Path | None = None
    images: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    header: bytes | None = None

    def __post_init__(self) -> None:
        check_identifier(self.name, "study name")
        if self.voxels.ndim != 4 or self.voxels.dtype.kind not in "iuf":
            raise InputError(
                f"its voxels are {self.voxels.ndim}D {self.voxels.dtype}, not (x, y, z, t) numbers",
                where=self.name,
            )
        voxels = self.voxels.view()
        voxels.flags.writeable = False
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "affine", Grid(voxels.shape[:3], self.affine).affine)
        per_frame = {
            "trigger times": self.trigger_times_ms,
            "images": self.images or None,
            "digests": self.digests or None,
        }
        for what, values in per_frame.items():
            if values is not None and len(values) != self.n_frames:
                raise InputError(
                    f"{len(values)} {what} are given for {self.n_frames} frames", where=self.name
                )
        for phase, frame in (("ED", self.ed), ("ES", self.es)):
            if frame is not None and not 0 <= frame < self.n_frames:
                raise InputError(
                    f"{phase} is frame {frame} of {self.n_frames}, counted from 0", where=self.name
                )

    @property
    def grid(self) -> Grid:
        """The grid of every frame."""
        return Grid(self.voxels.shape[:3], self.affine)

    @property
    def n_frames(self) -> int:
        """Number of cardiac phases."""
        return int(self.voxels.shape[3])

    @property
    def n_slices(self) -> int:
        """Number of slices, along the third axis."""
        return int(self.voxels.shape[2])

    def frame(self, t: int) -> np.ndarray:
        """The image (x, y, z) of frame `t` (from 0), a view."""
        return self.voxels[..., t]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the voxels, their type and their shape: another image has another."""
        little = self.voxels.dtype.newbyteorder("<")
        digest = hashlib.sha256(f"{little} {self.voxels.shape}".encode())
        for t in range(self.n_frames):
            digest.update(np.ascontiguousarray(self.frame(t).T, little).data)
        return digest.hexdigest()


def study_name(path: Path) -> str:
    """An identifier made from a file or folder name, without the suffixes of NIfTI."""
    name = re.sub(r"\.nii(\.gz)?$", "", path.resolve().name, flags=re.IGNORECASE)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return name if name.strip("._-") else "study"


def require_image(voxels: np.ndarray, where: object) -> None:
    """Refuse voxels (x, y, z, t) that hold no image: not finite, or all the same.

    Raises:
        InputError: naming `where`, how many voxels are not finite and the first slice with one.
    """
    if voxels.dtype.kind == "f":
        bad = np.stack(
            [
                np.count_nonzero(~np.isfinite(voxels[..., t]), axis=(0, 1))
                for t in range(voxels.shape[3])
            ],
            axis=1,
        )
        if bad.any():
            t = int(bad.any(axis=0).argmax())
            z = int(bad[:, t].argmax())
            frame = f" of frame {t}" if voxels.shape[3] > 1 else ""
            raise InputError(
                f"has {bad.sum()} voxels that are NaN or infinite, the first in slice {z}{frame} "
                "(counted from 0)",
                where=where,
                remedy="Repair or export the image again",
            )
    low, high = voxels.min(), voxels.max()
    if low == high:
        raise InputError(f"is constant, every voxel is {low:g}", where=where)
