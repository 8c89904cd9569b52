"""A stand-in for Slicer's `qt`, on PySide6: every class of QtCore, QtGui and QtWidgets by name.

PythonQt reads properties as attributes, PySide6 by calls; code that runs on both reads them with
`property`, and connects with `signal.connect`.
"""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets


def __getattr__(name: str) -> Any:
    for module in (QtWidgets, QtGui, QtCore):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"Qt has no {name}")
