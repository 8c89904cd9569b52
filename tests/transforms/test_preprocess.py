"""Crop, resampling and normalisation, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.transforms.preprocess import Crop, normalise, resampling_matrix
from scipy import ndimage


def test_normalised_slices_have_zero_mean_and_unit_spread_each() -> None:
    images = np.random.default_rng(0).gamma(2.0, 100.0, (3, 40, 50))
    result = normalise(images)
    np.testing.assert_allclose(result.mean((1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(result.std((1, 2)), 1.0, atol=1e-4)


def test_normalisation_clips_outliers_at_the_percentiles() -> None:
    image = np.random.default_rng(0).normal(size=(100, 100))
    image[0, 0] = 1e6
    assert normalise(image).max() < 4.0


def test_a_constant_slice_becomes_zero() -> None:
    assert not normalise(np.full((1, 8, 8), 7.0)).any()


def test_resampling_agrees_with_scipy_where_nothing_aliases() -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(40, 30)), 1.0)
    crop = Crop((17.3, 13.8), (24, 20), 0.8, (40, 30), (1.0, 1.0))
    rows = 17.3 + (np.arange(24) - 11.5) * 0.8
    columns = 13.8 + (np.arange(20) - 9.5) * 0.8
    expected = ndimage.map_coordinates(image, np.meshgrid(rows, columns, indexing="ij"), order=1)
    np.testing.assert_allclose(crop.apply(image[..., None])[0], expected, atol=1e-5)


def test_downsampling_keeps_the_mean_of_stripes_that_it_cannot_show() -> None:
    stripes = np.tile([0.0, 1.0], 32)
    result = resampling_matrix(64, 16, 4.0, 31.5) @ stripes
    np.testing.assert_allclose(result[1:-1], 0.5, atol=1e-6)


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (1.5, 1.5), (1.9, 1.2)])
@pytest.mark.parametrize("centre_share", [0.5, 0.3])
def test_labels_return_to_the_source_pixels(
    spacing: tuple[float, float], centre_share: float
) -> None:
    shape = (int(260 / spacing[0]), int(240 / spacing[1]))
    axes = [np.arange(n) * s for n, s in zip(shape, spacing, strict=True)]
    x, y = np.meshgrid(*axes, indexing="ij")
    middle = (260 * centre_share, 240 * centre_share)
    disc = (np.hypot(x - middle[0], y - middle[1]) < 40.0).astype(np.float32)
    centre = (middle[0] / spacing[0], middle[1] / spacing[1])
    crop = Crop(centre, (128, 128), 1.5, shape, spacing)
    back = crop.restore(crop.apply(disc[..., None]))[..., 0] > 0.5
    overlap = 2 * (back & (disc > 0)).sum() / (back.sum() + (disc > 0).sum())
    assert back.shape == shape
    assert overlap > 0.985


def test_a_window_over_the_border_is_zero_outside_the_image() -> None:
    crop = Crop((0.0, 0.0), (16, 16), 1.0, (20, 20), (1.0, 1.0))
    seen = crop.apply(np.ones((20, 20, 1)))[0]
    assert not seen[:7].any()
    np.testing.assert_allclose(seen[8:, 8:], 1.0, atol=1e-6)


def test_pixels_outside_the_window_take_the_value_asked_for() -> None:
    crop = Crop((20.0, 20.0), (8, 8), 1.0, (40, 40), (1.0, 1.0))
    back = crop.restore(np.full((1, 8, 8), 0.25), outside=1.0)[..., 0]
    assert back[0, 0] == 1.0
    assert back[20, 20] == pytest.approx(0.25)
