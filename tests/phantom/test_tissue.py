"""The balanced SSFP signal against a Bloch simulation and closed forms; what tissues look like."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.phantom.tissue import (
    FieldSource,
    OffResonance,
    Tissues,
    banding,
    bssfp_signal,
    field_shift_hz,
    precession,
    sample_tissues,
)

NAMES = {
    *("blood", "rv_blood", "vessel", "myocardium", "muscle", "fat", "pericardium", "liver"),
    *("spleen", "stomach", "bowel", "gas", "marrow", "kidney", "csf", "lung", "air"),
}
PHYSICAL = PhantomSettings(random_contrast_share=0.0)
RANDOM = PhantomSettings(random_contrast_share=1.0)


def bloch_signal(t1: float, t2: float, flip: float, phase: float, repetition: float) -> complex:
    """Transverse magnetisation at TR/2 in the steady state, by 3 x 3 matrices."""

    def about_z(angle: float) -> np.ndarray:
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

    c, s = np.cos(np.deg2rad(flip)), np.sin(np.deg2rad(flip))
    pulse = np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])

    def rest(share: float) -> tuple[np.ndarray, np.ndarray]:
        e1, e2 = np.exp(-share * repetition / t1), np.exp(-share * repetition / t2)
        return about_z(share * phase) @ np.diag([e2, e2, e1]), np.array([0.0, 0.0, 1.0 - e1])

    relax, grow = rest(1.0)
    after = np.linalg.solve(np.eye(3) - pulse @ relax, pulse @ grow)
    relax, grow = rest(0.5)
    echo = relax @ after + grow
    return complex(echo[0], echo[1])


def test_bssfp_with_a_short_repetition_equals_the_value_worked_out_by_hand() -> None:
    # 90 degrees: sin = 1, cos = 0, S = PD / (1 + T1/T2)
    assert bssfp_signal(1000.0, 50.0, 90.0, repetition_ms=1e-3) == pytest.approx(1 / 21, rel=1e-4)
    half = bssfp_signal(1550.0, 155.0, 90.0, density=0.5, repetition_ms=1e-3)
    assert half == pytest.approx(0.5 / 11.0, rel=1e-4)


@pytest.mark.parametrize(
    ("t1", "t2", "flip"), [(1500.0, 230.0, 60.0), (1000.0, 45.0, 35.0), (300.0, 80.0, 80.0)]
)
def test_bssfp_equals_the_refocused_part_of_a_bloch_simulation(
    t1: float, t2: float, flip: float
) -> None:
    phases = np.linspace(0.2, 4 * np.pi, 25)
    # Pulses about x refocus along -x at half of the repetition.
    simulated = [-bloch_signal(t1, t2, flip, p, 3.2).real for p in phases]
    signal = np.asarray(bssfp_signal(t1, t2, flip, 1.0, phases, 3.2))
    np.testing.assert_allclose(signal, simulated, rtol=1e-6, atol=1e-9)


def test_bands_are_null_half_a_cycle_of_the_repetition_off_resonance_and_change_the_sign() -> None:
    repetition = 3.2
    null_hz = 1e3 / (2 * repetition)
    shifts = np.array([0.0, 0.9 * null_hz, null_hz, 1.1 * null_hz, 2 * null_hz])
    signal = np.asarray(
        bssfp_signal(1500.0, 230.0, 50.0, 1.0, precession(shifts, repetition), repetition)
    )
    assert signal[2] == pytest.approx(0.0, abs=1e-9)
    assert signal[1] > 0.0
    assert signal[3] == pytest.approx(-signal[1])
    assert signal[4] == pytest.approx(-signal[0])


def test_every_tissue_has_a_signal_and_the_same_seed_gives_the_same() -> None:
    for settings in (PHYSICAL, RANDOM):
        tissues = sample_tissues(np.random.default_rng(3), settings)
        assert set(tissues.signal) == NAMES
        assert tissues == sample_tissues(np.random.default_rng(3), settings)


def test_blood_is_one_and_brighter_than_muscle_in_physical_contrasts() -> None:
    for seed in range(100):
        tissues = sample_tissues(np.random.default_rng(seed), PHYSICAL)
        assert tissues["blood"] == pytest.approx(1.0)
        assert 0.08 < tissues["myocardium"] < 0.6
        assert tissues["lung"] < tissues["myocardium"]


def test_random_contrasts_keep_blood_brighter_with_few_exceptions() -> None:
    muscle = [sample_tissues(np.random.default_rng(s), RANDOM)["myocardium"] for s in range(300)]
    assert max(muscle) < 1.0 / 1.07
    assert np.mean(np.array(muscle) > 1.0 / 1.25) < 0.2


def test_fat_opposes_water_in_most_and_is_in_phase_in_some_subjects() -> None:
    drawn = [sample_tissues(np.random.default_rng(s), PHYSICAL) for s in range(200)]
    low = [t["fat"] for t in drawn if t.field_strength == 1.5]
    high = [t["fat"] for t in drawn if t.field_strength == 3.0]
    assert np.mean(np.array(low) < 0.0) > 0.98
    assert np.median(low) == pytest.approx(-1.0, abs=0.3)
    assert 0.05 < np.mean(np.array(high) > 0.0) < 0.5


def grid(half: float = 80.0, step: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(-half, half + step, step, dtype=np.float32)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def test_a_field_without_error_has_no_bands() -> None:
    assert banding(Tissues({}), *grid(), 0.0) is None


def test_banding_is_one_on_resonance_and_null_where_the_field_is_off_by_half_a_cycle() -> None:
    repetition = 3.0
    per_mm = 1e3 / (2 * repetition) / 40.0  # the null lies 40 mm from the centre
    tissues = Tissues(
        {}, off_resonance=OffResonance(0.0, (per_mm, 0.0, 0.0)), repetition_ms=repetition
    )
    x, y = grid()
    bands = banding(tissues, x, y, 0.0)
    assert bands is not None
    assert bands.dtype == np.float32
    np.testing.assert_allclose(bands[x == 0.0], 1.0, atol=1e-4)
    np.testing.assert_allclose(bands[np.abs(x) == 40.0], 0.0, atol=2e-3)
    np.testing.assert_allclose(bands[np.abs(x) == 80.0], -1.0, atol=1e-3)


def test_a_ball_beside_the_heart_disturbs_the_field_as_a_dipole() -> None:
    source = FieldSource(0.0, 0.0, 0.0, 10.0, 120.0)
    error = OffResonance(sources=(source,), axis=(1.0, 0.0, 0.0))
    x = np.array([[20.0, 0.0, 5.0]], np.float32)
    y = np.array([[0.0, 20.0, 0.0]], np.float32)
    along, across, inside = field_shift_hz(error, x, y, 0.0)[0]
    assert along == pytest.approx(120.0 / 8.0)
    assert across == pytest.approx(-120.0 / 16.0)
    assert inside == 0.0
    above = field_shift_hz(error, np.zeros((1, 1)), np.zeros((1, 1)), 20.0)[0, 0]
    assert above == pytest.approx(-120.0 / 16.0)


def test_bands_are_met_more_often_at_three_tesla() -> None:
    drawn = [sample_tissues(np.random.default_rng(s), PHYSICAL) for s in range(300)]

    def share(tesla: float) -> float:
        off = [t.off_resonance != OffResonance() for t in drawn if t.field_strength == tesla]
        return float(np.mean(off))

    assert 0.0 < share(1.5) < share(3.0) < 0.7
