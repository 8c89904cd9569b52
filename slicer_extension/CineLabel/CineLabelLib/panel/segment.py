"""Section 3: labels by the server, where its networks disagree, which slices to look at."""

from __future__ import annotations

from CineLabelLib.desk.states import Look, Scope, SegmentationState
from CineLabelLib.panel.section import Section, Tools, calls, columns, say, value
from CineLabelLib.study import CineStudy

SCOPES = (Scope.FRAME, Scope.ED_ES, Scope.ALL)
"""In the order of the box."""

SENDING = (
    "This study is of your machine. To segment it, its images are sent to {}, which does not keep "
    "them. Send them?"
)


class SegmentSection(Section):
    """Ask for labels, follow and cancel, go to the slices that are in doubt."""

    FILE = "Segment.ui"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        ui, session = self.ui, self.session
        segmentation = session.segmentation
        self._may_be_sent: CineStudy | None = None
        self._look_at: tuple[Look, ...] = ()
        columns(ui.lookTable, (46, 38, 64, None))
        for button, action in (
            (ui.segmentButton, self.run),
            (ui.cancelButton, segmentation.cancel),
            (ui.keepButton, segmentation.keep_edited),
            (ui.replaceButton, segmentation.replace_edited),
        ):
            button.clicked.connect(calls(action))
        ui.overlayCheck.clicked.connect(
            calls(lambda: segmentation.show_disagreement(value(ui.overlayCheck, "checked")))
        )
        ui.opacitySlider.valueChanged.connect(
            lambda percent: session.desk.scene.show_opacity(percent / 100)
        )
        ui.nextLookButton.clicked.connect(calls(self.next_look))
        ui.lookTable.cellClicked.connect(lambda row, _: segmentation.go_to(self._look_at[row]))
        for part in (segmentation, session.connection, session.opening):
            part.changed.connect(calls(self.refresh))
        self.refresh()

    def run(self) -> None:
        """Segment the chosen frames by the chosen model."""
        study, address = self.study, self.session.connection.state.address
        if study is not None and not study.images and study is not self._may_be_sent:
            if not self.tools.ask.confirm(SENDING.format(address)):
                return
            self._may_be_sent = study
        scope = SCOPES[value(self.ui.scopeBox, "currentIndex")]
        self.session.segmentation.run(scope, value(self.ui.qualityBox, "currentIndex") == 0)

    def run_frame(self) -> None:
        """Segment the frame on screen."""
        self.ui.scopeBox.setCurrentIndex(SCOPES.index(Scope.FRAME))
        self.press(self.ui.segmentButton)

    def next_look(self) -> None:
        """Go to the slice behind the selected one in the list, at its end to the first."""
        row = (self.ui.lookTable.currentRow() + 1) % len(self._look_at)
        self.ui.lookTable.selectRow(row)
        self.session.segmentation.go_to(self._look_at[row])

    def refresh(self) -> None:
        """Show how far the segmentation is and what came of it."""
        ui, state = self.ui, self.session.segmentation.state
        running = "Wait, or cancel what is running." if state.running else None
        for widget in (ui.segmentButton, ui.scopeBox, ui.qualityBox):
            self.allow(widget, running, self.needs_study(), self.needs_server())
        self.allow(ui.cancelButton, None if state.running else "Nothing is being segmented.")
        ui.segmentBar.setVisible(state.running)
        ui.segmentBar.setMaximum(0 if state.fraction is None else 100)
        ui.segmentBar.setValue(int(100 * (state.fraction or 0)))
        say(ui.segmentLabel, state.sentence)
        self._show_withheld(state)
        none = None if state.model or state.overlay else "Segment first."
        self.allow(ui.overlayCheck, self.needs_study(), none)
        ui.overlayCheck.setChecked(state.overlay)
        self.allow(ui.opacitySlider, self.needs_study())
        self._look_at = state.look_at
        self.fill(ui.lookTable, [_row(look) for look in state.look_at])
        for widget in (ui.lookTable, ui.lookTitle, ui.nextLookButton):
            widget.setVisible(bool(state.look_at))
        none = None if state.look_at else "No slice is listed: segment first."
        self.allow(ui.nextLookButton, self.needs_study(), none)
        say(ui.notesLabel, "\n".join(state.notes))

    def _show_withheld(self, state: SegmentationState) -> None:
        ui, frames = self.ui, ", ".join(map(str, state.withheld))
        ui.withheldFrame.setVisible(bool(state.withheld))
        which = f"Frame {frames} has" if len(state.withheld) == 1 else f"Frames {frames} have"
        ui.withheldLabel.setText(
            f"{which} labels that a person made. They stay, and the model's wait, until you decide."
        )


def _row(look: Look) -> tuple[str, ...]:
    return str(look.frame), str(look.slice), look.structure, look.reason
