"""The study on screen: what the use cases ask of Slicer's scene (`desk/ports.py`, Scene)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
import vtk

from CineLabelLib.core.errors import InputError
from CineLabelLib.mrml import seam as seams
from CineLabelLib.mrml import segments, volumes
from CineLabelLib.mrml.editing import Editing
from CineLabelLib.mrml.layout import FourUp
from CineLabelLib.mrml.overlay import Beside, Disagreement
from CineLabelLib.mrml.sequences import CineSequences
from CineLabelLib.signals import Signal
from CineLabelLib.study import CineStudy

# Signals hear of a change after the logics of Slicer have acted on it.
_AFTER_THE_LOGICS = -100.0


class MrmlScene:
    """A study in the scene with segments a frame, four slice views, and what lies over them.

    Attributes:
        study: what is shown, None before the first and after the scene was emptied.
        cine: its nodes: `cine.segmentation` is what an editor works on.
        notes: what a reader must know of how the study is shown, in sentences.
        edits: changes by a button or a key, with their own history.
    """

    def __init__(self, seam: seams.Seam | None = None) -> None:
        self.seam = seam or seams.current()
        self.frame_changed = Signal()
        self.slice_changed = Signal()
        self.edited = Signal()
        self.closing = Signal()
        self.study: CineStudy | None = None
        self.cine: CineSequences | None = None
        self.notes: tuple[str, ...] = ()
        self.layout = FourUp(self.seam)
        self.disagreement = Disagreement(self.seam, self.layout)
        self.beside = Beside(self.seam)
        self.edits = Editing(self)
        self._reader: segments.LabelReader | None = None
        self._observed: list[tuple[Any, int]] = []
        self._shown = (0, 0)
        self._quiet = False
        self._age: tuple[tuple[str, int], ...] = ()

    # The study

    def show(self, study: CineStudy) -> None:
        """Show a study with empty labels in place of the one before, at its ED frame."""
        self.clear()
        with self._quietly():
            self.cine = CineSequences(self.seam, study)
            self.study = study
            self._reader = segments.LabelReader(self.seam, study.grid)
            self.cine.go_to(study.ed or 0)
            self.layout.show(self.cine.volume, study.grid)
        remark = volumes.remark_on(study.grid)
        self.notes = (remark,) if remark else ()
        self._shown = (self.frame(), self.slice())
        self.edits.begin()
        self._age = segments.age(self.cine.segmentation)
        self._observe()

    def clear(self, going: Any = None) -> None:
        """Take the study away, if there is one.

        Args:
            going: a node that somebody else is removing already.
        """
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []
        self.disagreement.clear()
        self.beside.clear()
        cine, self.cine = self.cine, None
        self.study, self._reader, self.notes = None, None, ()
        self.edits.begin()
        if cine is not None:
            cine.remove(going)

    def _observe(self) -> None:
        cine, modified = self._cine(), vtk.vtkCommand.ModifiedEvent
        self._watch(cine.browser, modified, self._on_browser)
        self._watch(self.layout.current(), modified, self._on_slice)
        # An undo tells SegmentModified alone, as a change of colour does.
        changes = ("SourceRepresentationModified", "SegmentModified")
        for name in (*changes, "SegmentAdded", "SegmentRemoved"):
            event = getattr(slicer.vtkSegmentation, name)
            self._watch(cine.segmentation, event, self._on_segments)
        scene = self.seam.scene
        self._watch(scene, scene.StartCloseEvent, self._on_closing)
        self._watch(scene, scene.NodeAboutToBeRemovedEvent, self._on_removal)

    def _watch(self, node: Any, event: Any, slot: Callable[..., None]) -> None:
        self._observed.append((node, node.AddObserver(event, slot, _AFTER_THE_LOGICS)))

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """What is done within is no edit of a person."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _cine(self) -> CineSequences:
        if self.cine is None:
            raise InputError("no study is open", remedy="Open one first")
        return self.cine

    # Frames and slices

    def frame(self) -> int:
        """The frame on screen, 0 without a study."""
        return self.cine.frame() if self.cine else 0

    def go_to(self, frame: int) -> None:
        """Show a frame; beyond the ends it is the first or the last."""
        self._cine().go_to(frame)

    def slice(self) -> int:
        """The slice in the view of the current slice, 0 without a study."""
        return self.layout.slice() if self.cine else 0

    def go_to_slice(self, index: int) -> None:
        """Show a slice in the view of the current slice."""
        self._cine()
        self.layout.go_to(index)

    def play(self, on: bool, frames_a_second: float = 20) -> None:
        """Play the frames in a loop, or stop at the one on screen."""
        browser = self._cine().browser
        browser.SetPlaybackRateFps(frames_a_second)
        browser.SetPlaybackActive(on)

    def playing(self) -> bool:
        """Whether the frames play."""
        return self.cine is not None and bool(self.cine.browser.GetPlaybackActive())

    # Labels

    def labels(self, frame: int, strict: bool = True) -> np.ndarray:
        """A copy of a frame's labels, (x, y, z) uint8, on the source grid.

        Raises:
            LabelError: a segment is none of LV, MYO, RV or was renamed, or two overlap; with
                `strict` False such segments are left out.
        """
        node = self._cine().labels_of(frame)
        assert self._reader is not None
        return self._reader.read(node, f"frame {frame} (counted from 0)", strict)

    def set_labels(self, frame: int, labels: np.ndarray) -> None:
        """Put labels (x, y, z) uint8 onto a frame; `edited` is not emitted."""
        cine = self._cine()
        with self._quietly():
            segments.put(cine.labels_of(frame), labels, cine.grid)
            self.layout.place_once(labels)
        if frame == self.frame():
            self.edits.forget()

    # What lies over the image

    def show_disagreement(self, frame: int, values: np.ndarray | None) -> None:
        """Lay (x, y, z) float32, 0 to 1, over a frame; None takes it away."""
        cine = self._cine()
        self.disagreement.put(frame, values, cine.grid)
        self._lay_over(self.frame())

    def show_beside(self, frame: int, labels: np.ndarray | None, title: str = "") -> None:
        """Show another's labels (x, y, z) uint8 as outlines; None hides them."""
        cine = self._cine()
        self.beside.put(frame, labels, title, cine.grid)
        self._lay_over(self.frame())

    def _lay_over(self, frame: int) -> None:
        """Show what lies over a frame; under a map of disagreement labels are outlines alone."""
        covered = self.disagreement.go_to(frame)
        self.beside.go_to(frame)
        self._cine().segmentation.GetDisplayNode().SetVisibility2DFill(not covered)

    def show_opacity(self, opacity: float) -> None:
        """How strongly the labels cover the image, 0 to 1; outlines stay twice as strong."""
        display = self._cine().segmentation.GetDisplayNode()
        display.SetOpacity2DFill(opacity)
        display.SetOpacity2DOutline(min(1.0, 2 * opacity))

    # What Slicer tells

    def _on_browser(self, *_: Any) -> None:
        frame = self.frame()
        if self.cine is None or frame == self._shown[0]:
            return
        self._shown = (frame, self._shown[1])
        with self._quietly():
            segments.complete(self.cine.segmentation)
        self._age = segments.age(self.cine.segmentation)
        self.edits.forget()
        self._lay_over(frame)
        self.frame_changed.emit(frame)

    def _on_slice(self, *_: Any) -> None:
        index = self.slice()
        if self.cine is not None and index != self._shown[1]:
            self._shown = (self._shown[0], index)
            self.slice_changed.emit(index)

    def _on_segments(self, *_: Any) -> None:
        if self.cine is None:
            return
        before, self._age = self._age, segments.age(self.cine.segmentation)
        if self._age != before and not self._quiet:
            self.edited.emit(self.frame())

    def _on_closing(self, *_: Any) -> None:
        self._close(None)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removal(self, _caller: Any, _event: Any, node: Any) -> None:
        if self.cine is not None and node in self.cine.nodes():
            self._close(node)

    def _close(self, going: Any) -> None:
        """Somebody empties the scene, or takes one of the study's nodes away."""
        if self.cine is not None:
            try:
                self.closing.emit()
            finally:
                self.clear(going)
