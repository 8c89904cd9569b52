"""The panel as a whole: its sections, the message line, the timer, the keys; put together here."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import qt
import slicer

from CineLabelLib.client import Client
from CineLabelLib.desk.ports import Scene
from CineLabelLib.panel.breath_holds import BreathHoldsSection
from CineLabelLib.panel.edit import EditSection
from CineLabelLib.panel.learn import LearnSection
from CineLabelLib.panel.measure import MeasureSection
from CineLabelLib.panel.section import Ask, Section, Tools, calls
from CineLabelLib.panel.segment import SegmentSection
from CineLabelLib.panel.study import READER, StudySection
from CineLabelLib.session import Session
from CineLabelLib.shortcuts import SHORTCUTS, key_of
from CineLabelLib.work import Workers

TICK_MS = 50
"""How often the main thread collects what the threads brought."""

KEYS = {
    "frame_before": ("study", "previousFrameButton"),
    "play": ("study", "playButton"),
    "frame_after": ("study", "nextFrameButton"),
    "go_to_ed": ("study", "edButton"),
    "go_to_es": ("study", "esButton"),
    "set_ed": ("study", "markEdButton"),
    "set_es": ("study", "markEsButton"),
    "worst_slice": ("breath_holds", "nextWorstButton"),
    "accept": ("breath_holds", "acceptButton"),
    "repeat": ("breath_holds", "repeatButton"),
    "exclude": ("breath_holds", "excludeButton"),
    "next_look": ("segment", "nextLookButton"),
    "lock": ("edit", "lockCheck"),
    "copy_slice_before": ("edit", "previousSliceButton"),
    "copy_slice_after": ("edit", "nextSliceButton"),
    "copy_frame_before": ("edit", "previousFrameButton"),
    "copy_frame_after": ("edit", "nextFrameButton"),
    "fill_between": ("edit", "fillButton"),
    "smooth": ("edit", "smoothButton"),
    "keep_largest": ("edit", "islandsButton"),
    "clear_slice": ("edit", "clearSliceButton"),
    "restore_frame": ("edit", "restoreButton"),
}
"""Section and button that a key presses, by its action in `shortcuts.py`."""

STYLES = {
    "problem": "QFrame#messageFrame { background: #fbe3e4; } QLabel { color: #7a0012; }",
    "told": "QFrame#messageFrame { background: #e2f1ea; } QLabel { color: #004d36; }",
}


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        return datetime.now().astimezone()

    def seconds(self) -> float:
        return time.monotonic()


class Panel:
    """The six sections and the message line above them.

    Attributes:
        widget: what the module shows.
        session: the use cases behind it.
    """

    def __init__(self, session: Session, resources: Path, ask: Ask, settings: Any) -> None:
        self.session = session
        self.widget = slicer.util.loadUI(str(resources / "UI" / "CineLabel.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        tools = Tools(session, resources, ask, settings)
        self.study, self.breath_holds = StudySection(tools), BreathHoldsSection(tools)
        self.segment, self.edit = SegmentSection(tools), EditSection(tools)
        self.measure, self.learn = MeasureSection(tools), LearnSection(tools)
        layout = self.ui.sectionsContents.layout()
        for section in self.sections:
            layout.addWidget(section.widget)
        layout.addStretch(1)
        self.ui.messageCloseButton.clicked.connect(calls(self.clear_message))
        session.problem.connect(lambda sentence: self.message(sentence, "problem"))
        session.told.connect(lambda sentence: self.message(sentence, "told"))
        self._shortcuts: list[Any] = []
        for action, (section, button) in self.buttons().items():
            section.name_key(button, key_of(action))
        self.clear_message()
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(session.tick)
        self._timer.start()

    @property
    def sections(self) -> tuple[Section, ...]:
        """From top to bottom."""
        return (
            self.study,
            self.breath_holds,
            self.segment,
            self.edit,
            self.measure,
            self.learn,
        )

    def message(self, sentence: str, kind: str) -> None:
        """Show a sentence above the sections; `kind` is "problem" or "told"."""
        self.ui.messageFrame.setStyleSheet(STYLES[kind])
        self.ui.messageLabel.setText(sentence)
        self.ui.messageFrame.setVisible(True)

    def clear_message(self) -> None:
        """Take the sentence away."""
        self.ui.messageLabel.setText("")
        self.ui.messageFrame.setVisible(False)

    def buttons(self) -> dict[str, tuple[Section, Any]]:
        """The section and the button of each key in `KEYS`."""
        sections = {name: getattr(self, name) for name, _ in KEYS.values()}
        return {
            action: (sections[name], getattr(sections[name].ui, button))
            for action, (name, button) in KEYS.items()
        }

    def actions(self) -> dict[str, Callable[[], object]]:
        """What each key does, by the name of its action."""
        pressed = {
            action: partial(section.press, button)
            for action, (section, button) in self.buttons().items()
        }
        return pressed | {
            "segment_frame": self.segment.run_frame,
            "brush_smaller": partial(self.edit.scale_brush, False),
            "brush_larger": partial(self.edit.scale_brush, True),
        }

    def enter(self) -> None:
        """The module is on screen: its keys work, and Slicer's tools see the views."""
        self.exit()
        editor, window = self.edit.ui.segmentEditor, slicer.util.mainWindow()
        actions = self.actions()
        for shortcut in SHORTCUTS:
            key = qt.QShortcut(qt.QKeySequence(shortcut.key), window)
            key.activated.connect(calls(actions[shortcut.action]))
            self._shortcuts.append(key)
        editor.setupViewObservations()
        editor.installKeyboardShortcuts(window)

    def exit(self) -> None:
        """Another module is on screen: it has the keys and the views."""
        editor = self.edit.ui.segmentEditor
        for key in self._shortcuts:
            key.setEnabled(False)
            key.setParent(None)
            key.deleteLater()
        self._shortcuts.clear()
        editor.setActiveEffect(None)
        editor.uninstallKeyboardShortcuts()
        editor.removeViewObservations()

    def keys_installed(self) -> bool:
        """Whether the module's keys work now."""
        return bool(self._shortcuts)

    def show_tools_of(self, scene: Any) -> None:
        """Let Slicer's segment editor work on the labels of an `mrml.scene.MrmlScene`."""
        from CineLabelLib.mrml.editing import WidgetHistory, embed

        editor, find = self.edit.ui.segmentEditor, slicer.util.findChild
        embed(editor, slicer.mrmlScene, scene.edits.node)
        buttons = find(editor, "UndoButton"), find(editor, "RedoButton")
        scene.edits.use(WidgetHistory(editor, *buttons))

    def scene_closes(self) -> None:
        """The scene is about to be emptied: nothing plays and no tool works on it any more."""
        scene = self.session.desk.scene
        if scene.playing():
            scene.play(False)
        self.edit.ui.segmentEditor.setActiveEffect(None)

    def close(self) -> None:
        """Keep what is unsaved, let the case go, end the threads."""
        self.exit()
        self._timer.stop()
        self.session.close()


def compose(scene: Scene, resources: Path, ask: Ask, settings: Any, folder: Path) -> Panel:
    """The panel with a session of its own.

    Args:
        scene: where studies are shown.
        resources: the module's folder of .ui files and icons.
        settings: QSettings, for the address and the reader's name; tokens are not kept.
        folder: of the outbox, autosaved edits and records of local studies.
    """
    reader = str(settings.value(READER) or getpass.getuser())

    def client(address: str, token: str | None) -> Client:
        return Client(address, token, client_id=session.desk.reader)

    session = Session(scene, Workers(), client, folder, SystemClock(), reader)
    return Panel(session, resources, ask, settings)


def data_folder() -> Path:
    """Where the extension keeps what must outlive Slicer: `CineLabel` in the user's data folder."""
    kind = qt.QStandardPaths.GenericDataLocation
    return Path(str(qt.QStandardPaths.writableLocation(kind))) / "CineLabel"
