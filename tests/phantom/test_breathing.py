"""Breathing and triggering: directions, paths, orders of lines, replay, grades."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from cinelabel.phantom.breathing import (
    Breath,
    Habit,
    LineOrder,
    Manner,
    Respiration,
    SliceMotion,
    Timing,
    cardiac_phase,
    grade,
    line_energy,
    motion_effect,
    motion_severity,
    sample_habit,
    sample_motion,
    sample_timing,
    still,
    study_grade,
)

HABIT = Habit(10.0, 4.0, 2.0, 0.25, 0.05, 0.1, 0.002)
TIMING = Timing((1.0,) * 8, 1.0, (0.0,) * 8, 0.04, 16, LineOrder.INTERLEAVED)


def severities(manner: Manner, count: int = 60) -> np.ndarray:
    motions = [sample_motion(np.random.default_rng(s), manner) for s in range(count)]
    return np.array([motion_severity(m.states(0.3, 128)[1]) for m in motions])


def test_a_breath_goes_down_by_its_depth_and_comes_back() -> None:
    breathing = Respiration(HABIT, (Breath(1.0, 4.0, 10.0),))
    moved = breathing.displacement(np.linspace(0.0, 6.0, 601))
    assert moved[:, 2].min() == pytest.approx(-10.0, abs=0.01)
    np.testing.assert_allclose(moved[[0, 100, 500, 600]], 0.0, atol=1e-6)
    deepest = moved[moved[:, 2].argmin()]
    np.testing.assert_allclose(deepest, [0.5, 2.5, -10.0], atol=0.02)
    assert breathing.rotation_rad(np.array([0.0, 1.0 + 0.42 * 4.0])) == pytest.approx([0.0, 0.02])


def test_inspiration_and_expiration_take_different_paths() -> None:
    breathing = Respiration(HABIT, (Breath(0.0, 4.0, 10.0),))
    straight = Respiration(replace(HABIT, hysteresis=0.0), (Breath(0.0, 4.0, 10.0),))
    times = np.linspace(0.0, 4.0, 401)

    def width(respiration: Respiration) -> float:
        """Largest difference of the anterior position at the same height."""
        moved = respiration.displacement(times)
        turn = int(moved[:, 2].argmin())
        heights = np.linspace(-9.0, -1.0, 17)
        down = np.interp(heights, moved[turn::-1, 2], moved[turn::-1, 1])
        up = np.interp(heights, moved[turn:, 2], moved[turn:, 1])
        return float(np.abs(down - up).max())

    assert width(straight) == pytest.approx(0.0, abs=0.02)
    assert width(breathing) > 0.5


def test_more_time_is_spent_at_end_expiration_than_at_end_inspiration() -> None:
    breathing = Respiration(HABIT, (Breath(0.0, 4.0, 10.0),))
    height = breathing.displacement(np.linspace(0.0, 4.0, 401))[:, 2]
    assert (height > -2.0).sum() > 2 * (height < -8.0).sum()


def test_a_held_breath_that_is_let_out_rises_by_its_depth() -> None:
    released = Respiration(HABIT, hold_depth_mm=8.0, release_s=3.0, release_duration_s=1.0)
    height = released.displacement(np.array([0.0, 3.0, 3.5, 4.0, 9.0]))[:, 2]
    np.testing.assert_allclose(height, [0.0, 0.0, 4.0, 8.0, 8.0], atol=1e-9)


def test_a_drift_is_steady() -> None:
    drifting = Respiration(HABIT, drift_mm_s=(0.0, 0.1, -0.5))
    moved = drifting.displacement(np.array([0.0, 2.0, 4.0]))
    np.testing.assert_allclose(moved, [[0, 0, 0], [0, 0.2, -1.0], [0, 0.4, -2.0]], atol=1e-12)


@pytest.mark.parametrize("order", list(LineOrder))
@pytest.mark.parametrize("n_lines", [37, 128])
def test_every_line_has_a_heartbeat_and_every_heartbeat_about_as_many_lines(
    order: LineOrder, n_lines: int
) -> None:
    beat, place = replace(TIMING, order=order).beat_of_line(n_lines)
    assert beat.shape == place.shape == (n_lines,)
    assert np.ptp(np.bincount(beat, minlength=8)) <= 1
    assert np.abs(place).max() <= 0.5


def test_orders_deal_lines_as_their_names_say() -> None:
    interleaved, _ = TIMING.beat_of_line(64)
    sequential, _ = replace(TIMING, order=LineOrder.SEQUENTIAL).beat_of_line(64)
    centric, _ = replace(TIMING, order=LineOrder.CENTRIC).beat_of_line(64)
    np.testing.assert_array_equal(interleaved, np.arange(64) % 8)
    np.testing.assert_array_equal(sequential, np.arange(64) // 8)
    assert set(centric[28:36].tolist()) == {0}
    assert centric[0] == centric[63] == 7


def test_at_an_even_rhythm_lines_see_the_frame_they_are_meant_for() -> None:
    motion = SliceMotion(Manner.FULL_HOLD, Respiration(HABIT), replace(TIMING, segment_s=0.0))
    times, _, _, phases = motion.states(0.4, 64)
    np.testing.assert_allclose(phases, 0.4, atol=1e-9)
    np.testing.assert_allclose(times, np.arange(64) % 8 + 0.4, atol=1e-9)


def test_a_segment_spreads_the_phase_by_its_duration() -> None:
    motion = SliceMotion(Manner.FULL_HOLD, Respiration(HABIT), TIMING)
    phases = motion.states(0.2, 64)[3]
    assert np.ptp(phases) == pytest.approx(0.04 * 7 / 8, rel=0.02)


def test_a_late_trigger_and_an_early_heartbeat_see_other_phases() -> None:
    motion = SliceMotion(
        Manner.FULL_HOLD,
        Respiration(HABIT),
        replace(
            TIMING,
            segment_s=0.0,
            retrospective=False,
            delays_s=(0.3,) + (0.0,) * 7,
            intervals_s=(1.0, 0.6, 1.4) + (1.0,) * 5,
        ),
    )
    early = motion.states(0.1, 64)[3]
    assert early[0] > 0.35
    np.testing.assert_allclose(early[3::8], 0.1, atol=1e-9)
    late = motion.states(0.8, 64)[3]
    assert late[1] < 0.3  # the short heartbeat was over: this is the next systole
    assert 0.5 < late[2] < 0.8  # the long one is not yet as far


def test_systole_shortens_less_than_the_heartbeat() -> None:
    # 0.6 s is 100 a minute: electromechanical systole 546 - 210 = 336 ms against 420 ms at 60
    systole = 0.36 * 336.0 / 420.0
    phase = cardiac_phase(np.array([systole, 0.36 * 0.6]), np.array([0.6, 0.6]), 1.0)
    assert phase[0] == pytest.approx(0.36)
    assert phase[1] < 0.36


def test_nothing_moves_when_still() -> None:
    _, moved, turned, phases = still(96).states(0.37, 96)
    np.testing.assert_array_equal(moved, 0.0)
    np.testing.assert_array_equal(turned, 0.0)
    np.testing.assert_allclose(phases, 0.37)


def test_the_four_manners_move_more_and_more() -> None:
    middle = [float(np.median(severities(manner))) for manner in Manner]
    assert middle[0] < 0.5
    assert middle[0] < middle[1] <= 1.2 * middle[2] < middle[3]


def test_half_a_hold_is_still_in_one_part_and_moves_in_the_other() -> None:
    for seed in range(20):
        motion = sample_motion(np.random.default_rng(seed), Manner.HALF_HOLD)
        _, moved = motion.trace()
        speed = np.linalg.norm(np.diff(moved, axis=0), axis=1)
        quarter = len(speed) // 4
        calm, busy = sorted([speed[:quarter].mean(), speed[-quarter:].mean()])
        assert busy > 2.0 * calm


def test_breathing_is_mostly_superior_inferior() -> None:
    for seed in range(20):
        motion = sample_motion(np.random.default_rng(seed), Manner.FREE)
        reach = np.ptp(motion.trace()[1], axis=0)
        assert reach[2] > 1.8 * reach[1]
        assert reach[1] > 0.05 * reach[2]
        assert reach[2] > 2.5 * reach[0]


def test_the_slices_of_one_person_breathe_alike() -> None:
    rng = np.random.default_rng(3)
    habit = sample_habit(rng, Manner.INTENSIVE)
    motions = [sample_motion(rng, Manner.INTENSIVE, habit=habit) for _ in range(30)]
    depths = [breath.depth_mm for m in motions for breath in m.respiration.breaths]
    assert np.mean(depths) == pytest.approx(habit.depth_mm, rel=0.1)


def test_the_slices_of_one_person_share_the_heart_rate_they_are_given() -> None:
    rng = np.random.default_rng(3)
    motions = [sample_motion(rng, Manner.FREE, interval_s=0.7) for _ in range(30)]
    assert {motion.timing.mean_interval_s for motion in motions} == {0.7}
    beats = [beat for motion in motions for beat in motion.timing.intervals_s]
    assert np.median(beats) == pytest.approx(0.7, rel=0.02)


def test_holds_of_a_study_lie_millimetres_apart_along_the_body() -> None:
    offsets = np.array(
        [
            sample_motion(np.random.default_rng(s), Manner.FULL_HOLD).hold_offset
            for s in range(200)
        ]
    )
    assert 1.0 < offsets[:, 2].std() < 5.0
    assert offsets[:, :2].std() < offsets[:, 2].std()


@pytest.mark.parametrize("manner", list(Manner))
def test_motion_can_be_replayed_from_json(manner: Manner) -> None:
    motion = sample_motion(np.random.default_rng(5), manner, arrhythmia_share=1.0)
    again = SliceMotion.from_json(json.dumps(motion.to_json()))
    assert again == motion
    for ours, theirs in zip(motion.states(0.4, 90), again.states(0.4, 90), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_generator_state_gives_the_same_motion() -> None:
    first, again = (sample_motion(np.random.default_rng(8), Manner.FREE) for _ in range(2))
    assert first == again


def test_acquisitions_last_as_long_as_breath_holds_do() -> None:
    durations = [sample_timing(np.random.default_rng(s), 128).duration_s for s in range(100)]
    assert 5.0 < np.median(durations) < 14.0
    assert max(durations) < 25.0


def test_arrhythmia_spreads_the_phases_that_a_frame_sees() -> None:
    def spread(arrhythmia: bool) -> float:
        timings = [
            sample_timing(np.random.default_rng(s), 128, arrhythmia=arrhythmia) for s in range(40)
        ]
        return float(np.mean([np.std(t.seen(0.5, 128)[1]) for t in timings]))

    assert spread(True) > 3.0 * spread(False)


def test_severity_of_two_equal_halves_is_half_their_distance() -> None:
    moved = np.zeros((100, 3))
    moved[::2, 2] = 6.0
    assert motion_severity(moved, np.ones(100)) == pytest.approx(3.0)


def test_a_constant_displacement_is_not_motion() -> None:
    assert motion_severity(np.full((64, 3), 9.0)) == pytest.approx(0.0, abs=1e-9)


def test_lines_at_the_centre_of_k_space_count_more() -> None:
    inner, outer = np.zeros((128, 3)), np.zeros((128, 3))
    inner[60:70, 2], outer[:10, 2] = 5.0, 5.0
    assert motion_severity(inner) > 3.0 * motion_severity(outer)
    assert line_energy(128).argmax() == 64


def test_severity_refuses_shapes_that_disagree() -> None:
    with pytest.raises(ValueError, match="lines"):
        motion_severity(np.zeros((10, 3)), np.ones(9))


def test_effect_is_the_error_over_the_spread_inside_the_box() -> None:
    sharp = np.zeros((20, 20))
    sharp[:, ::2] = 2.0  # spread 1
    moved = sharp + 0.3
    moved[15:] = 50.0
    assert motion_effect(moved, sharp, (slice(0, 15), slice(0, 20))) == pytest.approx(0.3)
    assert motion_effect(sharp, sharp) == 0.0


def test_grades_never_fall_when_severity_or_effect_grows() -> None:
    severity, effect = np.linspace(0.0, 15.0, 31), np.linspace(0.0, 1.5, 31)
    grades = np.array([[grade(s, e) for e in effect] for s in severity])
    assert (np.diff(grades, axis=0) >= 0).all()
    assert (np.diff(grades, axis=1) >= 0).all()
    assert set(grades.ravel().tolist()) == {1, 2, 3}
    alone = [grade(s) for s in severity]
    assert alone == sorted(alone)


def test_a_full_hold_is_mild_and_intensive_breathing_is_not() -> None:
    assert np.mean([grade(s) == 1 for s in severities(Manner.FULL_HOLD)]) > 0.9
    assert np.mean([grade(s) >= 2 for s in severities(Manner.INTENSIVE)]) > 0.9


@pytest.mark.parametrize(
    ("grades", "expected"),
    [([1, 1, 1], 1), ([1, 1, 2], 2), ([1] * 5 + [3], 1), ([1, 1, 2, 3, 3, 3], 3), ([2, 3] * 3, 3)],
)
def test_a_study_is_as_bad_as_a_third_of_its_slices(grades: list[int], expected: int) -> None:
    assert study_grade(grades) == expected


def test_a_study_without_slices_has_no_grade() -> None:
    with pytest.raises(ValueError, match="no grade"):
        study_grade([])
