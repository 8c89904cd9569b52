from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
from cinelabel import studies
from cinelabel.core.errors import GridError, InputError, OutputError
from cinelabel.dicom import headers
from cinelabel.studies import dicom
from cinelabel.studies.dicom_writer import Protocol
from pydicom.uid import generate_uid


def files(folder, pattern="*.dcm"):
    return sorted(folder.glob(pattern))


def test_what_is_written_comes_back(make_study, tmp_path):
    study = make_study()
    dicom.write_cine(tmp_path / "cine", study)
    found = studies.load(tmp_path / "cine")
    np.testing.assert_array_equal(found.frames, study.frames)
    np.testing.assert_allclose(found.grid.affine, study.grid.affine, atol=1e-4)
    assert found.frames.dtype == np.float32
    assert found.is_cine
    assert found.trigger_times_ms == pytest.approx((10, 50, 90))
    assert (found.name, found.kind, found.source) == ("cine", "dicom", tmp_path / "cine")
    assert found.slice_thickness_mm == 6
    assert found.notes == ()


def test_a_folder_that_is_named_for_its_format_lends_the_name_above_it(make_study, tmp_path):
    dicom.write_cine(tmp_path / "patient-3" / "DICOM", make_study())
    assert studies.load(tmp_path / "patient-3" / "DICOM").name == "patient-3"


@pytest.mark.parametrize("flip", [1, -1])
def test_neither_handedness_is_flipped(make_study, tmp_path, flip):
    study = make_study(affine=make_study().grid.affine @ np.diag([1, 1, flip, 1]))
    dicom.write_cine(tmp_path / "cine", study)
    found = studies.load(tmp_path / "cine")
    assert found.grid.handedness == study.grid.handedness
    np.testing.assert_array_equal(found.frames, study.frames)


def test_a_sheared_stack_comes_back(make_study, tmp_path):
    affine = make_study().grid.affine.copy()
    affine[:3, 2] += 0.5 * affine[:3, 0]
    study = make_study(affine=affine)
    dicom.write_cine(tmp_path / "cine", study)
    np.testing.assert_allclose(studies.load(tmp_path / "cine").grid.affine, affine, atol=1e-4)


def test_one_phase_is_no_cine(make_study, tmp_path):
    study = make_study((7, 5, 4, 1), trigger_times_ms=None)
    dicom.write_cine(tmp_path / "stack", study)
    found = studies.load(tmp_path / "stack")
    assert not found.is_cine
    np.testing.assert_array_equal(found.frames, study.frames)


def test_fractions_are_kept_to_a_4096th_of_their_range(make_study, tmp_path):
    study = make_study()
    study = dataclasses.replace(study, frames=study.frames / np.float32(3000) - np.float32(0.25))
    dicom.write_cine(tmp_path / "cine", study)
    found = studies.load(tmp_path / "cine")
    assert np.abs(found.frames - study.frames).max() <= np.ptp(study.frames) / 4095 * 0.51


def test_geometry_is_as_the_standard_says(cine, make_study):
    """Pixel-to-patient mapping of PS3.3, C.7.6.2.1.1, worked out for one pixel."""
    study = make_study()
    image = pydicom.dcmread(cine / "slice02_phase01.dcm")
    row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, image.PixelSpacing)
    x, y = 4, 3
    lps = np.array(image.ImagePositionPatient, float)
    lps = lps + row * between_columns * x + column * between_rows * y
    ras = study.grid.index_to_world(np.array([x, y, 2]))
    np.testing.assert_allclose(lps * [-1, -1, 1], ras, atol=1e-4)
    assert image.pixel_array[y, x] == study.frames[x, y, 2, 1]
    assert (image.Rows, image.Columns) == (5, 7)


