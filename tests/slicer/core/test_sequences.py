"""Every frame owns its labels: scrolling makes and changes none; an edit stays in its frame."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from CineLabelLib.core.errors import InputError
from CineLabelLib.mrml import segments, volumes
from CineLabelLib.mrml.scene import MrmlScene
from made_up import FRAMES, SHAPE, labels_of, study_of


def scroll(scene: MrmlScene) -> None:
    """To and fro through every frame, by the browser as Slicer's own toolbar does."""
    for frame in (*range(FRAMES), *reversed(range(FRAMES)), 2, 0, 3, 1):
        scene.cine.browser.SetSelectedItemNumber(frame)


def test_scrolling_never_makes_a_label(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.set_labels(1, labels_of())
    scroll(scene)
    assert [int(scene.labels(t).any()) for t in range(FRAMES)] == [0, 1, 0, 0]
    assert np.array_equal(scene.labels(1), labels_of())


def test_scrolling_never_changes_a_label(scene: MrmlScene) -> None:
    scene.show(study_of())
    for t in range(FRAMES):
        scene.set_labels(t, labels_of(t))
    scroll(scene)
    assert all(np.array_equal(scene.labels(t), labels_of(t)) for t in range(FRAMES))


def test_a_frame_whose_item_was_taken_away_gets_no_labels_of_its_neighbour(
    scene: MrmlScene,
) -> None:
    scene.show(study_of())
    for t in range(FRAMES):
        scene.set_labels(t, labels_of(t))
    scene.cine.labels.RemoveDataNodeAtValue("2")
    scroll(scene)
    assert not scene.labels(2).any()
    assert all(np.array_equal(scene.labels(t), labels_of(t)) for t in (0, 1, 3))


def test_every_frame_has_an_item_and_a_missing_one_is_set_to_default(scene: MrmlScene) -> None:
    scene.show(study_of())
    cine = scene.cine
    assert cine.labels.GetNumberOfDataNodes() == cine.images.GetNumberOfDataNodes() == FRAMES
    for sequence in (cine.labels, cine.images):
        mode = cine.browser.GetMissingItemMode(sequence)
        assert mode == cine.browser.MissingItemSetToDefault


def test_proxies_follow_the_browser_for_as_long_as_the_scene_is_held(scene: MrmlScene) -> None:
    study = study_of()
    scene.show(study)
    gc.collect()
    for frame in (3, 1):
        scene.cine.browser.SetSelectedItemNumber(frame)
        image = volumes.voxels_of(scene.cine.volume.GetImageData())
        assert np.array_equal(image, study.frame(frame))


def test_an_edit_is_an_edit_of_the_frame_on_screen_alone(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.go_to(2)
    scene.cine.segmentation.GetSegmentation().RemoveSegment("MYO")
    segments.put(scene.cine.segmentation, labels_of(7), scene.cine.grid)
    scene.go_to(0)
    assert np.array_equal(scene.labels(2), labels_of(7))
    assert not any(scene.labels(t).any() for t in (0, 1, 3))


def test_what_is_read_is_a_copy(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.set_labels(0, labels_of())
    scene.labels(0)[:] = 0
    assert np.array_equal(scene.labels(0), labels_of())


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", ">i2", ">f8"])
def test_voxels_of_every_type_are_those_of_the_source(scene: MrmlScene, dtype: str) -> None:
    study = study_of(dtype=dtype)
    scene.show(study)
    scene.go_to(3)
    image = volumes.voxels_of(scene.cine.volume.GetImageData())
    assert np.array_equal(image, study.frame(3))


def test_frames_beyond_the_ends_are_the_first_and_the_last(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.go_to(99)
    assert scene.frame() == FRAMES - 1
    scene.go_to(-5)
    assert scene.frame() == 0


def test_without_a_study_one_sentence_says_so(scene: MrmlScene) -> None:
    for ask in (
        lambda: scene.labels(0),
        lambda: scene.set_labels(0, np.zeros(SHAPE, np.uint8)),
        lambda: scene.go_to(1),
        lambda: scene.go_to_slice(1),
        lambda: scene.play(True),
        lambda: scene.show_disagreement(0, None),
    ):
        with pytest.raises(InputError, match="no study is open. Open one first"):
            ask()
    assert (scene.frame(), scene.slice(), scene.playing()) == (0, 0, False)


def test_a_study_of_one_frame_and_one_slice_is_shown_and_labelled(scene: MrmlScene) -> None:
    whole = study_of()
    one = type(whole)("one", whole.voxels[:, :, :1, :1], whole.affine)
    labels = labels_of()[:, :, :1]
    scene.show(one)
    scene.set_labels(0, labels)
    scene.go_to_slice(3)
    assert np.array_equal(scene.labels(0), labels)
    assert (scene.frame(), scene.slice()) == (0, 0)
