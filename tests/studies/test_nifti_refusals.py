"""Every NIfTI file that is refused, with the sentence that names it."""

from __future__ import annotations

import gzip
import re

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.errors import InputError, LabelError

SHAPE = (7, 5, 4)


def ramp(shape=SHAPE):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def refuse(path, words, load=studies.load):
    """The sentence: one line, naming the file, saying what is wrong."""
    with pytest.raises(InputError, match=words) as error:
        load(path)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence


def test_a_missing_file(tmp_path):
    refuse(tmp_path / "absent.nii.gz", "does not exist")
    refuse(tmp_path / "absent.nii.gz", "does not exist", studies.load_label)


def test_another_kind_of_file(tmp_path):
    path = tmp_path / "scan.png"
    path.write_bytes(b"\x89PNG")
    assert "DICOM" in refuse(path, "not a NIfTI file")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"abc", b"no NIfTI header" * 100])
def test_a_file_that_is_nifti_by_name_only(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path / name, "cannot be read as NIfTI|truncated or damaged")


def test_a_compressed_file_that_holds_something_else(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(b"no NIfTI header" * 100))
    refuse(tmp_path / "scan.nii.gz", "cannot be read as NIfTI")


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.95])
def test_a_truncated_compressed_file(write_nifti, kept):
    rng = np.random.default_rng(0)
    path = write_nifti(rng.integers(0, 3000, (32, 32, 8)).astype(np.int16))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refuse(path, "truncated")


@pytest.mark.parametrize("missing", [1, 200])
def test_a_truncated_plain_file(write_nifti, missing):
    path = write_nifti(ramp(), "scan.nii")
    path.write_bytes(path.read_bytes()[:-missing])
    refuse(path, f"truncated, it has {352 + 280 - missing} of 632 bytes")


def test_a_plain_file_cut_in_its_header(write_nifti):
    path = write_nifti(ramp(), "scan.nii")
    path.write_bytes(path.read_bytes()[:100])
    refuse(path, "cannot be read as NIfTI|truncated")


@pytest.mark.parametrize("place", [500, 2000, 9000, -6])
def test_a_damaged_byte_in_a_compressed_file(write_nifti, place):
    rng = np.random.default_rng(0)
    path = write_nifti(rng.integers(0, 3000, (32, 32, 8)).astype(np.int16))
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    refuse(path, "truncated or damaged")


def test_voxels_that_are_not_finite(write_nifti):
    voxels = ramp((*SHAPE, 3)).astype(np.float32)
    voxels[1, 1, 2, 1] = np.nan
    voxels[2, 1, 3, 1] = np.inf
    voxels[0, 0, 0, 2] = -np.inf
    refuse(write_nifti(voxels), "has 3 voxels that are NaN or infinite, .* slice 2 of frame 1 ")


def test_a_stack_with_nan_names_the_slice_alone(write_nifti):
    voxels = ramp().astype(np.float64)
    voxels[:, :, 3] = np.nan
    refuse(
        write_nifti(voxels),
        re.escape("has 35 voxels that are NaN or infinite, the first in slice 3 (counted from 0)"),
    )


def test_a_2d_image(write_nifti):
    refuse(write_nifti(ramp((7, 5))), "is a 2D image \\(7 x 5\\)")


def test_an_rgb_image(write_nifti):
    rgb = np.zeros(SHAPE, nib.nifti1.data_type_codes.dtype["RGB"])
    refuse(write_nifti(rgb), "colour")


def test_a_complex_image(write_nifti):
    refuse(write_nifti(ramp().astype(np.complex64)), "complex64")


def test_more_than_four_axes(write_nifti):
    refuse(write_nifti(ramp((7, 5, 4, 3, 2))), "has 5 axes")


@pytest.mark.parametrize("zooms", [(1.5, 0, 8), (-1.5, 1.25, 8), (1.5, 1.25, np.nan)])
def test_a_spacing_that_is_none(write_nifti, patch_header, zooms):
    path = write_nifti(ramp())
    patch_header(path, pixdim=[1, *zooms, 1, 1, 1, 1])
    refuse(path, "has a spacing of")


def test_lengths_that_are_not_in_mm(write_nifti):
    path = write_nifti(ramp(), edit=lambda header: header.set_xyzt_units("meter"))
    refuse(path, "metres")


def test_a_constant_image(write_nifti):
    refuse(write_nifti(np.full(SHAPE, 5, np.int16)), "is constant, every voxel is 5")


def test_an_affine_that_is_singular(write_nifti):
    flat = np.eye(4)
    flat[:3, 1] = flat[:3, 0]
    path = write_nifti(ramp(), sform=(flat, 1), qform=(np.eye(4), 0), zooms=(1, 1, 1))
    refuse(path, "singular")


def test_an_axis_without_voxels(write_nifti, patch_header):
    path = write_nifti(ramp(), "scan.nii")
    patch_header(path, dim=[3, 7, 0, 4, 1, 1, 1, 1])
    refuse(path, "has no voxels")


def test_a_header_with_an_unknown_data_type(write_nifti, patch_header):
    path = write_nifti(ramp())
    patch_header(path, datatype=99)
    refuse(path, "cannot be read as NIfTI")


def test_a_label_with_value_7(write_nifti):
    voxels = ramp() % 4
    voxels[3, 3, 3] = 7
    path = write_nifti(voxels.astype(np.uint8))
    with pytest.raises(LabelError, match="has label value 7, which is no structure") as error:
        studies.load_label(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_label_with_nan(write_nifti):
    voxels = (ramp() % 4).astype(np.float32)
    voxels[0, 0, 0] = np.nan
    refuse(write_nifti(voxels), "label value nan", studies.load_label)


def test_a_small_file_that_expands_far_beyond_its_voxels(write_nifti):
    path = write_nifti(ramp())
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(1 << 26), 9))
    assert path.stat().st_size < 1 << 20
    refuse(path, "goes on long after the voxels")
    refuse(path, "goes on long after the voxels", studies.load_label)


@pytest.mark.parametrize("offset", [1e9, -1, np.nan, np.inf])
def test_voxels_that_begin_far_away(write_nifti, patch_header, offset):
    path = write_nifti(ramp())
    patch_header(path, vox_offset=offset)
    refuse(path, "its voxels begin at byte|an impossible length")


@pytest.mark.parametrize("length", [-5, 4, 1 << 30])
def test_an_extension_of_an_impossible_length(write_nifti, patch_header, length):
    path = write_nifti(ramp())
    patch_header(path, vox_offset=416)
    content = gzip.decompress(path.read_bytes())
    extension = b"\1\0\0\0" + np.array([length, 0], "<i4").tobytes() + bytes(56)
    path.write_bytes(gzip.compress(content[:348] + extension + content[352:]))
    refuse(path, "extension|truncated")


def test_a_series_of_a_file(write_nifti):
    refuse(write_nifti(ramp()), "--series", lambda path: studies.load(path, series="3"))


def test_nothing_is_printed_on_the_way(write_nifti, patch_header, capfd):
    path = write_nifti(np.full(SHAPE, 5, np.int16))
    patch_header(path, pixdim=[0, 1.5, 1.25, 8, 0, 0, 0, 0], qform_code=77)
    refuse(path, "constant")
    assert capfd.readouterr() == ("", "")