def test_files_are_valid_magnetic_resonance_images_of_a_phantom(cine):
    images = [pydicom.dcmread(path) for path in files(cine)]
    assert len(images) == len({image.SOPInstanceUID for image in images}) == 12
    for image in images:
        assert image.SOPClassUID == image.file_meta.MediaStorageSOPClassUID
        assert image.SOPClassUID.name == "MR Image Storage"
        assert image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID
        assert image.SOPInstanceUID.is_valid
        assert (image.BitsAllocated, image.PixelRepresentation) == (16, 1)
        assert image.PhotometricInterpretation == "MONOCHROME2"
        assert image.WindowWidth >= 1
        assert "Phantom" in str(image.PatientName)
        assert image.QualityControlSubject == "YES"
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert sorted(image.InstanceNumber for image in images) == list(range(1, 13))
    first = images[0]
    assert (first.SpacingBetweenSlices, first.SliceThickness) == (8, 6)
    assert (first.NominalInterval, first.HeartRate) == (120, 500)  # three phases of 40 ms


def test_the_protocol_is_told_as_far_as_it_is_known(make_study, tmp_path):
    known = Protocol(1.5, 60.0, 3.1, 1.55, phase_axis=0)
    one = pydicom.dcmread(dicom.write_cine(tmp_path / "a", make_study(), protocol=known)[0])
    assert (one.MagneticFieldStrength, one.FlipAngle) == (1.5, 60)
    assert (one.RepetitionTime, one.EchoTime) == (3.1, 1.55)
    assert one.InPlanePhaseEncodingDirection == "ROW"  # along a row, the first axis of the frames
    two = pydicom.dcmread(dicom.write_cine(tmp_path / "b", make_study())[0])
    assert (two.RepetitionTime, two.EchoTime) == (None, None)
    unknown = {"FlipAngle", "MagneticFieldStrength", "InPlanePhaseEncodingDirection"}
    assert not unknown & set(two.dir())


def test_times_of_images_grow_with_slice_and_phase_and_gating_goes_with_trigger_times(
    make_study, tmp_path
):
    gated = [pydicom.dcmread(p) for p in dicom.write_cine(tmp_path / "a", make_study())]
    times = [float(image.ContentTime) for image in gated]
    assert times == sorted(set(times))
    assert {image.ScanOptions for image in gated} == {"CG"}
    stack = dicom.write_cine(tmp_path / "b", make_study((7, 5, 2, 1), trigger_times_ms=None))
    assert not pydicom.dcmread(stack[0]).ScanOptions


def test_many_slices_and_phases_have_distinct_uids(make_study, tmp_path):
    study = make_study((4, 4, 13, 12), trigger_times_ms=None)
    written = dicom.write_cine(tmp_path / "cine", study)
    uids = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in written}
    assert len(uids) == 13 * 12


def test_writing_twice_gives_the_same_bytes(make_study, tmp_path):
    one = dicom.write_cine(tmp_path / "one", make_study())
    two = dicom.write_cine(tmp_path / "two", make_study())
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_another_patient_or_study_has_other_uids(make_study, tmp_path):
    names = [("A", "p"), ("B", "p"), ("A", "q")]
    found = set()
    for patient, name in names:
        folder = tmp_path / f"{patient}{name}"
        path = dicom.write_cine(folder, make_study(name=name), patient_id=patient)[0]
        found.add(pydicom.dcmread(path).StudyInstanceUID)
    assert len(found) == 3


def test_a_folder_with_files_is_not_written_to(make_study, cine):
    before = sorted(os.listdir(cine))
    with pytest.raises(OutputError, match="not an empty folder"):
        dicom.write_cine(cine, make_study())
    assert sorted(os.listdir(cine)) == before
    assert os.listdir(cine.parent) == ["cine"]


def test_an_empty_folder_may_be_written_to(make_study, tmp_path):
    (tmp_path / "cine").mkdir()
    assert len(dicom.write_cine(tmp_path / "cine", make_study())) == 12


def test_a_disk_full_leaves_no_folder(make_study, tmp_path, monkeypatch):
    written = []

    def full_after_five(descriptor):
        written.append(descriptor)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_after_five)
    with pytest.raises(OutputError, match="cine: cannot be written, the disk is full"):
        dicom.write_cine(tmp_path / "cine", make_study())
    assert os.listdir(tmp_path) == []


