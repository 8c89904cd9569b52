"""How a version is judged: frames of held-out patients, segmented as a user would get them.

The locator, every member with mirroring, and post-processing take part, so that what is decided
about a version is decided on what it would serve. Dice is counted in the slices that teach and of
the structures that the labels tell.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel.core.grid import Grid
from cinelabel.core.labels import STRUCTURES
from cinelabel.learning.corrections import Correction, Lesson, read_lessons
from cinelabel.learning.data import Progress
from cinelabel.learning.publication import publish_draft
from cinelabel.models.store import ModelStore, ModelVersion
from cinelabel.segmentation import Segmenter
from cinelabel.studies import Study

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Dice of held-out patients, over all their frames together.

    `patients`: structure -> Dice, a table a patient; structures that a patient's labels do not
    tell are left out.
    """

    patients: tuple[dict[str, float], ...]

    @property
    def mean(self) -> dict[str, float]:
        """Structure -> mean over the patients that have it."""
        found = {s.name: [p[s.name] for p in self.patients if s.name in p] for s in STRUCTURES}
        return {name: round(float(np.mean(dice)), 5) for name, dice in found.items() if dice}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the mean, and the patients without their names."""
        return {"dice": self.mean, "patients": list(self.patients)}


@contextmanager
def draft_of(
    parent: ModelVersion, weights: Mapping[str, Mapping[str, Tensor]], folder: Path
) -> Iterator[ModelVersion]:
    """A version's child with members tuned to `weights`, for as long as it is judged.

    Its weights are rounded as those of a published one. It lies in `folder`, which is emptied
    before, of what a kill has left, and removed afterwards.

    Raises:
        ModelError: as `ModelStore.publish`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield publish_draft(ModelStore(folder, bundled=folder / "none"), "draft", parent, weights)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def score_version(
    version: ModelVersion,
    corrections: Sequence[Correction],
    problems: list[str],
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> Scores | None:
    """Dice of a version, a patient; None without corrections that can be read.

    Args:
        version: that segments.
        corrections: of the patients that judge.
        problems: gets a sentence for each correction that is left out.
        device: where it segments.
        progress: told how many labels are scored, of how many, and what is done.

    Raises:
        ModelError: its files are missing or damaged.
    """
    segmenter = Segmenter(version, device)
    tables: dict[str, np.ndarray] = {}
    for correction, lesson in read_lessons(corrections, problems, progress, "scoring"):
        found = segmenter.segment(_study(lesson)).labels[..., 0]
        table = tables.setdefault(correction.patient, np.zeros((len(STRUCTURES) + 1, 2)))
        table += _counts(found, lesson)
    if not tables:
        return None
    return Scores(tuple(_dice(table) for _, table in sorted(tables.items())))


def _study(lesson: Lesson) -> Study:
    return Study("held-out", lesson.volume[..., None], lesson.grid, is_cine=False)


def _counts(found: np.ndarray, lesson: Lesson) -> np.ndarray:
    """(classes, 2): twice the voxels that both have, and those of either; 0 where not known."""
    counts = np.zeros((len(lesson.known), 2))
    ours, theirs = found[:, :, lesson.slices], lesson.labels[:, :, lesson.slices]
    for value in np.flatnonzero(lesson.known)[1:]:
        a, b = ours == value, theirs == value
        counts[value] = 2 * np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)
    return counts


def _dice(table: np.ndarray) -> dict[str, float]:
    return {
        s.name: round(float(table[s.value, 0] / table[s.value, 1]), 5)
        for s in STRUCTURES
        if table[s.value, 1]
    }


@dataclass(frozen=True)
class Moved:
    """When a label is a copy that was moved.

    Attributes:
        least_mm: how far at least; readers and networks differ by less.
        alike: Dice, structure by structure, of the label moved back and the prediction.
        gain: how much moving it back adds to that Dice.
    """

    least_mm: float = 10.0
    alike: float = 0.6
    gain: float = 0.3


MOVED = Moved()


def without_moved(
    version: ModelVersion,
    corrections: Sequence[Correction],
    problems: list[str],
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Correction]:
    """The corrections but for those that lie beside the heart, as after a mishap with a grid.

    Such a label has the form of what the version's fast member sees, and another place; one that a
    reader drew where the version had failed has another form. Arguments as of `score_version`; a
    label that cannot be read stays, for others to tell.
    """
    segmenter = Segmenter(version, device)
    moved: set[str] = set()
    for correction, lesson in read_lessons(corrections, [], progress, "checking labels"):
        found = segmenter.segment(_study(lesson), fast=True).labels[..., 0]
        if (distance_mm := moved_by(lesson.labels, found, lesson.grid)) is not None:
            moved.add(correction.image)
            problems.append(
                f"{correction.image} is left out: the label has the form of the heart that is "
                f"seen, and lies {distance_mm:.0f} mm beside it."
            )
    return [c for c in corrections if c.image not in moved]


def moved_by(labels: np.ndarray, seen: np.ndarray, grid: Grid) -> float | None:
    """How many mm labels (x, y, z) lie beside what is seen; None unless alike (see `Moved`)."""
    told = np.isin(seen, labels) & labels.any((0, 1))  # structures and slices that were drawn
    seen = np.where(told, seen, 0)
    if not labels.any() or not seen.any():
        return None
    middles = [np.argwhere(each).mean(0)[:2] for each in (labels, seen)]
    steps = np.round(middles[1] - middles[0]).astype(int)
    distance_mm = float(np.hypot(*(steps * grid.spacing[:2])))
    if distance_mm < MOVED.least_mm:
        return None
    back = _shifted(labels, steps)
    before, after = _alike(labels, seen), _alike(back, seen)
    return distance_mm if after >= max(MOVED.alike, before + MOVED.gain) else None


def _shifted(labels: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Labels moved in the plane by whole pixels; what leaves the image is lost."""
    target = np.zeros_like(labels)
    ends = [(max(0, int(s)), min(n, n + int(s))) for s, n in zip(steps, labels.shape, strict=False)]
    (x, to_x), (y, to_y) = ends
    i, j = map(int, steps)
    target[x:to_x, y:to_y] = labels[x - i : to_x - i, y - j : to_y - j]
    return target


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of all structures together: what both call by the same name."""
    both = np.count_nonzero((one == other) & (one > 0))
    return 2 * both / (np.count_nonzero(one) + np.count_nonzero(other))
