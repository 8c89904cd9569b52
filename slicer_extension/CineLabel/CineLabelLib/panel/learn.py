"""Section 6, first half: submitting labels, what waits to be sent, skipping cases."""

from __future__ import annotations

from CineLabelLib.desk.states import Finding, SubmittingState, Waiting
from CineLabelLib.panel.section import Section, Tools, calls, columns, say, value
from CineLabelLib.panel.training import TrainingPart


class LearnSection(Section):
    """What goes back to the server; nothing that was submitted is ever lost."""

    FILE = "Learn.ui"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        ui, session = self.ui, self.session
        submitting = session.submitting
        columns(ui.waitingTable, (150, 80, None))
        for button, action in (
            (ui.submitFrameButton, lambda: submitting.submit_frame(self._comment())),
            (ui.submitEditedButton, lambda: submitting.submit_edited(self._comment())),
            (ui.theirsButton, self._theirs),
            (ui.overButton, submitting.submit_over),
            (ui.keepMineButton, submitting.keep_mine),
            (ui.sendButton, submitting.send_waiting),
            (ui.openMineButton, lambda: submitting.open_mine(self._entry())),
            (ui.tryAgainButton, lambda: submitting.try_again(self._entry())),
            (ui.withdrawButton, self._withdraw),
            (ui.skipButton, lambda: submitting.skip(self._reason())),
            (ui.reopenButton, lambda: submitting.reopen(self._reason())),
        ):
            button.clicked.connect(calls(action))
        for part in (submitting, session.editing, session.connection, session.opening):
            part.changed.connect(calls(self.refresh))
        for signal in (ui.skipBox.editTextChanged, ui.skipBox.activated):
            signal.connect(calls(self.refresh))
        ui.waitingTable.itemSelectionChanged.connect(self.refresh)
        self.training = TrainingPart(self)
        self.refresh()

    def refresh(self) -> None:
        """Show what can be sent, what waits and what was refused."""
        ui, state = self.ui, self.session.submitting.state
        unsubmitted = self.session.editing.state.unsubmitted
        case = self.needs_study() or (self.needs_case() if self._is_local() else None)
        # Without a server a submission waits on disk, so only a local study keeps it back.
        busy = "Wait until the labels are sent." if state.busy else None
        rights = self.needs_annotator()
        nothing = None if unsubmitted else "Every edited frame is submitted."
        self.allow(ui.submitFrameButton, busy, case, rights)
        self.allow(ui.submitEditedButton, busy, case, rights, nothing)
        count = f" ({len(unsubmitted)})" if unsubmitted else ""
        ui.submitEditedButton.setText(f"Submit all edited{count}")
        reason = None if self._reason() else "Choose or type a reason first."
        for button in (ui.skipButton, ui.reopenButton):
            self.allow(button, self.needs_case(), rights, reason)
        say(ui.submitLabel, state.sentence)
        say(ui.findingsLabel, "\n".join(map(_finding, state.findings)))
        self._show_conflict(state)
        self._show_waiting(state)

    def _show_conflict(self, state: SubmittingState) -> None:
        ui, conflict = self.ui, state.conflict
        ui.conflictFrame.setVisible(conflict is not None)
        if conflict is None:
            return
        ui.conflictLabel.setText(conflict.sentence)
        ui.theirsButton.setText("Hide theirs" if conflict.shown else "Show theirs")
        self.allow(ui.theirsButton, self.needs_case())
        unseen = None if conflict.seen else "Look at theirs first."
        self.allow(ui.overButton, self.needs_case(), unseen)

    def _show_waiting(self, state: SubmittingState) -> None:
        ui = self.ui
        buttons = (ui.sendButton, ui.openMineButton, ui.tryAgainButton, ui.withdrawButton)
        for widget in (ui.waitingTitle, ui.waitingTable, *buttons):
            widget.setVisible(bool(state.waiting))
        self.fill(ui.waitingTable, [_waiting(entry) for entry in state.waiting])
        busy = "Wait until the labels are sent." if state.busy else None
        self.allow(ui.sendButton, busy, self.needs_server())
        chosen = next((w for w in state.waiting if w.entry == self._entry()), None)
        none = None if chosen else "Select a submission first."
        other = self.study is None or (chosen is not None and chosen.image not in self.study.images)
        not_refused = None if chosen is None or chosen.refused else "It was not refused: Send now."
        self.allow(ui.openMineButton, none, "Open its case first (section 1)." if other else None)
        self.allow(ui.tryAgainButton, busy, none, not_refused, self.needs_server())
        self.allow(ui.withdrawButton, busy, none)

    def _theirs(self) -> None:
        """Show the label that came first, or hide it."""
        submitting = self.session.submitting
        conflict = submitting.state.conflict
        shown = conflict is not None and conflict.shown
        (submitting.hide_theirs if shown else submitting.open_theirs)()

    def _entry(self) -> str:
        """The submission that is selected, '' for none."""
        row, waiting = self.ui.waitingTable.currentRow(), self.session.submitting.state.waiting
        return waiting[row].entry if 0 <= row < len(waiting) else ""

    def _withdraw(self) -> None:
        """Remove a submission, if the reader is sure: these labels are nowhere else."""
        if self.tools.ask.confirm(
            "Remove this submission for good? Its labels are kept neither here nor on the server."
        ):
            self.session.submitting.withdraw(self._entry())

    def _is_local(self) -> bool:
        return self.study is not None and not self.study.images

    def _comment(self) -> str:
        return value(self.ui.commentEdit, "text").strip()

    def _reason(self) -> str:
        return value(self.ui.skipBox, "currentText").strip()


def _finding(finding: Finding) -> str:
    kind = "Not sent" if finding.is_error else "Please look"
    return f"{kind}, frame {finding.frame}: {finding.sentence}"


def _waiting(entry: Waiting) -> tuple[str, str, str]:
    tried = "" if not entry.attempts else f"tried {entry.attempts} times: "
    told = f"refused: {entry.sentence}" if entry.refused else f"{tried}{entry.sentence}"
    return entry.image, entry.made_at[11:16] or entry.made_at, told or "waits for the server"
