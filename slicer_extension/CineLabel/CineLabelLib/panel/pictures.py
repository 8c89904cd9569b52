"""Pictures of the panel: thumbnails of slices, and volumes over the cardiac cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
import qt

from CineLabelLib.core.labels import LV, MYO, RV
from CineLabelLib.desk.states import MeasuringState

LEFT, RIGHT, TOP, BOTTOM = 44, 10, 22, 34
"""Margins round the curves, pixels."""


def thumbnail(grey: np.ndarray) -> Any:
    """A QPixmap of (x, y) uint8, first axis to the right, second axis down."""
    width, height = grey.shape
    data = b"P5 %d %d 255\n" % (width, height) + np.ascontiguousarray(grey.T).tobytes()
    return picture(data)


def picture(content: bytes) -> Any:
    """A QPixmap of the bytes of a picture file; an empty one where they are none."""
    pixmap = qt.QPixmap()
    pixmap.loadFromData(qt.QByteArray(content))
    return pixmap


def curves(state: MeasuringState, width: int, height: int) -> Any:
    """A QPixmap of the volumes in ml at the labelled frames, over ms or frames."""
    pixmap = qt.QPixmap(width, height)
    pixmap.fill(qt.QColor(255, 255, 255))
    painter = qt.QPainter()
    painter.begin(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing, True)
    try:
        _draw(painter, state, width, height)
    finally:
        painter.end()
    return pixmap


def _draw(painter: Any, state: MeasuringState, width: int, height: int) -> None:
    dark, pale = qt.QColor(60, 60, 60), qt.QColor(225, 225, 225)
    painter.setPen(dark)
    if not state.frames:
        painter.drawText(LEFT, height // 2, "No frame is labelled yet.")
        return
    timed = state.times_ms is not None
    at = np.asarray(state.times_ms if timed else state.frames, float)
    series = ((LV, state.lv_ml), (MYO, state.myo_ml), (RV, state.rv_ml))
    highest = max(1.0, *(max(volumes, default=0.0) for _, volumes in series))
    step = _step(highest)
    top = step * np.ceil(highest / step)
    first, last = float(at.min()), float(at.max())

    def x(value: float) -> int:
        share = 0.5 if last == first else (value - first) / (last - first)
        return int(LEFT + share * (width - LEFT - RIGHT))

    def y(volume: float) -> int:
        return int(height - BOTTOM - volume / top * (height - TOP - BOTTOM))

    for tick in np.arange(0, top + step / 2, step):
        painter.setPen(pale)
        painter.drawLine(LEFT, y(tick), width - RIGHT, y(tick))
        painter.setPen(dark)
        painter.drawText(6, y(tick) + 4, f"{tick:.0f}")
    painter.drawText(6, 14, "ml")
    unit = "ms" if timed else "frame"
    painter.drawText(LEFT, height - 6, f"{first:.0f}")
    painter.drawText(width // 2 - 14, height - 6, unit)
    painter.drawText(width - RIGHT - 30, height - 6, f"{last:.0f}")
    for name, frame in (("ED", state.ed), ("ES", state.es)):
        if frame in state.frames:
            here = x(float(at[state.frames.index(frame)]))
            painter.setPen(qt.QPen(dark, 1, qt.Qt.DashLine))
            painter.drawLine(here, TOP, here, height - BOTTOM)
            painter.setPen(dark)
            painter.drawText(min(here - 8, width - 30), height - BOTTOM + 13, name)
    for index, (structure, volumes) in enumerate(series):
        colour = qt.QColor(*structure.colour)
        painter.setPen(qt.QPen(colour, 2))
        points = [(x(float(a)), y(v)) for a, v in zip(at, volumes, strict=True)]
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            painter.drawLine(x0, y0, x1, y1)
        for here, there in points:
            painter.drawEllipse(here - 2, there - 2, 4, 4)
        painter.drawText(LEFT + 8 + index * 56, 14, structure.name)


def _step(highest: float) -> float:
    """A round distance of the lines, so that three to seven of them cover the height."""
    power = 10.0 ** np.floor(np.log10(highest / 3))
    return float(next(power * m for m in (1, 2, 5, 10) if highest / (power * m) <= 6))
