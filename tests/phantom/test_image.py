"""Signals, acquisition and breathing against worked-out values."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.phantom.acquisition import (
    Breathing,
    Scanner,
    acquire,
    grey_values,
    heartbeat_of_line,
    sample_breathing,
)
from cinelabel.phantom.fields import smooth_field
from cinelabel.phantom.tissue import bssfp_signal, sample_tissues


def scanner(**changes: object) -> Scanner:
    values: dict = {
        "coils": (),
        "flattening": 0.0,
        "bias": 0.0,
        "resolution": (1.0, 1.0),
        "apodisation": 0.0,
        "noise": 0.0,
        "gamma": 1.0,
        "grey_levels": 255,
        "seed": 0,
    }
    return Scanner(**{**values, **changes})


def test_bssfp_signal_equals_the_value_worked_out_by_hand() -> None:
    # 90 degrees: sin = 1, cos = 0, S = PD / (1 + T1/T2)
    assert bssfp_signal(1000.0, 50.0, 90.0) == pytest.approx(1.0 / 21.0)
    assert bssfp_signal(1550.0, 155.0, 90.0, density=0.5) == pytest.approx(0.5 / 11.0)


def test_blood_is_brighter_than_muscle_in_physical_contrasts() -> None:
    for seed in range(50):
        tissues = sample_tissues(np.random.default_rng(seed), random_share=0.0)
        assert tissues["blood"] == pytest.approx(1.0)
        assert tissues["myocardium"] < 0.8


def test_a_perfect_breath_hold_without_noise_returns_the_object() -> None:
    image = np.random.default_rng(0).random((32, 40)).astype(np.float32)
    seen = acquire([image], 1.0, scanner(), np.random.default_rng(1))
    np.testing.assert_allclose(seen, image, atol=1e-5)


def test_an_object_displaced_during_the_whole_acquisition_is_displaced_in_the_image() -> None:
    image = np.zeros((32, 32), np.float32)
    image[10:14, 8:12] = 1.0
    still = Breathing(((3.0, -2.0),) * 4, (0.0,) * 4, 0, True)
    seen = acquire([image], 1.0, scanner(), np.random.default_rng(1), still)
    np.testing.assert_allclose(seen, np.roll(image, (3, -2), (0, 1)), atol=1e-4)


def test_a_displacement_between_heartbeats_spreads_energy_along_phase_encoding_only() -> None:
    image = np.zeros((64, 64), np.float32)
    image[30:34, 30:34] = 1.0
    moving = Breathing(((0.0, 0.0), (4.0, 0.0)), (0.0, 0.0), 0, True)
    seen = acquire([image], 1.0, scanner(), np.random.default_rng(1), moving)
    outside_columns = seen[:, :28].max()
    ghosts = seen[:20, 30:34].max()
    assert ghosts > 0.05
    assert outside_columns < 1e-3


def test_noise_of_an_empty_image_has_the_rayleigh_mean() -> None:
    seen = acquire(
        [np.zeros((128, 128), np.float32)], 1.0, scanner(noise=0.1), np.random.default_rng(0)
    )
    assert seen.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.02)


def test_low_resolution_removes_detail_beyond_its_limit() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (32, 16))
    seen = acquire([stripes], 1.0, scanner(resolution=(3.0, 3.0)), np.random.default_rng(0))
    np.testing.assert_allclose(seen, 0.5, atol=1e-4)


@pytest.mark.parametrize("interleaved", [True, False])
def test_every_heartbeat_acquires_lines_and_every_line_has_one(interleaved: bool) -> None:
    owner = heartbeat_of_line(50, 7, interleaved)
    assert owner.shape == (50,)
    assert set(owner.tolist()) == set(range(7))


def test_larger_breathing_amplitudes_move_further() -> None:
    def mean_excursion(amplitude: float) -> float:
        return float(
            np.mean(
                [
                    sample_breathing(np.random.default_rng(s), amplitude).excursion_mm
                    for s in range(40)
                ]
            )
        )

    assert mean_excursion(3.0) < mean_excursion(6.0) < mean_excursion(12.0)


def test_grey_values_are_whole_and_end_at_the_brightest_level() -> None:
    values = grey_values(np.linspace(0.0, 2.0, 50, dtype=np.float32), scanner(), white=1.0)
    assert np.array_equal(values, np.round(values))
    assert values.min() == 0.0
    assert values.max() == 255.0


def test_smooth_fields_have_no_mean_and_about_unit_spread() -> None:
    fields = np.stack([smooth_field(np.random.default_rng(s), (48, 64), 8) for s in range(60)])
    assert abs(fields.mean()) < 0.05
    assert fields.std() == pytest.approx(1.0, abs=0.25)
