"""Largest components and the rule for the right ventricle, on labels drawn by hand."""

from __future__ import annotations

import numpy as np
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.segmentation.postprocess import Postprocessing, largest_component


def test_the_largest_component_wins_and_diagonals_connect() -> None:
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
    mask[3, 3] = True
    kept = largest_component(mask)
    assert kept.sum() == 3
    assert not kept[0, 0]


def test_a_small_second_piece_in_a_slice_is_removed() -> None:
    labels = np.zeros((12, 12, 2), np.uint8)
    labels[2:6, 2:6] = LV.value
    labels[9, 9, 0] = LV.value
    cleaned = Postprocessing().apply(labels)
    assert cleaned[9, 9, 0] == 0
    assert (cleaned == LV.value).sum() == 32


def test_a_piece_in_a_distant_slice_is_removed_volume_wise_only() -> None:
    labels = np.zeros((8, 8, 5), np.uint8)
    labels[2:6, 2:6, :2] = MYO.value
    labels[3, 3, 4] = MYO.value
    assert Postprocessing().apply(labels)[3, 3, 4] == 0
    assert Postprocessing(volume_wise=False).apply(labels)[3, 3, 4] == MYO.value


def test_the_right_ventricle_goes_where_the_left_is_absent() -> None:
    labels = np.zeros((8, 8, 3), np.uint8)
    labels[1:4, 1:4] = RV.value
    labels[5:7, 5:7, :2] = LV.value
    cleaned = Postprocessing().apply(labels)
    assert (cleaned[..., 2] == 0).all()
    assert (cleaned[..., 1] == RV.value).any()
    assert (Postprocessing(rv_needs_lv=False).apply(labels)[..., 2] == RV.value).any()


def test_labels_without_foreground_stay_empty_and_the_input_is_not_changed() -> None:
    empty = np.zeros((4, 4, 2), np.uint8)
    assert not Postprocessing().apply(empty).any()
    labels = np.zeros((6, 6, 1), np.uint8)
    labels[0, 0], labels[3:5, 3:5] = LV.value, LV.value
    before = labels.copy()
    Postprocessing().apply(labels)
    np.testing.assert_array_equal(labels, before)
