"""The four views show slices of the acquisition, the right way up, on any grid."""

from __future__ import annotations

import xml.etree.ElementTree as xml

import numpy as np
import pytest
from CineLabelLib.core.grid import Grid
from CineLabelLib.mrml import layout, volumes
from CineLabelLib.mrml.scene import MrmlScene
from made_up import KINDS, SHAPE, affine_of, study_of


def slice_to_ras(scene: MrmlScene, name: str = layout.CURRENT) -> np.ndarray:
    return volumes.array_of_matrix(scene.seam.slice_logic(name).GetSliceNode().GetSliceToRAS())


@pytest.mark.parametrize("kind", KINDS)
def test_every_view_lies_in_the_plane_of_the_images_columns(scene: MrmlScene, kind: str) -> None:
    study = study_of(kind)
    scene.show(study)
    for logic in scene.layout.views():
        pose = volumes.array_of_matrix(logic.GetSliceNode().GetSliceToRAS())
        rows, columns = study.grid.columns[:, 0], study.grid.columns[:, 1]
        assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3))
        assert np.allclose(np.abs([pose[:3, 0] @ rows, pose[:3, 1] @ columns]), 1)
        assert np.allclose(pose[:3, 2], study.grid.normal)


@pytest.mark.parametrize("kind", KINDS)
def test_each_slice_is_shown_at_its_own_place(scene: MrmlScene, kind: str) -> None:
    study = study_of(kind)
    scene.show(study)
    for z in range(study.n_slices):
        scene.go_to_slice(z)
        corner = study.grid.index_to_world(np.array([2, 3, z]))
        apart = (corner - slice_to_ras(scene)[:3, 3]) @ study.grid.normal
        assert apart == pytest.approx(0, abs=1e-6)
        assert scene.slice() == z


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_of_a_view_are_the_voxels_of_the_slice(scene: MrmlScene, kind: str) -> None:
    study = study_of(kind)
    scene.show(study)
    scene.go_to_slice(4)
    logic = scene.seam.slice_logic(layout.CURRENT)
    to_voxel = logic.GetBackgroundLayer().GetXYToIJKTransform()
    for xy in ((10.0, 20.0), (200.0, 130.0)):
        i, j, k = to_voxel.TransformPoint(*xy, 0.0)
        world = study.grid.index_to_world(np.array([i, j, k]))
        node = logic.GetSliceNode()
        expected = volumes.array_of_matrix(node.GetXYToRAS()) @ (*xy, 0, 1)
        assert np.allclose(world, expected[:3], atol=1e-4)
        if kind != "sheared":
            assert k == pytest.approx(4, abs=1e-5)


def test_the_patients_left_is_right_and_the_front_is_up_in_a_transverse_stack() -> None:
    for signs in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        affine = np.diag([signs[0] * 1.4, signs[1] * 1.4, 8, 1])
        axes = layout.plane_axes(Grid(SHAPE, affine))
        assert np.allclose(axes[:, 0], (-1, 0, 0))
        assert np.allclose(axes[:, 1], (0, 1, 0))


def test_a_stack_that_was_acquired_a_quarter_turn_off_is_shown_upright() -> None:
    affine = np.eye(4)  # the first axis runs down, the second to the right and the front
    affine[:3, :3] = np.array([(0.10, -0.35, -0.93), (0.73, 0.66, -0.16), (-0.67, 0.67, -0.32)]).T
    right, up, _ = layout.plane_axes(Grid(SHAPE, affine)).T
    assert right[:2].max() < -0.6
    assert up[2] > 0.9


@pytest.mark.parametrize("kind", ["oblique", "oblique left-handed"])
def test_the_base_is_where_the_patients_is_whatever_the_order_of_slices(kind: str) -> None:
    affine = affine_of(kind)
    turned = affine @ np.diag([1, 1, -1, 1])
    turned[:3, 3] = (affine @ (0, 0, SHAPE[2] - 1, 1))[:3]
    one = layout.levels_of(Grid(SHAPE, affine))
    other = layout.levels_of(Grid(SHAPE, turned))
    assert one == tuple(SHAPE[2] - 1 - z for z in other)
    assert len({*one}) == 3


@pytest.mark.parametrize("turned", [False, True])
def test_labels_tell_the_levels_better_than_the_stack(turned: bool) -> None:
    labels = np.zeros((20, 20, 12), np.uint8)
    for z, radius in zip(range(3, 10), (8, 8, 7, 6, 5, 3, 1), strict=True):
        labels[10 - radius : 10 + radius, 10 - radius : 10 + radius, z] = 1
    grid = Grid(labels.shape, np.diag([1.4, 1.4, 8, 1]))
    if turned:
        assert layout.levels_of(grid, labels[:, :, ::-1]) == (7, 5, 3)
    else:
        assert layout.levels_of(grid, labels) == (4, 6, 8)


def test_the_first_labels_place_the_levels_and_later_ones_leave_them(scene: MrmlScene) -> None:
    scene.show(study_of())
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 4:9, 0:3] = 1
    labels[3:12, 3:12, 0] = 1
    scene.set_labels(0, labels)
    shown = [scene.layout.slice(name) for name in layout.LEVELS]
    assert shown == [0, 1, 2]
    scene.set_labels(1, labels[:, :, ::-1])
    assert [scene.layout.slice(name) for name in layout.LEVELS] == shown


def test_scrolling_the_current_view_leaves_the_others_and_tells_the_slice(
    scene: MrmlScene,
) -> None:
    scene.show(study_of())
    told: list[int] = []
    scene.slice_changed.connect(told.append)
    before = [scene.layout.slice(name) for name in layout.LEVELS]
    node = scene.layout.current()
    node.SetSliceOffset(node.GetSliceOffset() + study_of().grid.spacing[2])
    assert told == [scene.slice()]
    scene.go_to_slice(0)
    scene.go_to_slice(0)
    assert told[1:] == [0]
    assert [scene.layout.slice(name) for name in layout.LEVELS] == before


def test_slices_beyond_the_ends_are_the_first_and_the_last(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.go_to_slice(99)
    assert scene.slice() == SHAPE[2] - 1
    scene.go_to_slice(-1)
    assert scene.slice() == 0


def test_the_layout_names_the_four_views_two_by_two() -> None:
    tree = xml.fromstring(layout.layout_xml())
    rows = [[view.get("singletontag") for view in row.iter("view")] for row in tree.findall("item")]
    assert rows == [list(layout.LEVELS[:2]), [layout.LEVELS[2], layout.CURRENT]]


def test_a_volume_fits_into_its_view(scene: MrmlScene) -> None:
    study = study_of("oblique")
    scene.show(study)
    corners = study.grid.corners()
    node = scene.layout.current()
    seen = corners @ slice_to_ras(scene)[:3, :2]
    size = seen.max(axis=0) - seen.min(axis=0)
    assert (np.array(node.GetFieldOfView())[:2] >= size).all()
    assert (np.array(node.GetFieldOfView())[:2] < 1.3 * size.max()).all()
