"""NIfTI files are read as nibabel and the server read them, and labels go back on the same grid."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core import errors
from cinelabel.studies import Study
from CineLabelLib import nifti
from CineLabelLib.core.errors import GridError, InputError, LabelError

# Oblique, left-handed, with a rotation of a 3-4-5 triangle; spacing 1.5 x 1.25 x 8 mm.
OBLIQUE = np.array(
    [[1.5, 0, 0, 40], [0, -0.75, 6.4, -30], [0, 1, 4.8, 12.5], [0, 0, 0, 1]], np.float64
)
SHEARED = OBLIQUE + np.pad(np.outer([0.02, 0.01, 0], [0, 0, 1]), ((0, 1), (0, 1)))
MIRRORED = OBLIQUE @ np.diag([1, 1, -1, 1])
GEOMETRY = ("pixdim", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z")
GEOMETRY += ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
STORED = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def ramp(shape: tuple[int, ...], dtype: str = "i2") -> np.ndarray:
    return (np.arange(np.prod(shape)) % 120).reshape(shape, order="F").astype(dtype)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write voxels as NIfTI with header fields as they are given, which nibabel would mend."""

    def write(
        voxels: np.ndarray,
        name: str = "scan.nii.gz",
        sform: tuple[np.ndarray, int] = (OBLIQUE, 1),
        qform: tuple[np.ndarray, int] = (OBLIQUE, 1),
        order: str = "<",
        **fields: object,
    ) -> Path:
        header = nib.Nifti1Header(endianness=order)
        header.set_data_dtype(voxels.dtype)
        header.set_data_shape(voxels.shape)
        header.set_qform(*qform)
        header.set_sform(*sform)
        header["magic"], header["vox_offset"] = b"n+1", 352
        for field, value in fields.items():
            header[field] = value
        content = header.binaryblock + bytes(4)
        content += voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", STORED)
def test_voxels_of_every_type_and_byte_order_are_those_of_nibabel(write, name, order, dtype):
    path = write(ramp((7, 5, 4, 3), dtype), name, order=order)
    image = nifti.read(path)
    np.testing.assert_array_equal(image.voxels, np.asarray(nib.load(path).dataobj))
    assert image.voxels.dtype == np.dtype(dtype)
    assert image.voxels.dtype.isnative
    assert not image.voxels.flags.writeable


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize(("slope", "inter"), [(2.5, -7), (1, 3), (0.1, 0), (-3, 1e4)])
def test_scaled_voxels_are_those_of_the_server(write, dtype, slope, inter):
    path = write(ramp((7, 5, 4), dtype), scl_slope=slope, scl_inter=inter)
    image = nifti.read(path)
    assert image.voxels.dtype == np.float32
    np.testing.assert_array_equal(image.voxels, studies.load(path).frames[..., 0])


@pytest.mark.parametrize(("slope", "inter"), [(0, 5), (np.nan, 5), (np.inf, 5), (1, 0)])
def test_a_scaling_that_is_none_leaves_the_voxels_as_stored(write, slope, inter):
    image = nifti.read(write(ramp((7, 5, 4)), scl_slope=slope, scl_inter=inter))
    np.testing.assert_array_equal(image.voxels, ramp((7, 5, 4)))
    assert image.voxels.dtype == np.int16


@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED, SHEARED])
@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 3), (0, 0), (5, 9), (77, 1)])
def test_the_affine_is_that_of_nibabel_for_every_pair_of_codes(write, affine, codes):
    path = write(ramp((7, 5, 4)), sform=(affine, 1), sform_code=codes[0], qform_code=codes[1])
    image = nifti.read(path)
    np.testing.assert_allclose(image.affine, nib.load(path).affine, atol=1e-6, rtol=0)
    assert bool(image.notes) == (codes == (0, 0))


def random_affine(rng: np.random.Generator) -> np.ndarray:
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turned * rng.uniform(0.5, 10, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def read_by_server(path: Path) -> Study | str:
    """The study as the server reads it, or the sentence with which it refuses."""
    try:
        return studies.load(path)
    except errors.InputError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(60))
