"""A stand-in for `slicer.ScriptedLoadableModule`: the four base classes of a module."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

from PySide6 import QtWidgets


class ScriptedLoadableModule:
    """What Slicer knows of a module."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    """The module's panel; its widgets go into `layout`."""

    resources: Path

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        self.parent = parent or QtWidgets.QWidget()
        self.layout = self.parent.layout() or QtWidgets.QVBoxLayout(self.parent)

    def setup(self) -> None:
        """Nothing: there is no reload button."""

    def resourcePath(self, name: str) -> str:
        return str(self.resources / name)


class ScriptedLoadableModuleLogic:
    """What a module can do without its panel."""


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The module's own test."""
