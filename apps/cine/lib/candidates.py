"""What strategies choose from: the cases as slices, with their scores by the model in use."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from cinelabel.active.scores import FrameScores
from cinelabel.active.strategies import Candidate
from cinelabel.core.errors import CineLabelError
from cinelabel.core.pseudonyms import pseudonym
from cinelabel.core.review import ReviewRecord
from cinelabel.labelstore import LabelStore
from cinelabel.models.store import ModelStore
from cinelabel.serving.scores import Scores
from cinelabel.serving.train import patient_of
from cinelabel.studies.cases import Case
from cinelabel.studies.catalogue import Catalogue

from lib.http.errors import without_paths

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """What a choice is made from.

    Attributes:
        waiting: slices of images that wait, and images without scores.
        labelled: the same of images with a label.
        remarks: what else is to be said of it, in sentences.
    """

    waiting: Sequence[Candidate]
    labelled: Sequence[Candidate]
    remarks: Sequence[str]


@dataclass(frozen=True)
class Known:
    """What is known of one image.

    Attributes:
        model: the version in use, None where it cannot be told.
        scores: of the image by that version, None where there are none.
        remark: why there are none, a sentence; else empty.
        review: of its study.
    """

    model: str | None
    scores: FrameScores | None
    remark: str
    review: ReviewRecord | None


class Candidates:
    """Brings together catalogue, labels, reviews and scores; several threads may use it.

    Args:
        catalogue: of the cases.
        labels: of the workspace.
        scores: of the workspace.
        model: version that is served, None for the one that is current.
    """

    def __init__(
        self, catalogue: Catalogue, labels: LabelStore, scores: Scores, model: str | None
    ) -> None:
        self._catalogue = catalogue
        self._labels = labels
        self._scores = scores
        self._model = model

    def pool(self, images: Collection[str]) -> Pool:
        """The slices of images that wait, but for unfit ones, and those that are labelled.

        What has no scores yet is had computed in the background.
        """
        cases, done = self._catalogue.cases(), self._labelled()
        version, standing = self._require(done)
        taught = [case for case in cases if case.image_id in done]
        labelled = [candidate for case in taught for candidate in self._slices(case, version)]
        waiting: list[Candidate] = []
        left_out: Counter[str] = Counter()
        unscored = 0
        for _, group in groupby(cases, key=lambda case: case.study):
            wanted = [case for case in group if case.image_id in images]
            review = self._review(wanted[0].study) if wanted else None
            for case in wanted:
                slices = self._slices(case, version)
                fit = [c for c in slices if review is None or review.unfit(c.slice) is None]
                waiting += fit
                unscored += any(candidate.slice is None for candidate in fit)
                if review is not None and not fit:
                    left_out[review.unfit() or "excluded slice by slice"] += 1
        remarks = [
            f"{_images(count)} left out, being {why}." for why, count in sorted(left_out.items())
        ]
        if unscored and version is not None:
            remarks.append(f"{_images(unscored)} without scores by {version}.")
        return Pool(waiting, labelled, [*remarks, *filter(None, [standing])])

    def known(self, case: Case) -> Known:
        """What is known of an image; scores that are missing are had computed."""
        version, standing = self._require(self._labelled(), {case.image_id})
        found = self._find(case, version)
        if found is not None:
            remark = found.reason
        else:
            remark = f"There are no scores by {version} yet. {standing}" if version else standing
        return Known(version, found, remark, self._review(case.study))

    def _require(
        self, labelled: Collection[str], first: Collection[str] = ()
    ) -> tuple[str | None, str]:
        """The version in use, and how its scores stand."""
        try:
            version = self._model or ModelStore().current()
            return version, self._scores.require(version, self._catalogue, labelled, first)
        except CineLabelError as error:  # choosing goes on without scores
            return None, f"There are no scores: {without_paths(str(error))}"

    def _labelled(self) -> set[str]:
        states = self._labels.states()
        return {image for image, case in states.items() if case.state == "labelled"}

    def _review(self, study: str) -> ReviewRecord | None:
        try:
            found = self._labels.review(study)
        except CineLabelError as error:  # a damaged one says nothing
            logger.warning("The review of study %s: %s", pseudonym(study), error.problem)
            return None
        return None if found is None else found.record

    def _slices(self, case: Case, version: str | None) -> list[Candidate]:
        found = self._find(case, version)
        return (
            [Candidate(case.image_id, _patient(case))]
            if found is None
            else found.candidates(case.image_id)
        )

    def _find(self, case: Case, version: str | None) -> FrameScores | None:
        if version is None:
            return None
        return self._scores.find(version, case.image_id, self._catalogue.image_path(case.image_id))


def _patient(case: Case) -> str:
    """As the scores tell it; a study that cannot be read stands for itself."""
    try:
        return patient_of(case)
    except CineLabelError:
        return case.study


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"
