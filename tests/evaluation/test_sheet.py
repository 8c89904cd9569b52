"""The sheet of overlays of many cases."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.grid import Grid
from cinelabel.evaluation.sheet import Row, sheet_figure, sheet_row
from cinelabel.studies.study import Study
from matplotlib.image import imread


def study(frames: int = 1) -> Study:
    shape = (60, 50, 9, frames)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    grid = Grid(shape[:3], np.diag([1.5, 1.25, 8.0, 1.0]))
    return Study("heart", images, grid, is_cine=frames > 1)


def labelled(*slices: int) -> np.ndarray:
    labels = np.zeros((60, 50, 9), np.uint8)
    for k in slices:
        labels[28:32, 20:24, k], labels[32:34, 20:24, k], labels[24:28, 20:24, k] = 1, 2, 3
    return labels


def test_a_row_shows_first_middle_and_last_labelled_slice_around_the_heart():
    row = sheet_row("a", study(), labelled(2, 3, 4, 5, 6))
    assert row.slices == (2, 4, 6)
    assert row.images.shape == row.labels.shape
    assert row.images.shape[0] < 60
    assert [set(np.unique(row.labels[..., k])) for k in range(3)] == [{0, 1, 2, 3}] * 3
    assert row.aspect == pytest.approx(1.25 / 1.5)


def test_a_row_without_labels_shows_slices_of_the_whole_stack_and_few_are_not_repeated():
    row = sheet_row("a", study(), None)
    assert (row.slices, row.images.shape, row.labels.any()) == ((0, 4, 8), (60, 50, 3), False)
    assert sheet_row("a", study(), labelled(5)).slices == (5,)


def test_of_a_cine_the_first_labelled_frame_is_shown():
    cine = study(frames=4)
    labels = np.zeros((60, 50, 9, 4), np.uint8)
    labels[..., 2] = labelled(3, 4, 5)
    row = sheet_row("a", cine, labels)
    assert row.slices == (3, 4, 5)
    assert np.isin(row.images[..., 0], cine.frames[:, :, 3, 2]).all()


def test_a_sheet_is_a_picture_that_grows_with_its_rows_and_has_the_contours(tmp_path):
    blank = np.zeros((20, 20, 3))
    bare = Row("b", blank.astype(np.float32), blank.astype(np.uint8), (0, 1, 2), 1.0)
    drawn = sheet_row("a", study(), labelled(2, 3, 4))
    sheet_figure(tmp_path / "one.png", [bare], title="one")
    sheet_figure(tmp_path / "two.png", [bare, drawn], title="two")
    one, two = imread(tmp_path / "one.png"), imread(tmp_path / "two.png")
    assert two.shape[0] > one.shape[0]
    upper = two.shape[0] // 2
    parts = (two[:upper, :, :3], two[upper:-60, :, :3])
    assert [np.ptp(part, axis=2).max() > 0.3 for part in parts] == [False, True]
    with pytest.raises(InputError, match="no case to draw"):
        sheet_figure(tmp_path / "none.png", [], title="none")
