"""Whole studies: reproducible, placed in a body, labelled by the readers' rules, with truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.core.measures import find_ed_es, volume_curve_ml
from cinelabel.phantom.breathing import Manner
from cinelabel.phantom.cohort import (
    PhantomStudy,
    StackGeometry,
    StudyPlan,
    _take_slice,
    make_study,
    plan_study,
)
from cinelabel.phantom.rendering import Background, Plane, plane, render

SMALL = StackGeometry(size=(112, 104), pixel=2.2, spacing=10.0, thickness=8.0, turn=0.4)
FINE = StackGeometry(size=(256, 256), pixel=0.9, spacing=12.0, thickness=8.0, base_first=True)
TURNED = StackGeometry(
    size=(112, 104), pixel=2.0, spacing=10.0, turn=2.2, mirrored=True, base_first=True
)


def small_study(seed: int = 7, **changes: object) -> PhantomStudy:
    settings = {"frames": 5, "group": "normal", "geometry": SMALL, "manner": Manner.FULL_HOLD}
    return make_study(seed, **{**settings, **changes})


@pytest.fixture(scope="module")
def made() -> PhantomStudy:
    return small_study()


@pytest.fixture(scope="module")
def breathing() -> PhantomStudy:
    return small_study(frames=2, manner=Manner.INTENSIVE)


def test_the_same_seed_gives_the_same_study_and_another_seed_another(made: PhantomStudy) -> None:
    again, other = small_study(), small_study(8)
    assert np.array_equal(made.study.frames, again.study.frames)
    assert np.array_equal(made.labels, again.labels)
    assert made.truth == again.truth
    assert made.study.frames.shape != other.study.frames.shape or not np.array_equal(
        made.study.frames, other.study.frames
    )


def test_ed_and_es_of_the_truth_are_the_largest_and_smallest_cavity(made: PhantomStudy) -> None:
    curve = volume_curve_ml(made.labels, made.study.grid, LV)
    assert find_ed_es(curve) == (made.study.ed, made.study.es)


def test_stacks_that_miss_nothing_reach_beyond_apex_and_base() -> None:
    plans = [plan_study(seed) for seed in range(20)]
    whole = [plan for plan in plans if not any(plan.coverage.values())]
    assert len(whole) > 10
    for plan in whole:
        assert min(plan.heights) < -plan.subject.heart.wall_apex
        assert max(plan.heights) > plan.subject.heart.length_ed - plan.geometry.spacing


def test_the_right_ventricle_is_never_drawn_without_the_left(made: PhantomStudy) -> None:
    left = np.isin(made.labels, (LV.value, MYO.value)).any((0, 1))
    right = (made.labels == RV.value).any((0, 1))
    assert not np.any(right & ~left)


def test_labels_fit_the_picture_blood_is_brighter_than_muscle(made: PhantomStudy) -> None:
    frames = made.study.frames
    assert frames[made.labels == LV.value].mean() > 1.2 * frames[made.labels == MYO.value].mean()


def test_volumes_from_labels_equal_those_of_the_continuous_anatomy_within_partial_volume() -> None:
    geometry = StackGeometry(size=(160, 160), pixel=1.5, spacing=5.0, thickness=5.0)
    for seed in (1, 2, 3):
        found = small_study(seed, frames=3, geometry=geometry, manner=Manner.FULL_HOLD)
        curve = volume_curve_ml(found.labels, found.study.grid, LV)
        truth = found.truth["anatomy"]
        ejected = 100.0 * (1.0 - curve[1] / curve[0])
        assert curve[0] == pytest.approx(truth["LV_EDV_ml"], rel=0.12)
        assert ejected == pytest.approx(truth["LV_EF_percent"], abs=7.0)


def test_the_grid_places_the_stack_in_the_body_apex_to_the_left_front_and_below(
    made: PhantomStudy,
) -> None:
    towards_base = made.study.grid.affine[:3, 2] * (-1.0 if SMALL.base_first else 1.0)
    right, anterior, superior = towards_base / np.linalg.norm(towards_base)
    assert right > 0.2
    assert anterior < -0.2
    assert superior > 0.1


def planned_view(plan: StudyPlan) -> Plane:
    geometry = plan.geometry
    return plane(geometry.size, geometry.pixel, plan.middle, geometry.turn, geometry.mirrored)


@pytest.mark.parametrize("geometry", [SMALL, TURNED])
def test_labels_lie_the_true_shift_from_where_the_slice_was_planned(
    geometry: StackGeometry,
) -> None:
    found = small_study(11, frames=1, geometry=geometry, manner=Manner.HALF_HOLD)
    plan = plan_study(11, group="normal", geometry=geometry)
    view = planned_view(plan)
    nothing = Background(np.zeros(geometry.size, np.float32), np.ones(geometry.size, np.float32))
    moved, true = [], []
    for z, entry in enumerate(found.truth["slices"]):
        at = entry["height_mm"] + entry["through_mm"]
        planned = render(plan.subject, view, at, geometry.thickness, 0.0, nothing)[1]
        seen = found.labels[:, :, z, 0]
        if (planned == LV.value).sum() > 50:
            centres = [np.argwhere(np.isin(one, (1, 2))).mean(0) for one in (planned, seen)]
            moved.append(geometry.pixel * (centres[1] - centres[0]))
            true.append(entry["shift_mm"])
    assert len(true) > 4
    assert np.abs(true).max() > 1.5
    np.testing.assert_allclose(moved, true, atol=0.5)


@pytest.mark.parametrize("geometry", [SMALL, TURNED])
def test_the_grid_places_the_labelled_ventricle_on_the_long_axis_in_the_body(
    geometry: StackGeometry,
) -> None:
    found = small_study(11, frames=1, geometry=geometry)
    subject = plan_study(11, group="normal", geometry=geometry).subject
    heart, thorax = subject.heart, subject.thorax
    checked = 0
    for z, entry in enumerate(found.truth["slices"]):
        left = np.isin(found.labels[:, :, z, 0], (LV.value, MYO.value))
        if not left.any() or entry["height_mm"] > 0.7 * heart.length_ed:
            continue
        held = np.argwhere(left).mean(0) - np.array(entry["shift_mm"]) / geometry.pixel
        in_body = found.study.grid.affine @ [*held, z, 1.0]
        rise = entry["height_mm"] - 0.5 * heart.length_ed
        tilt = np.array(heart.axis_tilt) * (rise + entry["through_mm"])
        axis = thorax.heart_centre + thorax.heart_axes @ [*tilt, rise]
        assert np.linalg.norm(in_body[:3] - axis) < 4.0
        checked += 1
    assert checked > 3


def test_trigger_times_are_those_of_every_slice(made: PhantomStudy) -> None:
    (interval_s,) = {motion.timing.mean_interval_s for motion in made.motions}
    expected = 1000.0 * interval_s * np.arange(5) / 5
    np.testing.assert_allclose(made.study.trigger_times_ms, expected, atol=0.06)


def test_the_acquired_matrix_and_the_picture_share_their_first_pixel_and_their_field() -> None:
    plan = plan_study(5, geometry=FINE)
    taken = _take_slice(plan, 40.0, Manner.FULL_HOLD, np.random.default_rng(0))
    coarse, fine = taken.pose.view, taken.final
    assert coarse.x.shape[0] < fine.x.shape[0] == plan.scanner.zero_fill == 256
    assert coarse.x.shape[0] * coarse.pixel == pytest.approx(256 * 0.9)
    np.testing.assert_allclose(coarse.x[0, 0], fine.x[0, 0], atol=1e-3)
    np.testing.assert_allclose(coarse.y[0, 0], fine.y[0, 0], atol=1e-3)
    assert plan_study(5, geometry=SMALL).scanner.zero_fill is None


def test_zero_filling_keeps_labels_on_the_picture() -> None:
    """Blood stays inside and muscle round it to half a pixel of the acquired matrix."""
    found = small_study(5, frames=1, geometry=FINE)
    image, labels = found.study.frames[..., 0], found.labels[..., 0]
    assert image.shape[:2] == (256, 256)
    middle = int(np.argmax((labels == LV.value).sum((0, 1))))
    cavity = labels[:, :, middle] == LV.value
    shifts = [(dx, dy) for dx in range(-6, 7, 2) for dy in range(-6, 7, 2)]
    contrast = {
        shift: image[:, :, middle][np.roll(cavity, shift, (0, 1))].mean() for shift in shifts
    }
    best = max(contrast, key=contrast.__getitem__)
    assert np.hypot(*best) <= 3.0


def test_breathing_studies_are_graded_worse_than_held_ones(
    made: PhantomStudy, breathing: PhantomStudy
) -> None:
    assert made.truth["grade"] < breathing.truth["grade"]
    worst = max(entry["severity_mm"] for entry in made.truth["slices"])
    assert np.median([entry["severity_mm"] for entry in breathing.truth["slices"]]) > worst


def test_the_truth_is_json_with_a_trace_for_every_slice(breathing: PhantomStudy) -> None:
    truth = json.loads(json.dumps(breathing.truth))
    assert truth["manner"] == "intensive"
    for entry in truth["slices"]:
        trace = entry["trace"]
        assert len(trace["time_s"]) == len(trace["displacement_ras_mm"]) > 10
        assert len(trace["displacement_ras_mm"][0]) == 3


def test_stacks_have_6_to_20_slices_and_say_which_end_they_miss() -> None:
    missed = {"apex_missing": 0, "base_missing": 0}
    for seed in range(80):
        plan = plan_study(seed)
        assert 6 <= len(plan.heights) <= 20
        for end in missed:
            missed[end] += plan.coverage[end]
    assert 0 < missed["apex_missing"] < 20
    assert 0 < missed["base_missing"] < 20


def test_a_protocol_replaces_what_was_drawn_of_the_scanner_and_nothing_else() -> None:
    drawn, given = plan_study(7), plan_study(7, protocol={"noise": 0.2, "gamma": 0.5})
    assert (given.scanner.noise, given.scanner.gamma) == (0.2, 0.5)
    assert given.scanner.coils == drawn.scanner.coils
    assert (given.heights, given.geometry) == (drawn.heights, drawn.geometry)


def test_a_protocol_that_no_scanner_has_is_refused() -> None:
    with pytest.raises(InputError, match="no scanner has this protocol.*partial_fourier"):
        plan_study(7, protocol={"partial_fourier": 0.2})


def test_bad_arguments_are_refused_with_a_sentence() -> None:
    with pytest.raises(InputError, match="one frame"):
        make_study(0, frames=0)
    with pytest.raises(InputError, match="group"):
        make_study(0, group="nobody")
