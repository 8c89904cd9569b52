"""Segment labelled cases of a data set and score them: the use shared by tests and tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cinelabel.datasets import Case, load_case
from cinelabel.evaluation.metrics import Score, score_labels

if TYPE_CHECKING:
    from cinelabel.segmentation import Segmentation, Segmenter
    from cinelabel.studies.study import Study


@dataclass(frozen=True, eq=False)
class CaseResult:
    """A segmented case: the study, what was found, the truth if there is one, and its scores."""

    case: Case
    study: Study
    segmentation: Segmentation
    truth: np.ndarray | None
    scores: tuple[Score, ...]


def segment_case(segmenter: Segmenter, case: Case, *, distances: bool = True) -> CaseResult:
    """Segment one case and score it where it has a label.

    Only the structures and slices that the set annotates are scored. Raises as `load_case`.
    """
    study, truth = load_case(case)
    segmentation = segmenter.segment(study)
    scores: list[Score] = []
    if truth is not None:
        labels = segmentation.labels if truth.ndim == 4 else segmentation.labels[..., 0]
        scores = score_labels(
            labels,
            truth,
            study.grid,
            case=case.name,
            structures=case.structures,
            scored_slices=case.scored_slices,
            distances=distances,
            group=case.set,
        )
    return CaseResult(case, study, segmentation, truth, tuple(scores))


def segment_cases(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    distances: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[CaseResult]:
    """`segment_case` for each; `progress` is told cases done, cases in all and the name."""
    results = []
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number, len(cases), case.name)
        results.append(segment_case(segmenter, case, distances=distances))
    if progress is not None:
        progress(len(cases), len(cases), "done")
    return results
