"""What is refused and why, what is a warning, and how names become values."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.labelstore.validation import check, mapping, names_of, read_label
from cinelabel.studies import nifti
from cinelabel.studies.study import Study

AFFINE = np.array(
    [[-1.5, 0.0, 0.0, 40.0], [0.0, 1.25, 0.0, -30.0], [0.0, 0.0, 8.0, 12.5], [0.0, 0.0, 0.0, 1.0]]
)
IMAGE = "p1__t00"
Write = Callable[..., Path]
Spoil = Callable[[Write, np.ndarray], Path]


def raw(write: Write, content: bytes, name: str = "label.nii.gz") -> Path:
    path = write(np.zeros((2, 2, 2), np.uint8), name="other.nii").with_name(name)
    path.write_bytes(content)
    return path


def moved(**changes: float) -> np.ndarray:
    affine = AFFINE.copy()
    for place, value in changes.items():
        affine[int(place[1]), int(place[2])] = value
    return affine


def cut(path: Path, keep: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def spoilt(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    return path


def lefthanded(heart: np.ndarray) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 0] *= -1
    return affine


def with_value(heart: np.ndarray, value: float) -> np.ndarray:
    changed = heart.astype(np.float32)
    changed[18, 16, 1] = value
    return changed


REFUSED: dict[str, tuple[Spoil, type[InputError], str]] = {
    "zero bytes": (lambda w, h: raw(w, b""), LabelError, "label.nii.gz: has zero bytes"),
    "random bytes": (lambda w, h: raw(w, os.urandom(999)), LabelError, "truncated or damaged"),
    "not gzip": (lambda w, h: raw(w, b"MZ" + bytes(500)), LabelError, "truncated or damaged"),
    "text as .nii": (lambda w, h: raw(w, b"hello" * 99, "a.nii"), LabelError, "cannot be read"),
    ".exe": (lambda w, h: raw(w, b"MZ", "virus.exe"), LabelError, "virus.exe: is not the name"),
    "no suffix": (lambda w, h: raw(w, b"MZ", "label"), LabelError, "is not the name"),
    ".seg.nrrd": (lambda w, h: raw(w, b"N", "a.seg.nrrd"), LabelError, "segments may overlap"),
    "cut .nii.gz": (lambda w, h: cut(w(h), 0.8), LabelError, "truncated or damaged"),
    "cut .nii": (lambda w, h: cut(w(h, name="a.nii"), 0.8), LabelError, "truncated"),
    "flipped byte": (lambda w, h: spoilt(w(h)), LabelError, "damaged"),
    "other shape": (lambda w, h: w(h[:, :-1]), GridError, "its shape is 32 x 31 x 4 and should be"),
    "other spacing": (
        lambda w, h: w(h, moved(a22=7.0)),
        GridError,
        "its spacing is 1.5 x 1.25 x 7",
    ),
    "moved": (lambda w, h: w(h, moved(a03=45.0)), GridError, "up to 5 mm away"),
    "other hand": (lambda w, h: w(h, lefthanded(h)), GridError, "it is right-handed and should be"),
    "two phases": (lambda w, h: w(np.stack([h, h], -1)), GridError, "has 2 phases"),
    "value 255": (lambda w, h: w(with_value(h, 255)), LabelError, "label value 255"),
    "value 4": (lambda w, h: w(np.where(h == 3, 4, h)), LabelError, "label value 4"),
    "negative": (lambda w, h: w(-h.astype(np.int16)), LabelError, "label value -3, -2, -1"),
    "NaN": (lambda w, h: w(with_value(h, np.nan)), LabelError, "label value nan"),
    "infinity": (lambda w, h: w(with_value(h, np.inf)), LabelError, "label value inf"),
    "fraction": (lambda w, h: w(with_value(h, 1.5)), LabelError, "label value 1.5"),
    "empty": (lambda w, h: w(h * 0), LabelError, "the label is empty"),
    "missing file": (lambda w, h: Path("/nowhere/label.nii.gz"), LabelError, "cannot be read"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_file_is_refused_with_a_sentence_and_nothing_is_kept(
    store: LabelStore,
    label: Path,
    write: Write,
    heart: np.ndarray,
    grid: Grid,
    by: Callable[..., Submission],
    what: str,
):
    spoil, kind, sentence = REFUSED[what]
    kept = store.submit(IMAGE, grid, label, by())
    before = sorted(store.folder.rglob("*"))
    with pytest.raises(kind, match=sentence) as refusal:
        store.submit(IMAGE, grid, spoil(write, heart), by(base_version=1))
    assert str(refusal.value).count("\n") == 0
    assert "/" not in str(refusal.value)
    assert sorted(store.folder.rglob("*")) == before
    assert store.newest(IMAGE) == kept


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_a_file_that_would_expand_far_beyond_a_label_is_never_expanded(
    tmp_path: Path, grid: Grid, write: Write, heart: np.ndarray, suffix: str
):
    honest = gzip.decompress(write(heart).read_bytes())
    bombs = {
        "after": honest + bytes(64 << 20),
        "before": honest[:108] + np.float32(64 << 20).tobytes() + honest[112:] + bytes(64 << 20),
    }
    for where, content in bombs.items():
        path = tmp_path / f"bomb-{where}{suffix}"
        path.write_bytes(gzip.compress(content, 1) if suffix == ".nii.gz" else content)
    del bombs, content
    tracemalloc.start()
    for path in tmp_path.glob("bomb-*"):
        with pytest.raises(LabelError, match="larger than a label of this image can be"):
            read_label(path, None, grid)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_a_header_that_claims_too_many_voxels_is_refused_before_they_are_read(
    write: Write, heart: np.ndarray, grid: Grid
):
    path = write(heart)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[40:48] = np.array([3, 30000, 30000, 30000], np.int16).tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(GridError, match="its shape is 30000 x 30000 x 30000"):
        read_label(path, None, grid)
    with pytest.raises(LabelError, match="claims to have 30000 x 30000 x 30000 voxels"):
        read_label(path)


def test_scaled_and_wide_values_count_when_they_are_whole(write: Write, heart: np.ndarray):
    path = write(heart.astype(np.float64))
    assert np.array_equal(read_label(path)[0], heart)
    image = nib.Nifti1Image((heart * 2).astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 0)
    nib.save(image, path)
    assert np.array_equal(read_label(path)[0], heart)


def test_a_label_that_itk_made_orthogonal_is_kept_on_the_grid_of_its_image(
    store: LabelStore,
    write: Write,
    heart: np.ndarray,
    by: Callable[..., Submission],
):
    """As 3D Slicer reads and writes; the axes of public studies are off by as much."""
    sitk = pytest.importorskip("SimpleITK", reason="it comes with the server")
    affine = AFFINE @ np.array([[1, 2e-4, 0, 0], [-1e-4, 1, 3e-5, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    grid = Grid(heart.shape, affine)
    served, file = write(heart).with_name("image.nii.gz"), write(heart).with_name("itk.nii.gz")
    frames = heart[..., None].astype(np.float32)
    nifti.write_image(served, Study("p1", frames, grid, is_cine=False))
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(served)), sitk.sitkUInt8), str(file))
    assert not grid.equals(read_label(file)[1])
    kept = store.submit(IMAGE, grid, file, by())
    labels, kept_grid, _ = read_label(kept.path)
    assert np.array_equal(labels, heart)
    assert kept_grid.equals(grid)


@pytest.mark.parametrize(("apart_mm", "fits"), [(0.1, True), (0.15, False), (-1.25, False)])
def test_a_label_may_lie_off_by_less_than_a_tenth_of_a_voxel(
    write: Write, heart: np.ndarray, grid: Grid, apart_mm: float, fits: bool
):
    path = write(heart, moved(a13=AFFINE[1, 3] + apart_mm))
    if fits:
        read_label(path, None, grid)
    else:
        with pytest.raises(GridError, match="does not lie on the grid of its image"):
            read_label(path, None, grid)


# Names


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["LV", "MYO", "RV"], {1: 1, 2: 2, 3: 3}),
        (["RV", "MYO", "LV"], {1: 3, 2: 2, 3: 1}),
        (["myocardium", "left_ventricle"], {1: 2, 2: 1}),
        (["LV-Myocardium", "  Left   Ventricular Cavity"], {1: 2, 2: 1}),
        ({7: "rv", 9: "lv"}, {7: 3, 9: 1}),
        ([], {}),
    ],
)
def test_names_say_what_values_mean(names: list[str] | dict[int, str], values: dict[int, int]):
    assert dict(mapping(names).values) == values


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["LV", "Segment_1"], "a segment is named 'Segment_1', which is no structure. Name the"),
        (["LV", "left ventricle"], "two segments are named LV"),
        (["LV", ""], "is named ''"),
        (["LV", "x" * 5000], "5000 characters"),
        (["LV", "\ud800"], "half a character"),
        (["a"] * 1000, "1000 segments are named"),
    ],
)
def test_names_that_mean_nothing_or_the_same_are_refused(names: list[str], sentence: str):
    with pytest.raises(InputError, match=sentence):
        mapping(names)


def test_a_value_beyond_the_names_is_refused(write: Write, heart: np.ndarray):
    with pytest.raises(LabelError, match="label value 3, which is no structure of the submitted"):
        read_label(write(heart), ["LV", "MYO"])


@pytest.mark.parametrize(
    ("told", "names"),
    [
        (None, None),
        ([{"name": "RV", "idx": 4}, {"name": "LV", "idx": 9}], ("RV", "LV")),
        ([{"name": "RV", "value": 5}, {"name": "LV"}], ("RV", "LV")),
        ([{"name": "RV", "value": 5}, {"name": "LV", "value": 2}], {5: "RV", 2: "LV"}),
        ([{"name": "background", "value": 0}, {"name": "LV", "value": 1}], {1: "LV"}),
        ([], ()),
    ],
)
def test_label_info_names_segments_in_the_order_of_the_file(told: object, names: object):
    assert names_of(told) == names


@pytest.mark.parametrize(
    "told",
    [
        "LV",
        {"name": "LV"},
        ["LV"],
        [{"idx": 1}],
        [{"name": 3}],
        [{"name": "LV", "value": "1"}],
        [{"name": "LV", "value": True}],
        [{"name": "LV", "value": -1}],
        [{"name": "LV", "value": 1}, {"name": "RV", "value": 1}],
    ],
)
def test_label_info_of_another_form_is_refused(told: object):
    with pytest.raises(LabelError, match="label_info: "):
        names_of(told)


# Anatomy


def test_an_ordinary_heart_has_no_warnings(heart: np.ndarray, grid: Grid):
    assert check(heart, grid, grid) == ()


def test_a_missing_structure_is_told(heart: np.ndarray, grid: Grid):
    heart[heart == 3] = 0
    assert check(heart, grid, grid) == ("RV is missing.",)
    heart[heart == 2] = 0
    assert check(heart, grid, grid) == ("MYO and RV are missing.",)


def test_separate_parts_are_counted_with_corners_touching(heart: np.ndarray, grid: Grid):
    heart[0, 0, 1] = 3
    heart[1, 1, 2] = 3  # touches the first by a corner
    heart[31, 31, 0] = 1
    assert check(heart, grid, grid) == (
        "LV lies in 2 separate parts.",
        "RV lies in 2 separate parts.",
        "LV is not inside MYO in slice 0 (counted from 0).",
    )


def test_a_cavity_that_touches_what_it_should_not_is_told_by_slice(heart: np.ndarray, grid: Grid):
    i, j = np.mgrid[:32, :32]
    heart[..., 2][(heart[..., 2] == 2) & (i > 18)] = 0  # half the ring is open
    heart[..., 1][(heart[..., 1] == 2) & (i < 14)] = 3
    warnings = check(heart, grid, grid)
    assert "LV is not inside MYO in slice 2 (counted from 0)." in warnings
    assert "LV touches RV in slice 1 (counted from 0)." in warnings


def test_check_asks_for_grid_and_values_itself(heart: np.ndarray, grid: Grid):
    with pytest.raises(GridError):
        check(heart, Grid(grid.shape, AFFINE * 2 - np.diag([0, 0, 0, 1])), grid)
    heart[0, 0, 0] = 9
    with pytest.raises(LabelError, match="label value 9"):
        check(heart, grid, grid)
