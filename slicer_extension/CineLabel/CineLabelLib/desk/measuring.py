"""Measures of the labels on screen, live: volumes, ejection fraction, mass, curve, indexed."""

from __future__ import annotations

from pathlib import Path

from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.states import MeasuringState, Surface


class Measuring(UseCase[MeasuringState]):
    """Follows the labels and measures what changed."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, MeasuringState())

    @told
    def set_body(
        self,
        height_cm: float | None,
        weight_kg: float | None,
        surface: Surface = Surface.MOSTELLER,
    ) -> None:
        """Index by body surface area; None for either ends it."""

    def text(self) -> str:
        """The figures as lines of text for a report."""
        return ""

    @told
    def export_csv(self, path: Path) -> None:
        """Write the figures and the curve as CSV."""
