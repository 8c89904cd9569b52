"""Section 1: the server, opening a study, its frames, slices and phases."""

from __future__ import annotations

from typing import Any

from CineLabelLib.answers import Case
from CineLabelLib.desk.states import Link
from CineLabelLib.panel.section import Section, Tools, calls, put, say, value

ADDRESS, READER = "CineLabel/address", "CineLabel/reader"
"""What is remembered between two sessions; a token is not."""

COLOURS = {
    Link.OFF: ("#777777", "no server"),
    Link.CONNECTING: ("#b36b00", "connecting"),
    Link.CONNECTED: ("#00734f", "connected"),
    Link.LOST: ("#b00020", "connection lost"),
}


class StudySection(Section):
    """Connect, open, and move through frames and slices."""

    FILE = "Study.ui"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.scene = self.session.desk.scene
        self._cases: tuple[Case, ...] = ()
        ui, session = self.ui, self.session
        opening = session.opening
        for button, name in (
            (ui.previousFrameButton, "previous"),
            (ui.playButton, "play"),
            (ui.nextFrameButton, "next"),
        ):
            button.setIcon(tools.icon(name))
        for button, action in (
            (ui.connectButton, self._connect),
            (ui.disconnectButton, session.connection.disconnect),
            (ui.nextButton, self._next_case),
            (ui.listButton, self._list),
            (ui.openCaseButton, self._open_case),
            (ui.openFileButton, self._open_file),
            (ui.openFolderButton, self._open_folder),
            (ui.cancelOpeningButton, opening.cancel),
            (ui.openSeriesButton, self._open_series),
            (ui.leaveSeriesButton, opening.leave_series),
            (ui.restoreButton, opening.restore_unsaved),
            (ui.leaveButton, self._discard),
            (ui.previousFrameButton, lambda: opening.step(-1)),
            (ui.nextFrameButton, lambda: opening.step(1)),
            (ui.playButton, self.play),
            (ui.edButton, opening.go_to_ed),
            (ui.esButton, opening.go_to_es),
            (ui.markEdButton, opening.mark_ed),
            (ui.markEsButton, opening.mark_es),
        ):
            button.clicked.connect(calls(action))
        ui.filterBox.activated.connect(calls(self._list))
        ui.readerEdit.editingFinished.connect(calls(self._name))
        ui.frameSlider.valueChanged.connect(lambda frame: self.scene.go_to(frame))
        ui.sliceSlider.valueChanged.connect(lambda index: self.scene.go_to_slice(index))
        remembered = str(tools.settings.value(ADDRESS) or "")
        ui.addressEdit.setText(remembered)
        ui.readerEdit.setText(session.desk.reader)
        session.connection.changed.connect(calls(self.refresh))
        opening.changed.connect(calls(self.refresh))
        self.scene.frame_changed.connect(calls(self._position))
        self.scene.slice_changed.connect(calls(self._position))
        self.refresh()

    def play(self) -> None:
        """Play the cine, or stop it."""
        self.scene.play(not self.scene.playing(), value(self.ui.speedSpin, "value"))
        self._position()

    def refresh(self) -> None:
        """Show how the server and the study stand."""
        ui, link = self.ui, self.session.connection.state
        opening = self.session.opening.state
        colour, word = COLOURS[link.link]
        ui.linkLabel.setText(word)
        ui.linkLabel.setStyleSheet(
            f"background: {colour}; color: white; padding: 2px 6px; border-radius: 3px"
        )
        ui.stateLabel.setText(_server(link))
        busy = "Wait, or cancel what is being opened." if opening.busy else None
        self.allow(ui.connectButton, "Wait." if link.link is Link.CONNECTING else None)
        self.allow(ui.disconnectButton, "No server." if link.link is Link.OFF else None)
        self.choices(ui.strategyBox, link.strategies)
        for button in (ui.nextButton, ui.strategyBox):
            self.allow(button, busy, self.needs_server())
        for button in (ui.listButton, ui.filterBox):
            self.allow(button, self.needs_server())
        self._cases = opening.cases
        self.choices(ui.casesBox, [_case(case) for case in opening.cases])
        none = None if opening.cases else "No case is listed: press List."
        for button in (ui.openCaseButton, ui.casesBox):
            self.allow(button, busy, self.needs_server(), none)
        for button in (ui.openFileButton, ui.openFolderButton):
            self.allow(button, busy)
        self._show_opening()
        self._position()

    def _show_opening(self) -> None:
        ui, state = self.ui, self.session.opening.state
        for widget in (ui.openingBar, ui.cancelOpeningButton):
            widget.setVisible(state.busy is not None)
        if state.busy is not None:
            ui.openingBar.setMaximum(0 if state.fraction is None else 100)
            ui.openingBar.setValue(int(100 * (state.fraction or 0)))
            ui.openingBar.setFormat(f"{state.busy} %p%")
        say(ui.reasonLabel, f"Why this case: {state.reason}" if state.reason else "")
        choice = state.choice
        ui.seriesFrame.setVisible(choice is not None)
        ui.seriesLabel.setText(choice.sentence if choice else "")
        self.choices(ui.seriesBox, [text for _, text in choice.series] if choice else [])
        ui.unsavedFrame.setVisible(state.unsaved is not None)
        ui.unsavedLabel.setText(state.unsaved.sentence if state.unsaved else "")
        ui.studyLabel.setText(_study(state))

    def _position(self) -> None:
        """Where in the study we are."""
        ui, study, state = self.ui, self.study, self.session.opening.state
        playing = study is not None and self.scene.playing()
        ui.playButton.setIcon(self.tools.icon("pause" if playing else "play"))
        missing = self.needs_study()
        still = missing or (
            "It has one frame." if study is not None and study.n_frames == 1 else None
        )
        for button in (ui.previousFrameButton, ui.nextFrameButton, ui.playButton, ui.frameSlider):
            self.allow(button, still)
        for button in (ui.markEdButton, ui.markEsButton, ui.sliceSlider):
            self.allow(button, missing)
        for button, phase, frame in ((ui.edButton, "ED", state.ed), (ui.esButton, "ES", state.es)):
            unknown = f"{phase} is not known: go there and press Set {phase} here."
            self.allow(button, missing, unknown if frame is None else None)
            button.setText(phase if frame is None else f"{phase} ({frame})")
        if study is None:
            ui.frameLabel.setText("")
            ui.sliceLabel.setText("")
            return
        frame, index = self.scene.frame(), self.scene.slice()
        for slider, last, here in (
            (ui.frameSlider, study.n_frames - 1, frame),
            (ui.sliceSlider, study.n_slices - 1, index),
        ):
            put(slider, "setMaximum", last)
            put(slider, "setValue", here)
        times = study.trigger_times_ms
        moment = "" if times is None else f", {times[frame]:.0f} ms"
        ui.frameLabel.setText(f"frame {frame} of 0–{study.n_frames - 1}{moment}")
        ui.sliceLabel.setText(f"{index} of 0–{study.n_slices - 1}")

    def _connect(self) -> None:
        address, token = value(self.ui.addressEdit, "text"), value(self.ui.tokenEdit, "text")
        address = address.strip() or value(self.ui.addressEdit, "placeholderText")
        self.tools.settings.setValue(ADDRESS, address)
        self.session.connection.connect(address, token.strip() or None)

    def _discard(self) -> None:
        """Remove the unsaved edits, if the reader is sure: they are nowhere else."""
        if self.tools.ask.confirm("Remove these unsaved edits for good? They are nowhere else."):
            self.session.opening.leave_unsaved()

    def _name(self) -> None:
        name = value(self.ui.readerEdit, "text").strip()
        if name:
            self.session.desk.reader = name
            self.tools.settings.setValue(READER, name)

    def _list(self) -> None:
        chosen = value(self.ui.filterBox, "currentText")
        self.session.opening.list_cases(None if chosen == "all" else chosen)

    def _open_case(self) -> None:
        index = value(self.ui.casesBox, "currentIndex")
        if 0 <= index < len(self._cases):
            self.session.opening.open_case(self._cases[index].image)

    def _next_case(self) -> None:
        self.session.opening.next_case(value(self.ui.strategyBox, "currentText"))

    def _open_file(self) -> None:
        path = self.tools.ask.open_file()
        if path is not None:
            self.session.opening.open_file(path)

    def _open_folder(self) -> None:
        path = self.tools.ask.open_folder()
        if path is not None:
            self.session.opening.open_folder(path)

    def _open_series(self) -> None:
        choice, index = self.session.opening.state.choice, value(self.ui.seriesBox, "currentIndex")
        if choice is not None and 0 <= index < len(choice.series):
            self.session.opening.open_series(choice.series[index][0])


