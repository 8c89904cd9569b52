from __future__ import annotations

import dataclasses
import errno
import gzip
import os

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.errors import GridError, InputError, LabelError, OutputError
from cinelabel.core.labels import LabelMap

SHAPE = (7, 5, 4)
# As in the conftest: oblique, left-handed, 1.5 x 1.25 x 8 mm.
OBLIQUE = np.array(
    [
        [1.5, 0, 0, 40],
        [0, -0.75, 6.4, -30],
        [0, 1.0, 4.8, 12.5],
        [0, 0, 0, 1],
    ]
)
UNIT = np.diag([-1.0, -1.0, 1.0, 1.0])


def ramp(shape):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def stored(path):
    """The 348 bytes of the header, unpacked by field."""
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rb") as stream:
        return nib.Nifti1Header(stream.read(348), check=False)


GEOMETRY = [
    *("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
]


def geometry(path):
    header = stored(path)
    return {field: header[field].tobytes() for field in GEOMETRY}


def test_a_3d_file_is_a_study_of_one_frame(write_nifti):
    path = write_nifti(ramp(SHAPE))
    study = studies.load(path)
    assert study.frames.shape == (*SHAPE, 1)
    assert study.frames.dtype == np.float32
    assert not study.is_cine
    assert (study.name, study.kind, study.source) == ("scan", "nifti", path)
    np.testing.assert_array_equal(study.frame(0), ramp(SHAPE))
    np.testing.assert_allclose(study.grid.affine, OBLIQUE, atol=1e-6)


def test_a_4d_file_is_a_cine(write_nifti):
    study = studies.load(write_nifti(ramp((*SHAPE, 3)), "scan.nii"))
    assert study.is_cine
    assert study.n_frames == 3
    np.testing.assert_array_equal(study.frames, ramp((*SHAPE, 3)))


@pytest.mark.parametrize("extra", [(1,), (1, 1), (1, 1, 1)])
def test_trailing_axes_of_length_one_are_dropped(write_nifti, extra):
    study = studies.load(write_nifti(ramp((*SHAPE, *extra))))
    assert not study.is_cine
    np.testing.assert_array_equal(study.frame(0), ramp(SHAPE))


def test_a_trailing_axis_behind_the_phases_is_dropped(write_nifti):
    study = studies.load(write_nifti(ramp((*SHAPE, 3, 1))))
    assert study.frames.shape == (*SHAPE, 3)


def test_one_slice_is_a_stack_of_one(write_nifti):
    assert studies.load(write_nifti(ramp((7, 5, 1)))).grid.shape == (7, 5, 1)


def test_the_files_scaling_is_applied(write_nifti, patch_header):
    path = write_nifti(ramp(SHAPE))
    patch_header(path, scl_slope=0.5, scl_inter=10)
    np.testing.assert_allclose(studies.load(path).frame(0), ramp(SHAPE) * 0.5 + 10)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_every_grey_dtype_and_both_versions_are_read(write_nifti, kind, dtype):
    voxels = ramp(SHAPE).astype(dtype)
    path = write_nifti(voxels, kind=kind)
    np.testing.assert_array_equal(studies.load(path).frame(0), voxels)


def test_big_endian_files_are_read_and_labels_written(write_nifti, tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    header.set_sform(OBLIQUE, 1)
    header["pixdim"][1:4] = (1.5, 1.25, 8)
    nib.Nifti1Image(ramp(SHAPE), None, header).to_filename(tmp_path / "big.nii")
    study = studies.load(tmp_path / "big.nii")
    np.testing.assert_array_equal(study.frame(0), ramp(SHAPE))
    studies.save_label(tmp_path / "label.nii", np.ones(SHAPE, np.uint8), study)
    labels, grid = studies.load_label(tmp_path / "label.nii")
    assert labels.all()
    assert study.grid.equals(grid)


def test_an_sform_of_unit_scale_beside_a_truthful_qform_is_not_believed(write_nifti):
    """The trap of ACDC."""
    path = write_nifti(ramp(SHAPE), sform=(UNIT, 2), zooms=(1.5, 1.25, 8))
    grid = studies.load(path).grid
    assert grid.spacing == pytest.approx((1.5, 1.25, 8))
    np.testing.assert_allclose(grid.affine, OBLIQUE, atol=1e-5)


def test_an_sform_of_unit_scale_without_a_qform_takes_the_spacing_of_pixdim(write_nifti):
    def no_qform(header):
        header["qform_code"] = 0

    path = write_nifti(ramp(SHAPE), sform=(UNIT, 2), zooms=(1.5, 1.25, 8), edit=no_qform)
    np.testing.assert_allclose(studies.load(path).grid.affine, np.diag([-1.5, -1.25, 8, 1]))


def test_a_pixdim_of_ones_beside_a_truthful_sform_is_not_believed(write_nifti):
    path = write_nifti(ramp(SHAPE), qform=(UNIT, 1), zooms=(1, 1, 1))
    np.testing.assert_allclose(studies.load(path).grid.affine, OBLIQUE, atol=1e-6)


def test_a_geometry_that_contradicts_itself_is_refused(write_nifti):
    def no_qform(header):
        header["qform_code"] = 0

    path = write_nifti(ramp(SHAPE), zooms=(2, 2, 8), edit=no_qform)
    with pytest.raises(InputError, match="contradicts itself") as error:
        studies.load(path)
    assert str(path) in str(error.value)


def test_the_sform_is_used_when_both_are_truthful(write_nifti):
    shifted = OBLIQUE.copy()
    shifted[:3, 3] += 5
    path = write_nifti(ramp(SHAPE), sform=(shifted, 1))
    np.testing.assert_allclose(studies.load(path).grid.affine, shifted, atol=1e-6)


def test_the_qform_is_used_when_there_is_no_sform(write_nifti):
    path = write_nifti(ramp(SHAPE), sform=(OBLIQUE, 0))
    np.testing.assert_allclose(studies.load(path).grid.affine, OBLIQUE, atol=1e-5)


def test_without_any_form_the_spacing_of_pixdim_is_kept(write_nifti):
    path = write_nifti(ramp(SHAPE), sform=(OBLIQUE, 0), qform=(OBLIQUE, 0))
    grid = studies.load(path).grid
    assert grid.spacing == pytest.approx((1.5, 1.25, 8))


def test_a_qfac_of_zero_means_one(write_nifti, patch_header):
    right_handed = OBLIQUE @ np.diag([-1, 1, 1, 1])
    path = write_nifti(ramp(SHAPE), sform=(right_handed, 0), qform=(right_handed, 1))
    patch_header(path, pixdim=[0, 1.5, 1.25, 8, 1, 1, 1, 1])
    np.testing.assert_allclose(studies.load(path).grid.affine, right_handed, atol=1e-5)


def test_left_handed_and_slightly_non_orthonormal_grids_are_kept(write_nifti):
    skewed = OBLIQUE.copy()
    skewed[0, 1] = 2e-4
    grid = studies.load(write_nifti(ramp(SHAPE), sform=(skewed, 1))).grid
    assert grid.handedness == np.sign(np.linalg.det(skewed[:3, :3]))
    np.testing.assert_allclose(grid.affine, skewed, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A0S9V9_sa.nii.gz", "A0S9V9_sa"),
        ("P001-1-ED.nii", "P001-1-ED"),
        ("M\u00fcller (cine) 1.2.nii.gz", "M_ller_cine_1.2"),
        ("...nii", "study"),
    ],
)
def test_the_study_is_named_after_its_file(write_nifti, name, expected):
    assert studies.load(write_nifti(ramp(SHAPE), name)).name == expected


def test_trigger_times_follow_from_a_plausible_frame_time(write_nifti):
    def frame_time(header):
        header.set_xyzt_units("mm", "sec")
        header["pixdim"][4] = 0.25
        header["toffset"] = 0.125

    study = studies.load(write_nifti(ramp((*SHAPE, 3)), edit=frame_time))
    assert study.trigger_times_ms == pytest.approx((125, 375, 625))


@pytest.mark.parametrize(("step", "unit"), [(1.0, "sec"), (0.0, "sec"), (40.0, "unknown")])
def test_a_filler_is_no_frame_time(write_nifti, step, unit):
    def frame_time(header):
        header.set_xyzt_units("mm", unit)
        header["pixdim"][4] = step

    study = studies.load(write_nifti(ramp((*SHAPE, 5)), edit=frame_time))
    assert study.trigger_times_ms is None


@pytest.mark.parametrize("name", ["label.nii.gz", "label.nii"])
def test_a_label_keeps_the_geometry_of_the_source_bit_for_bit(
    write_nifti, patch_header, tmp_path, name
):
    skewed = OBLIQUE + 1e-4 * np.arange(16).reshape(4, 4) * [[1], [1], [1], [0]]
    path = write_nifti(ramp((*SHAPE, 3)), sform=(skewed, 4), qform=(OBLIQUE, 3))
    patch_header(path, pixdim=[0, 1.5, 1.25, 8, 0.05, 7, 8, 9], xyzt_units=10)
    study = studies.load(path)
    target = tmp_path / "out" / name
    studies.save_label(target, np.ones((*SHAPE, 3), np.uint8), study)
    assert geometry(target) == geometry(path)


def test_a_label_of_an_acdc_like_file_keeps_its_misleading_sform(write_nifti, tmp_path):
    path = write_nifti(ramp(SHAPE), sform=(UNIT, 2), zooms=(1.5, 1.25, 8))
    study = studies.load(path)
    studies.save_label(tmp_path / "label.nii.gz", np.ones(SHAPE, np.uint8), study)
    assert geometry(tmp_path / "label.nii.gz") == geometry(path)
    labels, grid = studies.load_label(tmp_path / "label.nii.gz")
    assert study.grid.equals(grid)
    assert labels.all()


def test_a_label_is_uint8_unscaled_and_has_the_right_sizes(write_nifti, tmp_path):
    path = write_nifti(ramp((*SHAPE, 3)).astype(np.float64))
    labels = (ramp((*SHAPE, 3)) % 4).astype(np.int64)
    studies.save_label(tmp_path / "label.nii.gz", labels, studies.load(path))
    header = stored(tmp_path / "label.nii.gz")
    assert header["dim"].tolist() == [4, 7, 5, 4, 3, 1, 1, 1]
    assert header.get_data_dtype() == np.uint8
    assert (float(header["scl_slope"]), float(header["scl_inter"])) in [(1, 0), (0, 0)]
    assert int(header["intent_code"]) == 1002
    found, _ = studies.load_label(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(found, labels)


def test_the_label_of_a_3d_file_with_trailing_axes_is_3d(write_nifti, tmp_path):
    study = studies.load(write_nifti(ramp((*SHAPE, 1, 1))))
    studies.save_label(tmp_path / "a.nii.gz", np.ones((*SHAPE, 1), np.uint8), study)
    studies.save_label(tmp_path / "b.nii.gz", np.ones(SHAPE, np.uint8), study)
    assert nib.load(tmp_path / "a.nii.gz").shape == SHAPE
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_the_label_of_one_phase_of_a_cine_is_3d(write_nifti, tmp_path):
    study = studies.load(write_nifti(ramp((*SHAPE, 3))))
    studies.save_label(tmp_path / "t00.nii.gz", np.ones(SHAPE, np.uint8), study)
    assert nib.load(tmp_path / "t00.nii.gz").shape == SHAPE


def test_a_label_names_no_patient(write_nifti, tmp_path):
    def names(header):
        header["descrip"] = b"DOE^JOHN 1955"
        header["aux_file"] = b"DOE^JOHN"
        header["db_name"] = b"DOE^JOHN"
        header["intent_name"] = b"DOE^JOHN"
        header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JOHN"))

    study = studies.load(write_nifti(ramp(SHAPE), edit=names))
    studies.save_label(tmp_path / "label.nii", np.ones(SHAPE, np.uint8), study)
    assert b"DOE" not in (tmp_path / "label.nii").read_bytes()


def test_saving_a_label_does_not_change_the_study(write_nifti, tmp_path):
    study = studies.load(write_nifti(ramp(SHAPE)))
    before = study.header.binaryblock
    studies.save_label(tmp_path / "label.nii.gz", np.ones(SHAPE, np.uint8), study)
    assert study.header.binaryblock == before


@pytest.mark.parametrize("shape", [(7, 5, 3), (7, 5, 4, 2), (7, 5)])
def test_labels_of_another_shape_are_refused(write_nifti, tmp_path, shape):
    study = studies.load(write_nifti(ramp((*SHAPE, 3))))
    with pytest.raises(GridError, match="do not fit"):
        studies.save_label(tmp_path / "label.nii.gz", np.ones(shape, np.uint8), study)
    assert not (tmp_path / "label.nii.gz").exists()


def test_labels_that_are_no_structure_are_not_written(write_nifti, tmp_path):
    study = studies.load(write_nifti(ramp(SHAPE)))
    with pytest.raises(LabelError, match="7"):
        studies.save_label(tmp_path / "label.nii.gz", np.full(SHAPE, 7), study)
    assert not (tmp_path / "label.nii.gz").exists()


def test_a_label_needs_the_name_of_a_nifti_file(write_nifti, tmp_path):
    study = studies.load(write_nifti(ramp(SHAPE)))
    with pytest.raises(InputError, match=r"label\.png"):
        studies.save_label(tmp_path / "label.png", np.ones(SHAPE, np.uint8), study)


def test_a_disk_full_leaves_no_label(write_nifti, tmp_path, monkeypatch):
    study = studies.load(write_nifti(ramp(SHAPE)))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"label\.nii\.gz.*disk is full"):
        studies.save_label(tmp_path / "label.nii.gz", np.ones(SHAPE, np.uint8), study)
    assert os.listdir(tmp_path) == ["scan.nii.gz"]


def test_the_label_of_a_study_without_a_header_has_its_grid_in_both_forms(make_study, tmp_path):
    study = make_study()
    studies.save_label(tmp_path / "label.nii.gz", np.ones((7, 5, 4, 3), np.uint8), study)
    header = nib.load(tmp_path / "label.nii.gz").header
    np.testing.assert_allclose(header.get_sform(), study.grid.affine, atol=1e-5)
    np.testing.assert_allclose(header.get_qform(), study.grid.affine, atol=1e-5)
    assert header.get_zooms()[:3] == pytest.approx((1.5, 1.25, 8))


@pytest.mark.parametrize("shape", [(7, 5, 4, 3), (7, 5, 4, 1)])
def test_an_image_written_comes_back(make_study, tmp_path, shape):
    times = (10.0, 410.0, 810.0) if shape[3] == 3 else None
    study = make_study(shape, trigger_times_ms=times)
    studies.save_image(tmp_path / "phantom.nii.gz", study)
    found = studies.load(tmp_path / "phantom.nii.gz")
    assert found.is_cine == study.is_cine
    assert study.grid.equals(found.grid)
    np.testing.assert_array_equal(found.frames, study.frames)
    if times is None:
        assert found.trigger_times_ms is None
    else:
        assert found.trigger_times_ms == pytest.approx(times, abs=1e-3)


def test_whole_numbers_are_written_as_16_bits_and_others_as_floats(make_study, tmp_path):
    study = make_study()
    half = dataclasses.replace(study, frames=study.frames + np.float32(0.5))
    studies.save_image(tmp_path / "whole.nii", study)
    studies.save_image(tmp_path / "half.nii", half)
    assert stored(tmp_path / "whole.nii").get_data_dtype() == np.int16
    np.testing.assert_array_equal(studies.load(tmp_path / "half.nii").frames, half.frames)


def test_labels_of_another_convention_become_canonical(write_nifti):
    path = write_nifti(np.tile(np.array([0, 1, 2, 3], np.int16), (7, 5, 1)))
    labels, _ = studies.load_label(path, LabelMap("reversed", {3: 1, 2: 2, 1: 3}))
    assert labels[0, 0].tolist() == [0, 3, 2, 1]
    assert labels.dtype == np.uint8


def test_labels_stored_as_floats_are_read(write_nifti):
    labels, grid = studies.load_label(write_nifti((ramp((*SHAPE, 2)) % 4).astype(np.float64)))
    np.testing.assert_array_equal(labels, ramp((*SHAPE, 2)) % 4)
    assert grid.shape == SHAPE


def test_an_empty_label_is_a_label(write_nifti):
    labels, _ = studies.load_label(write_nifti(np.zeros((*SHAPE, 1), np.uint8)))
    assert labels.shape == SHAPE
    assert labels.max() == 0
