"""Section 4: Slicer's segment editor, and what short-axis work needs beside it."""

from __future__ import annotations

from collections.abc import Callable

from CineLabelLib.core.labels import LV, MYO, RV, Structure
from CineLabelLib.desk.states import EditingState, Origin
from CineLabelLib.panel.section import Section, Tools, calls, say, value

STRUCTURES: tuple[Structure | None, ...] = (None, LV, MYO, RV)
"""In the order of the box; None is all of them."""


class EditSection(Section):
    """Correct labels; nothing that a person made is replaced unasked."""

    FILE = "Edit.ui"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        ui, session = self.ui, self.session
        editing = session.editing
        for button, name in ((ui.undoButton, "undo"), (ui.redoButton, "redo")):
            button.setIcon(tools.icon(name))
        for button, action in (
            (ui.undoButton, editing.undo),
            (ui.redoButton, editing.redo),
            (ui.restoreButton, self._restore),
            (ui.saveButton, editing.save),
            (ui.previousSliceButton, lambda: self.copy_slice(-1)),
            (ui.nextSliceButton, lambda: self.copy_slice(1)),
            (ui.previousFrameButton, lambda: self.copy_frame(-1)),
            (ui.nextFrameButton, lambda: self.copy_frame(1)),
            (ui.fillButton, lambda: editing.fill_between(self._structure())),
            (ui.smoothButton, lambda: editing.smooth(self._structure())),
            (ui.islandsButton, lambda: editing.keep_largest(self._structure())),
            (ui.growButton, lambda: self._grow(1)),
            (ui.shrinkButton, lambda: self._grow(-1)),
            (ui.clearSliceButton, editing.clear_slice),
            (ui.closeMuscleButton, editing.close_muscle),
        ):
            button.clicked.connect(calls(action))
        ui.lockCheck.clicked.connect(
            calls(lambda: session.desk.scene.edits.lock(value(ui.lockCheck, "checked")))
        )
        ui.structureBox.activated.connect(calls(self.refresh))
        editing.changed.connect(calls(self.refresh))
        session.opening.changed.connect(calls(self.refresh))
        session.desk.scene.slice_changed.connect(calls(self.refresh))
        self.refresh()

    def scale_brush(self, larger: bool) -> None:
        """Make the brush of the segment editor a step larger or smaller."""
        if self.study is not None:
            self.session.desk.scene.edits.scale_brush(larger)

    def copy_slice(self, offset: int) -> None:
        """Give the slice on screen its neighbour's labels; ask where it has its own."""
        scene = self.session.desk.scene
        self._replacing(
            self._has_labels(scene.slice()),
            "This slice has labels already. Replace them by a copy?",
            lambda replace: self.session.editing.copy_from_slice(offset, replace),
        )

    def copy_frame(self, offset: int) -> None:
        """Give the slice, or the whole frame, the labels of the frame before or after."""
        whole = value(self.ui.wholeFrameCheck, "checked")
        what = "frame" if whole else "slice"
        self._replacing(
            self._has_labels(None if whole else self.session.desk.scene.slice()),
            f"This {what} has labels already. Replace them by a copy?",
            lambda replace: self.session.editing.copy_from_frame(offset, whole, replace),
        )

    def refresh(self) -> None:
        """Show what can be done to the frame on screen, and what was edited."""
        ui, state = self.ui, self.session.editing.state
        study, missing = self.study, self.needs_study()
        self.allow(ui.undoButton, missing, None if state.can_undo else "Nothing to undo here.")
        self.allow(ui.redoButton, missing, None if state.can_redo else "Nothing to redo here.")
        untouched = None if state.frame in state.edited else "You did not edit this frame."
        self.allow(ui.restoreButton, missing, untouched)
        self.allow(ui.saveButton, missing, None if state.unsaved else "Everything is saved.")
        index = self.session.desk.scene.slice() if study is not None else 0
        n_slices = study.n_slices if study is not None else 0
        first = "This is the first slice." if index == 0 else None
        last = "This is the last slice." if index >= n_slices - 1 else None
        self.allow(ui.previousSliceButton, missing, first)
        self.allow(ui.nextSliceButton, missing, last)
        single = "It has one frame." if study is not None and study.n_frames == 1 else None
        for widget in (ui.previousFrameButton, ui.nextFrameButton, ui.wholeFrameCheck):
            self.allow(widget, missing, single)
        for widget in (ui.structureBox, ui.growSpin, ui.segmentEditor):
            self.allow(widget, missing)
        empty = "This frame has no labels yet." if state.origin is Origin.NONE else None
        for button in (
            ui.fillButton,
            ui.smoothButton,
            ui.islandsButton,
            ui.clearSliceButton,
            ui.closeMuscleButton,
        ):
            self.allow(button, missing, empty)
        one = None if self._structure() else "Choose one structure first."
        for button in (ui.growButton, ui.shrinkButton):
            self.allow(button, missing, empty, one)
        say(ui.editedLabel, "" if missing else _edited(state))

    def _structure(self) -> Structure | None:
        return STRUCTURES[value(self.ui.structureBox, "currentIndex")]

    def _grow(self, sign: int) -> None:
        structure = self._structure()
        if structure is not None:
            self.session.editing.grow(structure, sign * value(self.ui.growSpin, "value"))

    def _restore(self) -> None:
        if self.tools.ask.confirm(
            "Give this frame the labels it had before you edited it? Restoring once more brings "
            "your edits back."
        ):
            self.session.editing.restore_frame()

    def _has_labels(self, index: int | None) -> bool:
        """Whether the slice, or the frame, on screen has labels."""
        if self.study is None:
            return False
        labels = self.session.desk.scene.labels(self.session.desk.scene.frame(), strict=False)
        return bool((labels if index is None else labels[:, :, index]).any())

    def _replacing(self, has_labels: bool, question: str, copy: Callable[[bool], None]) -> None:
        if not has_labels or self.tools.ask.confirm(question):
            copy(has_labels)


def _edited(state: EditingState) -> str:
    """Which frames she edited and what is saved of them, and which a person labelled before."""
    if state.sentence:
        return state.sentence
    earlier, unsaved = state.edited - state.hers, len(state.unsaved)
    kept = "all saved" if not unsaved else f"{unsaved} with unsaved edits, autosaved as you work"
    told = "You edited no frame of this study yet."
    if state.hers:
        told = f"You edited {_frames(state.hers)} ({kept})."
    return f"{told} Labelled by a person before: {_frames(earlier)}." if earlier else told


def _frames(frames: frozenset[int]) -> str:
    noun = "frame" if len(frames) == 1 else "frames"
    return f"{noun} {', '.join(map(str, sorted(frames)))}"
