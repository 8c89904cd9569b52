"""What the sections of the panel share: their widgets, why a button cannot work, tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import qt
import slicer

from CineLabelLib.desk.states import Link
from CineLabelLib.session import Session
from CineLabelLib.study import CineStudy

NO_SERVER = "Connect to a server first (section 1)."
NO_STUDY = "Open a study first (section 1)."
LOCAL = "This study is local: the server knows only its own cases."
HEADER, HIGHEST = 24, 320
"""Height of a table's header, and of a table beyond which it is scrolled, pixels."""

READ_ONLY = "Your token lets you read only; ask for one with the role annotator."


class Ask(Protocol):
    """Questions to the reader, in windows of their own; None and False are "no"."""

    def open_file(self) -> Path | None: ...

    def open_folder(self) -> Path | None: ...

    def save_file(self, name: str) -> Path | None: ...

    def confirm(self, sentence: str) -> bool: ...


@dataclass(frozen=True)
class Tools:
    """What a section is made with: the session, .ui files and icons, questions, QSettings."""

    session: Session
    resources: Path
    ask: Ask
    settings: Any

    def icon(self, name: str) -> Any:
        """The QIcon of that name."""
        return qt.QIcon(str(self.resources / "Icons" / f"{name}.png"))


class Section:
    """A section of the panel: what its .ui file describes, bound to the session.

    Attributes:
        widget: the whole section.
        ui: its widgets by name.
    """

    FILE = ""

    def __init__(self, tools: Tools) -> None:
        self.tools, self.session = tools, tools.session
        self.widget = slicer.util.loadUI(str(tools.resources / "UI" / self.FILE))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._help: dict[Any, str] = {}
        self._filled: dict[Any, object] = {}

    def allow(self, button: Any, *why_not: str | None) -> None:
        """Enable a button, or disable it with the first reason as its tooltip."""
        help_of = self.help_of(button)
        reason = next((why for why in why_not if why), None)
        button.setEnabled(reason is None)
        button.setToolTip(help_of if reason is None else reason)

    def help_of(self, button: Any) -> str:
        """What a button does, as its tooltip says while it can work."""
        return self._help.setdefault(button, value(button, "toolTip"))

    def press(self, button: Any) -> None:
        """Press a button for a key; where it cannot work the reader is told why."""
        if value(button, "enabled"):
            button.click()
        else:
            self.session.problem.emit(value(button, "toolTip"))

    def name_key(self, button: Any, key: str) -> None:
        """Tell in a button's tooltip which key does the same."""
        help_of = self.help_of(button)
        self._help[button] = f"{help_of} ({key})"
        if value(button, "toolTip") == help_of:
            button.setToolTip(self._help[button])

    def needs_server(self) -> str | None:
        """Why nothing can be asked of the server, None if it can."""
        link = self.session.connection.state.link
        return None if link is Link.CONNECTED else NO_SERVER

    def needs_study(self) -> str | None:
        """Why nothing can be done to a study, None if one is open."""
        return NO_STUDY if self.study is None else None

    def needs_case(self) -> str | None:
        """Why nothing can be asked of the server about this study, None if it can."""
        local = self.study is not None and not self.study.images
        return self.needs_study() or (LOCAL if local else None) or self.needs_server()

    def needs_annotator(self) -> str | None:
        """Why the reader may not change what the server keeps, None if she may."""
        return READ_ONLY if self.session.connection.state.role == "reader" else None

    @property
    def study(self) -> CineStudy | None:
        return self.session.opening.state.study

    def fill(self, table: Any, rows: Sequence[Sequence[str]], icons: Sequence[Any] = ()) -> None:
        """Show rows of text in a table; icons go into the first column. Nothing if unchanged."""
        told = (tuple(map(tuple, rows)), tuple(map(id, icons)))
        if self._filled.get(table) == told:
            return
        self._filled[table] = told
        before = table.blockSignals(True)
        table.setRowCount(len(rows))
        for i, row in enumerate(rows):
            for j, text in enumerate(row):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                if j == 0 and icons:
                    item.setIcon(qt.QIcon(icons[i]))
                table.setItem(i, j, item)
        table.resizeRowsToContents()
        table.setFixedHeight(min(HIGHEST, _height(table, len(rows))))
        table.blockSignals(before)

    def choices(self, box: Any, texts: Sequence[str]) -> None:
        """Offer texts in a box; the one that was chosen stays chosen if it is still there."""
        if self._filled.get(box) == tuple(texts):
            return
        self._filled[box] = tuple(texts)
        chosen = value(box, "currentText")
        before = box.blockSignals(True)
        box.clear()
        for text in texts:
            box.addItem(text)
        if chosen in texts:
            box.setCurrentIndex(list(texts).index(chosen))
        box.blockSignals(before)


def _height(table: Any, n_rows: int) -> int:
    """The height in pixels that shows all rows, or room for one where there is none."""
    return HEADER + 4 + (sum(table.rowHeight(i) for i in range(n_rows)) or 24)


def value(widget: Any, name: str) -> Any:
    """A property of a widget, which PythonQt and PySide name in different ways."""
    return widget.property(name)


def put(widget: Any, setter: str, new: Any) -> None:
    """Set a value without telling anybody who listens to the widget."""
    before = widget.blockSignals(True)
    getattr(widget, setter)(new)
    widget.blockSignals(before)


def say(label: Any, sentence: str) -> None:
    """Show a sentence; a label without one takes no room."""
    label.setText(sentence)
    label.setVisible(bool(sentence))


def columns(table: Any, widths: Sequence[int | None]) -> None:
    """Give columns their widths in pixels; None takes what is left."""
    header = table.horizontalHeader()
    for index, width in enumerate(widths):
        if width is None:
            header.setSectionResizeMode(index, qt.QHeaderView.Stretch)
        else:
            table.setColumnWidth(index, width)
    table.verticalHeader().setVisible(False)


def calls(function: Callable[[], object]) -> Callable[..., None]:
    """A slot that leaves out what the signal tells."""
    return lambda *_: void(function())


def void(_: object) -> None:
    """Nothing: what was returned is not needed."""
