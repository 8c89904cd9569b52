"""NIfTI-1 in and out with numpy alone: 4D, left-handed and slightly oblique grids as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from CineLabelLib.study import CineStudy


@dataclass(frozen=True, eq=False)
class Image:
    """What a NIfTI file holds.

    Attributes:
        voxels: (x, y, z) or (x, y, z, t), scaled as the header says, else of the stored dtype.
        affine: (4, 4) float64, voxel index to RAS+ mm.
        header: the 348 bytes of the header as stored.
        notes: what had to be decided, in sentences.
    """

    voxels: np.ndarray
    affine: np.ndarray
    header: bytes
    notes: tuple[str, ...] = ()


def read(source: Path | bytes, where: object | None = None) -> Image:
    """The image in a NIfTI-1 file or in its bytes, gzip or plain; `where` is named in errors."""
    raise NotImplementedError


def read_study(path: Path) -> CineStudy:
    """The study in a 3D or 4D NIfTI-1 file."""
    raise NotImplementedError


def read_labels(source: Path | bytes, where: object | None = None) -> Image:
    """Labels uint8 with the values of the structures. Raises LabelError for any other value."""
    raise NotImplementedError


def label_bytes(labels: np.ndarray, affine: np.ndarray, header: bytes | None = None) -> bytes:
    """Labels (x, y, z) or (x, y, z, t) as the bytes of a .nii.gz file."""
    raise NotImplementedError
