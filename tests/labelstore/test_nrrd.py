"""NRRD as 3D Slicer writes it, read without following it anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.core.grid import Grid
from cinelabel.labelstore.validation import read_label

nrrd = pytest.importorskip("nrrd", reason="pynrrd comes with the server")


def header_of(grid: Grid) -> dict[str, object]:
    """As Slicer states a grid: LPS."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    return {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "kinds": ["domain"] * 3,
    }


@pytest.fixture
def nrrd_file(tmp_path: Path, grid: Grid, heart: np.ndarray) -> Callable[..., Path]:
    def make(voxels: np.ndarray = heart, **changes: object) -> Path:
        path = tmp_path / "label.nrrd"
        nrrd.write(str(path), voxels, {**header_of(grid), **changes})
        return path

    return make


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, ">i2"])
def test_labels_are_read_as_written_on_the_same_grid(
    nrrd_file: Callable[..., Path], heart: np.ndarray, grid: Grid, encoding: str, dtype: str
):
    path = nrrd_file(heart.astype(dtype), encoding=encoding)
    labels, read_grid, _ = read_label(path, None, grid)
    assert np.array_equal(labels, heart)
    assert grid.equals(read_grid)


def test_another_grid_is_refused(nrrd_file: Callable[..., Path], grid: Grid):
    with pytest.raises(GridError, match="left-handed"):
        read_label(
            nrrd_file(space="right-anterior-superior"),
            None,
            Grid(grid.shape, -grid.affine + np.diag([0, 0, 0, 2.0])),
        )
    path = nrrd_file(**{"space origin": header_of(grid)["space origin"] + np.array([1.0, 0, 0])})
    with pytest.raises(GridError, match="up to 1 mm away"):
        read_label(path, None, grid)


def test_voxels_in_another_file_are_never_followed(
    tmp_path: Path, grid: Grid, nrrd_file: Callable[..., Path]
):
    path = nrrd_file(encoding="raw")
    head = path.read_bytes().split(b"\n\n")[0]
    for line in (b"data file: /etc/passwd", b"datafile: LIST\n/etc/passwd"):
        path.write_bytes(head + b"\n" + line + b"\n\n")
        with pytest.raises(LabelError):
            read_label(path, None, grid)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"sizes: 32 32 4", b"sizes: 32 32 5"),
        (b"sizes: 32 32 4", b"sizes: 32 32 x"),
        (b"sizes: 32 32 4", b"sizes: -1 32 4"),
        (b"dimension: 3", b"dimension: 4"),
        (b"type: uint8", b"type: block"),
        (b"encoding: gzip", b"encoding: bzip2"),
        (b"encoding: gzip", b"encoding: hex"),
        (b"space: left", b"space: up"),
        (b"NRRD", b"NOPE"),
        (b"\n\n", b"\n"),
    ],
)
def test_a_damaged_header_is_refused_with_a_sentence(
    nrrd_file: Callable[..., Path], grid: Grid, old: bytes, new: bytes
):
    path = nrrd_file()
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(InputError, match="label.nrrd: "):
        read_label(path, None, grid)


def test_truncated_and_overlong_voxels_are_refused(
    nrrd_file: Callable[..., Path], grid: Grid, heart: np.ndarray
):
    path = nrrd_file()
    whole = path.read_bytes()
    for keep in (len(whole) - 1, len(whole) - 20, whole.index(b"\n\n") + 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(LabelError):
            read_label(path, None, grid)
    path.write_bytes(
        nrrd_file(np.zeros((300, 300, 300), np.uint8))
        .read_bytes()
        .replace(b"sizes: 300 300 300", b"sizes: 32 32 4")
    )
    with pytest.raises(LabelError, match="does not hold the 4096 bytes"):
        read_label(path, None, grid)
