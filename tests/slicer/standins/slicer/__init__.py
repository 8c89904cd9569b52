"""A stand-in for Slicer's `slicer`: what the module and its panel use of it, on PySide6."""

from __future__ import annotations

from PySide6 import QtWidgets

from slicer import ScriptedLoadableModule as ScriptedLoadableModule
from slicer import util as util


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene."""

    mrmlScene: object = None

    def setMRMLScene(self, scene: object) -> None:
        self.mrmlScene = scene


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """The frame of the segment editor; it records how it was set up and edits nothing."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.setMinimumHeight(64)
        layout = QtWidgets.QVBoxLayout(self)
        label = QtWidgets.QLabel("(Slicer's own segment editor: paint, draw, erase ...)", self)
        label.setEnabled(False)
        layout.addWidget(label)

    def _record(self, name: str, *args: object) -> None:
        self.calls.append((name, args))

    def setMRMLSegmentEditorNode(self, node: object) -> None:
        self._record("setMRMLSegmentEditorNode", node)

    def setSegmentationNode(self, node: object) -> None:
        self._record("setSegmentationNode", node)

    def setSourceVolumeNode(self, node: object) -> None:
        self._record("setSourceVolumeNode", node)

    def setEffectNameOrder(self, names: list[str]) -> None:
        self._record("setEffectNameOrder", names)

    def setAddRemoveSegmentButtonsVisible(self, visible: bool) -> None:
        self._record("setAddRemoveSegmentButtonsVisible", visible)

    def setActiveEffect(self, effect: object) -> None:
        self._record("setActiveEffect", effect)

    def setupViewObservations(self) -> None:
        self._record("setupViewObservations")

    def removeViewObservations(self) -> None:
        self._record("removeViewObservations")

    def installKeyboardShortcuts(self, parent: object = None) -> None:
        self._record("installKeyboardShortcuts")

    def uninstallKeyboardShortcuts(self) -> None:
        self._record("uninstallKeyboardShortcuts")
