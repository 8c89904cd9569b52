"""The average, the vote and the entropy, by hand and against scipy; regions of a grid."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.core.grid import Grid
from cinelabel.segmentation.average import Region, add_vote, entropy, largest
from cinelabel.transforms.preparation import COMPACT
from scipy import stats

GRID = Grid((90, 70, 3), np.diag([2.0, 2.5, 8.0, 1.0]))


def test_the_largest_share_wins_and_the_lowest_of_equal_ones() -> None:
    shares = np.array([[0.1, 0.3, 0.25], [0.2, 0.3, 0.25], [0.6, 0.1, 0.25], [0.1, 0.3, 0.25]])
    assert largest(shares.astype(np.float32)).tolist() == [2, 0, 0]


def test_votes_count_by_weight() -> None:
    total = np.zeros((4, 2), np.float32)
    for labels, weight in (([1, 2], 1.0), ([3, 2], 1.0), ([2, 0], 3.0)):
        add_vote(total, np.array(labels), weight)
    assert total.tolist() == [[0, 3], [1, 0], [3, 2], [1, 0]]
    assert largest(total).tolist() == [2, 0]


def test_entropy_is_in_nats() -> None:
    shares = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [2, 2, 2, 2], [8, 1, 1, 0]], np.float32).T
    found = entropy(shares)
    assert found[:3] == pytest.approx([0.0, np.log(2), np.log(4)], abs=1e-6)
    np.testing.assert_allclose(found, stats.entropy(shares, axis=0), atol=1e-6)


@pytest.mark.parametrize("centre", [(40.0, 30.0), (3.0, 66.0), (89.0, 0.0)])
def test_a_region_gives_what_the_whole_grid_would(centre: tuple[float, float]) -> None:
    windows = [COMPACT.crop(GRID, centre), COMPACT.crop(GRID, (45.0, 33.0), (60.0, 20.0))]
    region = Region.around(windows)
    maps = np.random.default_rng(0).random((3, 4, *windows[0].size), dtype=np.float32)
    whole = np.moveaxis(windows[0].restore_probabilities(maps), 3, 1)
    found = np.zeros(GRID.shape, np.float32)
    for value, outside in ((0, 1.0), (2, 0.0)):
        region.into(found, region.restore(maps, windows[0])[value])
        expected = np.moveaxis(whole[value], 0, 2)
        inside = np.zeros(GRID.shape[:2], bool)
        inside[slice(*region.x), slice(*region.y)] = True
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)
        assert (expected[~inside] == outside).all()
