"""The scene tells what happens to a study, and nothing is lost when it goes."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from CineLabelLib.core.errors import CineLabelError
from CineLabelLib.core.labels import LV
from CineLabelLib.mrml import seam as seams
from CineLabelLib.mrml import segments
from CineLabelLib.mrml.scene import MrmlScene
from made_up import SHAPE, labels_of, study_of


def a_patch() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[5:9, 6:11, 2] = True
    return mask


def test_an_undo_never_edits_a_frame_that_is_not_on_screen(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.edits.paint(LV, a_patch())
    painted = scene.labels(0)
    scene.cine.browser.SetSelectedItemNumber(1)
    scene.set_labels(1, labels_of())
    assert not scene.edits.can_undo()
    with pytest.raises(CineLabelError):
        scene.edits.undo()
    assert np.array_equal(scene.labels(0), painted)
    assert np.array_equal(scene.labels(1), labels_of())
    scene.go_to(0)
    assert not scene.edits.can_undo()


def test_an_edit_is_told_once_it_can_be_read_and_a_machines_labels_are_not(
    scene: MrmlScene,
) -> None:
    told: list[tuple[int, bool]] = []
    scene.edited.connect(lambda frame: told.append((frame, bool(scene.labels(frame).any()))))
    scene.show(study_of())
    for t in range(3):
        scene.set_labels(t, labels_of())
        scene.set_labels(t, labels_of() * 0)
        scene.go_to(t)
    assert told == []
    scene.edits.paint(LV, a_patch())
    assert set(told) == {(2, True)}


def test_views_hear_of_labels_that_are_put_onto_the_frame_on_screen(scene: MrmlScene) -> None:
    scene.show(study_of())
    heard: list[str] = []
    event = slicer.vtkSegmentation.SourceRepresentationModified
    scene.cine.segmentation.AddObserver(event, lambda *_: heard.append("modified"))
    scene.set_labels(1, labels_of())
    assert heard == []
    scene.set_labels(0, labels_of())
    assert heard


def test_a_change_of_frame_is_told_once_by_whoever_made_it(scene: MrmlScene) -> None:
    scene.show(study_of())
    told: list[int] = []
    scene.frame_changed.connect(told.append)
    scene.go_to(2)
    scene.go_to(2)
    scene.cine.browser.SetSelectedItemNumber(3)
    scene.cine.browser.SetPlaybackRateFps(5)
    assert told == [2, 3]


def test_labels_can_be_read_a_last_time_when_the_scene_is_closed(scene: MrmlScene) -> None:
    read: list[np.ndarray] = []
    scene.closing.connect(lambda: read.append(scene.labels(1)))
    scene.show(study_of())
    scene.set_labels(1, labels_of())
    scene.seam.scene.Clear(0)
    assert len(read) == 1
    assert np.array_equal(read[0], labels_of())
    assert scene.study is None


@pytest.mark.parametrize("which", range(5))
def test_labels_can_be_read_a_last_time_when_a_node_of_the_study_is_deleted(
    scene: MrmlScene, which: int
) -> None:
    read: list[np.ndarray] = []
    scene.closing.connect(lambda: read.append(scene.labels(0)))
    scene.show(study_of())
    before = scene.seam.scene.GetNumberOfNodes()
    scene.set_labels(0, labels_of())
    scene.seam.scene.RemoveNode(scene.cine.nodes()[which])
    assert len(read) == 1
    assert np.array_equal(read[0], labels_of())
    assert scene.study is None
    scene.show(study_of())
    assert not scene.labels(0).any()
    assert scene.seam.scene.GetNumberOfNodes() <= before + 1


def test_a_study_goes_even_if_whoever_hears_of_it_fails(scene: MrmlScene) -> None:
    def fail() -> None:
        raise OSError("disk full")

    scene.closing.connect(fail)
    scene.show(study_of())
    with pytest.raises(OSError, match="disk full"):
        scene._on_closing()
    assert scene.study is None


def test_taking_a_study_away_or_showing_the_next_is_no_closing_and_leaves_no_nodes(
    scene: MrmlScene,
) -> None:
    told: list[str] = []
    scene.closing.connect(lambda: told.append("closing"))
    scene.show(study_of())
    scene.show_disagreement(0, np.ones(SHAPE, np.float32))
    scene.show_beside(0, labels_of(), "Model")
    scene.clear()
    nodes = scene.seam.scene.GetNumberOfNodes()
    for _ in range(2):
        scene.show(study_of())
        scene.show_disagreement(0, np.ones(SHAPE, np.float32))
        scene.show_beside(0, labels_of(), "Model")
    scene.clear()
    assert scene.seam.scene.GetNumberOfNodes() == nodes
    assert told == []


def test_axes_that_are_not_perpendicular_are_told_and_labelled_all_the_same(
    scene: MrmlScene,
) -> None:
    scene.show(study_of("sheared"))
    assert "degrees from perpendicular" in " ".join(scene.notes)
    scene.set_labels(0, labels_of())
    assert np.array_equal(scene.labels(0), labels_of())
    scene.show(study_of("oblique"))
    assert scene.notes == ()


def test_a_study_whose_first_and_second_axes_are_sheared_is_no_reason_to_crash(
    scene: MrmlScene,
) -> None:
    study = study_of()
    affine = study.affine.copy()
    affine[:3, 1] += 0.3 * affine[:3, 0]
    scene.show(type(study)("sheared", study.voxels, affine))
    scene.set_labels(0, labels_of())
    scene.go_to_slice(3)
    assert scene.slice() == 3
    assert np.array_equal(scene.labels(0), labels_of())
    assert scene.notes


def test_play_steps_through_the_frames_and_stops_where_it_is(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.play(True, 30)
    assert scene.playing()
    assert scene.cine.browser.GetPlaybackRateFps() == 30
    scene.play(False)
    assert not scene.playing()
    scene.clear()
    assert not scene.playing()


def test_disagreement_lies_over_its_own_frame_alone(scene: MrmlScene) -> None:
    scene.show(study_of())
    values = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    scene.show_disagreement(1, values)
    composite = scene.layout.views()[0].GetSliceCompositeNode()
    assert composite.GetForegroundVolumeID() is None
    scene.go_to(1)
    over = scene.seam.scene.GetNodeByID(composite.GetForegroundVolumeID())
    assert np.array_equal(slicer.util.arrayFromVolume(over), values.transpose(2, 1, 0))
    scene.go_to(2)
    assert composite.GetForegroundVolumeID() is None
    scene.go_to(1)
    scene.show_disagreement(1, None)
    assert composite.GetForegroundVolumeID() is None
    with pytest.raises(CineLabelError, match="the map is"):
        scene.show_disagreement(1, values[1:])


def test_labels_of_another_lie_beside_and_are_never_read_as_the_readers(
    scene: MrmlScene,
) -> None:
    scene.show(study_of())
    scene.set_labels(0, labels_of(1))
    scene.show_beside(0, labels_of(2), "Version 3")
    node = scene.seam.scene.GetFirstNodeByName("Version 3")
    assert node.GetDisplayVisibility()
    assert not node.GetDisplayNode().GetVisibility2DFill()
    assert np.array_equal(scene.labels(0), labels_of(1))
    scene.go_to(1)
    assert not node.GetDisplayVisibility()
    assert not scene.labels(1).any()
    scene.go_to(0)
    assert node.GetDisplayVisibility()
    scene.show_beside(0, None)
    assert not node.GetDisplayVisibility()


def test_opacity_is_that_of_the_labels(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.show_opacity(0.3)
    display = scene.cine.segmentation.GetDisplayNode()
    assert display.GetOpacity2DFill() == pytest.approx(0.3)
    scene.show_opacity(0)
    assert display.GetOpacity2DOutline() == 0


def test_a_surface_made_of_segments_does_not_outlive_new_labels(scene: MrmlScene) -> None:
    scene.show(study_of())
    mask = np.where(a_patch(), 1, 0).astype(np.uint8)
    scene.set_labels(0, mask)
    segmentation = scene.cine.segmentation.GetSegmentation()
    assert segmentation.CreateRepresentation("Closed surface")
    before = segmentation.GetSegment("LV").GetRepresentation("Closed surface").GetCenter()
    scene.set_labels(0, np.roll(mask, 8, axis=0))
    surface = segmentation.GetSegment("LV").GetRepresentation("Closed surface")
    if surface is not None:  # then it was made anew
        assert not np.allclose(surface.GetCenter(), before)


def test_headless_and_desktop_are_told_apart_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = seams.headless()

    class Module:
        def __init__(self, logic: object) -> None:
            self._logic = logic

        def logic(self) -> object:
            return self._logic

    class Modules:
        segmentations = Module(stand_in.segmentations)
        sequences = Module(stand_in.sequences)
        colors = Module(stand_in.colours)

    class Application:
        def applicationLogic(self) -> object:
            return stand_in.application

    monkeypatch.setattr(slicer, "mrmlScene", stand_in.scene, raising=False)
    monkeypatch.setattr(slicer, "modules", Modules, raising=False)
    monkeypatch.setattr(slicer, "app", Application(), raising=False)
    for name in ("CineBase", "CineMid", "CineApex", "CineSlice"):
        stand_in.slice_logic(name)
    desktop = seams.current()
    assert desktop.desktop
    assert desktop.scene is stand_in.scene
    scene = MrmlScene()
    scene.show(study_of())
    scene.set_labels(0, labels_of())
    assert np.array_equal(scene.labels(0), labels_of())
    scene.clear()
    with pytest.raises(LookupError, match="no slice view named Nowhere"):
        desktop.slice_logic("Nowhere")


def test_segments_are_told_by_slicers_own_logic_in_the_colours_of_the_export(
    scene: MrmlScene,
) -> None:
    scene.show(study_of())
    ids = vtk.vtkStringArray()
    scene.cine.segmentation.GetSegmentation().GetSegmentIDs(ids)
    names = [ids.GetValue(n) for n in range(ids.GetNumberOfValues())]
    assert names == [s.name for s in segments.STRUCTURES]
