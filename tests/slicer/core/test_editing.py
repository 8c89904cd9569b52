"""Edits by Slicer's segment editor logic: one step each, of the frame on screen alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer
from CineLabelLib import filling, nifti, shortaxis
from CineLabelLib.core.errors import CineLabelError, LabelError
from CineLabelLib.core.labels import LV, MYO, RV, STRUCTURES
from CineLabelLib.mrml import editing, masks
from CineLabelLib.mrml.scene import MrmlScene
from CineLabelLib.shortaxis import AlreadyLabelled, NothingToDo
from CineLabelLib.study import CineStudy
from made_up import FRAMES, KINDS, SHAPE, affine_of

OPERATIONS: dict[str, Callable[[editing.Editing], object]] = {
    "copy a slice": lambda edits: edits.copy_slice(2, 3),
    "copy a frame": lambda edits: edits.copy_frame(1, replace=True),
    "clear a slice": lambda edits: edits.clear_slice(2),
    "fill between": lambda edits: edits.fill_between(),
    "smooth": lambda edits: edits.smooth(),
    "keep the largest": lambda edits: edits.keep_largest(),
    "grow": lambda edits: edits.grow(MYO, 1.5),
    "shrink": lambda edits: edits.grow(RV, -1.5),
    "close the muscle": lambda edits: edits.close_muscle(),
    "paint": lambda edits: edits.paint(LV, corner()),
    "erase": lambda edits: edits.erase(MYO, np.ones(SHAPE, bool)),
}


def corner() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:9, :9, 1:3] = True
    return mask


def heart(shift: int = 0) -> np.ndarray:
    """Labels of four slices, slice 3 empty; with islands, a hole and muscle that is open to RV."""
    x, y = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(x - 9 - shift, y - 9)
    one = np.zeros(SHAPE[:2], np.uint8)
    one[np.hypot(x - 16 - shift, y - 9) < 5.5] = RV.value
    one[r < 6] = MYO.value
    one[r < 3.5] = LV.value
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, :, 1:5] = one[:, :, None]
    labels[:, :, 3] = 0
    labels[11 + shift : 16 + shift, 9, 4] = LV.value
    labels[22, 1, 4] = LV.value
    labels[5 + shift, 9, 1] = 0
    return labels


def four(shape: tuple[int, int, int] = SHAPE, kind: str = "oblique left-handed") -> CineStudy:
    voxels = np.random.default_rng(3).integers(0, 900, (*shape, FRAMES)).astype(np.int16)
    return CineStudy("made-up", voxels, affine_of(kind), ed=0, es=2)


@pytest.fixture
def desk(scene: MrmlScene) -> MrmlScene:
    """A study with a heart in frames 0 and 1, frame 0 on screen."""
    scene.show(four())
    scene.set_labels(0, heart())
    scene.set_labels(1, heart(1))
    return scene


def all_labels(scene: MrmlScene) -> list[np.ndarray]:
    return [scene.labels(t) for t in range(FRAMES)]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_edit_is_one_step_of_the_frame_on_screen_and_leaves_the_others(desk, operation):
    before = all_labels(desk)
    frames: list[int] = []
    desk.edited.connect(frames.append)
    OPERATIONS[operation](desk.edits)
    after = all_labels(desk)
    assert (after[0] != before[0]).any()
    assert set(np.unique(after[0])) <= {0, 1, 2, 3}
    assert set(frames) == {0}
    for t in range(1, FRAMES):
        np.testing.assert_array_equal(after[t], before[t])
    frames.clear()
    desk.edits.undo()
    np.testing.assert_array_equal(desk.labels(0), before[0])
    assert not desk.edits.can_undo()
    desk.edits.redo()
    np.testing.assert_array_equal(desk.labels(0), after[0])
    assert frames == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_logic_writes_what_the_arrays_say_on_any_grid(scene, kind):
    scene.show(four(kind=kind))
    scene.set_labels(0, heart())
    wanted = shortaxis.close_muscle(shortaxis.copy_slice(heart(), 2, 3))
    scene.edits.copy_slice(2, 3)
    scene.edits.close_muscle()
    np.testing.assert_array_equal(scene.labels(0), wanted)


@pytest.mark.parametrize("operation", set(OPERATIONS) - {"copy a frame", "paint", "erase"})
def test_an_edit_of_an_empty_frame_is_a_sentence_and_no_step(desk, operation):
    desk.go_to(2)
    with pytest.raises(NothingToDo, match=r"\.$"):
        OPERATIONS[operation](desk.edits)
    assert not desk.edits.can_undo()
    assert not desk.labels(2).any()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_edit_without_a_study_is_a_sentence(scene, operation):
    with pytest.raises(NothingToDo, match="no study is open. Open one first"):
        OPERATIONS[operation](scene.edits)


def test_undo_after_another_frame_came_on_screen_edits_no_frame(desk):
    desk.edits.clear_slice(2)
    desk.edits.copy_slice(1, 2)
    before = all_labels(desk)
    desk.go_to(1)
    assert not desk.edits.can_undo()
    with pytest.raises(NothingToDo, match="nothing was edited since this frame came on screen"):
        desk.edits.undo()
    desk.go_to(0)
    with pytest.raises(NothingToDo):
        desk.edits.undo()
    for was, now in zip(before, all_labels(desk), strict=True):
        np.testing.assert_array_equal(now, was)


def test_undo_after_the_browser_was_moved_by_others_edits_no_frame(desk):
    desk.edits.clear_slice(2)
    before = all_labels(desk)
    desk.cine.browser.SetSelectedItemNumber(1)
    desk.edits.clear_slice(2)
    desk.edits.undo()
    assert not desk.edits.can_undo()
    for was, now in zip(before, all_labels(desk), strict=True):
        np.testing.assert_array_equal(now, was)


def test_a_history_that_nobody_emptied_is_not_used_in_another_frame(desk, monkeypatch):
    desk.edits.clear_slice(2)
    before = all_labels(desk)
    with monkeypatch.context() as patch:
        patch.setattr(desk.edits, "forget", lambda: None)
        desk.go_to(1)
    with pytest.raises(NothingToDo):
        desk.edits.undo()
    for was, now in zip(before, all_labels(desk), strict=True):
        np.testing.assert_array_equal(now, was)


def test_a_segmentation_that_arrives_ends_the_history(desk):
    desk.edits.clear_slice(2)
    desk.set_labels(0, heart(2))
    assert not desk.edits.can_undo()
    np.testing.assert_array_equal(desk.labels(0), heart(2))


def test_another_study_has_no_history(desk):
    desk.edits.clear_slice(2)
    desk.show(four((10, 8, 4)))
    assert not desk.edits.can_undo()
    desk.edits.paint(LV, np.ones((10, 8, 4), bool))
    assert (desk.labels(0) == LV.value).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_painting_on_locked_neighbours_does_nothing(desk, structure):
    before = desk.labels(0)
    neighbours = (before > 0) & (before != structure.value)
    assert desk.edits.paint(structure, neighbours) is False
    assert not desk.edits.can_undo()
    desk.edits.paint(structure, np.ones(SHAPE, bool))
    after = desk.labels(0)
    np.testing.assert_array_equal(after[neighbours], before[neighbours])
    assert (after[before == 0] == structure.value).all()


@pytest.mark.parametrize("selected", [s.name for s in STRUCTURES])
def test_the_editors_own_masking_keeps_locked_neighbours(desk, selected):
    """What the mouse does: the logic is given a brush that nobody cut to the background."""
    before = desk.labels(0)
    desk.edits.node.SetSelectedSegmentID(selected)
    masks.modify(
        desk.edits._logic, "LV", np.ones(SHAPE, bool), desk.edits._logic.ModificationModeAdd
    )
    after = desk.labels(0)
    np.testing.assert_array_equal(after[before > 1], before[before > 1])
    assert (after[before <= 1] == LV.value).all()
    assert desk.edits.node.GetSelectedSegmentID() == selected


def test_unlocked_neighbours_give_way_and_never_overlap(desk):
    desk.edits.lock(False)
    desk.edits.paint(LV, corner())
    assert (desk.labels(0)[corner()] == LV.value).all()
    np.testing.assert_array_equal(desk.labels(0)[~corner()], heart()[~corner()])
    desk.edits.lock(True)
    assert desk.edits.paint(RV, corner()) is False


def test_an_edit_by_a_button_leaves_the_editors_settings(desk):
    node = desk.edits.node
    node.SetSourceVolumeIntensityMask(True)
    node.SetSourceVolumeIntensityMaskRange(880, 890)
    node.SetSelectedSegmentID("RV")
    desk.edits.copy_slice(2, 3)
    np.testing.assert_array_equal(desk.labels(0)[:, :, 3], heart()[:, :, 2])
    assert node.GetSourceVolumeIntensityMask()
    assert node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments
    assert node.GetOverwriteMode() == node.OverwriteAllSegments
    assert node.GetSelectedSegmentID() == "RV"


def test_a_slice_or_a_frame_with_labels_is_replaced_only_when_the_reader_says_so(desk):
    for copy in (desk.edits.copy_slice, desk.edits.copy_frame):
        arguments = (1, 4) if copy == desk.edits.copy_slice else (1,)
        with pytest.raises(AlreadyLabelled, match="have labels already|has labels already"):
            copy(*arguments)
        np.testing.assert_array_equal(desk.labels(0), heart())
        assert not desk.edits.can_undo()
    desk.edits.copy_slice(1, 4, replace=True)
    np.testing.assert_array_equal(desk.labels(0)[:, :, 4], heart()[:, :, 1])


def test_a_frame_is_copied_into_an_empty_one_without_asking(desk):
    desk.go_to(3)
    desk.edits.copy_frame(1)
    np.testing.assert_array_equal(desk.labels(3), heart(1))


def test_a_segment_that_was_deleted_comes_back_by_an_edit(desk):
    desk.cine.segmentation.GetSegmentation().RemoveSegment("LV")
    desk.edits.paint(LV, heart() == LV.value)
    np.testing.assert_array_equal(desk.labels(0), heart())


def test_a_fourth_segment_is_told_and_nothing_is_edited(desk):
    desk.cine.segmentation.GetSegmentation().AddEmptySegment("Aorta", "Aorta")
    with pytest.raises(LabelError, match="Aorta"):
        desk.edits.smooth()
    assert not desk.edits.can_undo()


def test_segments_that_the_mouse_let_overlap_are_told_before_an_edit(desk):
    node, logic = desk.edits.node, desk.edits._logic
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    node.SetOverwriteMode(node.OverwriteNone)
    masks.modify(logic, "RV", heart() == MYO.value, logic.ModificationModeAdd)
    with pytest.raises(LabelError, match="overlap"):
        desk.edits.smooth()


def test_as_many_steps_as_promised_can_be_undone(desk):
    mask = np.zeros(SHAPE, bool)
    for step in range(editing.UNDO_STEPS):
        mask[0, step, 0] = True
        desk.edits.paint(LV, mask)
    for _ in range(editing.UNDO_STEPS):
        desk.edits.undo()
    np.testing.assert_array_equal(desk.labels(0), heart())


def test_the_brush_grows_and_shrinks_within_its_limits(desk):
    sizes = [desk.edits.scale_brush(larger=True) for _ in range(20)]
    assert sizes[0] == pytest.approx(editing.BRUSH_MM * editing.BRUSH_STEP)
    assert sizes[-1] == editing.LARGEST_BRUSH_MM
    small = [desk.edits.scale_brush(larger=False) for _ in range(40)]
    assert small[-1] == editing.SMALLEST_BRUSH_MM
    assert desk.edits.node.GetAttribute("BrushAbsoluteDiameter") == "1"


def test_the_brush_is_flat_and_edits_stay_apart(desk):
    node = desk.edits.node
    assert node.GetAttribute("BrushSphere") == "0"
    assert node.GetOverwriteMode() == node.OverwriteAllSegments
    assert node.GetSegmentationNode() is desk.cine.segmentation
    assert node.GetSourceVolumeNode() is desk.cine.volume


def test_editing_goes_on_after_the_scene_was_emptied(desk):
    desk.seam.scene.Clear(0)
    with pytest.raises(CineLabelError, match="no study is open"):
        desk.edits.undo() if desk.edits.can_undo() else desk.edits.smooth()
    desk.show(four())
    desk.edits.paint(LV, corner())
    assert (desk.labels(0)[corner()] == LV.value).all()
    assert desk.seam.scene.IsNodePresent(desk.edits.node)


class Widget:
    """What of qMRMLSegmentEditorWidget keeps the history, by a logic of its own as in Slicer."""

    def __init__(self, node: Any) -> None:
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetSegmentEditorNode(node)

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self.logic.SetMaximumNumberOfUndoStates(count)

    def saveStateForUndo(self) -> None:
        self.logic.SaveStateForUndo()

    def undo(self) -> None:
        self.logic.Undo()

    def redo(self) -> None:
        self.logic.Redo()

    def setUndoEnabled(self, enabled: bool) -> None:
        self.logic.ClearUndoState()

    def button(self, able: Callable[[], bool]) -> Any:
        class Button:
            @property
            def enabled(self) -> bool:
                return able()

        return Button()


def test_buttons_and_the_embedded_editor_share_one_history(desk):
    widget = Widget(desk.edits.node)
    buttons = widget.button(widget.logic.CanUndo), widget.button(widget.logic.CanRedo)
    desk.edits.use(editing.WidgetHistory(widget, *buttons))
    widget.saveStateForUndo()
    masks.modify(widget.logic, "LV", corner(), widget.logic.ModificationModeAdd)
    painted = desk.labels(0)
    desk.edits.clear_slice(2)
    desk.edits.undo()
    np.testing.assert_array_equal(desk.labels(0), painted)
    widget.undo()
    np.testing.assert_array_equal(desk.labels(0), heart())
    desk.edits.redo()
    desk.go_to(1)
    assert not widget.logic.CanUndo()
    assert not widget.logic.CanRedo()


def test_the_panel_shows_effects_that_keep_to_the_three_segments(desk):
    class Embedded:
        def __init__(self) -> None:
            self.told: dict[str, object] = {}

        def __getattr__(self, name: str) -> Callable[[object], None]:
            return lambda value: self.told.__setitem__(name, value)

    widget = Embedded()
    editing.embed(widget, desk.seam.scene, desk.edits.node)
    assert widget.told["setEffectNameOrder"] == list(editing.EFFECTS)
    assert widget.told["setMRMLSegmentEditorNode"] is desk.edits.node
    assert widget.unorderedEffectsVisible is False
    assert widget.told["setAddRemoveSegmentButtonsVisible"] is False


@pytest.mark.parametrize("effect", ["Fill between slices", "Grow from seeds"])
def test_no_effect_is_shown_whose_preview_outlives_its_frame(effect):
    assert effect not in editing.EFFECTS


def test_itk_and_distance_maps_fill_alike(shared_data):
    between = masks.morphological_between()
    assert between is not None
    for path in sorted(shared_data.glob("acdc/*/*_ED_gt.nii.gz"))[:1]:
        labels = np.array([0, 3, 2, 1], np.uint8)[nifti.read(path).voxels.astype(np.uint8)]
        labels[:, :, shortaxis.labelled_slices(labels)[1:-1:2]] = 0
        one, other = (filling.fill_between(labels, None, how) for how in (between, None))
        for structure in STRUCTURES:
            a, b = one == structure.value, other == structure.value
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_itk_fills_a_gap_between_slices_that_are_all_alike(desk):
    desk.edits.keep_largest()
    labels = desk.labels(0)
    labels[:, :, 1:5] = heart()[:, :, 2][:, :, None]
    labels[:, :, 3] = 0
    desk.set_labels(0, labels)
    desk.edits.fill_between()
    np.testing.assert_array_equal(desk.labels(0)[:, :, 3], labels[:, :, 2])
