"""Phantom studies as folders on disk, with their truth."""

from __future__ import annotations

from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.core.files import write_json
from cinelabel.phantom.cohort import Progress, make_study


def write_cohort(
    out: Path,
    *,
    studies: int,
    seed: int,
    file_format: str = "nifti",
    frames: int = 20,
    progress: Progress | None = None,
) -> list[Path]:
    """Write phantom studies with their truth below `out`, one folder a study.

    `<name>/<name>.nii.gz` and/or `<name>/dicom/`, `<name>/<name>_gt.nii.gz`, `<name>/truth.json`.

    Args:
        out: folder to fill; made if absent.
        studies: how many.
        seed: of the first study; the next ones count on.
        file_format: "nifti", "dicom" or "both".
        frames: cardiac phases a study.
        progress: called with studies done, studies in all, and the study's name.

    Returns:
        The folders written.

    Raises:
        InputError: for an unknown format or fewer than one study.
    """
    from cinelabel import studies as study_files
    from cinelabel.studies import dicom

    if file_format not in ("nifti", "dicom", "both"):
        raise InputError("the format is nifti, dicom or both", where=file_format)
    if studies < 1:
        raise InputError("at least one study is needed", where=f"studies={studies}")
    folders = []
    for number in range(studies):
        made = make_study(seed + number, frames=frames)
        folder = out / made.study.name
        if file_format in ("nifti", "both"):
            study_files.save_image(folder / f"{made.study.name}.nii.gz", made.study)
        if file_format in ("dicom", "both"):
            dicom.write_cine(folder / "dicom", made.study)
        study_files.save_label(folder / f"{made.study.name}_gt.nii.gz", made.labels, made.study)
        write_json(folder / "truth.json", made.truth)
        folders.append(folder)
        if progress is not None:
            progress(number + 1, studies, made.study.name)
    return folders