def test_headers_that_contradict_themselves_are_understood_as_the_server_does(write, seed):
    rng = np.random.default_rng(seed)
    sform, qform = random_affine(rng), random_affine(rng)
    if rng.random() < 0.5:
        sform[:3, :3] /= np.linalg.norm(sform[:3, :3], axis=0)
    fields = {"sform_code": rng.integers(0, 3), "qform_code": rng.integers(0, 3)}
    if rng.random() < 0.3:
        fields["pixdim"] = [rng.integers(-1, 2), 1, 1, 1, 0, 0, 0, 0]
    path = write(ramp((7, 5, 4, 2)), sform=(sform, 1), qform=(qform, 1), **fields)
    expected = read_by_server(path)
    if isinstance(expected, str):
        assert refuse(path, "contradicts itself|singular|broken") == expected
        return
    found = nifti.read_study(path)
    np.testing.assert_allclose(found.affine, expected.grid.affine, atol=1e-9, rtol=0)
    np.testing.assert_array_equal(found.voxels, expected.frames)


@pytest.mark.parametrize("units", [0, 2, 10, 18, 26, 16])
@pytest.mark.parametrize(("step", "start"), [(0.04, 0.01), (40, 5), (40000, 0), (1, 0), (0, 0)])
def test_trigger_times_are_those_of_the_server(write, units, step, start):
    pixdim = [-1, 1.5, 1.25, 8, step, 0, 0, 0]
    path = write(ramp((7, 5, 4, 20)), pixdim=pixdim, xyzt_units=units, toffset=start)
    assert nifti.read_study(path).trigger_times_ms == studies.load(path).trigger_times_ms


def test_a_study_has_four_axes_and_trailing_ones_are_no_frames(write):
    for shape in ((7, 5, 4), (7, 5, 4, 1), (7, 5, 4, 1, 1)):
        heart = nifti.read_study(write(ramp(shape), "a b.nii.gz"))
        assert (heart.voxels.shape, heart.name) == ((7, 5, 4, 1), "a_b")
    assert nifti.read(write(ramp((7, 5, 1, 3)))).voxels.shape == (7, 5, 1, 3)
    assert nifti.read(write(ramp((7, 5, 4, 3, 1)))).voxels.shape == (7, 5, 4, 3)


def test_bytes_are_read_like_the_file_and_the_header_is_as_stored(write):
    path = write(ramp((7, 5, 4, 3)), pixdim=[0, 1.5, 1.25, 8, 0, 0, 0, 0], order=">")
    one, two = nifti.read(path), nifti.read(path.read_bytes())
    np.testing.assert_array_equal(one.voxels, two.voxels)
    np.testing.assert_array_equal(one.affine, two.affine)
    assert one.header == two.header == gzip.decompress(path.read_bytes())[:348]


def test_voxels_behind_extensions_are_found(write):
    path = write(ramp((7, 5, 4)), "scan.nii", vox_offset=400)
    content = path.read_bytes()
    path.write_bytes(content[:348] + b"\1\0\0\0" + struct.pack("<2i", 48, 6) + bytes(40))
    with path.open("ab") as stream:
        stream.write(content[352:])
    np.testing.assert_array_equal(nifti.read(path).voxels, ramp((7, 5, 4)))


def refuse(source: Path | bytes, words: str) -> str:
    with pytest.raises(InputError, match=words) as error:
        nifti.read_study(source) if isinstance(source, Path) else nifti.read(source, "t03")
    sentence = str(error.value)
    assert sentence.startswith(f"{source if isinstance(source, Path) else 't03'}: ")
    assert "\n" not in sentence
    return sentence


FLAT = np.eye(4)[:, [0, 0, 2, 3]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dim": [3, 7, 0, 4, 1, 1, 1, 1]}, r"has no voxels \(7 x 0 x 4\)"),
        ({"dim": [0, 7, 5, 4, 1, 1, 1, 1]}, r"has no voxels \(no axes\)"),
        ({"dim": [2, 35, 4, 1, 1, 1, 1, 1]}, r"has 2 axes \(35 x 4\). Give a stack"),
        ({"dim": [5, 7, 1, 1, 1, 20, 1, 1]}, "has 5 axes"),
        ({"datatype": 128}, "is a colour .RGB. image"),
        ({"datatype": 32}, "has voxels of NIfTI's data type 32"),
        ({"datatype": 99}, "has voxels of NIfTI's data type 99"),
        ({"pixdim": [1, 1.5, 0, 8, 1, 1, 1, 1]}, "has a spacing of 1.5 x 0 x 8 mm. Correct"),
        ({"pixdim": [1, np.nan, 1, 8, 1, 1, 1, 1]}, "has a spacing of nan x 1 x 8 mm"),
        ({"xyzt_units": 1}, "gives lengths in metres"),
        ({"scl_slope": 2, "scl_inter": np.inf}, "has an intercept"),
        ({"sform_code": 0, "quatern_b": 2}, "has a broken qform"),
        ({"sform_code": 0, "quatern_b": np.nan}, "has a broken qform"),
        ({"srow_x": [1, 1, 0, 0], "srow_y": 0, "qform_code": 0}, "contradicts itself"),
        ({"sform": (FLAT, 1), "pixdim": 1, "qform_code": 0}, "singular"),
        ({"sform": (FLAT * np.nan, 1), "pixdim": 1, "qform_code": 0}, "contradicts|finite"),
        ({"vox_offset": 1e9}, "its voxels begin at byte 1e.09"),
        ({"vox_offset": -1}, "its voxels begin at byte -1"),
        ({"vox_offset": np.nan}, "its voxels begin at byte nan"),
        ({"magic": b"ni1"}, "not a NIfTI-1 file in one piece"),
        ({"magic": b""}, "not a NIfTI-1 file in one piece"),
    ],
)
def test_a_header_that_cannot_be_used_is_told_in_a_sentence(write, fields, words):
    refuse(write(ramp((7, 5, 4)), **fields), words)