def test_axes_that_are_not_perpendicular_cannot_be_written(make_study, tmp_path):
    affine = make_study().grid.affine.copy()
    affine[:3, 1] += 0.1 * affine[:3, 0]
    with pytest.raises(GridError, match="perpendicular"):
        dicom.write_cine(tmp_path / "cine", make_study(affine=affine))


def test_file_names_do_not_matter(cine, make_study):
    paths = files(cine)
    order = np.random.default_rng(3).permutation(len(paths))
    for number, index in enumerate(order):
        sub = cine / f"part{number % 2}"
        sub.mkdir(exist_ok=True)
        paths[index].rename(sub / f"IM{number}")
    np.testing.assert_array_equal(studies.load(cine).frames, make_study().frames)


def test_decimal_strings_a_hair_below_a_power_of_ten_fit_their_16_characters(make_study, tmp_path):
    affine = make_study().grid.affine.copy()
    step = np.linalg.norm(affine[:3, 2])
    affine[:3, 2] *= (10.0 - 2e-15) / step
    path = dicom.write_cine(tmp_path / "cine", make_study(affine=affine))[0]
    raw = pydicom.dcmread(path)["SpacingBetweenSlices"].value
    assert len(str(raw)) <= 16
    assert float(raw) == 10.0


def test_files_that_are_no_dicom_are_passed_over(cine, make_study):
    (cine / "notes.txt").write_text("a text")
    (cine / "empty").write_bytes(b"")
    np.testing.assert_array_equal(studies.load(cine).frames, make_study().frames)


def test_objects_without_pixels_are_passed_over(cine, make_study):
    report = pydicom.dcmread(files(cine)[0])
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    report.SOPInstanceUID = generate_uid()
    report.save_as(cine / "report.dcm")
    np.testing.assert_array_equal(studies.load(cine).frames, make_study().frames)


def test_rescaling_is_applied_image_by_image(cine, make_study, edit_dicom):
    edit_dicom(files(cine, "slice01*"), RescaleSlope=2, RescaleIntercept=-7)
    expected = make_study().frames.copy()
    expected[:, :, 1] = expected[:, :, 1] * 2 - 7
    np.testing.assert_array_equal(studies.load(cine).frames, expected)


def reverse_instances(edit_dicom, folder):
    """Within each slice, instance numbers that run against the trigger times."""
    edit_dicom(
        files(folder),
        InstanceNumber=lambda image: (
            100 * (1 + image.AcquisitionNumber) - int(image.InstanceNumber)
        ),
    )


def test_trigger_time_goes_before_instance_number(cine, make_study, edit_dicom):
    reverse_instances(edit_dicom, cine)
    found = studies.load(cine)
    np.testing.assert_array_equal(found.frames, make_study().frames)


def test_without_trigger_times_the_instance_number_orders(cine, make_study, edit_dicom):
    reverse_instances(edit_dicom, cine)
    edit_dicom(files(cine), TriggerTime=None)
    found = studies.load(cine)
    np.testing.assert_array_equal(found.frames, make_study().frames[..., ::-1])
    assert found.trigger_times_ms is None
    assert any("InstanceNumber" in note for note in found.notes)


def test_one_trigger_time_for_all_is_a_filler(cine, make_study, edit_dicom):
    edit_dicom(files(cine), TriggerTime=0)
    np.testing.assert_array_equal(studies.load(cine).frames, make_study().frames)


def test_without_instance_numbers_the_content_time_orders(cine, make_study, edit_dicom):
    for phase, time in enumerate(("101500.25", "101500.125", "101459")):
        edit_dicom(files(cine, f"*phase{phase:02d}*"), ContentTime=time)
    edit_dicom(files(cine), TriggerTime=None, InstanceNumber=None)
    found = studies.load(cine)
    # Nothing tells which end was acquired first either, so slices follow the normal.
    stack = make_study().frames[..., ::-1]
    expected = stack if found.grid.handedness == make_study().grid.handedness else stack[:, :, ::-1]
    np.testing.assert_array_equal(found.frames, expected)


