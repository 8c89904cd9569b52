"""A slice put together line by line: what is still stays, what moves is told by its truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cinelabel.phantom.acquisition import Scanner
from cinelabel.phantom.breathing import Manner, SliceMotion, sample_motion, still
from cinelabel.phantom.cohort import sample_subject
from cinelabel.phantom.rendering import Subject, plane
from cinelabel.phantom.scanning import (
    SlicePose,
    _seen,
    acquired_lines,
    contraction_at,
    scan_slice,
    seen_background,
)
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

QUIET = Scanner(resolution=(1.6, 1.6), phase_axis=0)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return sample_subject(np.random.default_rng(4), "normal")


def slice_at(subject: Subject, centre: tuple[float, float] = (0.0, 0.0), size: int = 128):
    view = plane((size, size), 1.5, centre)
    return SlicePose(view, 0.55 * subject.heart.length_ed, 8.0)


def scanned(subject: Subject, motion: SliceMotion | None, **changes: object) -> np.ndarray:
    found = scan_slice(
        subject, QUIET, slice_at(subject), [0.0], np.random.default_rng(0), motion=motion, **changes
    )
    return found.images[0]


def test_a_perfect_hold_through_the_machinery_of_motion_equals_no_motion(subject: Subject) -> None:
    sharp = scanned(subject, None)
    np.testing.assert_allclose(scanned(subject, still(60)), sharp, atol=2e-3 * sharp.max())


def test_contraction_is_0_at_the_r_wave_1_at_end_systole_and_periodic() -> None:
    assert contraction_at(0.0) == 0.0
    assert contraction_at(0.36) == pytest.approx(1.0)
    np.testing.assert_allclose(contraction_at([0.2, 0.7]), contraction_at([1.2, -0.3]))


def test_only_lines_within_the_acquired_resolution_are_counted() -> None:
    # 128 pixels of 1.5 mm at 3 mm resolution: frequencies up to 32 of 64, both signs and zero.
    found = acquired_lines((128, 128), 1.5, Scanner(resolution=(3.0, 1.5)))
    assert found[0] == 64 - 32
    assert len(found) == 65


def test_a_heart_that_rises_towards_its_base_is_seen_nearer_to_its_apex(subject: Subject) -> None:
    """The in-plane part lies along the image axes, the rest changes the height that is seen."""
    axes = subject.thorax.heart_axes
    lines = len(acquired_lines((128, 128), 1.5, QUIET))
    for moves, expected in (
        (axes[:, 2], (0.0, 0.0, -1.0)),
        (axes[:, 0], (0.0, -1.0, 0.0)),
        (axes[:, 1], (1.0, 0.0, 0.0)),
    ):
        motion = still(lines)
        drift = tuple(float(v) for v in moves)
        motion = replace(motion, respiration=replace(motion.respiration, drift_mm_s=drift))
        pose = replace(slice_at(subject), view=plane((128, 128), 1.5, turn=np.pi / 2))
        seen = _seen(motion, 0.0, pose, subject, QUIET)
        moved = np.column_stack([seen.in_plane, seen.through])
        elapsed = motion.states(0.0, lines)[0]
        first = acquired_lines((128, 128), 1.5, QUIET)[0]
        speed = np.polyfit(elapsed, moved[first : first + lines], 1)[0]
        np.testing.assert_allclose(speed, expected, atol=1e-4)


def test_a_registered_slice_shift_equals_the_true_one(subject: Subject) -> None:
    """A heart held 4.5 mm and -3 mm away along the image axes is found there by registration."""
    rng = np.random.default_rng
    fixed = scan_slice(subject, QUIET, slice_at(subject), [0.0], rng(0)).images[0]
    for shift in ((4.5, -3.0), (-2.2, 5.1)):
        moved = scan_slice(
            subject, QUIET, slice_at(subject, (-shift[0], -shift[1])), [0.0], rng(0)
        ).images[0]
        window = np.hanning(128)[:, None] * np.hanning(128)
        found, _, _ = phase_cross_correlation(
            gaussian_filter(moved, 1) * window,
            gaussian_filter(fixed, 1) * window,
            upsample_factor=20,
            normalization=None,
        )
        np.testing.assert_allclose(1.5 * found, shift, atol=0.6)


def test_worse_manners_move_pictures_further_from_the_still_one(subject: Subject) -> None:
    sharp = scanned(subject, None)
    errors = []
    for manner in (Manner.FULL_HOLD, Manner.FREE, Manner.INTENSIVE):
        draws = [sample_motion(np.random.default_rng(s), manner, n_lines=60) for s in range(6)]
        errors.append(np.mean([np.abs(scanned(subject, m) - sharp).mean() for m in draws]))
    assert errors[0] < errors[1] < errors[2]


def test_severe_motion_is_graded_worse_than_none(subject: Subject) -> None:
    motion = sample_motion(np.random.default_rng(1), Manner.INTENSIVE, n_lines=60)
    pose = slice_at(subject)
    rng = np.random.default_rng
    calm = scan_slice(subject, QUIET, pose, [0.0], rng(0), motion=still(60), judge=(0,))
    wild = scan_slice(subject, QUIET, pose, [0.0], rng(0), motion=motion, judge=(0,))
    assert calm.grade == 1
    assert wild.grade > 1
    assert wild.effect > calm.effect
    assert wild.severity_mm > calm.severity_mm == pytest.approx(0.0, abs=1e-6)


def test_what_lies_beyond_the_field_of_view_folds_to_the_other_side(subject: Subject) -> None:
    pose = slice_at(subject, size=96)
    plain = seen_background(subject, Scanner(phase_axis=0), pose)
    folded = seen_background(subject, Scanner(phase_axis=0, wrap_mm=30.0), pose)
    wide = plane((136, 96), 1.5)
    beyond = seen_background(subject, Scanner(phase_axis=0), SlicePose(wide, pose.height, 8.0))
    np.testing.assert_allclose(
        (folded.signal - plain.signal)[-20:], beyond.signal[:20], atol=0.05 * plain.signal.max()
    )
    np.testing.assert_array_equal(folded.signal[20:-20], plain.signal[20:-20])
