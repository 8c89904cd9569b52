"""Where members disagree, against figures worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cinelabel.core.grid import Grid
from cinelabel.segmentation.disagreement import disagreement, summary

GRID = Grid((4, 4, 3), np.diag([2.0, 2.0, 10.0, 1.0]))  # voxels of 0.04 ml


@pytest.fixture
def members() -> dict[str, np.ndarray]:
    """Slice 0 empty; slice 1 agreed; slice 2 with half an LV in common, and one RV alone."""
    one, two = (np.zeros((4, 4, 3, 1), np.uint8) for _ in range(2))
    one[0, :, 1], two[0, :, 1] = 1, 1
    one[0, :2, 2], two[0, 1:3, 2] = 1, 1
    two[3, 3, 2] = 3
    return {"one": one, "two": two}


def test_a_slice_tells_one_minus_dice_a_structure(members: dict[str, np.ndarray]) -> None:
    agreed, disputed = disagreement(members, GRID)
    assert (agreed.slice, agreed.structures) == (1, {"LV": 0.0, "MYO": None, "RV": None})
    assert (disputed.slice, disputed.structures) == (2, {"LV": 0.5, "MYO": None, "RV": 1.0})
    assert disputed.mean == 0.75


def test_the_disputed_volume_counts_voxels_not_labelled_alike(
    members: dict[str, np.ndarray],
) -> None:
    agreed, disputed = disagreement(members, GRID)
    assert agreed.disputed_ml == 0.0
    assert disputed.disputed_ml == pytest.approx(3 * 0.04)


def test_the_mean_is_over_each_two_members(members: dict[str, np.ndarray]) -> None:
    three = members | {"three": members["one"]}
    assert disagreement(three, GRID)[1].structures["LV"] == pytest.approx(
        (0.5 + 0.0 + 0.5) / 3, 1e-3
    )


def test_the_summary_puts_the_worst_slice_first(members: dict[str, np.ndarray]) -> None:
    told = summary(disagreement(members, GRID))
    assert [entry["slice"] for entry in told["worst_slices"]] == [2, 1]
    assert told["mean"] == {"LV": 0.25, "MYO": None, "RV": 1.0}
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_phase_without_labels_is_not_told(members: dict[str, np.ndarray]) -> None:
    longer = {
        name: np.concatenate([np.zeros_like(labels), labels], 3) for name, labels in members.items()
    }
    assert {entry.frame for entry in disagreement(longer, GRID)} == {1}


def test_members_without_a_heart_disagree_nowhere() -> None:
    nothing = np.zeros((4, 4, 3, 1), np.uint8)
    told = summary(disagreement({"one": nothing, "two": nothing}, GRID))
    assert told["slices"] == told["worst_slices"] == []
