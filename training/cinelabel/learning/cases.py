"""Labelled cases of data sets as examples for fine-tuning, beside readers' labels.

Of a case teach the slices that its set annotates; what is not annotated there is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.labels import STRUCTURES
from cinelabel.datasets import Case, load_case
from cinelabel.learning.corrections import Examples, Lesson
from cinelabel.learning.tuned import CLASSES, Tuned


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as a member sees it: an example of each slice that teaches, `slices` along z."""

    slices: np.ndarray
    examples: Examples


def prepare_case(case: Case, member: Tuned, patient: int, frame: int) -> PreparedCase:
    """The slices of a case that teach, in a window round the heart as labelled.

    Args:
        case: one frame, with a label.
        member: that shall learn, from slices.
        patient: number of the case's patient in the examples.
        frame: number of the case in them.

    Raises:
        InputError: the case has no label, has many frames, or no heart is labelled; and as
            `load_case`.
    """
    study, labels = load_case(case)
    if labels is None or labels.ndim != 3 or not labels.any():
        raise InputError(f"{case.name} is no frame with a labelled heart", where=case.image)
    known = known_slices(case, labels.shape[2])
    slices = np.flatnonzero(known[:, 1:].any(1))
    lesson = Lesson(np.ascontiguousarray(study.frame(0)), labels, study.grid, slices, known)
    crop = lesson.crop(member.shown, member.only)
    images = member.shown.prepare(lesson.volume, crop)[slices].astype(np.float16)
    found = crop.apply_labels(labels)[slices]
    numbers = (np.full(len(slices), number) for number in (patient, frame))
    return PreparedCase(slices, Examples(images, found, known[slices], *numbers))


def known_slices(case: Case, count: int) -> np.ndarray:
    """What a set annotates in each of `count` slices of a case: bool (count, classes)."""
    known = np.zeros((count, CLASSES), bool)
    known[:, 0] = True
    names = {structure.name for structure in case.structures}
    for structure in STRUCTURES:
        if structure.name in names and case.scored_slices is None:
            known[:, structure.value] = True
        elif structure.name in names and case.scored_slices is not None:
            known[list(case.scored_slices.get(structure.name, ())), structure.value] = True
    return known


def join(parts: Sequence[Examples]) -> Examples:
    """All examples of several, one after the other; there is at least one."""
    names = [field.name for field in fields(Examples)]
    return Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def select(examples: Examples, chosen: np.ndarray) -> Examples:
    """Those at the given places."""
    return Examples(*(getattr(examples, field.name)[chosen] for field in fields(Examples)))