def _server(state: Any) -> str:
    """How the server stands, in one line or two."""
    if state.link is not Link.CONNECTED:
        return state.sentence
    parts = [state.address, f"model {state.model or 'none'}"]
    if state.who:
        parts.append(f"{state.who} ({state.role})" if state.role else state.who)
    if state.open_cases is not None:
        parts.append(f"{state.open_cases} cases open, {state.labelled_cases or 0} labelled")
    waiting = "nobody waits" if not state.queue else f"{state.queue} in the queue"
    return " · ".join([*parts, waiting])


def _case(case: Case) -> str:
    phase = f", {case.phase}" if case.phase else ""
    held = f", held by {case.lease.who or 'another'}" if case.lease else ""
    return f"{case.study}, frame {case.frame}{phase}: {case.state}{held}"


def _study(state: Any) -> str:
    """The study in a line: name, size, where it came from; what its reading decided below."""
    study = state.study
    if study is None:
        return state.sentence
    x, y, z, t = study.voxels.shape
    steps = " × ".join(f"{step:.3g}" for step in study.grid.spacing)
    where = "case of the server" if study.images else str(study.source or "local")
    lines = [f"{study.name}: {t} frames of {z} slices, {x} × {y}, {steps} mm, {where}"]
    return "\n".join([*lines, *study.notes])
