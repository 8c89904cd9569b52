"""A stand-in for Slicer's `ctk`: the widgets that the panel's .ui files name."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

HEADER = 26
LARGEST = 16777215  # Qt's QWIDGETSIZE_MAX


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A bar with a title that opens and closes what lies below it."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, HEADER, 0, 0)

    def _get_text(self) -> str:
        return self._text

    def setText(self, text: str) -> None:
        self._text = text
        self.update()

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self.setMaximumHeight(HEADER if collapsed else LARGEST)
        self.contentsCollapsed.emit(collapsed)

    text = QtCore.Property(str, _get_text, setText)
    collapsed = QtCore.Property(bool, _get_collapsed, setCollapsed)

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.position().y() < HEADER:
            self.setCollapsed(not self._collapsed)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        bar = QtCore.QRect(0, 0, self.width(), HEADER - 3)
        painter.fillRect(bar, self.palette().color(QtGui.QPalette.ColorRole.Midlight))
        font = painter.font()
        font.setBold(True)
        painter.setFont(font)
        painter.drawText(
            bar.adjusted(8, 0, 0, 0),
            QtCore.Qt.AlignmentFlag.AlignVCenter,
            f"{'▸' if self._collapsed else '▾'}  {self._text}",
        )
        painter.end()
