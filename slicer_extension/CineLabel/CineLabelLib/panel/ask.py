"""Questions to the reader in windows of their own: files, folders, yes or no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer


class Windows:
    """Asks with Qt's and Slicer's own windows."""

    def __init__(self, parent: Any) -> None:
        self._parent = parent

    def open_file(self) -> Path | None:
        title, kinds = "Open a short-axis cine", "NIfTI (*.nii *.nii.gz)"
        return _path(qt.QFileDialog.getOpenFileName(self._parent, title, "", kinds))

    def open_folder(self) -> Path | None:
        title = "Open a folder with a short-axis DICOM cine"
        return _path(qt.QFileDialog.getExistingDirectory(self._parent, title))

    def save_file(self, name: str) -> Path | None:
        title, kinds = "Write the measures", "CSV (*.csv)"
        return _path(qt.QFileDialog.getSaveFileName(self._parent, title, name, kinds))

    def confirm(self, sentence: str) -> bool:
        return bool(slicer.util.confirmYesNoDisplay(sentence, windowTitle="CineLabel"))


def _path(told: object) -> Path | None:
    """A path from what a file dialog returns: PythonQt the name, PySide the name and the filter."""
    name = told[0] if isinstance(told, tuple) else told
    return Path(str(name)) if name else None
