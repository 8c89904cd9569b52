"""A stand-in for `slicer.util`: loading .ui files, the main window, status messages."""

from __future__ import annotations

from types import SimpleNamespace

from PySide6 import QtCore, QtUiTools, QtWidgets


class VTKObservationMixin:
    """Keeps what is observed; nothing is called."""

    def __init__(self) -> None:
        self.observed: list[tuple[object, object, object]] = []

    def addObserver(self, of: object, event: object, method: object) -> None:
        self.observed.append((of, event, method))

    def removeObservers(self) -> None:
        self.observed.clear()


def loadUI(path: str) -> QtWidgets.QWidget:
    """The widget that a .ui file describes, with the custom widgets of the stand-ins."""
    import ctk

    import slicer

    loader = QtUiTools.QUiLoader()
    for widget in (
        slicer.qMRMLWidget,
        slicer.qMRMLSegmentEditorWidget,
        ctk.ctkCollapsibleButton,
    ):
        loader.registerCustomWidget(widget)
    file = QtCore.QFile(path)
    if not file.open(QtCore.QIODevice.OpenModeFlag.ReadOnly):
        raise RuntimeError(f"Could not load UI file: {path}")
    widget = loader.load(file)
    file.close()
    if widget is None:
        raise RuntimeError(f"Could not load UI file: {path}: {loader.errorString()}")
    return widget


def childWidgetVariables(widget: QtWidgets.QWidget) -> SimpleNamespace:
    """Child widgets as attributes, by their names."""
    children = widget.findChildren(QtWidgets.QWidget)
    return SimpleNamespace(**{w.objectName(): w for w in children if w.objectName()})


_window: list[QtWidgets.QMainWindow] = []


def mainWindow() -> QtWidgets.QMainWindow:
    """The one main window, which shortcuts belong to."""
    if not _window:
        _window.append(QtWidgets.QMainWindow())
    return _window[0]


def showStatusMessage(message: str, duration: int = 0) -> None:
    """Nothing: there is no status bar."""


def confirmYesNoDisplay(text: str, windowTitle: str | None = None) -> bool:
    """Nobody is there to say yes."""
    return False


def findChild(widget: QtWidgets.QWidget, name: str) -> QtWidgets.QWidget:
    """The child widget of that name; raises RuntimeError where there is none, as Slicer's does."""
    found = widget.findChild(QtWidgets.QWidget, name)
    if found is None:
        raise RuntimeError(f"Failed to find {name}")
    return found
