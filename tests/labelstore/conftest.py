"""A small heart on a small grid, and a store in a temporary folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore, Submission

SHAPE = (32, 32, 4)
AFFINE = np.array(
    [[-1.5, 0.0, 0.0, 40.0], [0.0, 1.25, 0.0, -30.0], [0.0, 0.0, 8.0, 12.5], [0.0, 0.0, 0.0, 1.0]]
)


@pytest.fixture
def grid() -> Grid:
    """Left-handed, 1.5 x 1.25 x 8 mm."""
    return Grid(SHAPE, AFFINE)


@pytest.fixture
def heart() -> np.ndarray:
    """LV in a ring of MYO in slices 1 and 2, the RV beside it."""
    labels = np.zeros(SHAPE, np.uint8)
    i, j = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot(i - 18, j - 16)
    section = np.zeros(SHAPE[:2], np.uint8)
    section[(radius < 12) & (i < 12)] = 3
    section[radius < 8] = 2
    section[radius < 5] = 1
    labels[..., 1:3] = section[..., None]
    return labels


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write voxels as NIfTI under a name in a folder of their own."""
    numbers = itertools.count()

    def make(voxels: np.ndarray, affine: np.ndarray = AFFINE, name: str = "label.nii.gz") -> Path:
        path = tmp_path / f"sent{next(numbers)}" / name
        path.parent.mkdir()
        image = nib.Nifti1Image(voxels, affine)
        image.header.set_data_dtype(voxels.dtype)
        image.to_filename(path)
        return path

    return make


@pytest.fixture
def label(write: Callable[..., Path], heart: np.ndarray) -> Path:
    """The heart as a file with canonical values."""
    return write(heart)


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "workspace")


@pytest.fixture
def by() -> Callable[..., Submission]:
    """A submission by somebody for an image."""
    template = Submission("p1__t00", "anna", "slicer-1", "2026-03-01T10:00:00+00:00")

    def make(image: str = "p1__t00", who: str = "anna", **changes: object) -> Submission:
        return replace(template, image=image, who=who, **changes)

    return make
