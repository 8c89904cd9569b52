"""Every DICOM folder that is refused, with the sentence that names the file, slice or series."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from cinelabel import studies
from cinelabel.core.errors import InputError
from cinelabel.dicom import headers
from cinelabel.studies import dicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, generate_uid


def files(folder, pattern="*.dcm"):
    return sorted(folder.glob(pattern))


def refuse(folder, where, words):
    """The sentence: one line, beginning with the file or folder, saying what is wrong."""
    with pytest.raises(InputError, match=words) as error:
        studies.load(folder)
    sentence = str(error.value)
    assert sentence.startswith(f"{where}: ")
    assert "\n" not in sentence
    return sentence


def test_a_missing_folder(tmp_path):
    refuse(tmp_path / "absent", tmp_path / "absent", "does not exist")


def test_an_empty_folder(tmp_path):
    refuse(tmp_path, tmp_path, "is an empty folder")


def test_a_folder_without_dicom(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    refuse(tmp_path, tmp_path, "no DICOM file among its 1 files")


def test_a_single_dicom_file(cine):
    sentence = refuse(files(cine)[0], files(cine)[0], "not a NIfTI file")
    assert "the folder of a DICOM series" in sentence


def test_a_folder_of_reports(cine):
    for path in files(cine):
        report = pydicom.dcmread(path)
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(report, keyword)
        report.save_as(path)
    refuse(cine, cine, "no image")


def test_a_file_that_a_client_sends_deflated_is_refused_before_it_expands(cine):
    headers.require_size(cine, 1 << 20)
    path = files(cine)[3]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    with pytest.raises(InputError, match=f"{path.name}: is deflated as a whole"):
        headers.require_size(cine, 1 << 20)


def test_images_that_a_client_sends_are_counted_together(cine):
    size = sum(
        4 * pydicom.dcmread(path).Rows * pydicom.dcmread(path).Columns for path in files(cine)
    )
    headers.require_size(cine, size)
    with pytest.raises(InputError, match="GB of voxels"):
        headers.require_size(cine, size - 1)


def test_a_colour_series(cine, edit_dicom):
    edit_dicom(files(cine), SamplesPerPixel=3, PhotometricInterpretation="RGB")
    refuse(cine, files(cine)[0], "is a colour image \\(SamplesPerPixel 3, RGB\\)")


def test_a_colour_image_within_the_series(cine, edit_dicom):
    edit_dicom(files(cine)[5:6], SamplesPerPixel=3, PhotometricInterpretation="RGB")
    refuse(cine, files(cine)[5], "colour")


def test_a_colour_screenshot_of_another_series_is_left_out_and_told(cine, edit_dicom):
    shutil.copy(files(cine)[0], cine / "screenshot.dcm")
    edit_dicom(
        [cine / "screenshot.dcm"],
        SOPInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(),
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
    )
    (note,) = studies.load(cine).notes
    assert note.startswith("screenshot.dcm left out, it is a colour image")


def test_a_multi_frame_object(cine, edit_dicom):
    edit_dicom(files(cine), NumberOfFrames=20)
    refuse(cine, files(cine)[0], "multi-frame")


def test_inverted_grey_values(cine, edit_dicom):
    edit_dicom(files(cine), PhotometricInterpretation="MONOCHROME1")
    refuse(cine, files(cine)[0], "inverted")


def test_mixed_patients(cine, edit_dicom):
    edit_dicom(files(cine)[7:8], PatientID="SOMEBODY ELSE")
    sentence = refuse(cine, cine, "mixes patients, e.g. slice00_phase00.dcm and slice02_phase01.dc")
    assert "SOMEBODY" not in sentence


def test_patients_without_an_id_are_told_apart_by_name(cine, edit_dicom):
    edit_dicom(files(cine), PatientID="")
    edit_dicom(files(cine)[7:8], PatientName="Else^Somebody")
    refuse(cine, cine, "mixes patients")


def test_a_missing_slice(cine):
    for path in files(cine, "slice02*"):
        path.unlink()
    words = r"a slice is missing between slices 1 and 2 .* 16\.0 mm apart .* step is 8\.0 mm"
    refuse(cine, cine, words)


def test_a_missing_slice_of_a_stack_of_four_with_two_steps_left(make_study, tmp_path):
    dicom.write_cine(tmp_path / "cine", make_study((7, 5, 4, 3)))
    for path in files(tmp_path / "cine", "slice01*"):
        path.unlink()
    refuse(tmp_path / "cine", tmp_path / "cine", "a slice is missing between slices 0 and 1")


def test_slices_that_are_not_evenly_spaced(cine, edit_dicom, make_study):
    step = make_study().grid.normal * [-1, -1, 1] * 1.5

    def further(image):
        return [float(f"{v:.6f}") for v in np.array(image.ImagePositionPatient, float) + step]

    edit_dicom(files(cine, "slice03*"), ImagePositionPatient=further)
    refuse(cine, cine, "not evenly spaced, the step between slices 2 and 3 .* is 9.5 mm")


def test_a_slice_shifted_in_its_plane(cine, edit_dicom):
    def aside(image):
        row = np.array(image.ImageOrientationPatient[:3], float)
        return [float(f"{v:.6f}") for v in np.array(image.ImagePositionPatient, float) + 5 * row]

    edit_dicom(files(cine, "slice01*"), ImagePositionPatient=aside)
    refuse(cine, cine, "slice 1 is shifted by 5.0 mm in its plane")


def test_phases_of_a_slice_that_lie_apart(cine, edit_dicom):
    def aside(image):
        row = np.array(image.ImageOrientationPatient[:3], float)
        return [float(f"{v:.6f}") for v in np.array(image.ImagePositionPatient, float) + 5 * row]

    edit_dicom(files(cine, "slice01_phase02*"), ImagePositionPatient=aside)
    refuse(cine, cine, "phases of slice 1 .* lie up to 5.0 mm apart")


def test_unequal_phases(cine):
    (cine / "slice02_phase01.dcm").unlink()
    refuse(cine, cine, r"slice 2 \(counted from 0, at -?\d+\.\d mm .*\) has 2 phases .* have 3")


def test_a_copied_file(cine):
    shutil.copy(cine / "slice01_phase01.dcm", cine / "slice01_phase01 (copy).dcm")
    refuse(
        cine,
        cine / "slice01_phase01.dcm",
        r"is the same image as slice01_phase01 \(copy\)\.dcm",
    )


def test_an_image_sent_twice_under_another_uid(cine, edit_dicom):
    shutil.copy(cine / "slice01_phase01.dcm", cine / "again.dcm")
    edit_dicom([cine / "again.dcm"], SOPInstanceUID=generate_uid())
    refuse(cine, cine, "slice 1 .* has 4 phases and the others have 3")


def test_a_repeated_phase_in_place_of_another(cine, edit_dicom):
    edit_dicom(files(cine, "slice01_phase02*"), TriggerTime=10)
    refuse(cine, cine, "slice 1 .* has 2 images at trigger time 10 ms")


def test_phases_without_any_order(cine, edit_dicom):
    edit_dicom(files(cine), TriggerTime=None, InstanceNumber=1, ContentTime=None)
    sentence = refuse(cine, cine, "does not tell the order of its phases")
    assert "TriggerTime or InstanceNumber or ContentTime" in sentence


def split_slices(folder, edit_dicom, slices):
    """Give each slice a series of its own."""
    for z in range(slices):
        uid = generate_uid(entropy_srcs=[str(z)])
        edit_dicom(files(folder, f"slice{z:02d}*"), SeriesInstanceUID=uid, SeriesNumber=20 + z)


def test_a_slice_taken_twice_in_series_of_its_own(cine, edit_dicom):
    split_slices(cine, edit_dicom, 4)
    for path in files(cine, "slice01*"):
        shutil.copy(path, cine / f"repeat_{path.name}")
    edit_dicom(
        files(cine, "repeat*"),
        SOPInstanceUID=lambda image: generate_uid(),
        SeriesInstanceUID=generate_uid(),
        SeriesNumber=30,
    )
    refuse(cine, cine, "slice 1 .* was taken more than once, in series 21, 30")


def test_a_slice_with_other_phases_in_a_series_of_its_own(cine, edit_dicom):
    """Without this the last slice would be dropped, and nobody would know."""
    split_slices(cine, edit_dicom, 4)
    (cine / "slice03_phase02.dcm").unlink()
    refuse(cine, cine, r"the slice at .* \(series 23\) has 2 phases and the others have 3")


def test_several_series_of_which_none_is_a_stack(cine, make_study):
    for path in files(cine, "slice0[23]*"):
        path.unlink()
    affine = make_study().grid.affine[:, [0, 2, 1, 3]] @ np.diag([1, 0.2, 6, 1])
    dicom.write_cine(cine / "lax", make_study((7, 5, 1, 3), affine=affine), series_number=2)
    refuse(cine, cine, "holds 2 series, of which none may be the cine stack")


@pytest.mark.parametrize(
    "keyword", ["ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"]
)
def test_an_image_without_geometry(cine, edit_dicom, keyword):
    edit_dicom(files(cine)[3:4], **{keyword: None})
    refuse(cine, files(cine)[3], f"has no {keyword}")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0]),
        ("PixelSpacing", [0, 1]),
    ],
)
def test_an_image_with_a_wrong_geometry(cine, edit_dicom, keyword, value):
    edit_dicom(files(cine)[3:4], **{keyword: value})
    refuse(cine, files(cine)[3], keyword)


def test_a_truncated_dicom_file(cine):
    path = files(cine)[4]
    path.write_bytes(path.read_bytes()[:-20])
    refuse(cine, path, "truncated or damaged")


def test_a_dicom_file_cut_in_its_header(cine):
    path = files(cine)[4]
    path.write_bytes(path.read_bytes()[:140])
    with pytest.raises(InputError, match="slice01|slice 1"):
        studies.load(cine)


def test_pixels_in_an_unknown_compression(cine):
    path = files(cine)[4]
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = pydicom.encaps.encapsulate([b"no JPEG 2000 stream "])
    image["PixelData"].is_undefined_length = True
    image.save_as(path)
    refuse(cine, path, "compressed|damaged")


def test_a_constant_series(cine, edit_dicom):
    edit_dicom(files(cine), PixelData=lambda image: b"\0" * len(image.PixelData))
    refuse(cine, cine, "is constant")
