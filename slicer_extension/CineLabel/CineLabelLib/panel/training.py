"""Section 6, second half: training on the server, champion and challenger, rolling back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import qt

from CineLabelLib.answers import Course, Models, ModelVersion
from CineLabelLib.panel.pictures import picture
from CineLabelLib.panel.section import calls, columns, say, value

if TYPE_CHECKING:
    from CineLabelLib.panel.learn import LearnSection

NOT_ADMIN = "Your token does not allow it; ask somebody with the role admin."
FIGURE_WIDTH = 430
"""Width of a figure of the training, pixels."""


class TrainingPart:
    """The widgets of section 6 that tell of training and model versions."""

    def __init__(self, section: LearnSection) -> None:
        self.section, self.ui, self.session = section, section.ui, section.session
        self._shown: bytes | None = None
        ui, training = self.ui, self.session.training
        columns(ui.modelsTable, (140, 90, None))
        for button, action in (
            (ui.startButton, training.start),
            (ui.stopButton, training.stop),
            (ui.resumeButton, training.resume),
            (ui.refreshButton, training.refresh),
            (ui.useButton, self._use),
            (ui.rollBackButton, lambda: training.roll_back(self._why())),
        ):
            button.clicked.connect(calls(action))
        ui.figureBox.activated.connect(calls(self._fetch))
        ui.modelsTable.itemSelectionChanged.connect(self.refresh)
        ui.whyEdit.textChanged.connect(calls(self.refresh))
        for part in (training, self.session.connection):
            part.changed.connect(calls(self.refresh))
        self.refresh()

    def refresh(self) -> None:
        """Show the course of the training and the versions."""
        ui, state, allow = self.ui, self.session.training.state, self.section.allow
        server = self.section.needs_server()
        may = None if state.may else NOT_ADMIN
        course, idle = state.course, "No training is running."
        ended = course is not None and course.state in ("interrupted", "cancelled", "failed")
        allow(ui.startButton, server, may, "A training is running." if state.running else None)
        allow(ui.stopButton, server, may, None if state.running else idle)
        allow(ui.resumeButton, server, may, None if ended else "No training was interrupted.")
        allow(ui.refreshButton, server)
        ui.trainingBar.setVisible(state.running)
        fraction = _fraction(course)
        ui.trainingBar.setMaximum(0 if fraction is None else 100)
        ui.trainingBar.setValue(int(100 * (fraction or 0)))
        lines = [state.sentence, _course(course)] if course else [state.sentence]
        say(ui.trainingLabel, "\n".join(filter(None, lines)))
        self._show_models(state.models, server, may)
        self._show_figures(course, state.figures)

    def _show_models(self, models: Models | None, server: str | None, may: str | None) -> None:
        ui, allow = self.ui, self.section.allow
        versions = models.versions if models else ()
        rows = [_version(version, models) for version in versions] if models else []
        self.section.fill(ui.modelsTable, rows)
        why = None if self._why() else "Type a reason first; it is kept in the history."
        chosen = self._chosen()
        served = models is not None and chosen is not None and chosen.version == models.current
        unfit = None if chosen is None else chosen.problem
        none = "Select a version first." if chosen is None else None
        in_use = "It is in use." if served else None
        allow(ui.useButton, server, may, none, unfit, in_use, why)
        before = None if models and models.before else "No other version was in use before."
        allow(ui.rollBackButton, server, may, before, why)

    def _show_figures(self, course: Course | None, figures: Mapping[str, bytes]) -> None:
        ui, names = self.ui, course.figures if course else ()
        self.section.choices(ui.figureBox, ("", *names))
        for widget in (ui.figureTitle, ui.figureBox):
            widget.setVisible(bool(names))
        content = figures.get(value(ui.figureBox, "currentText"))
        ui.figureLabel.setVisible(content is not None)
        if content is not None and content is not self._shown:
            pixmap = picture(content)
            mode = qt.Qt.SmoothTransformation
            ui.figureLabel.setPixmap(pixmap.scaledToWidth(FIGURE_WIDTH, mode))
        self._shown = content

    def _chosen(self) -> ModelVersion | None:
        models, row = self.session.training.state.models, self.ui.modelsTable.currentRow()
        versions = models.versions if models else ()
        return versions[row] if 0 <= row < len(versions) else None

    def _use(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            rejected = chosen.decision is not None and chosen.decision.outcome == "reject"
            question = f"{chosen.version} was rejected. Put it in use all the same?"
            if not rejected or self.section.tools.ask.confirm(question):
                self.session.training.use(chosen.version, self._why(), rejected)

    def _fetch(self) -> None:
        name = value(self.ui.figureBox, "currentText")
        if name:
            self.session.training.fetch_figure(name)
        self.refresh()

    def _why(self) -> str:
        return value(self.ui.whyEdit, "text").strip()


def _fraction(course: Course | None) -> float | None:
    """How far the training is, None where it does not tell."""
    if course is None:
        return None
    for done, total in ((course.step, course.steps), (course.done, course.total)):
        if done is not None and total:
            return min(1.0, done / total)
    return None


def _course(course: Course) -> str:
    """What it learned from and the loss, in a line."""
    parts = []
    if course.learned_from:
        told = course.learned_from.items()
        learned = "It learned from" if course.has_ended else "It learns from"
        parts.append(f"{learned} " + ", ".join(f"{n} {what}" for what, n in told))
    if course.loss is not None and not course.has_ended:
        parts.append(f"loss {course.loss:.3f}")
    return "".join(f"{part}. " for part in parts).strip()


def _version(version: ModelVersion, models: Models) -> tuple[str, str, str]:
    state = "champion" if version.version == models.current else ""
    if not state and version.version == models.before:
        state = "used before"
    if not state and version.problem:
        state = "unusable"
    if not state and version.decision is not None:
        state = {"keep": "challenger", "reject": "rejected"}.get(
            version.decision.outcome, version.decision.outcome
        )
    before, after = _dice(version.before), _dice(version.after)
    figures = f"{before} → {after}" if after else "bundled" if version.bundled else ""
    return version.version, state, version.problem or figures


def _dice(scores: Mapping[str, Any] | None) -> str:
    """The mean Dice in what a server tells of held-out patients, '' where it does not."""
    told = (scores or {}).get("dice")
    if isinstance(told, Mapping):
        known = {name: dice for name, dice in told.items() if isinstance(dice, (int, float))}
        return " ".join(f"{name} {dice:.2f}" for name, dice in known.items())
    return f"{told:.3f}" if isinstance(told, (int, float)) else ""
