from __future__ import annotations

import numpy as np
import pytest
from cinelabel.core.errors import GridError
from cinelabel.core.grid import Grid

SHAPE = (20, 30, 8)


def affine(columns, origin=(0, 0, 0)):
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(columns, float).T
    matrix[:3, 3] = origin
    return matrix


STRAIGHT = affine([(1.5, 0, 0), (0, 1.25, 0), (0, 0, 10)], (-20, 5, 7))
LEFT_HANDED = affine([(1.5, 0, 0), (0, 1.25, 0), (0, 0, -10)])
# Turned by the angle of a 3-4-5 triangle about x.
OBLIQUE = affine([(2, 0, 0), (0, 0.6 * 2, 0.8 * 2), (0, -0.8 * 8, 0.6 * 8)])


def test_spacing_is_the_length_of_the_columns():
    assert Grid(SHAPE, STRAIGHT).spacing == (1.5, 1.25, 10)
    np.testing.assert_allclose(Grid(SHAPE, OBLIQUE).spacing, (2, 2, 8))


def test_a_voxel_of_two_by_two_by_eight_mm_has_32_microlitres():
    assert Grid(SHAPE, OBLIQUE).voxel_volume_ml == pytest.approx(0.032)
    assert Grid(SHAPE, LEFT_HANDED).voxel_volume_ml == pytest.approx(0.01875)


def test_handedness_is_the_sign_of_the_determinant():
    assert Grid(SHAPE, STRAIGHT).handedness == 1
    assert Grid(SHAPE, LEFT_HANDED).handedness == -1


@pytest.mark.parametrize(
    ("matrix", "normal"),
    [(STRAIGHT, (0, 0, 1)), (LEFT_HANDED, (0, 0, -1)), (OBLIQUE, (0, -0.8, 0.6))],
)
def test_the_normal_points_to_growing_slice_numbers(matrix, normal):
    np.testing.assert_allclose(Grid(SHAPE, matrix).normal, normal, atol=1e-12)


def test_the_normal_of_a_sheared_stack_is_perpendicular_to_the_slices():
    grid = Grid(SHAPE, affine([(1, 0, 0), (0, 1, 0), (0.5, 0, 8)]))
    np.testing.assert_allclose(grid.normal, (0, 0, 1), atol=1e-12)


def test_columns_are_unit_directions():
    np.testing.assert_allclose(
        Grid(SHAPE, OBLIQUE).columns, [[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]], atol=1e-12
    )


def test_an_index_lies_where_the_affine_says_and_comes_back():
    grid = Grid(SHAPE, STRAIGHT)
    np.testing.assert_allclose(grid.index_to_world(np.array([2, 4, 1])), (-17, 10, 17))
    indices = np.random.default_rng(0).uniform(0, 20, (5, 6, 3))
    np.testing.assert_allclose(grid.world_to_index(grid.index_to_world(indices)), indices)


def test_the_affine_cannot_be_changed():
    source = STRAIGHT.copy()
    grid = Grid(SHAPE, source)
    source[0, 0] = 99
    assert grid.spacing[0] == 1.5
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2


def test_equal_grids_have_no_difference():
    one, other = Grid(SHAPE, STRAIGHT), Grid(SHAPE, STRAIGHT.astype(np.float32))
    assert one.equals(other)
    assert one.difference(other) is None
    one.require_equal(other, "label.nii")


@pytest.mark.parametrize(
    ("shape", "matrix", "words"),
    [
        ((20, 30, 9), STRAIGHT, "20 x 30 x 9 and should be 20 x 30 x 8"),
        (SHAPE, STRAIGHT @ np.diag([1, 1, -1, 1]), "left-handed and should be right-handed"),
        (SHAPE, STRAIGHT @ np.diag([1, 1, 0.8, 1]), "1.5 x 1.25 x 8 mm"),
        (SHAPE, STRAIGHT + np.pad([[2.0]], ((0, 3), (3, 0))), "2 mm away"),
        (SHAPE, STRAIGHT @ np.diag([-1, -1, 1, 1]), "turned by up to 180.0 degrees"),
    ],
)
def test_grids_that_differ_say_how(shape, matrix, words):
    grid, other = Grid(SHAPE, STRAIGHT), Grid(shape, matrix)
    assert not grid.equals(other)
    with pytest.raises(GridError, match=words) as error:
        grid.require_equal(other, "label.nii")
    assert "label.nii" in str(error.value)


def test_a_reversed_stack_on_the_same_place_is_another_grid():
    turned = STRAIGHT.copy()
    turned[:3, 2] *= -1
    turned[:3, 3] = Grid(SHAPE, STRAIGHT).index_to_world(np.array([0, 0, 7]))
    assert not Grid(SHAPE, STRAIGHT).equals(Grid(SHAPE, turned))


def test_the_tolerance_holds_for_the_furthest_voxel():
    stretched = STRAIGHT @ np.diag([1 + 1e-4, 1, 1, 1])  # 19 voxels of 1.5 mm: 0.00285 mm
    assert not Grid(SHAPE, STRAIGHT).equals(Grid(SHAPE, stretched), tolerance_mm=0.0028)
    assert Grid(SHAPE, STRAIGHT).equals(Grid(SHAPE, stretched), tolerance_mm=0.0029)


def test_single_voxels_of_other_size_differ():
    one = Grid((1, 1, 1), STRAIGHT)
    assert not one.equals(Grid((1, 1, 1), STRAIGHT @ np.diag([2, 1, 1, 1])))


def test_slightly_non_orthonormal_axes_are_welcome():
    assert Grid(SHAPE, affine([(1, 1e-3, 0), (0, 1, 0), (0, 0, 8)])).handedness == 1


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((20, 30), STRAIGHT),
        ((20, 0, 8), STRAIGHT),
        (SHAPE, STRAIGHT[:3]),
        (SHAPE, STRAIGHT * np.nan),
        (SHAPE, affine([(1, 0, 0), (2, 0, 0), (0, 0, 8)])),
        (SHAPE, affine([(1, 0, 0), (0, 0, 0), (0, 0, 8)])),
        (SHAPE, STRAIGHT + np.eye(4)[::-1]),
    ],
)
def test_what_is_no_grid_is_refused(shape, matrix):
    with pytest.raises(GridError):
        Grid(shape, matrix)
