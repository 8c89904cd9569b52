"""DICOM folders are read voxel for voxel as the server reads them, or refused in its words."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cinelabel import studies
from cinelabel.core import errors
from cinelabel.core.grid import Grid
from cinelabel.studies import Study
from cinelabel.studies.dicom_writer import write_cine
from CineLabelLib import dicom_study
from CineLabelLib.core.errors import InputError
from pydicom.uid import JPEG2000Lossless, generate_uid

# Oblique, left-handed, with a rotation of a 3-4-5 triangle; spacing 1.5 x 1.25 x 8 mm.
OBLIQUE = np.array(
    [[1.5, 0, 0, 40], [0, -0.75, 6.4, -30], [0, 1, 4.8, 12.5], [0, 0, 0, 1]], np.float64
)
SLICES, PHASES = 4, 3


def study(affine: np.ndarray = OBLIQUE, shape=(7, 5, SLICES, PHASES), **changes) -> Study:
    """Distinct whole numbers as voxels."""
    frames = np.arange(np.prod(shape), dtype=np.float32).reshape(shape, order="F")
    times = (10.0, 50.0, 90.0) if shape[3] == PHASES else None
    own = Study("phantom", frames, Grid(shape[:3], affine), shape[3] > 1, times, kind="phantom")
    return dataclasses.replace(own, **changes)


@pytest.fixture
def cine(tmp_path: Path) -> Path:
    """A folder with one cine: 4 slices of 3 phases."""
    write_cine(tmp_path / "cine", study())
    return tmp_path / "cine"


def files(folder: Path, pattern: str = "*.dcm") -> list[Path]:
    return sorted(folder.glob(pattern))


def edit(paths: list[Path], **attributes: object) -> None:
    """Change attributes of files in place; None deletes, a function is given the image."""
    for path in paths:
        image = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            new = value(image) if callable(value) else value
            if new is None:
                delattr(image, keyword)
            else:
                setattr(image, keyword, new)
        image.save_as(path)


def by_server(folder: Path, series: str | None = None) -> Study | str:
    """The study as the server reads it, or the sentence with which it refuses."""
    try:
        return studies.load(folder, series=series)
    except errors.InputError as error:
        return str(error)


def require_same(folder: Path, series: str | None = None) -> None:
    """Voxels, affine, times, name and order of frames are those of the server."""
    found, expected = dicom_study.read_study(folder, series), by_server(folder, series)
    assert isinstance(expected, Study), expected
    np.testing.assert_array_equal(found.voxels.astype(np.float32), expected.frames)
    np.testing.assert_array_equal(found.affine, expected.grid.affine)
    assert found.trigger_times_ms == expected.trigger_times_ms
    assert (found.name, found.source) == (expected.name, expected.source)
    assert len(found.notes) == len(expected.notes)


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("shear", [0, 0.5])
@pytest.mark.parametrize("shape", [(7, 5, 4, 3), (6, 6, 1, 3), (7, 5, 4, 1)])
def test_phantoms_are_read_as_by_the_server_whatever_their_handedness(tmp_path, flip, shear, shape):
    affine = OBLIQUE @ np.diag([1, 1, flip, 1])
    affine[:3, 2] += shear * affine[:3, 0]
    phantom = study(affine, shape)
    write_cine(tmp_path / "cine", phantom)
    require_same(tmp_path / "cine")
    found = dicom_study.read_study(tmp_path / "cine")
    np.testing.assert_array_equal(found.voxels, phantom.frames)
    assert found.voxels.dtype == np.int16
    if shape[2] > 1:  # one slice does not tell on which side the next would be
        assert found.grid.handedness == phantom.grid.handedness


def test_both_real_examinations_are_read_as_by_the_server(shared_data):
    for case in ("SC-HF-I-1", "SC-HF-I-4"):
        require_same(shared_data / "sunnybrook" / case / "dicom")


def rescale_one_slice(folder: Path) -> None:
    edit(files(folder, "slice01*"), RescaleSlope=2.5, RescaleIntercept=-7)


def shuffle_names(folder: Path) -> None:
    paths = files(folder)
    for number, index in enumerate(np.random.default_rng(3).permutation(len(paths))):
        (folder / f"part{number % 2}").mkdir(exist_ok=True)
        paths[index].rename(folder / f"part{number % 2}" / f"IM{number}")


def count_instances_backwards(folder: Path) -> None:
    edit(files(folder), InstanceNumber=lambda image: 100 - int(image.InstanceNumber))


def drop_times_and_count_backwards(folder: Path) -> None:
    count_instances_backwards(folder)
    edit(files(folder), TriggerTime=None)


def leave_the_time_of_day(folder: Path) -> None:
    edit(files(folder), TriggerTime=None, InstanceNumber=1)


def leave_one_time_for_all(folder: Path) -> None:
    edit(files(folder), TriggerTime=7)


def vary_times_between_breath_holds(folder: Path) -> None:
    edit(files(folder, "slice02*"), TriggerTime=lambda image: float(image.TriggerTime) * 1.1)


def give_each_slice_a_series(folder: Path) -> None:
    for z in range(SLICES):
        uid = generate_uid(entropy_srcs=[str(z)])
        edit(files(folder, f"slice{z:02d}*"), SeriesInstanceUID=uid, SeriesNumber=20 + (z * 3) % 4)


def add_files_of_other_kinds(folder: Path) -> None:
    (folder / "notes.txt").write_text("a text")
    (folder / "empty").write_bytes(b"")
    (folder / ".hidden.dcm").write_bytes(b"\0" * 128 + b"DICM")
    report = pydicom.dcmread(files(folder, "slice*")[0])
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    report.SOPInstanceUID = generate_uid()
    report.save_as(folder / "report.dcm")


def add_a_screenshot(folder: Path) -> None:
    shutil.copy(files(folder)[0], folder / "screenshot.dcm")
    edit(
        [folder / "screenshot.dcm"],
        SOPInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(),
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
    )


def add_a_long_axis(folder: Path, slices: int = 1, number: int = 2, **options: object) -> None:
    affine = OBLIQUE[:, [0, 2, 1, 3]] @ np.diag([1, 0.2, 6, 1])
    other = study(affine, (7, 5, slices, PHASES))
    write_cine(folder / f"lax{number}", other, series_number=number, **options)


def use_uids_against_the_standard(folder: Path) -> None:
    edit(files(folder), SeriesInstanceUID="1.2.05.7")


@pytest.mark.parametrize(
    "change",
    [
        rescale_one_slice,
        shuffle_names,
        count_instances_backwards,
        drop_times_and_count_backwards,
        leave_the_time_of_day,
        leave_one_time_for_all,
        vary_times_between_breath_holds,
        give_each_slice_a_series,
        add_files_of_other_kinds,
        add_a_screenshot,
        add_a_long_axis,
        use_uids_against_the_standard,
    ],
)
def test_folders_of_every_usual_kind_are_read_as_by_the_server(cine, change):
    change(cine)
    require_same(cine)


def test_a_folder_that_is_named_for_its_format_lends_the_name_above_it(tmp_path):
    write_cine(tmp_path / "patient-3" / "DICOM", study())
    assert dicom_study.read_study(tmp_path / "patient-3" / "DICOM").name == "patient-3"


def test_pixels_that_are_rescaled_are_float32_and_others_as_stored(cine):
    assert dicom_study.read_study(cine).voxels.dtype == np.int16
    rescale_one_slice(cine)
    assert dicom_study.read_study(cine).voxels.dtype == np.float32


def test_unsigned_pixels_stay_unsigned(cine):
    edit(files(cine), PixelRepresentation=0)
    assert dicom_study.read_study(cine).voxels.dtype == np.uint16
    require_same(cine)


def test_the_series_of_a_folder_are_listed_and_one_is_chosen(cine):
    add_a_long_axis(cine, slices=3, number=7, description="stress")
    found = dicom_study.series_of(cine)
    assert [(s.key, s.description, s.slices, s.phases, s.joined) for s in found] == [
        ("1", "cine short axis phantom", 4, 3, 1),
        ("7", "stress", 3, 3, 1),
    ]
    with pytest.raises(InputError) as error:
        dicom_study.read_study(cine)
    sentence = str(error.value)
    assert sentence.startswith(f"{cine}: holds 2 series, of which 2 may be the cine stack.")
    assert "7 'stress' 7 x 5, 3 slices, 3 phases" in sentence
    for key in ("1", "7"):
        require_same(cine, key)
    with pytest.raises(InputError, match="has no series '99'. Choose a series of 1 'cine"):
        dicom_study.read_study(cine, "99")


def test_orientations_mixed_under_one_uid_are_two_series(cine):
    uid = str(pydicom.dcmread(files(cine)[0]).SeriesInstanceUID)
    add_a_long_axis(cine, number=1, series_uid=uid)
    assert [(s.key, s.slices) for s in dicom_study.series_of(cine)] == [("1-1", 4), ("1-2", 1)]
    require_same(cine)
    require_same(cine, "1-2")


def test_phase_maps_are_told_apart_from_magnitudes(cine):
    shutil.copytree(cine, cine / "maps")
    edit(
        files(cine / "maps"),
        SOPInstanceUID=lambda image: generate_uid(),
        ImageType=["ORIGINAL", "PRIMARY", "P", "RETRO"],
    )
    assert [s.phases for s in dicom_study.series_of(cine)] == [3, 3]


def aside(image: pydicom.Dataset) -> list[float]:
    row = np.array(image.ImageOrientationPatient[:3], float)
    return [round(v, 6) for v in np.array(image.ImagePositionPatient, float) + 5 * row]


def further(image: pydicom.Dataset) -> list[float]:
    step = study().grid.normal * [-1, -1, 1] * 1.5
    return [round(v, 6) for v in np.array(image.ImagePositionPatient, float) + step]


def remove(folder: Path, pattern: str) -> None:
    for path in files(folder, pattern):
        path.unlink()


def repeat_an_image(folder: Path) -> None:
    shutil.copy(folder / "slice01_phase01.dcm", folder / "again.dcm")
    edit([folder / "again.dcm"], SOPInstanceUID=generate_uid())


def repeat_a_slice(folder: Path) -> None:
    give_each_slice_a_series(folder)
    for path in files(folder, "slice01*"):
        shutil.copy(path, folder / f"repeat_{path.name}")
    edit(
        files(folder, "repeat*"),
        SOPInstanceUID=lambda image: generate_uid(),
        SeriesInstanceUID=generate_uid(),
        SeriesNumber=30,
    )


def lose_a_phase_of_a_series(folder: Path) -> None:
    give_each_slice_a_series(folder)
    (folder / "slice03_phase02.dcm").unlink()


def cut(folder: Path, size: int) -> None:
    path = files(folder)[4]
    path.write_bytes(path.read_bytes()[:size])


def compress_badly(folder: Path) -> None:
    path = files(folder)[4]
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = pydicom.encaps.encapsulate([b"no JPEG 2000 stream "])
    image["PixelData"].is_undefined_length = True
    image.save_as(path)


def remove_pixels(folder: Path) -> None:
    for path in files(folder):
        edit([path], PixelData=None, Rows=None, Columns=None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shutil.rmtree, "does not exist"),
        (lambda f: remove(f, "*"), "is an empty folder"),
        (lambda f: [p.write_bytes(b"x") for p in files(f)], "no DICOM file among its 12 files"),
        (remove_pixels, "holds DICOM files, but no image"),
        (lambda f: edit(files(f), NumberOfFrames=20), "is a multi-frame object"),
        (lambda f: edit(files(f)[5:6], SamplesPerPixel=3), "slice01_phase02.dcm: is a colour"),
        (lambda f: edit(files(f), PhotometricInterpretation="MONOCHROME1"), "has inverted grey"),
        (lambda f: edit(files(f)[7:8], PatientID="ELSE"), "mixes patients, e.g. slice00_phase00"),
        (lambda f: remove(f, "slice02*"), "a slice is missing between slices 1 and 2"),
        (lambda f: remove(f, "slice02_phase01*"), "has 2 phases and the others have 3"),
        (lambda f: edit(files(f, "slice03*"), ImagePositionPatient=further), "not evenly spaced"),
        (lambda f: edit(files(f, "slice01*"), ImagePositionPatient=aside), "slice 1 is shifted by"),
        (lambda f: edit(files(f, "slice01_phase02*"), ImagePositionPatient=aside), "lie up to 5.0"),
        (lambda f: shutil.copy(f / "slice01_phase01.dcm", f / "copy.dcm"), "is the same image as"),
        (repeat_an_image, "has 4 phases and the others have 3"),
        (repeat_a_slice, "was taken more than once, in series"),
        (lose_a_phase_of_a_series, "series .* has 2 phases and the others have 3"),
        (lambda f: edit(files(f, "*01_phase02*"), TriggerTime=10), "2 images at trigger time 10"),
        (
            lambda f: edit(files(f), TriggerTime=None, InstanceNumber=1, ContentTime=None),
            "does not tell the order of its phases",
        ),
        (lambda f: edit(files(f)[3:4], ImageOrientationPatient=None), "has no ImageOrientationPat"),
        (lambda f: edit(files(f)[3:4], PixelSpacing=None), "has no PixelSpacing"),
        (lambda f: edit(files(f)[3:4], PixelSpacing=[0, 1]), "PixelSpacing that is not positive"),
        (lambda f: edit(files(f)[3:4], ImagePositionPatient=[1, 2]), "that is not 3 numbers"),
        (
            lambda f: edit(files(f)[3:4], ImageOrientationPatient=[1, 0, 0, 0.5, 0.9, 0]),
            "is no pair of perpendicular unit vectors",
        ),
        (lambda f: cut(f, -20), "slice01_phase01.dcm: is truncated or damaged"),
        (lambda f: edit(files(f), PixelData=b"\0" * 70), "is constant, every voxel is 0"),
    ],
)
def test_a_folder_that_is_no_cine_is_refused_in_the_words_of_the_server(cine, change, words):
    change(cine)
    with pytest.raises(InputError, match=words) as error:
        dicom_study.read_study(cine)
    sentence = str(error.value)
    assert sentence.startswith(str(cine))
    assert "\n" not in sentence
    theirs = str(by_server(cine))
    assert sentence == theirs or words == "does not exist"


@pytest.mark.parametrize("size", [140, 300, 600])
def test_a_file_cut_in_its_header_is_named(cine, size):
    cut(cine, size)
    with pytest.raises(InputError, match="slice01|slice 1"):
        dicom_study.read_study(cine)


def test_an_unknown_compression_is_named_with_a_way_out(cine):
    compress_badly(cine)
    with pytest.raises(InputError, match="slice01_phase01.dcm: is compressed|damaged"):
        dicom_study.read_study(cine)


def test_two_matrices_of_one_series_are_two_stacks(cine):
    write_cine(cine / "small", study(shape=(6, 5, SLICES, PHASES)))
    for path in files(cine / "small"):
        edit([path], SOPInstanceUID=generate_uid(), SeriesNumber=1)
    with pytest.raises(InputError, match="holds 2 series, of which 2 may be the cine stack"):
        dicom_study.read_study(cine)
    assert [s.columns for s in dicom_study.series_of(cine)] == [7, 6]


def test_uids_against_the_standard_are_read_without_a_warning(cine):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        use_uids_against_the_standard(cine)
        assert heard, "pydicom warns of it"
        heard.clear()
        dicom_study.read_study(cine)
    assert [str(each.message) for each in heard] == []


def test_progress_grows_to_the_end_and_can_stop_the_reading(cine):
    shares: list[float] = []
    dicom_study.read_study(cine, progress=lambda share, sentence: shares.append(share))
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.9 < shares[-1] < 1

    class Stopped(Exception):
        pass

    def stop(share: float, sentence: str) -> None:
        assert sentence.startswith("Reading")
        if share > 0.6:
            raise Stopped

    with pytest.raises(Stopped):
        dicom_study.read_study(cine, progress=stop)
