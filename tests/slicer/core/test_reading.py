"""Studies that Slicer reads wrongly are shown as they are: 4D, left-handed, DICOM cine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from CineLabelLib import dicom_study, nifti
from CineLabelLib.mrml import volumes
from CineLabelLib.mrml.scene import MrmlScene
from CineLabelLib.study import CineStudy
from made_up import FRAMES, KINDS, affine_of, labels_of


def is_shown_as_it_is(scene: MrmlScene, study: CineStudy) -> None:
    scene.show(study)
    assert scene.cine.browser.GetNumberOfItems() == study.n_frames
    for t in (0, study.n_frames - 1):
        scene.go_to(t)
        image = volumes.voxels_of(scene.cine.volume.GetImageData())
        assert np.array_equal(image, study.frame(t))
        assert volumes.grid_of(scene.cine.volume).equals(study.grid)


@pytest.mark.parametrize("kind", KINDS)
def test_a_4d_nifti_is_shown_with_all_its_frames_and_labelled_on_its_grid(
    scene: MrmlScene, tmp_path: Path, kind: str
) -> None:
    voxels = np.stack([labels_of(t) for t in range(FRAMES)], axis=-1)
    path = tmp_path / "cine.nii.gz"
    path.write_bytes(nifti.label_bytes(voxels, affine_of(kind), None))
    study = nifti.read_study(path)
    assert np.array_equal(study.voxels, voxels)
    is_shown_as_it_is(scene, study)
    scene.set_labels(2, labels_of(9))
    sent = nifti.label_bytes(scene.labels(2), study.affine, study.header)
    back = nifti.read_labels(sent)
    assert np.array_equal(back.voxels, labels_of(9))
    assert np.array_equal(back.affine, study.affine)


def is_labelled_on_its_grid(scene: MrmlScene, study: CineStudy) -> None:
    labels = np.random.default_rng(3).integers(0, 4, study.grid.shape).astype(np.uint8)
    scene.set_labels(study.n_frames - 1, labels)
    assert np.array_equal(scene.labels(study.n_frames - 1), labels)


@pytest.mark.parametrize("name", [pytest.param("SC-HF-I-1", marks=pytest.mark.slow), "SC-HF-I-4"])
def test_a_dicom_cine_is_shown_and_labelled(scene: MrmlScene, shared_data: Path, name: str) -> None:
    study = dicom_study.read_study(shared_data / "sunnybrook" / name / "dicom")
    assert study.n_frames > 10
    is_shown_as_it_is(scene, study)
    is_labelled_on_its_grid(scene, study)


@pytest.mark.slow
def test_images_of_real_patients_are_shown_and_labelled_left_handed_ones_too(
    scene: MrmlScene, shared_data: Path
) -> None:
    hands = set()
    for path in sorted(shared_data.rglob("*_ED.nii.gz")):
        study = nifti.read_study(path)
        hands.add(study.grid.handedness)
        is_shown_as_it_is(scene, study)
        is_labelled_on_its_grid(scene, study)
    assert hands == {-1, 1}
