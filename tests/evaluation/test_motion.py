"""Sharpness against a worked-out ramp; scores of graded slices, their table and their figure."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from cinelabel.core.grid import Grid
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.datasets.cmrxmotion import MANNERS
from cinelabel.evaluation.metrics import Score
from cinelabel.evaluation.motion import (
    GradedSlice,
    grade_slices,
    motion_figure,
    motion_table,
    scores_of,
    sharpness,
)
from cinelabel.evaluation.summary import summarise
from cinelabel.phantom.breathing import Manner
from cinelabel.studies.study import Study
from rich.console import Console
from scipy.ndimage import gaussian_filter


def disc() -> np.ndarray:
    x, y = np.mgrid[:64, :64] - 31.5
    return (np.hypot(x, y) < 15).astype(np.uint8)


def test_sharpness_of_a_step_is_half_a_step_a_pixel() -> None:
    # A step between two columns has the central difference 1/2 on both sides of it.
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 1
    found = sharpness(100.0 * labels, labels, (1.0, 2.0))
    assert found == pytest.approx(0.5 / 2.0)


def test_sharpness_falls_with_blur_and_does_not_depend_on_the_scale_of_grey_values() -> None:
    labels = disc()
    image = labels * 200.0
    blurred = [sharpness(gaussian_filter(image, s), labels, (1.5, 1.5)) for s in (0.5, 1.0, 2.0)]
    assert blurred[0] > blurred[1] > blurred[2]
    assert sharpness(7.0 * image + 3.0, labels, (1.5, 1.5)) == pytest.approx(
        sharpness(image, labels, (1.5, 1.5))
    )


def test_a_slice_without_labels_has_no_sharpness() -> None:
    assert sharpness(np.random.default_rng(0).random((8, 8)), np.zeros((8, 8)), (1.0, 1.0)) == 0.0


def drawn_study(seed: int, *, frames: int, manner: Manner) -> SimpleNamespace:
    """A study of two slices, one without an RV, that moved as much as the manner's number says."""
    labels = np.zeros((16, 16, 2, frames), np.uint8)
    labels[2:6, 2:6], labels[8:12, 2:6], labels[2:6, 8:12, 0] = LV.value, MYO.value, RV.value
    grid = Grid((16, 16, 2), np.diag([1.5, 1.5, 8.0, 1.0]))
    study = Study(f"drawn-{seed}", np.float32(50) * labels, grid, is_cine=True, ed=0, es=1)
    entry = {"grade": min(int(manner), 3), "severity_mm": float(manner)}
    return SimpleNamespace(study=study, labels=labels, truth={"slices": [entry, entry]})


class Members:
    """Reads the grey values; member a has no RV and member b finds nothing."""

    def segment(self, study, *, frames, fast, keep_members):
        assert keep_members
        assert frames == [study.ed, study.es]
        truth = (study.frames / 50).round().astype(np.uint8)
        without_rv = np.where(truth == RV.value, 0, truth).astype(np.uint8)
        members = {"a": without_rv} if fast else {"a": without_rv, "b": np.zeros_like(truth)}
        return SimpleNamespace(labels=truth, average_labels=without_rv, member_labels=members)


def test_every_member_the_average_and_the_rest_are_scored_on_the_same_slices(monkeypatch) -> None:
    monkeypatch.setattr("cinelabel.phantom.cohort.make_study", drawn_study)
    slices = grade_slices(Members(), [7, 8])
    scores = scores_of(slices)
    means = {(s.method, s.structure): s.penalised_dice.mean for s in summarise(scores)}
    assert means == {
        **{(method, name): 1.0 for method in ("a", "average") for name in ("LV", "MYO")},
        ("a", "RV"): 0.0,
        ("average", "RV"): 0.0,
        **{("b", name): 0.0 for name in ("LV", "MYO", "RV")},
        **{("post-processed", name): 1.0 for name in ("LV", "MYO", "RV")},
    }
    # two studies, four manners, ED and ES, two slices; one in two has an RV to find
    assert len(slices) == len({score.case for score in scores}) == 32
    assert sum(score.structure == "RV" for score in scores) == 4 * 16
    assert {score.patient for score in scores} == {"drawn-7", "drawn-8"}
    assert [entry.grade for entry in slices[::4][:4]] == [
        "1 mild",
        "2 intermediate",
        "3 severe",
        "3 severe",
    ]
    assert {score.groups["manner"] for score in scores} == set(MANNERS.values())
    fast = scores_of(grade_slices(Members(), [7], fast=True))
    assert {score.method for score in fast} == {"a", "post-processed"}


def graded(grade: str, place: int) -> GradedSlice:
    dice = 0.9 - 0.1 * int(grade[0])
    scores = tuple(
        Score(
            f"p{place}", name, dice, None, None, None, 9.0, method=method, groups={"grade": grade}
        )
        for method in ("one", "two")
        for name in ("LV", "MYO", "RV")
    )
    return GradedSlice(grade, float(grade[0]), 0.1, scores)


def test_a_table_and_a_figure_tell_the_count_and_the_means_of_each_grade(tmp_path) -> None:
    slices = [graded(grade, place) for grade in ("1 mild", "3 severe") for place in range(3)]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(motion_table(slices))
    lines = captured.get().splitlines()
    assert [line.split("│")[2].strip() for line in lines if "│" in line] == ["3", "0", "3"]
    assert "3.00 ± 0.00" in next(line for line in lines if "severe" in line)
    motion_figure(tmp_path / "grades.png", slices, title="test")
    assert (tmp_path / "grades.png").read_bytes().startswith(b"\x89PNG")
