"""Section 2: a row a slice, the worst first, and the reader's decisions about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import qt

from CineLabelLib.core.review import Action, Decision, MotionGrade
from CineLabelLib.desk.states import ReviewState, SliceRow
from CineLabelLib.panel.pictures import thumbnail
from CineLabelLib.panel.section import Section, Tools, calls, columns, put, say, value
from CineLabelLib.planes import as_viewed

THUMBNAIL = 56
"""Side of a thumbnail, pixels."""

GRADES = {
    MotionGrade.MILD: "1, mild",
    MotionGrade.INTERMEDIATE: "2, intermediate",
    MotionGrade.SEVERE: "3, severe",
}


class BreathHoldsSection(Section):
    """Which breath-holds are fit for use; works without any model."""

    FILE = "BreathHolds.ui"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        ui, review = self.ui, self.session.review
        self._icons: dict[int, tuple[np.ndarray, Any]] = {}
        ui.holdsTable.setIconSize(qt.QSize(THUMBNAIL, THUMBNAIL))
        columns(ui.holdsTable, (92, 62, 62, None, 98))
        for button, action in (
            (ui.acceptButton, Action.ACCEPT),
            (ui.repeatButton, Action.REPEAT),
            (ui.excludeButton, Action.EXCLUDE),
            (ui.clearButton, None),
        ):
            if action is not None:
                button.setIcon(tools.icon(action.value))
            button.clicked.connect(calls(lambda action=action: self.decide(action)))
        for button, action in (
            (ui.acceptStudyButton, Action.ACCEPT),
            (ui.repeatStudyButton, Action.REPEAT),
            (ui.excludeStudyButton, Action.EXCLUDE),
            (ui.clearStudyButton, None),
        ):
            button.clicked.connect(
                calls(lambda action=action: review.decide_study(action, self._reason(action)))
            )
        ui.nextWorstButton.clicked.connect(calls(review.go_to_next))
        ui.holdsTable.itemSelectionChanged.connect(self._selected)
        for signal in (ui.reasonBox.editTextChanged, ui.reasonBox.activated):
            signal.connect(calls(self.refresh))
        review.changed.connect(calls(self.refresh))
        self.session.opening.changed.connect(calls(self.refresh))
        self.session.desk.scene.slice_changed.connect(calls(self._follow))
        self.refresh()

    def decide(self, action: Action | None) -> None:
        """Decide about the slice on screen, with the reason in the box."""
        index = self.session.desk.scene.slice()
        self.session.review.decide(index, action, self._reason(action))

    def refresh(self) -> None:
        """Show what is known and decided."""
        ui, state = self.ui, self.session.review.state
        rows = {row.index: row for row in state.rows}
        ordered = [rows[index] for index in state.worst_first if index in rows]
        self.fill(ui.holdsTable, [_row(row) for row in ordered], [self._icon(r) for r in ordered])
        self._follow()
        missing = self.needs_study()
        decided = any(row.decision for row in ordered)
        undecided = any(row.decision is None for row in ordered)
        reason = None if self._reason(Action.REPEAT) else "Choose or type a reason first."
        for button in (ui.acceptButton, ui.acceptStudyButton, ui.reasonBox):
            self.allow(button, missing)
        for button in (
            ui.repeatButton,
            ui.excludeButton,
            ui.repeatStudyButton,
            ui.excludeStudyButton,
        ):
            self.allow(button, missing, reason)
        self.allow(ui.clearButton, missing, None if decided else "No slice has a decision.")
        undecided_study = None if state.decision else "The study has no decision."
        self.allow(ui.clearStudyButton, missing, undecided_study)
        self.allow(
            ui.nextWorstButton, missing, None if undecided else "Every slice has a decision."
        )
        say(ui.gradeLabel, "" if missing else _graded(state))
        say(ui.savedLabel, "" if missing else _saved(state))

    def _follow(self) -> None:
        """Select the row of the slice on screen."""
        order, here = self.session.review.state.worst_first, self.session.desk.scene.slice
        if self.study is not None and here() in order:
            put(self.ui.holdsTable, "selectRow", order.index(here()))

    def _selected(self) -> None:
        row, order = self.ui.holdsTable.currentRow(), self.session.review.state.worst_first
        if 0 <= row < len(order):
            self.session.review.go_to(order[row])

    def _reason(self, action: Action | None) -> str:
        """The reason in the box; accepting needs none."""
        known = action in (Action.REPEAT, Action.EXCLUDE)
        return value(self.ui.reasonBox, "currentText").strip() if known else ""

    def _icon(self, row: SliceRow) -> Any:
        """The slice's thumbnail, made once."""
        if row.thumbnail is None or self.study is None:
            return qt.QPixmap()
        known = self._icons.get(row.index)
        if known is None or known[0] is not row.thumbnail:
            seen = as_viewed(row.thumbnail, self.study.grid)
            side = qt.QSize(THUMBNAIL, THUMBNAIL)
            picture = thumbnail(seen).scaled(side, qt.Qt.KeepAspectRatio)
            known = self._icons[row.index] = (row.thumbnail, picture)
        return known[1]


def _row(row: SliceRow) -> tuple[str, ...]:
    score = "" if row.artefact_score is None else f"{row.artefact_score:.2f}"
    shift = "" if row.shift_mm is None else f"{np.hypot(*row.shift_mm):.1f} mm"
    findings = "; ".join(row.findings) or "nothing found"
    return str(row.index), score, shift, findings, _decision(row.decision)


def _decision(decision: Decision | None) -> str:
    if decision is None:
        return ""
    return (
        f"{decision.action.value}: {decision.reason}"
        if decision.reason
        else (decision.action.value)
    )


def _graded(state: ReviewState) -> str:
    """What is known of the whole study, and who says so."""
    grade = "not graded" if state.grade is None else f"motion grade {GRADES[state.grade]}"
    by = f" by {state.model}" if state.model and state.grade is not None else ""
    decided = f"; decided: {_decision(state.decision)}" if state.decision else ""
    return f"Whole study: {grade}{by}{decided}."


def _saved(state: ReviewState) -> str:
    kept = "Decisions are saved." if state.saved else "Saving decisions."
    return state.sentence or (kept if any(row.decision for row in state.rows) else "")
