"""Whole studies: reproducible, labelled by the readers' rules, written with their truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.core.measures import find_ed_es, volume_curve_ml
from cinelabel.phantom.cohort import PhantomStudy, make_study
from cinelabel.phantom.cohort import StackGeometry, contraction_curve

SMALL = StackGeometry(size=(112, 104), pixel=2.2, spacing=10.0, thickness=8.0, turn=0.4)


@pytest.fixture(scope="module")
def made() -> PhantomStudy:
    return make_study(7, frames=5, group="normal", geometry=SMALL, breathing_share=0.5)


def test_the_same_seed_gives_the_same_study_and_another_seed_another(made: PhantomStudy) -> None:
    again = make_study(7, frames=5, group="normal", geometry=SMALL, breathing_share=0.5)
    other = make_study(8, frames=5, group="normal", geometry=SMALL, breathing_share=0.5)
    assert np.array_equal(made.study.frames, again.study.frames)
    assert np.array_equal(made.labels, again.labels)
    assert made.study.frames.shape != other.study.frames.shape or not np.array_equal(
        made.study.frames, other.study.frames
    )


def test_ed_and_es_of_the_truth_are_the_largest_and_smallest_cavity(made: PhantomStudy) -> None:
    curve = volume_curve_ml(made.labels, made.study.grid, LV)
    assert find_ed_es(curve) == (made.study.ed, made.study.es)


def test_the_stack_reaches_beyond_apex_and_base(made: PhantomStudy) -> None:
    labelled = made.labels[..., 0].any((0, 1))
    assert not labelled[0]
    assert not labelled[-1]
    assert labelled.sum() >= 5


def test_the_right_ventricle_is_never_drawn_without_the_left(made: PhantomStudy) -> None:
    left = np.isin(made.labels, (LV.value, MYO.value)).any((0, 1))
    right = (made.labels == RV.value).any((0, 1))
    assert not np.any(right & ~left)


def test_labels_fit_the_picture_blood_is_brighter_than_muscle(made: PhantomStudy) -> None:
    frames = made.study.frames
    assert frames[made.labels == LV.value].mean() > 1.2 * frames[made.labels == MYO.value].mean()


def test_half_of_the_slices_have_a_failed_breath_hold_and_the_truth_says_which(
    made: PhantomStudy,
) -> None:
    moved = [entry["breathing_mm"] > 0 for entry in made.truth["slices"]]
    assert any(moved)
    assert not all(moved)


def test_a_cycle_starts_at_ed_and_contracts_fully_once() -> None:
    curve = contraction_curve(20)
    assert curve[0] == 0.0
    assert curve.max() == pytest.approx(1.0, abs=0.02)
    assert curve[-1] < 0.05


def test_a_study_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="one frame"):
        make_study(0, frames=0)
