"""Studies in and out: NIfTI files, DICOM folders, labels on a study's grid.

nibabel and pydicom are imported when the first study is read, not with this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cinelabel.core.errors import InputError
from cinelabel.core.labels import CANONICAL, LabelMap
from cinelabel.studies.study import Study

if TYPE_CHECKING:
    import numpy as np

    from cinelabel.core.grid import Grid

__all__ = ["Study", "load", "load_all", "load_label", "save_image", "save_label"]


def load(path: str | Path, *, series: str | None = None, mend: bool = False) -> Study:
    """The study in a NIfTI file or in a folder of DICOM files.

    Args:
        path: .nii, .nii.gz, or a folder with one or more DICOM series.
        series: which series of a folder to take: number, UID or description.
        mend: whether voxels of a NIfTI file that are NaN or infinite get the lowest value of the
            others instead of being refused.

    Raises:
        InputError: nothing readable is there, or a folder holds several stacks and `series` does
            not say which.
    """
    path = _existing(path)
    if path.is_dir():
        from cinelabel.studies import dicom

        return dicom.read(path, series)
    if series is not None:
        raise InputError(
            "is a file and has no series to choose from", where=path, remedy="Leave out --series"
        )
    from cinelabel.studies import nifti

    return nifti.read(path, mend=mend)


def load_all(path: str | Path) -> list[Study]:
    """Every series of a DICOM folder, or the one study of a NIfTI file. Raises InputError."""
    path = _existing(path)
    if path.is_dir():
        from cinelabel.studies import dicom

        return dicom.read_all(path)
    return [load(path)]


def load_label(path: str | Path, label_map: LabelMap = CANONICAL) -> tuple[np.ndarray, Grid]:
    """Labels uint8 (x, y, z) or (x, y, z, t) with canonical values from NIfTI, and their grid.

    Raises:
        InputError: the file cannot be read.
        LabelError: a value is none of the label map's.
    """
    from cinelabel.studies import nifti

    return nifti.read_label(_existing(path), label_map)


def save_label(path: str | Path, labels: np.ndarray, study: Study) -> None:
    """Write labels (x, y, z) or (x, y, z, t) as NIfTI on the study's grid, whole or not at all.

    The file keeps the sform, qform, codes and pixdim of the study's source bit for bit.

    Raises:
        GridError: the labels have another shape than the study.
        LabelError: a value is none of the structures.
        OutputError: the file cannot be written.
    """
    from cinelabel.studies import nifti

    nifti.write_label(Path(path), labels, study)


def save_image(path: str | Path, study: Study) -> None:
    """Write a study's frames as NIfTI, 4D for a cine. Raises OutputError."""
    from cinelabel.studies import nifti

    nifti.write_image(Path(path), study)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise InputError(
            "does not exist", where=path, remedy="Give a NIfTI file or a folder of DICOM files"
        )
    return path
