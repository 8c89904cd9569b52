"""Sharpness against a worked-out ramp; tables and figures of graded slices."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.evaluation.motion import (
    GradedSlice,
    _mean_dice,
    motion_figure,
    motion_table,
    sharpness,
)
from rich.console import Console
from scipy.ndimage import gaussian_filter


def disc() -> np.ndarray:
    x, y = np.mgrid[:64, :64] - 31.5
    return (np.hypot(x, y) < 15).astype(np.uint8)


def test_sharpness_of_a_step_is_half_a_step_a_pixel() -> None:
    # A step between two columns has the central difference 1/2 on both sides of it.
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 1
    found = sharpness(100.0 * labels, labels, (1.0, 2.0))
    assert found == pytest.approx(0.5 / 2.0)


def test_sharpness_falls_with_blur_and_does_not_depend_on_the_scale_of_grey_values() -> None:
    labels = disc()
    image = labels * 200.0
    blurred = [sharpness(gaussian_filter(image, s), labels, (1.5, 1.5)) for s in (0.5, 1.0, 2.0)]
    assert blurred[0] > blurred[1] > blurred[2]
    assert sharpness(7.0 * image + 3.0, labels, (1.5, 1.5)) == pytest.approx(
        sharpness(image, labels, (1.5, 1.5))
    )


def test_a_slice_without_labels_has_no_sharpness() -> None:
    assert sharpness(np.random.default_rng(0).random((8, 8)), np.zeros((8, 8)), (1.0, 1.0)) == 0.0


def test_a_table_and_a_figure_tell_the_count_and_the_means_of_each_grade(tmp_path) -> None:
    slices = [
        GradedSlice("a", "free", k, "ED", grade, float(grade), 0.1, 0.9 - 0.1 * grade)
        for grade in (1, 3)
        for k in range(3)
    ]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(motion_table(slices))
    shown = captured.get()
    assert "0.800" in shown
    assert "0.600" in shown
    motion_figure(tmp_path / "grades.png", slices, title="test")
    assert (tmp_path / "grades.png").read_bytes().startswith(b"\x89PNG")


def test_a_structure_that_was_not_found_counts_as_zero() -> None:
    truth = np.array([[1, 1, 2, 2]])
    assert _mean_dice(np.array([[1, 1, 0, 0]]), truth) == pytest.approx(0.5)
    assert _mean_dice(np.array([[1, 0, 2, 2]]), truth) == pytest.approx((2 / 3 + 1) / 2)