def test_without_times_the_temporal_position_orders(cine, make_study, edit_dicom):
    for phase in range(3):
        edit_dicom(files(cine, f"*phase{phase:02d}*"), TemporalPositionIdentifier=9 - phase)
    edit_dicom(files(cine), TriggerTime=None, InstanceNumber=1, ContentTime=None)
    found = studies.load(cine)
    assert any("TemporalPositionIdentifier" in note for note in found.notes)
    assert found.frames[0, 0, :, 0].max() == make_study().frames[0, 0, :, 2].max()


def test_trigger_times_of_breath_holds_that_differ_are_given_as_their_median(cine, edit_dicom):
    for z, shift in enumerate((0, 2, 4, 100)):
        edit_dicom(
            files(cine, f"slice{z:02d}*"), TriggerTime=lambda i, s=shift: float(i.TriggerTime) + s
        )
    assert studies.load(cine).trigger_times_ms == pytest.approx((13, 53, 93))


def test_the_end_acquired_first_is_slice_0(cine, make_study, edit_dicom):
    edit_dicom(files(cine), InstanceNumber=lambda image: 13 - int(image.InstanceNumber))
    found = studies.load(cine)
    np.testing.assert_array_equal(found.frames, make_study().frames[:, :, ::-1])
    assert found.grid.handedness == -make_study().grid.handedness
    assert found.grid.index_to_world(np.array([0, 0, 3])) == pytest.approx(
        make_study().grid.index_to_world(np.array([0, 0, 0])), abs=1e-4
    )


def test_series_of_one_slice_each_are_joined(cine, make_study, edit_dicom):
    for z in range(4):
        uid = generate_uid(entropy_srcs=[str(z)])
        edit_dicom(
            files(cine, f"slice{z:02d}*"),
            SeriesInstanceUID=uid,
            SeriesNumber=20 + z,
            InstanceNumber=lambda image: (int(image.InstanceNumber) - 1) % 3 + 1,
        )
    found = studies.load(cine)
    np.testing.assert_array_equal(found.frames, make_study().frames)
    assert found.notes == ("joined 4 series of one slice each",)
    (summary,) = dicom.read_series(cine)
    assert (summary.slices, summary.phases, summary.joined) == (4, 3, 4)


def long_axis(make_study, folder, number, slices=1, **keywords):
    """A second series, across the stack."""
    affine = make_study().grid.affine[:, [0, 2, 1, 3]] @ np.diag([1, 0.2, 6, 1])
    study = make_study((7, 5, slices, 3), affine=affine)
    dicom.write_cine(folder, study, series_number=number, **keywords)


def test_a_stack_is_told_from_long_axis_slices(cine, make_study):
    long_axis(make_study, cine / "lax", 2, description="4 chamber")
    found = studies.load(cine)
    np.testing.assert_array_equal(found.frames, make_study().frames)
    assert found.name == "cine-1"
    assert found.notes == ("series 2 '4 chamber' 7 x 5, 1 slice, 3 phases left out",)
    assert [s.slices for s in dicom.read_series(cine)] == [4, 1]


@pytest.mark.parametrize("chosen", ["2", "4 chamber"])
def test_a_series_is_chosen_by_number_or_description(cine, make_study, chosen):
    long_axis(make_study, cine / "lax", 2, description="4 chamber")
    assert studies.load(cine, series=chosen).grid.shape == (7, 5, 1)


def test_a_series_is_chosen_by_uid(cine, make_study):
    long_axis(make_study, cine / "lax", 2)
    uid = dicom.read_series(cine)[1].uid
    assert studies.load(cine, series=uid).series_uid == uid


