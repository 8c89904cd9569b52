"""What is worth knowing of a frame before it is labelled: where a model's answers differ, features.

The answers are those of the members, each without mirroring; of a single member, of its mirrored
passes. Compared is the heart alone: the largest connected body that any of them labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from cinelabel.active.features import Encoder, choose
from cinelabel.active.strategies import Candidate
from cinelabel.core.errors import InputError
from cinelabel.core.files import atomic_write
from cinelabel.segmentation.average import Region, largest
from cinelabel.segmentation.locator import contiguous
from cinelabel.segmentation.member import Clock, Member
from cinelabel.segmentation.passes import View, views
from cinelabel.segmentation.predictor import Segmenter
from cinelabel.studies.study import Study

ANSWERS = 4
"""As many members are compared at most, evenly spread over those of the version."""
SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class FrameScores:
    """Scores of a frame's slices; without a heart all are zero.

    Attributes:
        foreground: bool (n,), whether the average of the answers labels any structure.
        heart_mm2, disputed_mm2: float32 (n,), see `compare`.
        features: float32 (n, channels), of the encoder; no channels without a heart.
        patient: whose heart it is.
        reason: why there are no scores, a sentence; empty if there are.
    """

    foreground: np.ndarray
    heart_mm2: np.ndarray
    disputed_mm2: np.ndarray
    features: np.ndarray
    patient: str = ""
    reason: str = ""

    @classmethod
    def none(cls, slices: int, reason: str, patient: str = "") -> FrameScores:
        """Of a frame in which there is nothing to score."""
        zeros = np.zeros(slices, np.float32)
        return cls(zeros > 0, zeros, zeros, np.zeros((slices, 0), np.float32), patient, reason)

    def candidates(self, image: str) -> list[Candidate]:
        """The slices, or the image as a whole where there are no scores."""
        if self.reason:
            return [Candidate(image, self.patient)]
        seen = np.flatnonzero(self.heart_mm2)
        start, end = (seen[0], seen[-1]) if len(seen) else (0, 0)
        return [
            Candidate(
                image=image,
                patient=self.patient,
                slice=z,
                position=float(np.clip((z - start) / max(end - start, 1), 0, 1)),
                foreground=bool(self.foreground[z]),
                heart_mm2=float(self.heart_mm2[z]),
                disputed_mm2=float(self.disputed_mm2[z]),
                features=self.features[z],
            )
            for z in range(len(self.heart_mm2))
        ]


class Scorer:
    """Scores frames by one model version; networks are loaded when first needed."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        names = segmenter.members[:: -(-len(segmenter.members) // ANSWERS)]
        self._members = [segmenter.member(name) for name in names]
        card = choose(segmenter.version.card.members, segmenter.fast_member)
        self._describer = segmenter.member(card.name)
        self._encoder: Encoder | None = None

    def score(self, study: Study, frame: int = 0, patient: str = "") -> FrameScores:
        """The scores of one frame of a study. Raises ModelError when the model is damaged."""
        located = self.segmenter.locate(study, mirror=False)
        if located.heart is None:
            reason = f"There are no scores: {located.reason}."
            return FrameScores.none(study.grid.shape[2], reason, patient)
        volume = contiguous(study.frames, frame)
        windows = {m.name: m.window(study.grid, located.heart) for m in self._members}
        region = Region.around(list(windows.values()))
        shares = [
            region.restore(member.averaged(volume, windows[member.name], [view], Clock()), window)
            for member, view in self._answers()
            for window in [windows[member.name]]
        ]
        pixel_mm2 = float(np.prod(study.grid.spacing[:2]))
        foreground, heart_mm2, disputed_mm2 = compare(shares, pixel_mm2)
        if not heart_mm2.any():
            reason = "There are no scores: the model labels no heart where it found one."
            return FrameScores.none(study.grid.shape[2], reason, patient)
        describer = self._describer
        window = describer.window(study.grid, located.heart)
        if self._encoder is None:
            self._encoder = Encoder(self.segmenter.version, describer.card)
        features = self._encoder(describer.preparation.prepare(volume, window))
        return FrameScores(foreground, heart_mm2, disputed_mm2, features, patient)

    def _answers(self) -> Iterator[tuple[Member, View]]:
        """Each member as it sees, or the one member in each of its mirrorings."""
        several = len(self._members) > 1
        for member in self._members:
            for view in views(member.card.spec.dimensions, not several, turns=False):
                yield member, view


def compare(
    shares: Sequence[np.ndarray], pixel_mm2: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where answers differ within the heart.

    Args:
        shares: of each answer, probabilities (classes, n, x, y), the background first.
        pixel_mm2: area of a pixel.

    Returns:
        For each of n slices: whether the average labels any structure, bool; the area of the
        heart, and the area of it that two answers label differently, the mean over each two of
        them; float32 in mm2.
    """
    labels = np.stack([largest(share) for share in shares])
    heart = labels.any(0)
    bodies, count = ndimage.label(heart, np.ones((3, 3, 3)))
    if count > 1:
        heart = bodies == np.bincount(bodies[heart]).argmax()
    votes = [np.count_nonzero(labels == value, axis=0) for value in range(len(shares[0]))]
    answers = len(labels)
    equal = sum(number * (number - 1) for number in votes)  # ordered pairs that agree on a voxel
    differ = 1 - equal / max(answers * (answers - 1), 1)
    average = largest(np.sum(shares, axis=0))
    return (
        (heart & (average > 0)).any((1, 2)),
        (pixel_mm2 * heart.sum((1, 2))).astype(np.float32),
        (pixel_mm2 * np.where(heart, differ, 0.0).sum((1, 2))).astype(np.float32),
    )


def write_scores(path: Path, scores: FrameScores, stamp: Sequence[int]) -> None:
    """Keep scores as .npz without pickles, whole or not at all. Raises OutputError.

    stamp: numbers of the image that change with it.
    """
    with atomic_write(path) as temporary:
        np.savez(temporary, schema=SCHEMA_VERSION, stamp=np.array(stamp, np.int64), **vars(scores))


def read_scores(path: Path, stamp: Sequence[int]) -> FrameScores | None:
    """Scores as `write_scores` kept them; None where there are none of the image as it is now.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            if int(kept["schema"]) != SCHEMA_VERSION or kept["stamp"].tolist() != list(stamp):
                return None
            arrays = {
                name: kept[name] for name in ("foreground", "heart_mm2", "disputed_mm2", "features")
            }
            return FrameScores(**arrays, patient=str(kept["patient"]), reason=str(kept["reason"]))
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever numpy and zipfile make of damaged bytes
        raise InputError("is not a file of scores", where=path, remedy="Remove it") from error
