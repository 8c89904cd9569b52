"""The average of the members' probabilities, or their vote, on the part of a grid they see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cinelabel.transforms.preprocess import Crop

Vote = Literal["average", "hard"]
VOTES: tuple[Vote, ...] = ("average", "hard")


@dataclass(frozen=True)
class Region:
    """A rectangle of a grid's slices, `x` and `y` from first to behind the last pixel."""

    x: tuple[int, int]
    y: tuple[int, int]

    @classmethod
    def around(cls, windows: Sequence[Crop]) -> Region:
        """The smallest rectangle with every pixel that a window covers."""
        covered = np.any([w.restore(np.ones((1, *w.size), np.float32)) > 0 for w in windows], 0)
        rows = np.flatnonzero(covered.any((1, 2)))
        columns = np.flatnonzero(covered.any((0, 2)))
        if not len(rows):
            return cls((0, 1), (0, 1))
        return cls((int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along x and y."""
        return self.x[1] - self.x[0], self.y[1] - self.y[0]

    def restore(self, maps: np.ndarray, window: Crop) -> np.ndarray:
        """A member's maps on the region: (n, classes, h, w) -> float32 (classes, n, x, y).

        What the window does not cover is background.
        """
        within = replace(
            window,
            centre=(window.centre[0] - self.x[0], window.centre[1] - self.y[0]),
            source_shape=self.shape,
        )
        return np.moveaxis(within.restore_probabilities(maps), 3, 1)

    def into(self, target: np.ndarray, values: np.ndarray) -> None:
        """Put values (n, x, y) where they belong in an array of the grid, (x, y, n)."""
        target[slice(*self.x), slice(*self.y)] = np.moveaxis(values, 0, 2)


def largest(shares: np.ndarray) -> np.ndarray:
    """The class of the largest share, the lowest of equal ones: (classes, ...) -> uint8 (...)."""
    best = shares[0].copy()
    winner = np.zeros(best.shape, np.uint8)
    for value in range(1, len(shares)):
        larger = shares[value] > best
        winner[larger] = value
        np.maximum(best, shares[value], out=best)
    return winner


def add_vote(total: np.ndarray, labels: np.ndarray, weight: float) -> None:
    """Add a member's vote for one class a voxel to the sum of votes, (classes, ...)."""
    for value in range(len(total)):
        total[value] += np.float32(weight) * (labels == value)


def entropy(total: np.ndarray) -> np.ndarray:
    """Entropy in nats, 0 to ln(classes), of shares that need not sum to 1, (classes, ...)."""
    shares = total / total.sum(0)
    return np.asarray(-np.sum(shares * np.log(np.maximum(shares, 1e-12)), 0), np.float32)