def test_a_nifti_2_file_is_told(tmp_path):
    nib.save(nib.Nifti2Image(ramp((7, 5, 4)), OBLIQUE), tmp_path / "two.nii.gz")
    refuse(tmp_path / "two.nii.gz", "is a NIfTI-2 file. Convert it to NIfTI-1")


def test_voxels_that_are_no_image_are_told(write):
    bad = ramp((7, 5, 4, 3), "f4")
    bad[1, 1, 2, 1], bad[2, 1, 3, 1], bad[0, 0, 0, 2] = np.nan, np.inf, -np.inf
    path = write(bad)
    words = "has 3 voxels that are NaN or infinite, the first in slice 2 of frame 1 .counted"
    sentence = refuse(path, words)
    with pytest.raises(Exception, match="has 3 voxels") as error:
        studies.load(path)
    assert str(error.value) == sentence
    refuse(write(np.full((7, 5, 4), 5, np.int16)), "is constant, every voxel is 5")


def test_files_that_are_not_there_or_something_else_are_told(tmp_path):
    refuse(tmp_path / "absent.nii", "does not exist")
    refuse(tmp_path, "is not a NIfTI file")
    (tmp_path / "scan.png").write_bytes(b"\x89PNG")
    refuse(tmp_path / "scan.png", "is not a NIfTI file .* Give a NIfTI file, or the folder of")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"abc", b"no NIfTI header" * 100])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_content_that_is_no_nifti_is_told(tmp_path, name, content, pack):
    (tmp_path / name).write_bytes(pack(content))
    refuse(tmp_path / name, "cannot be read as NIfTI|truncated or damaged")
    refuse(pack(content), "cannot be read as NIfTI|truncated or damaged")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("kept", [0.0005, 0.2, 0.95, 0.99999])
def test_a_truncated_file_is_told(write, name, kept):
    voxels = np.random.default_rng(0).integers(0, 3000, (32, 32, 8)).astype(np.int16)
    path = write(voxels, name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refuse(path, "is truncated or damaged. Copy it again")


@pytest.mark.parametrize("place", [500, 2000, 9000, -6])
def test_a_damaged_byte_in_a_compressed_file_is_told(write, place):
    path = write(np.random.default_rng(0).integers(0, 3000, (32, 32, 8)).astype(np.int16))
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    refuse(path, "is truncated or damaged")


def test_a_small_file_does_not_expand_for_ever(write):
    path = write(ramp((7, 5, 4)))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(1 << 26), 9))
    refuse(path, "goes on long after the voxels")


def some_labels(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8)


@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED, SHEARED, np.diag([-1.4, -1.4, 8, 1])])
@pytest.mark.parametrize("shape", [(7, 5, 4), (7, 5, 4, 3)])
def test_labels_without_a_source_file_lie_on_the_grid_for_every_reader(tmp_path, affine, shape):
    labels = some_labels(shape)
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(nifti.label_bytes(labels, affine))
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.get_sform(), affine, atol=1e-5)
    like = nib.Nifti1Header()
    like.set_qform(affine, 1)
    np.testing.assert_allclose(image.get_qform(), like.get_qform(), atol=1e-5)
    found, grid = studies.load_label(path)
    np.testing.assert_array_equal(found, labels)
    assert np.abs(grid.affine - affine).max() < 1e-4
    own = nifti.read_labels(path)
    np.testing.assert_array_equal(own.voxels, labels)


