"""PWCCA on data whose similarity is known."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.analysis.similarity import directions, noise_floor, pwcca
from cinelabel.core.errors import InputError
from scipy.linalg import subspace_angles

FREE_TURN = 0.06
SAMPLES, CHANNELS = 4000, 16


def normal(seed: int, channels: int = CHANNELS, samples: int = SAMPLES) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, channels))


def test_identical_data_have_similarity_one():
    x = normal(0)
    assert pwcca(x, x).value == pytest.approx(1.0, abs=1e-9)


def test_an_invertible_affine_map_changes_nothing():
    x = normal(0)
    found = pwcca(x, x @ normal(1, samples=CHANNELS) + 3.0)
    assert found.value == pytest.approx(1.0, abs=1e-9)


def test_independent_data_reach_the_noise_floor_and_no_more():
    found = pwcca(normal(0), normal(1))
    assert found.value == pytest.approx(0.056, abs=0.006)
    assert found.floor == pytest.approx(0.056, abs=0.006)


@pytest.mark.parametrize(
    ("samples", "expected", "tolerance"),
    [(100, 0.357, 0.04), (1000, 0.109, 0.02), (10_000, 0.034, 0.006)],
)
def test_the_floor_falls_with_the_number_of_samples(samples, expected, tolerance):
    assert noise_floor(samples, CHANNELS, CHANNELS) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_half_shared_channels_weigh_by_their_share_of_the_magnitude(scale):
    """With many samples the shared half counts scale, the other half 1 at no correlation.

    Equal correlations leave each half free to turn, which moves the weights by some hundredths
    from one linear algebra library to another; see `FREE_TURN`.
    """
    samples = 60_000
    shared = scale * normal(0, 8, samples)
    x = np.hstack([shared, normal(1, 8, samples)])
    y = np.hstack([shared, normal(2, 8, samples)])
    by_x, by_y, correlations = directions(x, y)
    assert by_x == pytest.approx(scale / (scale + 1), abs=FREE_TURN)
    assert by_y == pytest.approx(scale / (scale + 1), abs=FREE_TURN)
    np.testing.assert_allclose(correlations[:8], 1.0, atol=1e-9)
    assert correlations[8:].max() < 0.05


def test_the_high_variance_half_shared_is_between_half_and_one():
    """Channels of falling variance 16..1: the first half shared is about 0.74 similar."""
    scales = np.arange(CHANNELS, 0, -1.0)
    x = normal(0) * scales
    y = np.hstack([x[:, :8], normal(1, 8) * scales[8:]])
    assert pwcca(x, y).value == pytest.approx(0.74, abs=FREE_TURN)


def test_the_two_directions_differ_and_are_averaged():
    x = np.hstack([5.0 * normal(0, 8), normal(1, 8)])
    y = np.hstack([x[:, :8] / 25.0, normal(2, 8)])
    found = pwcca(x, y)
    assert found.weighted_by_first > 0.75
    assert found.weighted_by_second < 0.35
    assert found.value == (found.weighted_by_first + found.weighted_by_second) / 2
    swapped = pwcca(y, x)
    assert swapped.value == pytest.approx(found.value, abs=FREE_TURN)


def test_the_correlations_are_the_cosines_of_the_principal_angles():
    x = normal(0, 6)
    y = x[:, :4] @ normal(1, 5, 4) + 0.7 * normal(2, 5)
    found = pwcca(x, y)
    angles = subspace_angles(x - x.mean(axis=0), y - y.mean(axis=0))
    np.testing.assert_allclose(
        found.correlations, np.cos(np.sort(angles))[: len(found.correlations)], atol=1e-8
    )


def test_channels_that_repeat_others_do_not_matter_to_the_correlations():
    x = normal(0, 4)
    found = pwcca(np.hstack([x, x[:, :2]]), x)
    assert found.value == pytest.approx(1.0, abs=1e-9)
    assert len(found.correlations) == 4


def test_fewer_than_fifty_samples_a_channel_are_refused():
    few = normal(0, samples=799)
    with pytest.raises(InputError, match="800"):
        pwcca(few, few)
    enough = normal(0, samples=800)
    assert pwcca(enough, enough).samples == 800


def test_what_is_no_representation_is_refused():
    x = normal(0)
    with pytest.raises(InputError, match="samples"):
        pwcca(x, x[:-1])
    with pytest.raises(InputError, match="shape"):
        pwcca(x[None], x[None])
    broken = x.copy()
    broken[0, 0] = np.nan
    with pytest.raises(InputError, match="finite"):
        pwcca(broken, x)
    with pytest.raises(InputError, match="vary"):
        pwcca(np.ones_like(x), x)
