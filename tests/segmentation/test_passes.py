"""Views, batches and windows, with networks that are functions of the grey values."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.segmentation import passes
from cinelabel.segmentation.passes import (
    slice_probabilities,
    softmax,
    stack_probabilities,
    views,
)
from scipy import special


class Recorder:
    """A function of images as a backend that keeps the shapes it was shown."""

    def __init__(self, function) -> None:
        self.function = function
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.shapes.append(images.shape)
        return self.function(images)

    def release(self) -> None:
        pass


def pointwise(images: np.ndarray) -> np.ndarray:
    """Logits that depend on each pixel alone: unchanged by any view, batch or window."""
    return np.concatenate([images, 2.0 * images, images**2, -images], 1)


def with_ramp(images: np.ndarray) -> np.ndarray:
    """Logits that also depend on where in the picture (along w) a pixel lies."""
    ramp = np.linspace(0.0, 3.0, images.shape[-1], dtype=np.float32)
    return np.concatenate([images + ramp, images - ramp], 1)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 12, 8), dtype=np.float32)


def test_softmax_is_that_of_scipy() -> None:
    logits = np.random.default_rng(1).normal(0, 30, (2, 4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(softmax(logits), special.softmax(logits, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("dimensions", "mirror", "turns", "count"),
    [
        (2, True, False, 4),
        (3, True, False, 8),
        (2, False, False, 1),
        (3, False, False, 1),
        (2, True, True, 4),
        (3, False, True, 4),
    ],
)
def test_every_view_is_another_one_and_is_undone(
    images: np.ndarray, dimensions: int, mirror: bool, turns: bool, count: int
) -> None:
    shown = set()
    for view in views(dimensions, mirror, turns):
        seen = view.show(images)
        shown.add((seen.shape, seen.tobytes()))
        np.testing.assert_array_equal(view.undo(seen), images)
    assert len(shown) == count


@pytest.mark.parametrize("turns", [False, True])
def test_what_looks_at_single_pixels_says_the_same_in_every_view(
    images: np.ndarray, turns: bool
) -> None:
    expected = special.softmax(pointwise(images[:, None]), 1)
    found = slice_probabilities(Recorder(pointwise), images, views(2, True, turns))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_mirroring_averages_what_depends_on_the_place(images: np.ndarray) -> None:
    plain = special.softmax(with_ramp(images[:, None]), 1)
    mirrored = special.softmax(with_ramp(images[:, None, :, ::-1]), 1)[..., ::-1]
    found = slice_probabilities(Recorder(with_ramp), images, views(2, True, False))
    np.testing.assert_allclose(found, (plain + mirrored) / 2, atol=1e-6)


def test_quarter_turns_average_the_four_directions(images: np.ndarray) -> None:
    expected = np.mean(
        [
            np.rot90(
                special.softmax(with_ramp(np.rot90(images[:, None], k, (2, 3))), 1), -k, (2, 3)
            )
            for k in range(4)
        ],
        axis=0,
    )
    found = slice_probabilities(Recorder(with_ramp), images, views(2, True, True))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_large_slices_go_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "DEFAULTS", passes.PassDefaults(batch_pixels=3 * 12 * 8))
    network = Recorder(pointwise)
    images = np.random.default_rng(0).standard_normal((7, 12, 8), dtype=np.float32)
    found = slice_probabilities(network, images, views(2, False, False))
    assert [shape[0] for shape in network.shapes] == [3, 3, 1]
    np.testing.assert_allclose(found, special.softmax(pointwise(images[:, None]), 1), atol=1e-6)


def test_a_stack_is_one_example_with_its_end_slices_repeated(images: np.ndarray) -> None:
    seen = []

    def keep(batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        return pointwise(batch)

    found = stack_probabilities(Recorder(keep), images, views(3, False, False), 4, depth=6)
    assert len(seen) == 1
    assert seen[0].shape == (1, 1, 8, 12, 8)
    assert all((slice_ == images).all((1, 2)).any() for slice_ in seen[0][0, 0])
    expected = special.softmax(pointwise(images[:, None]), 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("n", [13, 20, 31])
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_of_a_long_stack_say_what_the_whole_would(n: int, mirror: bool) -> None:
    images = np.random.default_rng(n).standard_normal((n, 6, 5), dtype=np.float32)
    network = Recorder(pointwise)
    found = stack_probabilities(network, images, views(3, mirror, False), 2, depth=7)
    assert {shape[2] for shape in network.shapes} == {8}
    np.testing.assert_allclose(found, special.softmax(pointwise(images[:, None]), 1), atol=1e-5)


def test_the_middle_of_a_window_counts_more_than_its_ends() -> None:
    """A network that marks the first slice of its window: the other window has the say there."""

    def marks_its_start(stack: np.ndarray) -> np.ndarray:
        logits = np.zeros((1, 2, *stack.shape[2:]), np.float32)
        logits[:, 1, 0] = 20.0
        return logits

    images = np.zeros((16, 2, 2), np.float32)  # windows begin at 0, 4 and 8
    found = stack_probabilities(Recorder(marks_its_start), images, views(3, False, False), 1, 8)
    assert found[0, 1, 0, 0] > 0.99
    offset = np.array([3.5, 0.5])  # of slice 4 from the middles of the second and first window
    weights = np.exp(-0.5 * offset**2)  # the Gaussian's sigma is an eighth of 8 slices
    assert found[4, 1, 0, 0] == pytest.approx((weights[0] + 0.5 * weights[1]) / weights.sum(), 1e-4)
    assert found[4, 1, 0, 0] < 0.51


def test_a_network_without_a_depth_sees_every_stack_whole() -> None:
    network = Recorder(pointwise)
    images = np.zeros((40, 4, 4), np.float32)
    assert stack_probabilities(network, images, views(3, False, False), 2, None).shape[0] == 40
    assert network.shapes == [(1, 1, 40, 4, 4)]
