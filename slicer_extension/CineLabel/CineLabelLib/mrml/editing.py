"""Edits of the frame on screen by 3D Slicer's segment editor: each is one undo step of that frame.

The history ends where the frame does: another frame or study on screen, and there is nothing to
undo. Painting and the like by the mouse is the segment editor's own; `embed` sets it up for
short-axis work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import slicer

from CineLabelLib import filling, shortaxis
from CineLabelLib.core.labels import BACKGROUND, Structure
from CineLabelLib.mrml import masks, segments
from CineLabelLib.mrml.seam import Seam
from CineLabelLib.mrml.sequences import CineSequences
from CineLabelLib.shortaxis import NothingToDo

EFFECTS = ("Paint", "Draw", "Erase", "Smoothing", "Margin", "Islands")
"""The segment editor's effects that the panel shows, in the order of its keys 1 to 6.

"Fill between slices" and "Grow from seeds" are not among them: they keep a preview in a node of
its own, which Apply would put onto whatever frame is on screen by then. `Editing.fill_between`
fills at once, in one step.
"""

UNDO_STEPS = 20
BRUSH_MM, SMALLEST_BRUSH_MM, LARGEST_BRUSH_MM = 8.0, 1.0, 60.0
BRUSH_STEP = 1.25


class Shown(Protocol):
    """What is needed of the scene, `mrml.scene.MrmlScene`."""

    seam: Seam
    cine: CineSequences | None

    def frame(self) -> int: ...

    def labels(self, frame: int) -> np.ndarray: ...


class History(Protocol):
    """States of the segmentation on screen that can be gone back to."""

    def save(self) -> None: ...

    def undo(self) -> None: ...

    def redo(self) -> None: ...

    def can_undo(self) -> bool: ...

    def can_redo(self) -> bool: ...

    def clear(self) -> None: ...


class LogicHistory:
    """The history of a vtkSlicerSegmentEditorLogic."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        logic.SetMaximumNumberOfUndoStates(UNDO_STEPS + 1)  # the newest is kept to redo to it

    def save(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def can_undo(self) -> bool:
        return bool(self._logic.CanUndo())

    def can_redo(self) -> bool:
        return bool(self._logic.CanRedo())

    def clear(self) -> None:
        self._logic.ClearUndoState()


class WidgetHistory:
    """The history of a qMRMLSegmentEditorWidget, which it shares with what the mouse does there.

    Args:
        widget: the embedded segment editor.
        undo_button, redo_button: its buttons; they alone tell whether there is a step.
    """

    def __init__(self, widget: Any, undo_button: Any, redo_button: Any) -> None:
        self._widget, self._undo, self._redo = widget, undo_button, redo_button
        widget.setMaximumNumberOfUndoStates(UNDO_STEPS + 1)

    def save(self) -> None:
        self._widget.saveStateForUndo()

    def undo(self) -> None:
        self._widget.undo()

    def redo(self) -> None:
        self._widget.redo()

    def can_undo(self) -> bool:
        return _enabled(self._undo)

    def can_redo(self) -> bool:
        return _enabled(self._redo)

    def clear(self) -> None:
        self._widget.setUndoEnabled(True)  # the only way to empty it from outside


class Editing:
    """What a person does to the labels of the frame on screen; `desk.ports.Edits` says how.

    Attributes:
        node: the vtkMRMLSegmentEditorNode; the embedded segment editor shares it.
    """

    def __init__(self, scene: Shown) -> None:
        self._scene = scene
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLApplicationLogic(scene.seam.application)
        self._logic.SetMRMLScene(scene.seam.scene)
        self.node = slicer.vtkMRMLSegmentEditorNode()
        self.node.SetName("CineLabel editing")
        self.node.SetSingletonTag("CineLabel")
        self._add_node()
        self._history: History = LogicHistory(self._logic)
        self._frame = -1
        self._locked = True

    def use(self, history: History) -> None:
        """Keep the steps in another history from now on: that of the embedded editor."""
        self._history.clear()
        self._history = history
        history.clear()

    def begin(self) -> None:
        """Begin with the study that is on screen, or with none."""
        cine = self._scene.cine
        self._add_node()
        self.node.SetAndObserveSegmentationNode(cine.segmentation if cine else None)
        self.node.SetAndObserveSourceVolumeNode(cine.volume if cine else None)
        prepare(self.node, self._locked)
        self.forget()

    def forget(self) -> None:
        """Empty the history; done whenever another frame or study is shown."""
        self._history.clear()
        self._frame = self._scene.frame()

    @property
    def locked(self) -> bool:
        """Whether neighbours are locked: painting and growing change the background alone."""
        return self._locked

    def lock(self, locked: bool) -> None:
        """Lock the neighbours of what is edited, or let them give way."""
        self._locked = locked
        prepare(self.node, locked)

    def undo(self) -> None:
        if not self.can_undo():
            raise NothingToDo("nothing was edited since this frame came on screen")
        self._history.undo()

    def redo(self) -> None:
        if not self.can_redo():
            raise NothingToDo("nothing was undone since the last edit of this frame")
        self._history.redo()

    def can_undo(self) -> bool:
        return self._same_frame() and self._history.can_undo()

    def can_redo(self) -> bool:
        return self._same_frame() and self._history.can_redo()

    def paint(self, structure: Structure, mask: np.ndarray) -> bool:
        """Add a mask (x, y, z) bool to a structure, as the paint effect does.

        Locked neighbours stay as they are. Returns whether a voxel changed.
        """
        labels = self._labels()
        open_to_it = labels == BACKGROUND if self._locked else labels != structure.value
        return self._modify(structure, mask & open_to_it, self._logic.ModificationModeAdd)

    def erase(self, structure: Structure, mask: np.ndarray) -> bool:
        """Take a mask (x, y, z) bool away from a structure. Returns whether a voxel changed."""
        own = mask & (self._labels() == structure.value)
        return self._modify(structure, own, self._logic.ModificationModeRemove)

    def copy_slice(self, from_slice: int, to_slice: int, replace: bool = False) -> None:
        self._change(shortaxis.copy_slice, from_slice, to_slice, replace=replace)

    def copy_frame(self, from_frame: int, slice: int | None = None, replace: bool = False) -> None:
        self._cine()
        other = self._scene.labels(from_frame)
        self._change(shortaxis.copy_frame, other, slice, replace=replace)

    def clear_slice(self, slice: int) -> None:
        self._change(shortaxis.clear_slice, slice)

    def fill_between(self, structure: Structure | None = None) -> None:
        self._change(filling.fill_between, structure, masks.morphological_between())

    def smooth(self, structure: Structure | None = None, slice: int | None = None) -> None:
        self._change(shortaxis.smooth, self._cine().grid.spacing, structure, slice)

    def keep_largest(self, structure: Structure | None = None, slice: int | None = None) -> None:
        self._change(shortaxis.keep_largest, structure, slice)

    def grow(self, structure: Structure, by_mm: float, slice: int | None = None) -> None:
        spacing = self._cine().grid.spacing
        self._change(shortaxis.grow, spacing, structure, by_mm, slice, locked=self._locked)

    def close_muscle(self, slice: int | None = None) -> None:
        self._change(shortaxis.close_muscle, slice)

    def scale_brush(self, larger: bool) -> float:
        """Make the brush one step larger or smaller; gives its new diameter in mm."""
        was = float(self.node.GetAttribute("BrushAbsoluteDiameter") or BRUSH_MM)
        size = was * BRUSH_STEP if larger else was / BRUSH_STEP
        size = round(min(max(size, SMALLEST_BRUSH_MM), LARGEST_BRUSH_MM), 2)
        self.node.SetAttribute("BrushAbsoluteDiameter", f"{size:g}")
        self.node.InvokeCustomModifiedEvent(self.node.EffectParameterModified)
        return size

    def _add_node(self) -> None:
        mrml = self._scene.seam.scene
        if not mrml.IsNodePresent(self.node):
            self.node = mrml.AddNode(self.node)
        self._logic.SetSegmentEditorNode(self.node)

    def _cine(self) -> CineSequences:
        if self._scene.cine is None:
            raise NothingToDo("no study is open", remedy="Open one first")
        return self._scene.cine

    def _same_frame(self) -> bool:
        """Whether the history is of the frame on screen; it is emptied where it is not."""
        if self._frame != self._scene.frame():
            self.forget()
        return self._scene.cine is not None

    def _labels(self) -> np.ndarray:
        self._cine()
        self._same_frame()
        return self._scene.labels(self._frame)

    def _change(
        self, operation: Callable[..., np.ndarray], *arguments: object, **options: object
    ) -> None:
        """Let the labels on screen be what an operation makes of them, as one step."""
        before = self._labels()
        after = shortaxis.check(operation(before, *arguments, **options), before.shape)
        if (after == before).all():
            raise NothingToDo("this would change nothing in the frame")
        self._save()
        masks.write_changes(self._logic, before, after)

    def _modify(self, structure: Structure, mask: np.ndarray, mode: int) -> bool:
        if not mask.any():
            return False
        self._save()
        masks.modify(self._logic, structure.name, mask, mode)
        return True

    def _save(self) -> None:
        segments.complete(self._cine().segmentation)
        self._history.save()


def prepare(node: Any, locked: bool) -> None:
    """Set a vtkMRMLSegmentEditorNode up for short-axis work: a flat brush, no overlapping segments.

    Args:
        locked: edits change the background and the selected segment alone.
    """
    everywhere = slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
    outside = slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments
    modifying = node.StartModify()
    node.SetMaskMode(outside if locked else everywhere)
    node.SetOverwriteMode(node.OverwriteAllSegments)
    node.SetSourceVolumeIntensityMask(False)
    node.SetAttribute("BrushSphere", "0")
    node.SetAttribute("BrushDiameterIsRelative", "0")
    if node.GetAttribute("BrushAbsoluteDiameter") is None:
        node.SetAttribute("BrushAbsoluteDiameter", f"{BRUSH_MM:g}")
    node.EndModify(modifying)


def embed(widget: Any, scene: Any, node: Any) -> None:
    """Set a qMRMLSegmentEditorWidget up: our node, our effects, nothing that adds a segment.

    Args:
        scene: vtkMRMLScene.
        node: `Editing.node`.
    """
    widget.setMRMLScene(scene)
    widget.setMRMLSegmentEditorNode(node)
    widget.unorderedEffectsVisible = False  # a property without a slot
    widget.setEffectNameOrder(list(EFFECTS))
    for part in (
        "SegmentationNodeSelector",
        "SourceVolumeNodeSelector",
        "SwitchToSegmentationsButton",
        "AddRemoveSegmentButtons",
    ):
        getattr(widget, f"set{part}Visible")(False)


def _enabled(button: Any) -> bool:
    """Whether a button can be pressed; PythonQt has a property, other bindings a method."""
    if hasattr(button, "isEnabled"):
        return bool(button.isEnabled())
    return bool(button.enabled)
