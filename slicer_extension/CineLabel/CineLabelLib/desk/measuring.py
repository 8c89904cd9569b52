"""Measures of the labels on screen, live: volumes, ejection fraction, mass, curve, indexed.

All volumes, ejection fractions and masses are those of `core.measures`. Body surface area in m2 of
height in cm and weight in kg: Mosteller, N Engl J Med 1987, sqrt(height x weight / 3600); Du Bois
and Du Bois, Arch Intern Med 1916, 0.007184 x height^0.725 x weight^0.425.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from CineLabelLib.core.errors import InputError
from CineLabelLib.core.files import write_text
from CineLabelLib.core.labels import LV, MYO, RV, STRUCTURES, Structure
from CineLabelLib.core.measures import CONVENTIONS, Measures, measure_curves, structure_volume_ml
from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.states import Figure, MeasuringState, Surface

HEIGHT_CM, WEIGHT_KG = (30.0, 250.0), (0.5, 400.0)

ED, ES = "ED", "ES"
FIGURES: tuple[tuple[str, str, str, Structure, tuple[str, ...]], ...] = (
    ("LV EDV", "lv_edv_ml", "ml", LV, (ED,)),
    ("LV ESV", "lv_esv_ml", "ml", LV, (ES,)),
    ("LV SV", "lv_sv_ml", "ml", LV, (ED, ES)),
    ("LV EF", "lv_ef_percent", "%", LV, (ED, ES)),
    ("LV mass", "lv_mass_g", "g", MYO, (ED,)),
    ("RV EDV", "rv_edv_ml", "ml", RV, (ED,)),
    ("RV ESV", "rv_esv_ml", "ml", RV, (ES,)),
    ("RV SV", "rv_sv_ml", "ml", RV, (ED, ES)),
    ("RV EF", "rv_ef_percent", "%", RV, (ED, ES)),
)
"""Name, field of `Measures`, unit, structure, and the phases at which it must be labelled."""


def body_surface_m2(height_cm: float, weight_kg: float, surface: Surface) -> float:
    """The body surface area. Raises InputError for sizes that nobody has."""
    for what, value, unit, (low, high) in (
        ("height", height_cm, "cm", HEIGHT_CM),
        ("weight", weight_kg, "kg", WEIGHT_KG),
    ):
        if not low <= value <= high:
            raise InputError(
                f"the {what} {value:g} {unit} is not between {low:g} and {high:g}",
                remedy=f"Give the {what} in {unit}",
            )
    if surface is Surface.DU_BOIS:
        return 0.007184 * height_cm**0.725 * weight_kg**0.425
    return math.sqrt(height_cm * weight_kg / 3600)


class Measuring(UseCase[MeasuringState]):
    """Follows the labels and measures the frames that changed."""

    def __init__(self, desk: Desk, editing: Editing) -> None:
        super().__init__(desk, MeasuringState())
        self._editing = editing
        self._volumes = np.zeros((3, 0))
        self._gaps: dict[tuple[int, str], list[int]] = {}
        self._changed: set[int] = set()
        desk.study_changed.connect(self._study_changed)
        desk.labels_changed.connect(self._changed.add)
        desk.phases_changed.connect(self._measure)
        self._study_changed()

    def tick(self) -> None:
        """Measure a frame that changed; the figures follow when all are."""
        if not self._changed or self.desk.study is None:
            return
        self._measure_frame(self._changed.pop())
        if not self._changed:
            self._measure()

    @told
    def set_body(
        self,
        height_cm: float | None,
        weight_kg: float | None,
        surface: Surface = Surface.MOSTELLER,
    ) -> None:
        """Index by body surface area; None for either ends it."""
        known = height_cm is not None and weight_kg is not None
        self._set(body_surface_m2=None, surface=surface)
        try:
            if known:
                area = body_surface_m2(height_cm, weight_kg, surface)  # type: ignore[arg-type]
                self._set(body_surface_m2=area)
        finally:
            self._measure()

    def text(self) -> str:
        """The figures as lines of text for a report."""
        study, state = self.desk.study, self.state
        lines = [] if study is None else [f"Study: {study.name}"]
        phases = [f"{n} frame {f}" for n, f in ((ED, state.ed), (ES, state.es)) if f is not None]
        if phases:
            lines.append(f"{', '.join(phases)} (counted from 0)")
        for figure in state.figures:
            value = figure.missing or f"{figure.value:.1f} {figure.unit}"
            indexed = figure.indexed
            also = "" if indexed is None else f" ({indexed:.1f} {figure.indexed_unit})"
            lines.append(f"{figure.name}: {value}{also}")
        if state.body_surface_m2 is not None:
            area = f"{state.body_surface_m2:.2f} m2 ({state.surface.value})"
            lines.append(f"Body surface area: {area}")
        lines += [*state.notes, f"Conventions: {CONVENTIONS}."]
        return "\n".join(lines) + "\n"

    @told
    def export_csv(self, path: Path) -> None:
        """Write the figures and the curve as CSV, a value a row."""
        study, state = self.desk.study, self.state
        if study is None:
            raise InputError("no study is open, there is nothing to export")
        stream = io.StringIO(newline="")
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(("study", "measure", "frame", "time_ms", "value", "unit", "note"))
        for figure in state.figures:
            note = figure.missing or ""
            value = "" if figure.value is None else repr(round(figure.value, 4))
            rows.writerow((study.name, figure.name, "", "", value, figure.unit, note))
            if figure.indexed is not None:
                value, note = repr(round(figure.indexed, 4)), state.surface.value
                named = (study.name, f"{figure.name} indexed", "", "", value)
                rows.writerow((*named, figure.indexed_unit, note))
        for k, frame in enumerate(state.frames):
            time = "" if state.times_ms is None else repr(state.times_ms[k])
            phase = {state.ed: ED, state.es: ES}.get(frame, "")
            for name, curve in (("LV", state.lv_ml), ("MYO", state.myo_ml), ("RV", state.rv_ml)):
                value = repr(round(curve[k], 4))
                rows.writerow((study.name, f"{name} volume", frame, time, value, "ml", phase))
        write_text(path, stream.getvalue())
        self.desk.told.emit(f"Wrote {path}.")

    def _study_changed(self) -> None:
        study = self.desk.study
        self._volumes = np.zeros((3, 0 if study is None else study.n_frames))
        self._gaps.clear()
        self._changed.clear()
        self._state = MeasuringState(surface=self.state.surface)  # another patient's body
        self._measure()

    def _measure_frame(self, frame: int) -> None:
        study = self.desk.study
        assert study is not None
        labels = self._editing.known(frame)
        for k, structure in enumerate(STRUCTURES):
            self._volumes[k, frame] = structure_volume_ml(labels, study.grid, structure)
            there = np.flatnonzero((labels == structure.value).any(axis=(0, 1)))
            between = set(range(there[0], there[-1])) - set(there.tolist()) if there.size else set()
            self._gaps[frame, structure.name] = sorted(between)

    def _measure(self) -> None:
        study = self.desk.study
        if study is None:
            figures = tuple(
                Figure(name, unit, missing="Open a study.") for name, _, unit, _, _ in FIGURES
            )
            self._set(figures=figures)
            return
        times = study.trigger_times_ms
        found = measure_curves(*self._volumes, self.desk.ed, self.desk.es, times)
        frames = tuple(np.flatnonzero(self._volumes.sum(axis=0)).tolist())
        lv, myo, rv = (tuple(curve[list(frames)].tolist()) for curve in self._volumes)
        self._set(
            figures=tuple(self._figure(found, *row) for row in FIGURES),
            ed=found.ed,
            es=found.es,
            frames=frames,
            times_ms=None if times is None else tuple(times[f] for f in frames),
            lv_ml=lv,
            myo_ml=myo,
            rv_ml=rv,
            notes=self._notes(found, frames),
            measures=found,
        )

    def _figure(
        self,
        found: Measures,
        name: str,
        field: str,
        unit: str,
        structure: Structure,
        phases: tuple[str, ...],
    ) -> Figure:
        indexed_unit = f"{unit}/m2" if unit != "%" else ""
        missing = self._missing(found, structure, phases)
        value = getattr(found, field)
        if missing is not None or value is None:
            return Figure(name, unit, None, None, indexed_unit, missing or "It has no meaning.")
        area = self.state.body_surface_m2
        indexed = None if area is None or unit == "%" else value / area
        return Figure(name, unit, value, indexed, indexed_unit)

    def _missing(
        self, found: Measures, structure: Structure, phases: tuple[str, ...]
    ) -> str | None:
        """What must be labelled or marked first, as a sentence; None if nothing."""
        for phase in phases:
            frame = found.ed if phase == ED else found.es
            if frame is None:
                return f"Mark {phase}, or label ED and ES."
            if self._volumes[STRUCTURES.index(structure), frame] == 0:
                return f"Label {structure.name} at {phase}, frame {frame}."
            if gaps := self._gaps.get((frame, structure.name)):
                slices = ", ".join(map(str, gaps))
                some = "slice" if len(gaps) == 1 else "slices"
                return f"Label {structure.name} in {some} {slices} at {phase}, frame {frame}."
        return None

    def _notes(self, found: Measures, frames: tuple[int, ...]) -> tuple[str, ...]:
        study = self.desk.study
        assert study is not None
        notes = [str(error) for error in self._editing.unknown().values()]
        guessed = [
            phase
            for phase, told, used in ((ED, self.desk.ed, found.ed), (ES, self.desk.es, found.es))
            if told is None and used is not None
        ]
        if guessed and len(frames) < study.n_frames:
            are = "is" if len(guessed) == 1 else "are"
            notes.append(
                f"{' and '.join(guessed)} {are} chosen by LV volume among the {len(frames)} "
                f"labelled of {study.n_frames} frames."
            )
        if found.ed is not None and found.ed == found.es:
            notes.append("ED and ES are the same frame.")
        elif found.lv_sv_ml is not None and found.lv_sv_ml < 0 < found.lv_edv_ml:
            notes.append(
                "LV is larger at ES than at ED: look at both frames, and how they are marked."
            )
        return tuple(notes)
