"""What the four views show, seen by Slicer's own rendering without a screen."""

from __future__ import annotations

import numpy as np
import pytest
from CineLabelLib.core.labels import STRUCTURES
from CineLabelLib.mrml import layout, volumes
from CineLabelLib.mrml.scene import MrmlScene
from CineLabelLib.study import CineStudy
from made_up import FRAMES, SHAPE, affine_of
from pictures import SIDE, Camera, why_not


@pytest.fixture(scope="module", autouse=True)
def _needs_gl() -> None:
    if reason := why_not():
        pytest.skip(reason)


def grey_study(kind: str) -> CineStudy:
    voxels = np.full((*SHAPE, FRAMES), 100, np.int16)
    voxels[0, 0] = 0
    voxels[-1, -1] = 200
    return CineStudy("grey", voxels, affine_of(kind))


@pytest.fixture(params=["oblique", "oblique left-handed"])
def camera(scene: MrmlScene, request: pytest.FixtureRequest) -> Camera:
    camera = Camera(scene)
    scene.show(grey_study(request.param))
    return camera


def colour_at(scene: MrmlScene, picture: np.ndarray, voxel: tuple[int, int, int]) -> np.ndarray:
    """The colour in the view of the current slice, lower right, where a voxel lies."""
    node = scene.seam.slice_logic(layout.CURRENT).GetSliceNode()
    world = scene.study.grid.index_to_world(np.array(voxel, float))
    x, y, *_ = np.linalg.inv(volumes.array_of_matrix(node.GetXYToRAS())) @ (*world, 1)
    return picture[2 * SIDE - 1 - round(float(y)), SIDE + round(float(x))].astype(int)


def test_each_label_is_seen_in_its_colour_at_its_voxels_of_its_slice(
    scene: MrmlScene, camera: Camera
) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    places = {1: (5, 4, 3), 2: (15, 5, 3), 3: (6, 14, 3)}
    for value, (i, j, k) in places.items():
        labels[i - 2 : i + 3, j - 2 : j + 3, k] = value
    scene.set_labels(0, labels)
    scene.go_to_slice(3)
    seen = camera.picture()
    grey = colour_at(scene, seen, (16, 15, 3))
    assert np.ptp(grey) == 0
    for structure in STRUCTURES:
        colour = colour_at(scene, seen, places[structure.value])
        expected = (grey + np.array(structure.colour)) / 2
        assert np.abs(colour - expected).max() <= 3
    scene.go_to_slice(4)
    elsewhere = camera.picture()
    for place in places.values():
        assert np.ptp(colour_at(scene, elsewhere, (place[0], place[1], 4))) == 0
    scene.go_to_slice(3)
    scene.go_to(1)
    other_frame = camera.picture()
    for place in places.values():
        assert np.ptp(colour_at(scene, other_frame, place)) == 0


def test_disagreement_is_seen_where_it_is_the_lighter_the_stronger(
    scene: MrmlScene, camera: Camera
) -> None:
    values = np.zeros(SHAPE, np.float32)
    values[3:8, 3:8, 2], values[12:17, 3:8, 2] = 0.4, 1.0
    scene.show_disagreement(0, values)
    scene.go_to_slice(2)
    seen = camera.picture()
    some, much = (colour_at(scene, seen, (i, 5, 2)) for i in (5, 14))
    assert np.ptp(some) > 40
    assert much.sum() > some.sum() + 60
    assert np.ptp(colour_at(scene, seen, (6, 14, 2))) == 0
    scene.show_disagreement(0, None)
    assert np.ptp(colour_at(scene, camera.picture(), (14, 5, 2))) == 0
