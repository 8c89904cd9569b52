"""Dice between members, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.segmentation.agreement import Agreement, pairwise_dice


def test_dice_between_members_is_that_of_hand_counts() -> None:
    first = np.array([1, 1, 1, 2, 2, 0, 0, 0], np.uint8)
    second = np.array([1, 1, 2, 2, 2, 2, 0, 0], np.uint8)
    third = np.array([0, 0, 0, 2, 0, 0, 0, 0], np.uint8)
    lv, myo, rv = pairwise_dice([first, second, third])
    assert lv[0, 1] == lv[1, 0] == pytest.approx(2 * 2 / (3 + 2))
    assert myo[0, 1] == pytest.approx(2 * 2 / (2 + 4))
    assert myo[0, 2] == pytest.approx(2 * 1 / (2 + 1))
    assert lv[0, 2] == 0.0
    assert np.isnan(rv).all()
    assert np.diag(myo).tolist() == [1.0, 1.0, 1.0]


def test_empty_labels_agree_on_nothing() -> None:
    empty = np.zeros((2, 3, 3), np.uint8)
    assert np.isnan(pairwise_dice([empty, empty])).all()


def test_means_leave_out_what_neither_member_has() -> None:
    dice = np.full((2, 3, 3, 3), np.nan)
    dice[0, 0, 0, 1], dice[0, 0, 0, 2], dice[1, 0, 1, 2] = 0.9, 0.6, 0.3
    dice[0, 1, 0, 1] = 0.5
    agreement = Agreement(("a", "b", "c"), (4, 7), dice)
    assert agreement.mean() == {"LV": 0.6, "MYO": 0.5, "RV": None}
    record = agreement.as_dict()
    assert record["frames"] == [4, 7]
    assert record["pairs"][0] == {
        "members": ["a", "b"],
        "LV": [0.9, None],
        "MYO": [0.5, None],
        "RV": [None, None],
    }
    assert [pair["members"] for pair in record["pairs"]] == [["a", "b"], ["a", "c"], ["b", "c"]]
