"""Section 5: volumes, ejection fraction and mass of the labels on screen, and their curve."""

from __future__ import annotations

import qt

from CineLabelLib.desk.states import Figure, Surface
from CineLabelLib.panel.pictures import curves
from CineLabelLib.panel.section import Section, Tools, calls, columns, put, say, value

SURFACES = (Surface.MOSTELLER, Surface.DU_BOIS)
"""In the order of the box."""

CURVE = (430, 170)
"""Size of the curve, pixels."""


class MeasureSection(Section):
    """Figures that follow every edit."""

    FILE = "Measure.ui"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        ui, measuring = self.ui, self.session.measuring
        columns(ui.figuresTable, (150, 110, None))
        self.choices(ui.surfaceBox, [surface.value for surface in SURFACES])
        for widget in (ui.heightSpin, ui.weightSpin):
            widget.valueChanged.connect(calls(self._body))
        ui.surfaceBox.activated.connect(calls(self._body))
        ui.copyButton.clicked.connect(calls(self._copy))
        ui.exportButton.clicked.connect(calls(self._export))
        measuring.changed.connect(calls(self.refresh))
        self.session.desk.study_changed.connect(self._forget_body)
        self.session.opening.changed.connect(calls(self.refresh))
        self.refresh()

    def refresh(self) -> None:
        """Show the figures and the curve."""
        ui, state = self.ui, self.session.measuring.state
        self.fill(ui.figuresTable, [_row(figure) for figure in state.figures])
        surface = state.body_surface_m2
        ui.surfaceLabel.setText("" if surface is None else f"{surface:.2f} m²")
        drawn = (state.frames, state.times_ms, state.lv_ml, state.myo_ml, state.rv_ml)
        told = (*drawn, state.ed, state.es)
        if self._filled.get(ui.curveLabel) != told:
            self._filled[ui.curveLabel] = told
            ui.curveLabel.setPixmap(curves(state, *CURVE))
        say(ui.notesLabel, "\n".join(state.notes))
        none = None if state.frames else "No frame is labelled yet."
        for button in (ui.copyButton, ui.exportButton):
            self.allow(button, self.needs_study(), none)

    def _body(self) -> None:
        ui = self.ui
        height, weight = value(ui.heightSpin, "value"), value(ui.weightSpin, "value")
        surface = SURFACES[value(ui.surfaceBox, "currentIndex")]
        self.session.measuring.set_body(height or None, weight or None, surface)

    def _forget_body(self) -> None:
        """Height and weight are of the patient before."""
        for spin in (self.ui.heightSpin, self.ui.weightSpin):
            put(spin, "setValue", 0)

    def _copy(self) -> None:
        qt.QApplication.clipboard().setText(self.session.measuring.text())

    def _export(self) -> None:
        name = self.study.name if self.study is not None else "measures"
        path = self.tools.ask.save_file(f"{name}-measures.csv")
        if path is not None:
            self.session.measuring.export_csv(path)


def _row(figure: Figure) -> tuple[str, str, str]:
    if figure.value is None:
        return figure.name, "–", figure.missing or ""
    indexed = "" if figure.indexed is None else f"{figure.indexed:.1f} {figure.indexed_unit}"
    return figure.name, f"{figure.value:.1f} {figure.unit}", indexed
