"""The body round the heart: geometry, coherence, what moves, and the switch that leaves it out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.phantom.thorax import Thorax, paint_thorax, sample_thorax
from cinelabel.phantom.thorax_painting import TISSUE_NAMES


class Signals(dict):  # type: ignore[type-arg]
    tissue_texture = 0.0


LEVELS = {name: 0.1 + 0.05 * index for index, name in enumerate(TISSUE_NAMES)}
TISSUES = Signals(LEVELS | {"air": 0.0, "lung": 0.04, "fat": -0.9, "gas": 0.02, "vessel": 0.95})


def make_heart(group: str = "normal", length: float = 88.0, outer: float = 34.0) -> SimpleNamespace:
    """An ellipsoid that reaches further on the septal side, where the right ventricle lies."""

    def section(z: float, _contraction: float) -> SimpleNamespace:
        height = 2.0 * (z - 0.5 * length) / (length + 18.0)
        angle = np.arange(360) * (2 * np.pi / 360) - np.pi
        radius = outer + 0.45 * outer * (1.0 + np.cos(angle))
        outline = radius * np.sqrt(max(1.0 - height**2, 0.0))
        return SimpleNamespace(pericardium=outline.astype(np.float32))

    return SimpleNamespace(group=group, length_ed=length, axis_tilt=(0.0, 0.0), section=section)


def grid(size: int = 96, pixel: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)) * np.float32(pixel)
    x, y = np.meshgrid(line, line, indexing="ij")
    return x, y


def body(seed: int, **heart: object) -> Thorax:
    return sample_thorax(np.random.default_rng(seed), TISSUES, make_heart(**heart))  # type: ignore[arg-type]


def at(thorax: Thorax, point: tuple[float, float, float]) -> tuple[float, float]:
    """Median brightness and moving share round a heart-frame point."""
    x, y = grid(24, 1.0)
    signal, moving = paint_thorax(thorax, TISSUES, x + point[0], y + point[1], point[2], 1.0)
    return float(np.median(np.abs(signal))), float(np.median(moving))


def test_the_same_seed_gives_the_same_picture() -> None:
    x, y = grid()
    one, two = (paint_thorax(body(5), TISSUES, x, y, 40.0, 3.0) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("seed", range(8))
def test_the_heart_lies_as_in_life(seed: int) -> None:
    axes = body(seed).heart_axes
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    lateral, anterior, basal = axes.T
    assert np.array_equal(np.sign(basal), (1, -1, 1)), "the apex points left, front and down"
    assert np.array_equal(np.sign(lateral[:2]), (-1, -1)), "the lateral wall faces left and back"
    assert anterior[2] > 0.0, "the anterior wall faces up"


@pytest.mark.parametrize("seed", range(8))
def test_below_the_heart_lies_abdomen_and_above_it_lung(seed: int) -> None:
    thorax = body(seed)
    offsets = np.array([(-35.0, 0.0, 70.0), (0.0, 0.0, -75.0)])
    above, below = offsets @ thorax.heart_axes + (0.0, 0.0, 44.0)
    lung, moves = at(thorax, tuple(above))
    assert lung < 0.15
    assert moves > 0.9
    assert at(thorax, tuple(below))[0] > 2.0 * TISSUES["lung"]


@pytest.mark.parametrize("group", ["normal", "dilated", "child", "obese"])
def test_the_chest_wall_stands_before_the_right_ventricle_without_cutting_it(group: str) -> None:
    scale = {"child": 0.65, "dilated": 1.3}.get(group, 1.0)
    for seed in range(6):
        thorax = body(seed, group=group, length=88.0 * scale, outer=34.0 * scale)
        x, y = grid(128, 2.0)
        _, moving = paint_thorax(thorax, TISSUES, x, y, 44.0 * scale, 2.0)
        inside = np.hypot(x / (45.0 * scale), y / (28.0 * scale)) < 1.0
        assert moving[inside].min() > 0.0
        front = moving[np.abs(y) < 2.0]
        distances = -x[np.abs(y) < 2.0]
        wall = distances[(front < 0.5) & (distances > 0.0)].min()
        assert wall < (66.0 + 60.0) * scale


def test_air_and_chest_wall_stand_still_while_lung_moves() -> None:
    x, y = grid(140, 3.0)
    signal, moving = paint_thorax(body(2), TISSUES, x, y, 44.0, 3.0)
    assert moving.min() == 0.0
    assert moving.max() == 1.0
    air = (np.abs(signal) < 1e-6) & (moving == 0.0)
    assert air.mean() > 0.1
    fat_outside = (signal < -0.7) & (moving == 0.0)
    assert fat_outside.mean() > 0.01


def test_neighbouring_planes_show_nearly_the_same_body() -> None:
    x, y = grid()
    thorax = body(3)
    near = [paint_thorax(thorax, TISSUES, x, y, height, 3.0)[0] for height in (40.0, 40.5, 80.0)]
    step, leap = (np.abs(other - near[0]).mean() for other in near[1:])
    assert step < 0.2 * leap


def test_a_shifted_plane_shows_the_shifted_picture() -> None:
    x, y = grid()
    thorax = body(4)
    whole, _ = paint_thorax(thorax, TISSUES, x, y, 44.0, 3.0)
    moved, _ = paint_thorax(thorax, TISSUES, x + np.float32(24.0), y, 44.0, 3.0)
    assert np.abs(whole[8:] - moved[:-8]).mean() < 0.01


def test_any_turn_and_handedness_of_the_axes_shows_the_same_points() -> None:
    x, y = grid()
    thorax = body(6)
    whole, _ = paint_thorax(thorax, TISSUES, x, y, 44.0, 3.0)
    mirrored, _ = paint_thorax(thorax, TISSUES, x[::-1], y[::-1], 44.0, 3.0)
    turned, _ = paint_thorax(thorax, TISSUES, x.T, y.T, 44.0, 3.0)
    assert np.abs(whole - mirrored[::-1]).mean() < 0.01
    assert np.abs(whole - turned.T).mean() < 0.01


def test_lungs_are_darker_than_everything_solid() -> None:
    x, y = grid(96, 2.0)
    for seed in range(4):
        signal, moving = paint_thorax(body(seed), TISSUES, x, y, 50.0, 2.0)
        dark = np.abs(signal[moving > 0.9]) < 0.12
        assert 0.1 < dark.mean() < 0.95


def test_without_organs_a_smooth_background_that_moves_is_left() -> None:
    x, y = grid()
    settings = PhantomSettings(organs=False)
    plain = sample_thorax(np.random.default_rng(1), TISSUES, make_heart(), settings)
    signal, moving = paint_thorax(plain, TISSUES, x, y, 44.0, 3.0)
    assert np.all(moving == 1.0)
    assert np.abs(np.diff(signal, axis=0)).max() < 0.1
    assert signal.min() > 0.0


def test_planes_of_different_shapes_are_refused() -> None:
    x, y = grid()
    with pytest.raises(ValueError, match="one shape"):
        paint_thorax(body(0), TISSUES, x, y[:-1], 44.0, 3.0)
