"""Segment labelled cases of a data set and score them: the use shared by tests and tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.datasets import Case, load_case
from cinelabel.evaluation.groups import of_case
from cinelabel.evaluation.metrics import Score, score_labels

if TYPE_CHECKING:
    from cinelabel.segmentation import Segmentation, Segmenter
    from cinelabel.studies.study import Study

AVERAGE = "average"
POSTPROCESSED = "post-processed"
"""The members' average before and after post-processing, as methods beside each member."""


@dataclass(frozen=True, eq=False)
class CaseResult:
    """A segmented case: the study, what was found, the truth if there is one, and its scores."""

    case: Case
    study: Study
    segmentation: Segmentation
    truth: np.ndarray | None
    scores: tuple[Score, ...]


def segment_case(
    segmenter: Segmenter,
    case: Case,
    *,
    method: str = "",
    each_member: bool = False,
    fast: bool = False,
    distances: bool = True,
) -> CaseResult:
    """Segment one case and score it where it has a label.

    Only the structures and slices that the set annotates are scored. Raises as `load_case`.

    Args:
        segmenter: a model version.
        case: of any data set.
        method: how scores name it.
        each_member: score what `predictions_of` tells apart, each under its own name.
        fast: one member, without mirroring.
        distances: also HD95 and ASSD.
    """
    study, truth = load_case(case)
    segmentation = segmenter.segment(study, fast=fast, keep_members=each_member)
    scores: list[Score] = []
    if truth is not None:
        predictions = predictions_of(segmentation) if each_member else {method: segmentation.labels}
        for name, labels in predictions.items():
            scores += _scores(case, study, labels, truth, name, distances)
    return CaseResult(case, study, segmentation, truth, tuple(scores))


def segment_cases(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    method: str = "",
    each_member: bool = False,
    fast: bool = False,
    distances: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Iterator[CaseResult]:
    """`segment_case` for each, one after the other, so that only one study is held in memory.

    progress: is told cases done, cases in all and the name.
    """
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number, len(cases), case.name)
        yield segment_case(
            segmenter, case, method=method, each_member=each_member, fast=fast, distances=distances
        )
    if progress is not None:
        progress(len(cases), len(cases), "done")


def predictions_of(segmentation: Segmentation) -> Mapping[str, np.ndarray]:
    """Labels (x, y, z, t) of each member alone, of their average, and of it post-processed.

    Members and average are before post-processing; a single member is its own average and is not
    repeated. The segmentation was made with `keep_members`.
    """
    found = dict(segmentation.member_labels or {})
    if len(found) > 1 and segmentation.average_labels is not None:
        found[AVERAGE] = segmentation.average_labels
    return {**found, POSTPROCESSED: segmentation.labels}


def _scores(
    case: Case, study: Study, labels: np.ndarray, truth: np.ndarray, method: str, distances: bool
) -> list[Score]:
    scores = score_labels(
        labels if truth.ndim == 4 else labels[..., 0],
        truth,
        study.grid,
        case=case.name,
        structures=case.structures,
        scored_slices=case.scored_slices,
        distances=distances,
    )
    told = of_case(case)
    return [replace(s, method=method, patient=told.patient, groups=told.groups) for s in scores]
