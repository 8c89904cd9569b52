"""Labels go to DICOM SEG and come back voxel for voxel, on the images they were drawn on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cinelabel import studies
from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.core.labels import STRUCTURES
from cinelabel.studies import dicom
from cinelabel.studies.dicom_seg import SegInfo, read_seg, write_seg

RIGHT_HANDED = np.diag([1.5, 1.25, 8.0, 1.0])
INFO = SegInfo("labels of phase 1", "reader", "phantom-1", frame=1)


def some_labels(shape: tuple[int, ...]) -> np.ndarray:
    """Every structure, lopsided along each axis, and an empty slice."""
    labels = np.random.default_rng(3).integers(0, 4, shape).astype(np.uint8)
    labels[:, :, 1] = 0
    labels[0, -1, 0], labels[-1, 0, -1] = 1, 3
    return labels


def round_trip(folder: Path, path: Path, frame: int = 1) -> tuple[np.ndarray, np.ndarray]:
    study = studies.load(folder)
    labels = some_labels(study.grid.shape)
    write_seg(path, labels, dicom.phase_images(folder, frame), INFO)
    return labels, read_seg(path, study)


@pytest.mark.parametrize("mirrored", [False, True])
def test_labels_come_back_voxel_for_voxel_from_either_handedness(make_study, tmp_path, mirrored):
    affine = RIGHT_HANDED.copy()
    affine[:3, 2] *= -1 if mirrored else 1
    dicom.write_cine(tmp_path / "cine", make_study(affine=affine))
    assert studies.load(tmp_path / "cine").grid.handedness == (-1 if mirrored else 1)
    before, after = round_trip(tmp_path / "cine", tmp_path / "seg.dcm")
    np.testing.assert_array_equal(before, after)


def test_an_oblique_stack_comes_back_too(cine, tmp_path):
    before, after = round_trip(cine, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(before, after)


def test_every_frame_names_the_image_of_its_slice_and_phase(cine, tmp_path):
    images = dicom.phase_images(cine, 2)
    labels = np.zeros((7, 5, 4), np.uint8)
    labels[2, 3, 3] = 2
    write_seg(tmp_path / "seg.dcm", labels, images, INFO)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    (frame,) = seg.PerFrameFunctionalGroupsSequence
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == images[3].sop_uid
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == images[0].series_uid


def test_a_stack_joined_from_a_series_a_slice_refers_to_all_of_them(make_study, tmp_path):
    """So most Siemens scanners store a cine; each slice also has a frame of reference here."""
    files = dicom.write_cine(tmp_path / "cine", make_study())
    for number, path in enumerate(files):
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID = f"{image.SeriesInstanceUID[:50]}.{number // 3 + 1}"
        image.SeriesNumber = 11 + number // 3
        image.FrameOfReferenceUID = f"1.2.3.{number // 3 + 1}"
        image.save_as(path)
    before, after = round_trip(tmp_path / "cine", tmp_path / "seg.dcm")
    np.testing.assert_array_equal(before, after)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    told = [item.SeriesInstanceUID for item in seg.ReferencedSeriesSequence]
    assert told == [image.series_uid for image in dicom.phase_images(tmp_path / "cine", 1)]


def test_segments_carry_names_codes_and_the_model(cine, tmp_path):
    round_trip(cine, tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    told = [
        (item.SegmentLabel, item.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        for item in seg.SegmentSequence
    ]
    assert told == [(structure.name, structure.code.value) for structure in STRUCTURES]
    first = seg.SegmentSequence[0]
    assert first.SegmentAlgorithmType == "SEMIAUTOMATIC"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("CineLabel", "phantom-1")
    assert seg.SeriesDescription == "labels of phase 1"
    assert str(seg.ContentCreatorName).startswith("reader")


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        (SegInfo("", "reader", None), "MANUAL"),
        (SegInfo("", "reader", "phantom-1"), "SEMIAUTOMATIC"),
        (SegInfo("", "reader", "phantom-1", version=0), "AUTOMATIC"),
    ],
)
def test_the_object_tells_drawn_from_corrected_from_predicted(cine, tmp_path, info, kind):
    write_seg(tmp_path / "s.dcm", some_labels((7, 5, 4)), dicom.phase_images(cine, 0), info)
    told = {
        item.SegmentAlgorithmType for item in pydicom.dcmread(tmp_path / "s.dcm").SegmentSequence
    }
    assert told == {kind}


def test_the_same_labels_are_the_same_object_and_a_new_version_is_another(cine, tmp_path):
    images = dicom.phase_images(cine, 0)
    labels = some_labels((7, 5, 4))
    one = write_seg(tmp_path / "1.dcm", labels, images, SegInfo("", "a", None))
    again = write_seg(tmp_path / "2.dcm", labels, images, SegInfo("", "b", None))
    other = write_seg(tmp_path / "3.dcm", labels, images, SegInfo("", "a", None, version=2))
    assert one == again != other


def test_empty_labels_are_an_object_without_a_voxel(cine, tmp_path):
    labels = np.zeros((7, 5, 4), np.uint8)
    write_seg(tmp_path / "seg.dcm", labels, dicom.phase_images(cine, 0), INFO)
    assert not read_seg(tmp_path / "seg.dcm", studies.load(cine)).any()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of the edit
def test_anonymised_images_may_lack_what_is_known_of_the_patient(cine, tmp_path, edit_dicom):
    gone = dict.fromkeys(("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"))
    edit_dicom(sorted(cine.iterdir()), **gone, FrameOfReferenceUID=None, SliceThickness=None)
    edit_dicom(sorted(cine.iterdir()), StudyDate="00000000", StudyTime="")
    before, after = round_trip(cine, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(before, after)


def test_labels_of_another_shape_or_with_other_values_are_refused(cine, tmp_path):
    images = dicom.phase_images(cine, 0)
    with pytest.raises(GridError, match="do not fit"):
        write_seg(tmp_path / "seg.dcm", np.zeros((5, 7, 4), np.uint8), images, INFO)
    with pytest.raises(LabelError, match="no structure"):
        write_seg(tmp_path / "seg.dcm", np.full((7, 5, 4), 4, np.uint8), images, INFO)
    assert not (tmp_path / "seg.dcm").exists()


def test_a_segmentation_of_another_grid_is_refused(cine, make_study, tmp_path):
    round_trip(cine, tmp_path / "seg.dcm")
    with pytest.raises(GridError, match="voxel on voxel"):
        read_seg(tmp_path / "seg.dcm", make_study(affine=RIGHT_HANDED))


def test_what_is_no_segmentation_is_refused(cine, tmp_path):
    with pytest.raises(InputError, match="is no DICOM segmentation"):
        read_seg(next(cine.iterdir()), studies.load(cine))
    (tmp_path / "text.dcm").write_text("none")
    with pytest.raises(InputError, match="not a readable"):
        read_seg(tmp_path / "text.dcm", studies.load(cine))


def test_a_segment_of_another_organ_is_refused(cine, tmp_path):
    round_trip(cine, tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    seg.SegmentSequence[0].SegmentLabel = "liver"
    seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(LabelError, match="'liver' is no structure"):
        read_seg(tmp_path / "seg.dcm", studies.load(cine))


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (apt install dicom3tools)"
)
@pytest.mark.parametrize("model", ["phantom-1", None])
@pytest.mark.parametrize("empty", [False, True])
def test_an_outside_judge_finds_no_error_and_no_warning(cine, tmp_path, model, empty):
    labels = np.zeros((7, 5, 4), np.uint8) if empty else some_labels((7, 5, 4))
    images = dicom.phase_images(cine, 0)
    write_seg(tmp_path / "seg.dcm", labels, images, SegInfo("labels", "reader", model))
    alone = said_by("dciodvfy", tmp_path / "seg.dcm")
    assert alone[0] == "Segmentation"
    among = said_by("dcentvfy", tmp_path / "seg.dcm", *(image.path for image in images))
    assert [line for line in alone + among if line.startswith(("Error", "Warning"))] == []


def said_by(program: str, *files: Path) -> list[str]:
    run = subprocess.run([program, *map(str, files)], capture_output=True, text=True)
    return (run.stdout + run.stderr).splitlines()
