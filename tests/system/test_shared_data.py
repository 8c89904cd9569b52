"""The bundled model on a few real volumes, where they are at hand: ED and ES of five subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cinelabel import datasets
from cinelabel.evaluation.report import cases_table, summary_table
from cinelabel.evaluation.summary import summarise
from cinelabel.learning.judging import moved_by
from rich.console import Console

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SETS = ("acdc", "mnms", "sunnybrook")
PROMISED = ("acdc", "mnms")  # Sunnybrook contours no RV, and MYO at ED alone: printed, not promised
LEAST_DICE = {"LV": 0.80, "MYO": 0.65, "RV": 0.60}

TURNS = 0.4 + np.pi / 2 * np.arange(4)  # directions, none along an axis
LEAST_CAUGHT = 50

pytestmark = pytest.mark.skipif(
    not all((DATA / name).is_dir() for name in SETS),
    reason="the real volumes of ../shared/data are not here",
)


@pytest.fixture(scope="module")
def results():
    from cinelabel.evaluation.runs import segment_cases
    from cinelabel.segmentation import Segmenter

    cases = [case for name in SETS for case in datasets.cases(name, DATA / name)]
    return list(segment_cases(Segmenter.load(), cases))


def test_every_study_has_a_heart(results):
    reasons = {r.case.name: r.segmentation.reason for r in results}
    assert [name for name, reason in reasons.items() if reason is not None] == []


def test_mean_dice_of_the_real_cases_is_at_least_what_is_promised(results, capsys):
    every = [score for result in results for score in result.scores]
    scores = [score for score in every if score.groups["set"] in PROMISED]
    with capsys.disabled():
        console = Console(width=120)
        console.print()
        console.print(cases_table(every))
        console.print(summary_table(summarise(scores)))
        console.print(summary_table(summarise([s for s in every if s not in scores])))
    # an empty prediction counts as 0 here
    means = {summary.structure: summary.penalised_dice.mean for summary in summarise(scores)}
    assert {name: mean for name, mean in means.items() if mean < LEAST_DICE[name]} == {}


def test_labels_are_called_moved_when_they_lie_20_mm_beside_the_heart_and_not_before(capsys):
    from cinelabel.segmentation import Segmenter

    segmenter, as_they_are, caught = Segmenter.load(), [], []
    for case in (case for name in SETS for case in datasets.cases(name, DATA / name) if case.label):
        study, labels = datasets.load_case(case)[:2]
        labels = labels if labels.ndim == 3 else labels[..., 0]
        seen = segmenter.segment(study, frames=[0], fast=True).labels[..., 0]
        if moved_by(labels, seen, study.grid) is not None:
            as_they_are.append(case.name)
        for turn in TURNS:
            steps = np.round(20 * np.array([np.cos(turn), np.sin(turn)]) / study.grid.spacing[:2])
            moved = np.roll(labels, steps.astype(int), (0, 1))
            caught.append(moved_by(moved, seen, study.grid) is not None)
    with capsys.disabled():
        print(f"\nmoved by 20 mm and called so: {sum(caught)} of {len(caught)} real labels")
    assert as_they_are == []
    assert sum(caught) >= LEAST_CAUGHT