@pytest.mark.parametrize("seed", range(20))
def test_qforms_of_random_grids_are_those_of_nibabel(tmp_path, seed):
    affine = random_affine(np.random.default_rng(seed))
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(nifti.label_bytes(some_labels((3, 4, 5)), affine))
    np.testing.assert_allclose(nib.load(path).get_qform(), affine, atol=2e-3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED])
def test_labels_keep_the_geometry_of_the_source_bit_for_bit(write, tmp_path, order, codes, affine):
    path = write(
        ramp((7, 5, 4, 3)),
        sform=(affine, 1),
        order=order,
        sform_code=codes[0],
        qform_code=codes[1],
        xyzt_units=10,
        toffset=0.01,
    )
    source = nifti.read(path)
    for shape in ((7, 5, 4), (7, 5, 4, 3)):
        target = tmp_path / "labels.nii.gz"
        target.write_bytes(nifti.label_bytes(some_labels(shape), source.affine, source.header))
        one, two = nib.load(path).header, nib.load(target).header
        for field in (*GEOMETRY, "xyzt_units", "toffset", "sizeof_hdr"):
            assert one[field].tobytes() == two[field].tobytes(), field
        labels, grid = studies.load_label(target)
        np.testing.assert_array_equal(labels, some_labels(shape))
        assert studies.load(path).grid.difference(grid) is None


def test_labels_do_not_carry_what_may_name_a_person_or_scale_them(write):
    path = write(
        ramp((7, 5, 4)),
        descrip=b"Smith^John",
        aux_file=b"Smith^John",
        db_name=b"Smith^John",
        intent_name=b"Smith^John",
        data_type=b"Smith^John",
        scl_slope=3,
        scl_inter=2,
        cal_max=500,
    )
    source = nifti.read(path)
    content = nifti.label_bytes(some_labels((7, 5, 4)), source.affine, source.header)
    assert b"Smith" not in gzip.decompress(content)
    np.testing.assert_array_equal(nifti.read_labels(content).voxels, some_labels((7, 5, 4)))


def test_a_header_of_another_grid_is_not_written(write):
    header = nifti.read(write(ramp((7, 5, 4)))).header
    with pytest.raises(GridError, match="right-handed|left-handed"):
        nifti.label_bytes(some_labels((7, 5, 4)), MIRRORED, header)
    with pytest.raises(GridError, match="shape is 7 x 4 x 5"):
        nifti.label_bytes(some_labels((7, 4, 5)), OBLIQUE, header)


def test_values_that_are_no_structure_are_neither_written_nor_read(write):
    wrong = some_labels((7, 5, 4))
    wrong[0, 0, 0] = 4
    with pytest.raises(LabelError, match="label value 4"):
        nifti.label_bytes(wrong, OBLIQUE)
    path = write(wrong)
    with pytest.raises(LabelError, match="label value 4") as error:
        nifti.read_labels(path)
    assert str(error.value).startswith(f"{path}: ")


def test_the_same_labels_are_the_same_bytes():
    labels = some_labels((7, 5, 4))
    assert nifti.label_bytes(labels, OBLIQUE) == nifti.label_bytes(labels.copy("F"), OBLIQUE)


def test_every_real_file_is_read_and_labelled_as_by_the_server(shared_data, tmp_path):
    paths = [p for p in shared_data.glob("*/*/*.nii.gz") if not p.name.endswith("_gt.nii.gz")]
    handedness = set()
    for path in paths:
        heart, expected = nifti.read_study(path), studies.load(path)
        np.testing.assert_array_equal(heart.voxels.astype(np.float32), expected.frames)
        np.testing.assert_array_equal(heart.affine, expected.grid.affine)
        assert heart.name == expected.name
        handedness.add(heart.grid.handedness)
        target = tmp_path / "labels.nii.gz"
        target.write_bytes(
            nifti.label_bytes(some_labels(heart.voxels.shape), heart.affine, heart.header)
        )
        one, two = nib.load(path).header, nib.load(target).header
        assert all(one[field].tobytes() == two[field].tobytes() for field in GEOMETRY)
        labels, grid = studies.load_label(target)
        np.testing.assert_array_equal(labels, some_labels(heart.voxels.shape)[..., 0])
        assert expected.grid.difference(grid) is None
    assert handedness == {1, -1}


def test_every_real_label_is_read_as_by_nibabel(shared_data):
    paths = list(shared_data.glob("*/*/*_gt.nii.gz"))
    assert paths
    for path in paths:
        labels = nifti.read_labels(path)
        np.testing.assert_array_equal(labels.voxels, np.asarray(nib.load(path).dataobj))
        assert labels.voxels.dtype == np.uint8
