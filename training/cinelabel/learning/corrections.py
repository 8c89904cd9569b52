"""Readers' labels as training examples: which slices teach, whose they are, and who is held out.

A label teaches in the slices that the reader drew in. Where it began as a prediction of the whole
frame, slices without any structure were left or made empty on purpose, and teach as well; where it
was drawn from nothing, they may just not have been reached yet. What a review takes out teaches
only where the reader changed the prediction, see `unusable_slices`. A structure that is nowhere in
a label was not drawn: nothing is known of it, see `losses.marginal_logits`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cinelabel import studies
from cinelabel.core.errors import CineLabelError, InputError, RunError
from cinelabel.core.files import output_error, sha256, write_json
from cinelabel.core.grid import Grid
from cinelabel.core.labels import STRUCTURES
from cinelabel.core.review import ReviewRecord
from cinelabel.labelstore import LabelStore, ReviewVersion
from cinelabel.labelstore.validation import slice_digests
from cinelabel.learning.data import Progress
from cinelabel.studies import nifti
from cinelabel.transforms.preparation import Preparation, heart_centre
from cinelabel.transforms.preprocess import Crop, pad_slices

HELD_OUT_SHARE = 0.2
LEAST_SLICES = 3
SCHEMA_VERSION = 1
UNTOLD = len(STRUCTURES) + 1
"""In the labels of a stack: a slice that does not teach."""


@dataclass(frozen=True)
class Correction:
    """A reader's label of one frame.

    Attributes:
        image: name of the frame.
        patient: whose heart it is.
        version, sha256: of the label.
        image_file, label_file: NIfTI.
        whole: whether every slice teaches, or only those with a structure.
        unusable: slices that teach only where the prediction was changed.
        predicted: of each slice of the prediction it began as, see `slice_digests`; empty where
            that is not known.
        phase: "ED", "ES" or None.
    """

    image: str
    patient: str
    version: int
    sha256: str
    image_file: Path
    label_file: Path
    whole: bool
    unusable: tuple[int, ...] = ()
    predicted: tuple[str, ...] = ()
    phase: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` undoes it."""
        files = {"image_file": str(self.image_file), "label_file": str(self.label_file)}
        return asdict(self) | files

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Correction:
        """A correction as `to_dict` wrote it."""
        files = {key: Path(values[key]) for key in ("image_file", "label_file")}
        lists = {key: tuple(values[key]) for key in ("unusable", "predicted")}
        return cls(**{**values, **files, **lists})


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a correction teaches: a frame (x, y, z) float32, its labels uint8, and where.

    Attributes:
        slices: indices along z that teach.
        known: bool (classes,), the background first: what the label tells.
    """

    volume: np.ndarray
    labels: np.ndarray
    grid: Grid
    slices: np.ndarray
    known: np.ndarray

    def crop(self, preparation: Preparation, only: int) -> Crop:
        """The window of a member, round the heart as labelled; `only` as in `Preparation.crop`."""
        return preparation.crop(self.grid, heart_centre(self.labels), only=only)


@dataclass(frozen=True, eq=False)
class Examples:
    """Prepared slices (n, h, w), or stacks (n, depth, h, w).

    Attributes:
        images: float16.
        labels: uint8; `UNTOLD` fills the slices of a stack that do not teach.
        known: bool (n, classes), the background first: what the label tells.
        patients: int (n,), a number a patient.
        frames: int (n,), a number a frame; None where each patient has one.
    """

    images: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    patients: np.ndarray
    frames: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def slice_count(self) -> int:
        """How many slices teach; those in two stacks count twice."""
        if self.labels.ndim == 3:
            return len(self)
        return int((self.labels != UNTOLD).any((2, 3)).sum())

    @property
    def frame_count(self) -> int:
        """How many frames the examples are of."""
        return len(np.unique(self.patients if self.frames is None else self.frames))


def find_corrections(
    store: LabelStore,
    image_file: Callable[[str], Path | None],
    patient: Callable[[str], str],
    *,
    study: Callable[[str], str] = lambda image: image,
    phase: Callable[[str], str | None] = lambda image: None,
) -> list[Correction]:
    """The newest label of every image that counts as labelled, sorted by the images' names.

    Args:
        store: of the workspace.
        image_file: where an image lies, None for one that is not served any more.
        patient: whose it is.
        study: which its review is of.
        phase: "ED", "ES" or None.

    Raises:
        InputError: a review is damaged, or a label cannot be read that a review is of.
    """
    found = []
    reviews = store.reviews()
    for image, case in sorted(store.states().items()):
        file = image_file(image) if case.state == "labelled" else None
        label = store.newest(image) if file is not None else None
        if file is None or label is None:
            continue
        found.append(
            Correction(
                image=image,
                patient=patient(image),
                version=label.version,
                sha256=label.sha256,
                image_file=file,
                label_file=label.path,
                whole=label.prediction is not None or label.model is not None,
                unusable=_unusable(reviews.get(study(image)), label.path),
                predicted=label.predicted,
                phase=phase(image),
            )
        )
    return found


def _unusable(review: ReviewVersion | None, label: Path) -> tuple[int, ...]:
    return unusable_slices(review.record, nifti.peek(label)[0][2]) if review else ()


def unusable_slices(review: ReviewRecord, slices: int) -> tuple[int, ...]:
    """Which of a study's slices a review takes out: not to be learned from as they were predicted.

    See `ReviewRecord.unfit`.
    """
    return tuple(index for index in range(slices) if review.unfit(index))


def judging_frames(corrections: Sequence[Correction], most: int) -> tuple[Correction, ...]:
    """At most so many frames of each patient: ED and ES, then others evenly spread."""
    patients = {c.patient: [d for d in corrections if d.patient == c.patient] for c in corrections}
    return tuple(c for frames in patients.values() for c in _some_frames(frames, most))


def _some_frames(frames: Sequence[Correction], most: int) -> list[Correction]:
    first = [c for phase in ("ED", "ES") for c in frames if c.phase == phase][:most]
    others = [c for c in frames if c not in first]
    count = min(most - len(first), len(others))
    spread = np.linspace(0, len(others) - 1, count).round().astype(int)
    return first + [others[k] for k in spread]


def hold_out(
    file: Path, patients: Collection[str], share: float = HELD_OUT_SHARE
) -> frozenset[str]:
    """Those of the patients that are held out, so that they judge and never train.

    The file remembers every patient it was asked about. New ones are dealt as they come, in an
    order that their names do not tell: one is held out as soon as that keeps those held out
    within their share of all. Nobody changes sides.

    Raises:
        InputError: the file cannot be read; who was held out is then unknown.
        OutputError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.with_name(f".{file.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise output_error(error, file) from error
    with lock:
        training, held_out = _read_sides(file)
        new = sorted(set(patients) - {*training, *held_out}, key=_shuffled)
        for patient in new:
            total = len(training) + len(held_out) + 1
            (held_out if len(held_out) + 1 <= share * total else training).append(patient)
        if new:
            sides = {"training": training, "held_out": held_out}
            write_json(file, {"schema_version": SCHEMA_VERSION, **sides})
    return frozenset(held_out) & frozenset(patients)


def _shuffled(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()


def _read_sides(file: Path) -> tuple[list[str], list[str]]:
    if not file.exists():
        return [], []
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        training, held_out = kept["training"], kept["held_out"]
        if kept["schema_version"] != SCHEMA_VERSION or set(training) & set(held_out):
            raise ValueError
        return list(training), list(held_out)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "it cannot be read which patients are held out",
            where=file,
            remedy="Bring the file back from a backup: without it, scores may be of patients that "
            "a model has learned from",
        ) from error


def taught_slices(
    labels: np.ndarray,
    whole: bool,
    unusable: Collection[int] = (),
    predicted: Sequence[str] = (),
) -> np.ndarray:
    """Indices along z of the slices of (x, y, z) that teach; arguments as in `Correction`.

    An unusable slice teaches where it is known to be the reader's own: drawn from nothing, or
    changed.
    """
    drawn = labels.any((0, 1))
    own = np.zeros_like(drawn) if whole else drawn
    if len(predicted) == len(drawn):
        pairs = zip(slice_digests(labels), predicted, strict=True)
        own = np.array([now != before for now, before in pairs])
    usable = ~np.isin(np.arange(labels.shape[2]), list(unusable))
    return np.flatnonzero((whole | drawn) & (usable | own))


def read_lesson(correction: Correction) -> Lesson:
    """Read image and label.

    Raises:
        InputError, GridError, LabelError: a file is missing, damaged, or not what was submitted.
    """
    if sha256(correction.label_file) != correction.sha256:
        raise InputError(
            "is not the label that was submitted",
            where=correction.label_file,
            remedy="Check the store with: cinelabel labels check",
        )
    study = studies.load(correction.image_file)
    labels, grid = studies.load_label(correction.label_file)
    study.grid.require_equal(grid, str(correction.label_file))
    if labels.ndim == 4:
        labels = labels[..., 0]
    known = [True, *((labels == structure.value).any() for structure in STRUCTURES)]
    return Lesson(
        volume=np.ascontiguousarray(study.frame(0)),
        labels=labels,
        grid=study.grid,
        slices=taught_slices(labels, correction.whole, correction.unusable, correction.predicted),
        known=np.array(known),
    )


def read_lessons(
    corrections: Sequence[Correction], problems: list[str], progress: Progress | None, what: str
) -> Iterator[tuple[Correction, Lesson]]:
    """Those that can be read; a sentence for each other one is added to `problems`.

    `progress` is told how many are done, of how many, and `what`.
    """
    for done, correction in enumerate(corrections):
        if progress is not None:
            progress(done, len(corrections), what)
        try:
            yield correction, read_lesson(correction)
        except CineLabelError as error:
            problems.append(f"{correction.image} is left out: {error}")


def read_examples(
    corrections: Sequence[Correction],
    preparation: Preparation,
    only: int,
    problems: list[str],
    progress: Progress | None = None,
) -> Examples:
    """The slices of corrections, or stacks with such slices, prepared for a member.

    Args:
        corrections: to learn from.
        preparation: the member's.
        only: the one size of its network, 0 if there is none.
        problems: gets a sentence for each correction that is left out.
        progress: told how many labels are read, of how many, and what is done.

    Raises:
        RunError: fewer than `LEAST_SLICES` slices are left.
    """
    taught, parts = 0, []
    numbers: dict[str, int] = {}
    lessons = read_lessons(corrections, problems, progress, "reading labels")
    for frame, (correction, lesson) in enumerate(lessons):
        crop = lesson.crop(preparation, only)
        images = preparation.prepare(lesson.volume, crop).astype(np.float16)
        labels = crop.apply_labels(lesson.labels)
        if preparation.depth is None:
            images, labels = images[lesson.slices], labels[lesson.slices]
        else:
            images, labels = _stacks(images, labels, lesson.slices, preparation.depth)
        taught += len(lesson.slices)
        known = np.tile(lesson.known, (len(images), 1))
        number = numbers.setdefault(correction.patient, len(numbers))
        whose = (np.full(len(images), number), np.full(len(images), frame))
        parts.append((images, labels, known, *whose))
    if taught < LEAST_SLICES:
        left_out = f", {problems[0].rstrip('.')}" if problems else ""
        raise RunError(
            f"{taught} labelled slices are too few to learn from{left_out}",
            where="fine-tuning",
            remedy=f"Submit labels of at least {LEAST_SLICES} slices of patients that are not "
            "held out",
        )
    return Examples(*map(np.concatenate, zip(*parts, strict=True)))


def _stacks(
    images: np.ndarray, labels: np.ndarray, slices: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Stacks (n, depth, h, w) over slices (z, h, w), of those that teach; the last may overlap."""
    labels = labels.copy()
    labels[~np.isin(np.arange(len(labels)), slices)] = UNTOLD
    if len(images) < depth:
        images, labels = pad_slices(images, depth)[0], pad_slices(labels, depth)[0]
    last = len(images) - depth
    firsts = sorted({min(first, last) for first in range(0, len(images), depth)})
    firsts = [k for k in firsts if (labels[k : k + depth] != UNTOLD).any()]
    chosen = np.array(firsts, int)[:, None] + np.arange(depth)
    return images[chosen], labels[chosen]
