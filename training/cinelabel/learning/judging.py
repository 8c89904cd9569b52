"""How a version is judged: frames of held-out patients, segmented as a user would get them.

The locator, every member with mirroring, and post-processing take part, so that what is decided
about a version is decided on what it would serve. Dice is counted in the slices that teach and of
the structures that the labels tell.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
    parent: ModelVersion, weights: Mapping[str, Mapping[str, Tensor]]
) -> Iterator[ModelVersion]:
    """A version's child with members tuned to `weights`, for as long as it is judged.

    Its weights are rounded as those of a published one. Raises ModelError as `ModelStore.publish`.
    """
    with tempfile.TemporaryDirectory(prefix="cinelabel-") as folder:
        store = ModelStore(Path(folder), bundled=Path(folder) / "none")
        yield publish_draft(store, "draft", parent, weights)


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
