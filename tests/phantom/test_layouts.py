"""Cohorts on disk: what is written reads back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cinelabel import studies
from cinelabel.core.errors import InputError
from cinelabel.phantom.cohort import StackGeometry
from cinelabel.phantom.layouts import write_cohort

SMALL = StackGeometry(size=(112, 104), pixel=2.2, spacing=10.0, thickness=8.0, turn=0.4)


@pytest.mark.parametrize("file_format", ["nifti", "dicom", "both"])
def test_a_written_cohort_reads_back_as_studies_with_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    monkeypatch.setattr("cinelabel.phantom.cohort._sample_geometry", lambda rng: SMALL)
    (folder,) = write_cohort(tmp_path, studies=1, seed=3, file_format=file_format, frames=2)
    truth = json.loads((folder / "truth.json").read_text())
    labels, grid = studies.load_label(folder / f"{folder.name}_gt.nii.gz")
    source = folder / "dicom" if file_format == "dicom" else folder / f"{folder.name}.nii.gz"
    study = studies.load(source)
    assert study.frames.shape == labels.shape
    assert study.n_frames == 2
    assert len(truth["slices"]) == labels.shape[2]
    if file_format != "dicom":
        assert study.grid.equals(grid)


def test_bad_arguments_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nifti, dicom or both"):
        write_cohort(tmp_path, studies=1, seed=0, file_format="png")
    with pytest.raises(InputError, match="at least one"):
        write_cohort(tmp_path, studies=0, seed=0)
