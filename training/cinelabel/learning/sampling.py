"""Windows of prepared cases: which case, slices and place are drawn for a step, and validation.

As nnU-Net draws (Isensee et al. 2021, methods), a share of the windows is chosen for a structure in
it, so that slices without any do not crowd out the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cinelabel.learning.store import PreparedCase
from cinelabel.transforms import Augment
from cinelabel.transforms.preprocess import Over, normalise, pad_slices, standardise

Batch = tuple[np.ndarray, np.ndarray]
Finish = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where an example is taken: the first slice, and row and column of the window's corner."""

    case: PreparedCase
    first: int
    corner: tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """How examples are cut out of prepared cases.

    Attributes:
        size: height and width.
        depth: slices of a stack; 0 for single slices. Shorter cases repeat their end slices.
        window: round the heart of the truth, or anywhere in the image; centred where it is wider.
        over: what intensities are judged by; always and only what the window shows.
        foreground: share of the examples that are chosen for a structure.
        heart_only: whether the structures are one class, heart.
    """

    size: int
    depth: int = 0
    window: Literal["heart", "image"] = "heart"
    over: Over = "slice"
    foreground: float = 0.33
    heart_only: bool = False

    def draw(self, case: PreparedCase, rng: np.random.Generator) -> Place:
        """A random place in a case."""
        last = max(0, case.shape[0] - max(1, self.depth))
        if rng.random() >= self.foreground or not case.foreground:
            return Place(case, int(rng.integers(last + 1)), self._corner(case, rng))
        chosen = int(rng.choice(case.foreground))
        earliest = max(0, chosen - max(1, self.depth) + 1)
        first = int(rng.integers(min(earliest, last), min(chosen, last) + 1))
        return Place(case, first, self._corner(case, rng, chosen))

    def _corner(
        self, case: PreparedCase, rng: np.random.Generator, chosen: int | None = None
    ) -> tuple[int, int]:
        """The corner of a random window, round a structure of the slice `chosen` if one is."""
        if self.window == "heart":
            return self.middle(case).corner
        spare = np.maximum(np.array(case.shape[1:]) - self.size, 0)
        if chosen is None:
            at = rng.integers(spare + 1)
        else:
            labels = case.labels[chosen]
            structure = rng.choice(np.unique(labels[labels > 0]))
            at = rng.choice(np.argwhere(labels == structure)) - self.size // 2
        row, column = np.where(spare > 0, np.clip(at, 0, spare), self.middle(case).corner)
        return int(row), int(column)

    def middle(self, case: PreparedCase, first: int = 0) -> Place:
        """The window round the heart, or in the middle of the image; of two, the lower."""
        middle = case.middle
        if self.window == "image":
            middle = ((case.shape[1] - 1) / 2, (case.shape[2] - 1) / 2)
        row, column = (int(np.ceil(m - (self.size - 1) / 2 - 0.5)) for m in middle)
        return Place(case, first, (row, column))

    def cut(self, place: Place) -> Batch:
        """Images float32, zero mean and unit spread, and labels uint8: (h, w), or (n, h, w)."""
        rows, columns = (
            slice(max(0, corner), min(corner + self.size, n))
            for corner, n in zip(place.corner, place.case.shape[1:], strict=True)
        )
        slices = slice(place.first, place.first + max(1, self.depth))
        judged = slice(None) if self.over == "volume" else slices
        seen = place.case.images[judged, rows, columns].astype(np.float32)
        if self.window == "heart":  # what lies beyond the image is air, and judged, too
            seen = normalise(self._padded(seen, place), self.over)
        else:
            seen = self._padded(standardise(seen, self.over), place)
        images = seen[slices] if self.over == "volume" else seen
        labels = self._padded(place.case.labels[slices, rows, columns], place)
        if self.heart_only:
            labels = (labels > 0).astype(np.uint8)
        if not self.depth:
            return images[0], labels[0]
        return pad_slices(images, self.depth)[0], pad_slices(labels, self.depth)[0]

    def _padded(self, slices: np.ndarray, place: Place) -> np.ndarray:
        """The part of a window that lies in the image, with zeros round it."""
        before = [max(0, -corner) for corner in place.corner]
        after = [self.size - n - b for n, b in zip(slices.shape[1:], before, strict=True)]
        return np.pad(slices, [(0, 0), *zip(before, after, strict=True)])

    def all_places(self, case: PreparedCase) -> list[Place]:
        """Every slice of a case, or its stacks one after the other, in the middle window."""
        depth = max(1, self.depth)
        last = max(0, case.shape[0] - depth)
        firsts = sorted({min(first, last) for first in range(0, case.shape[0], depth)})
        return [self.middle(case, first) for first in firsts]


@dataclass(frozen=True)
class SetBatches:
    """Batches of prepared cases for a step: images (b, [n,] h, w) float32 and labels uint8.

    Cases are drawn with replacement by `probabilities`. A pure function of (seed, step, rank).
    """

    cases: Sequence[PreparedCase]
    probabilities: Sequence[float]
    windows: Windows
    batch_size: int
    seed: int
    augment: Augment | None = None
    rank: int = 0
    finish: Finish | None = None

    def __call__(self, step: int) -> Batch:
        generator = np.random.default_rng((self.seed, step, self.rank))
        chosen = generator.choice(len(self.cases), self.batch_size, p=self.probabilities)
        images, labels = _stacked(
            self.windows.cut(self.windows.draw(self.cases[index], generator)) for index in chosen
        )
        if self.augment is not None:
            images, labels = self.augment(images, labels, generator)
        return (self.finish(images) if self.finish else images), labels


@dataclass(frozen=True)
class Validation:
    """Held-out examples in batches, made when they are asked for; `take` gives those of a range."""

    count: int
    batch_size: int
    take: Callable[[range], Batch]

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.count, self.batch_size):
            yield self.take(range(start, min(start + self.batch_size, self.count)))


def set_validation(
    cases: Sequence[PreparedCase],
    windows: Windows,
    count: int,
    batch_size: int,
    finish: Finish | None = None,
) -> Validation:
    """At most `count` examples, spread evenly over the slices or stacks of the cases."""
    places = [place for case in cases for place in windows.all_places(case)]
    chosen = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)

    def take(which: range) -> Batch:
        images, labels = _stacked(windows.cut(places[chosen[k]]) for k in which)
        return (finish(images) if finish else images), labels

    return Validation(len(chosen), batch_size, take)


def _stacked(examples: Iterator[Batch]) -> Batch:
    images, labels = zip(*examples, strict=True)
    return np.stack(images), np.stack(labels)