def test_two_stacks_are_listed_and_none_is_guessed(cine, make_study):
    long_axis(make_study, cine / "other", 7, slices=3, description="stress")
    with pytest.raises(InputError) as error:
        studies.load(cine)
    sentence = str(error.value)
    assert sentence.startswith(f"{cine}: holds 2 series")
    assert "Choose a series of 1 'cine short axis phantom' 7 x 5, 4 slices, 3 phases" in sentence
    assert "7 'stress' 7 x 5, 3 slices, 3 phases" in sentence
    assert studies.load(cine, series="7").grid.shape == (7, 5, 3)


def test_a_series_that_is_not_there_is_told_with_those_that_are(cine):
    with pytest.raises(InputError, match="has no series '99'. Choose a series of 1 "):
        studies.load(cine, series="99")


def test_orientations_mixed_under_one_uid_are_two_series(cine, make_study):
    uid = dicom.read_series(cine)[0].uid
    long_axis(make_study, cine / "lax", 1, series_uid=uid)
    found = dicom.read_series(cine)
    assert [(s.key, s.slices) for s in found] == [("1-1", 4), ("1-2", 1)]
    np.testing.assert_array_equal(studies.load(cine).frames, make_study().frames)
    assert studies.load(cine, series="1-2").grid.shape == (7, 5, 1)
    with pytest.raises(InputError, match="several series"):
        studies.load(cine, series=uid)


def test_phase_maps_of_the_same_series_are_told_apart(cine, make_study, edit_dicom):
    shutil.copytree(cine, cine / "maps")
    edit_dicom(
        files(cine / "maps"),
        SOPInstanceUID=lambda image: generate_uid(),
        ImageType=["ORIGINAL", "PRIMARY", "P", "RETRO"],
    )
    assert [s.phases for s in dicom.read_series(cine)] == [3, 3]


def test_all_series_of_a_folder_can_be_loaded(cine, make_study, write_nifti):
    long_axis(make_study, cine / "lax", 2)
    found = studies.load_all(cine)
    assert [study.name for study in found] == ["cine-1", "cine-2"]
    assert [study.grid.shape for study in found] == [(7, 5, 4), (7, 5, 1)]
    path = write_nifti(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    assert [study.name for study in studies.load_all(path)] == ["scan"]


def test_a_label_for_a_dicom_study_lies_on_its_grid(cine, tmp_path):
    study = studies.load(cine)
    studies.save_label(tmp_path / "label.nii.gz", np.ones((7, 5, 4, 3), np.uint8), study)
    _, grid = studies.load_label(tmp_path / "label.nii.gz")
    assert study.grid.equals(grid)


def test_real_files_against_the_standard_are_read_without_warnings(cine, edit_dicom, recwarn):
    edit_dicom(files(cine), StudyInstanceUID="1.2.05.7")
    recwarn.clear()
    studies.load(cine)
    assert [w for w in recwarn if "pydicom" in str(w.filename)] == []


def test_two_threads_that_read_images_leave_the_warnings_of_others_as_they_were(cine, monkeypatch):
    images, _ = headers.scan(cine)
    first_reads, second_reads, first_is_done = (threading.Event() for _ in range(3))
    read = pydicom.dcmread

    def in_turn(path, **options):
        mine, before = (first_reads, second_reads), (second_reads, first_is_done)
        said, awaited = mine if path == images[0].path else before
        said.set()
        assert awaited.wait(30)
        return read(path, **options)

    monkeypatch.setattr(pydicom, "dcmread", in_turn)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(headers.read_pixels, images[0])
        assert first_reads.wait(30)
        second = pool.submit(headers.read_pixels, images[1])
        first.result(60)
        first_is_done.set()
        second.result(60)
    assert ("ignore", None, UserWarning, None, 0) not in warnings.filters


def test_values_against_the_standard_are_read_without_a_warning(cine, edit_dicom):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        edit_dicom(sorted(cine.iterdir()), SeriesInstanceUID="no such thing as a UID")
        assert heard, "pydicom warns of it"
        heard.clear()
        images, _ = headers.scan(cine)
        headers.read_pixels(images[0])
    assert images[0].series_uid == "no such thing as a UID"
    assert [str(each.message) for each in heard] == []
