"""Augmentation: sampled apart from being applied, and images and labels move together."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.core.errors import RunError
from cinelabel.transforms.augment import Augmentation
from cinelabel.transforms.preprocess import normalise

STILL = {
    name: 0.0 for name in ("affine", "bend", "noise", "blur", "low_resolution", "gamma", "window")
}


def batch(count: int = 6, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    labels = np.stack(
        [(np.hypot(x - 20 - k, (y - 26) * 1.5) < 9).astype(np.uint8) for k in range(count)]
    )
    noise = 0.1 * np.random.default_rng(0).normal(size=labels.shape)
    return normalise(labels * 2.0 + noise), labels


def test_parameters_can_be_replayed() -> None:
    images, labels = batch()
    augment = Augmentation()
    parameters = augment.sample(len(images), np.random.default_rng(4))
    first, again = (augment.apply(images, labels, parameters) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_the_same_generator_state_gives_the_same_batch() -> None:
    images, labels = batch()
    results = [Augmentation()(images, labels, np.random.default_rng(9))[0] for _ in range(2)]
    np.testing.assert_array_equal(*results)


def test_with_everything_off_only_quarter_turns_and_flips_remain() -> None:
    images, labels = batch()
    turned, moved = Augmentation(STILL)(images, labels, np.random.default_rng(1))
    for k in range(len(images)):
        options = [
            normalise(np.rot90(flipped, turn))
            for flipped in (images[k], images[k][::-1])
            for turn in range(4)
        ]
        assert min(np.abs(turned[k] - option).max() for option in options) < 1e-3
        assert moved[k].sum() == labels[k].sum()


def test_labels_follow_the_images() -> None:
    images, labels = batch()
    settings = {**STILL, "affine": 1.0, "bend": 1.0}
    seen, moved = Augmentation(settings)(images, labels, np.random.default_rng(2))
    for k in range(len(seen)):
        bright = seen[k] > seen[k].mean() + seen[k].std()
        overlap = 2 * (bright & (moved[k] > 0)).sum() / (bright.sum() + moved[k].sum())
        assert overlap > 0.9


def test_results_are_normalised() -> None:
    images, labels = batch()
    seen, _ = Augmentation()(images, labels, np.random.default_rng(3))
    np.testing.assert_allclose(seen.mean((1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose(seen.std((1, 2)), 1.0, atol=1e-3)


def test_slices_of_a_stack_move_and_change_alike_with_noise_of_their_own() -> None:
    images, labels = (np.stack([part] * 3, 1) for part in batch(8))
    seen, moved = Augmentation({"noise": 0.0})(images, labels, np.random.default_rng(5))
    assert seen.shape == moved.shape == (8, 3, 48, 48)
    for part in (seen, moved):
        np.testing.assert_array_equal(part[:, 0], part[:, 1])
        np.testing.assert_array_equal(part[:, 0], part[:, 2])
    single, _ = Augmentation({"noise": 0.0})(images[:, 0], labels[:, 0], np.random.default_rng(5))
    np.testing.assert_allclose(single, seen[:, 0], atol=1e-5)
    noisy, _ = Augmentation({**STILL, "noise": 1.0})(images, labels, np.random.default_rng(5))
    assert np.abs(noisy[:, 0] - noisy[:, 1]).mean((1, 2)).min() > 1e-3


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(RunError, match="'sharpness'"):
        Augmentation({"sharpness": 1.0})
