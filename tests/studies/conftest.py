"""Small studies on disk, made anew for each test."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from cinelabel.core.grid import Grid
from cinelabel.studies import dicom
from cinelabel.studies.study import Study

# Oblique, left-handed, with a rotation of a 3-4-5 triangle; spacing 1.5 x 1.25 x 8 mm.
OBLIQUE = np.array(
    [
        [1.5, 0.0, 0.0, 40.0],
        [0.0, -0.6 * 1.25, 0.8 * 8, -30.0],
        [0.0, 0.8 * 1.25, 0.6 * 8, 12.5],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def ramp(shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers that tell every voxel from its neighbours."""
    return (np.arange(np.prod(shape)) % 3001).reshape(shape, order="F").astype(np.int16)


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write voxels as NIfTI; `qform` and `sform` are (affine, code), `edit` changes the header."""

    def write(
        voxels: np.ndarray,
        name: str = "scan.nii.gz",
        *,
        sform: tuple[np.ndarray, int] = (OBLIQUE, 1),
        qform: tuple[np.ndarray, int] = (OBLIQUE, 1),
        zooms: tuple[float, ...] | None = None,
        edit: Callable[[nib.Nifti1Header], None] | None = None,
        kind: type = nib.Nifti1Image,
    ) -> Path:
        header = kind.header_class()
        header.set_data_dtype(voxels.dtype)
        header.set_data_shape(voxels.shape)
        header.set_qform(*qform)
        header.set_sform(*sform)
        if zooms is not None:
            header["pixdim"][1 : 1 + len(zooms)] = zooms
        if edit is not None:
            edit(header)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind(voxels, None, header).to_filename(path)
        return path

    return write


@pytest.fixture
def patch_header() -> Callable[..., None]:
    """Overwrite a field of a NIfTI-1 header as stored, which nibabel would mend on writing."""

    def patch(path: Path, **values: object) -> None:
        compressed = path.name.endswith(".gz")
        content = path.read_bytes()
        content = bytearray(gzip.decompress(content) if compressed else content)
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        for field, value in values.items():
            header[field] = value
        content[:348] = header.binaryblock
        path.write_bytes(gzip.compress(bytes(content)) if compressed else bytes(content))

    return patch


@pytest.fixture
def make_study() -> Callable[..., Study]:
    """A study with distinct whole numbers as voxels."""

    def make(
        shape: tuple[int, int, int, int] = (7, 5, 4, 3),
        affine: np.ndarray = OBLIQUE,
        trigger_times_ms: tuple[float, ...] | None = (10.0, 50.0, 90.0),
        name: str = "phantom-7",
    ) -> Study:
        return Study(
            name=name,
            frames=ramp(shape).astype(np.float32),
            grid=Grid(shape[:3], affine),
            is_cine=shape[3] > 1,
            trigger_times_ms=trigger_times_ms,
            kind="phantom",
            slice_thickness_mm=6.0,
        )

    return make


@pytest.fixture
def cine(tmp_path: Path, make_study: Callable[..., Study]) -> Path:
    """A folder with one cine: 4 slices of 3 phases."""
    dicom.write_cine(tmp_path / "cine", make_study())
    return tmp_path / "cine"


@pytest.fixture
def edit_dicom() -> Callable[..., None]:
    """Apply a change to each given file in place; None as a value deletes the attribute."""

    def edit(files: list[Path], **attributes: object) -> None:
        for path in files:
            image = pydicom.dcmread(path)
            for keyword, value in attributes.items():
                new = value(image) if callable(value) else value
                if new is None:
                    if keyword in image:
                        delattr(image, keyword)
                else:
                    setattr(image, keyword, new)
                if keyword == "SOPInstanceUID":
                    image.file_meta.MediaStorageSOPInstanceUID = new
            image.save_as(path)

    return edit
