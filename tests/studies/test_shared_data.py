"""Real examinations, where they are at hand: DICOM and NIfTI of one patient agree."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CASES = ("SC-HF-I-1", "SC-HF-I-4")

pytestmark = pytest.mark.skipif(
    not (DATA / "sunnybrook").is_dir(), reason="the examinations of ../shared/data are not here"
)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    folder = DATA / "sunnybrook" / request.param
    return folder, json.loads((folder / "case.json").read_text()), studies.load(folder / "dicom")


@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_a_dicom_cine_is_the_nifti_beside_it(case, phase):
    folder, truth, cine = case
    (path,) = folder.glob(f"*_{phase}.nii.gz")
    still = studies.load(path)
    assert cine.grid.difference(still.grid) is None
    assert cine.grid.handedness == -1
    np.testing.assert_array_equal(cine.frame(truth[f"{phase.lower()}_phase0"]), still.frame(0))


def test_frames_are_as_far_apart_as_the_case_says(case):
    _, truth, cine = case
    assert cine.n_frames == 20
    assert np.diff(cine.trigger_times_ms).mean() == pytest.approx(truth["frame_ms"], rel=0.02)


def test_labels_lie_on_the_grid_of_the_cine(case):
    folder, _, cine = case
    for path in folder.glob("*_gt.nii.gz"):
        labels, grid = studies.load_label(path)
        cine.grid.require_equal(grid, path.name)
        assert set(np.unique(labels)) <= {0, 1, 2}


def test_every_volume_of_the_public_sets_is_read_and_written_with_its_own_geometry(tmp_path):
    paths = [path for path in DATA.glob("*/*/*.nii.gz") if not path.name.endswith("_gt.nii.gz")]
    assert len(paths) > 0
    for path in paths:
        study = studies.load(path)
        target = tmp_path / path.name
        studies.save_label(target, np.ones(study.grid.shape, np.uint8), study)
        source, written = nib.load(path).header, nib.load(target).header
        for field in ("pixdim", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z"):
            assert source[field].tobytes() == written[field].tobytes(), (path.name, field)
