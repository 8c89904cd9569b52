"""The panel on stand-ins: Qt without a screen, a scene of arrays, a slow or refusing server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "slicer_extension" / "CineLabel"
STANDINS = ROOT / "tests" / "slicer" / "standins"

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
for folder in (MODULE, STANDINS, Path(__file__).parent):
    sys.path.insert(0, str(folder))


@pytest.fixture(scope="session")
def application() -> Any:
    """The one QApplication; tests are skipped where Qt cannot be loaded."""
    widgets = pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    return widgets.QApplication.instance() or widgets.QApplication([])


class Asked:
    """Answers instead of windows; keeps what was asked."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.folder: Path | None = None
        self.saved: Path | None = None
        self.agrees = True
        self.questions: list[str] = []

    def open_file(self) -> Path | None:
        return self.file

    def open_folder(self) -> Path | None:
        return self.folder

    def save_file(self, name: str) -> Path | None:
        return self.saved

    def confirm(self, sentence: str) -> bool:
        self.questions.append(sentence)
        return self.agrees


@dataclass
class Bench:
    """A panel with everything behind it."""

    panel: Any
    scene: Any
    server: Any
    asked: Asked
    application: Any
    slowest_s: float = 0.0

    @property
    def message(self) -> str:
        return self.panel.ui.messageLabel.text()

    def press(self, button: Any) -> None:
        """Press a button that must be enabled, and keep how long the main thread was away."""
        assert button.isEnabled(), f"{button.objectName()}: {button.toolTip()}"
        started = time.perf_counter()
        button.click()
        self.slowest_s = max(self.slowest_s, time.perf_counter() - started)

    def wait(self, until: Callable[[], object], what: str = "") -> None:
        """Let the panel work until something holds; each turn of the main thread is measured."""
        end = time.monotonic() + 20
        while not until():
            assert time.monotonic() < end, f"{what or 'it'} did not happen; {self.message}"
            self.turn()
            time.sleep(0.002)

    def turn(self) -> None:
        """What the timer does every 50 ms, measured."""
        started = time.perf_counter()
        self.panel.session.tick()
        self.application.processEvents()
        self.slowest_s = max(self.slowest_s, time.perf_counter() - started)

    def connect(self) -> None:
        ui = self.panel.study.ui
        ui.addressEdit.setText("http://127.0.0.1:8000")
        self.press(ui.connectButton)
        self.wait(lambda: ui.linkLabel.text() == "connected", "the connection")
        self.settle()

    def open_case(self) -> None:
        """Connect, and open what the server gives next."""
        self.connect()
        self.press(self.panel.study.ui.nextButton)
        self.wait(lambda: self.panel.session.opening.state.study is not None, "the case")
        self.settle()

    def open_file(self, path: Path) -> None:
        self.asked.file = path
        self.press(self.panel.study.ui.openFileButton)
        self.wait(lambda: self.panel.session.opening.state.study is not None, "the file")
        self.settle()

    def settle(self) -> None:
        """Until nothing is under way; the panel has had a turn in any case."""
        self.panel.session.tick()
        workers = self.panel.session.desk.workers
        lanes = (workers.work, workers.watch, workers.files)
        self.wait(lambda: not any(lane.busy for lane in lanes), "the end of the work")

    def paint(self, frame: int, where: tuple[slice, ...], value: int = 1) -> None:
        """An edit by the mouse."""
        self.scene.paint(frame, where, value)
        self.settle()


@pytest.fixture
def bench(application: Any, tmp_path: Path) -> Iterator[Bench]:
    """A panel without a server or a study yet; `bench.server` is what it will find."""
    import qt
    from CineLabelLib import widget
    from CineLabelLib.session import Session
    from CineLabelLib.work import Workers
    from fakes import FakeScene, FakeServer

    scene, server, asked = FakeScene(), FakeServer(), Asked()
    settings = qt.QSettings(str(tmp_path / "settings.ini"), qt.QSettings.IniFormat)
    session = Session(
        scene, Workers(), server.client, tmp_path / "desk", widget.SystemClock(), "mary"
    )
    panel = widget.Panel(session, MODULE / "Resources", asked, settings)
    panel.widget.resize(480, 1200)
    panel.widget.show()
    made = Bench(panel, scene, server, asked, application)
    yield made
    assert not server.asked_by_main
    server.pause_s = 0.0
    panel.close()
    panel.widget.close()
    panel.widget.deleteLater()
    application.processEvents()


@pytest.fixture
def cine(tmp_path: Path) -> Path:
    """A local 4D NIfTI file with a bright disc that beats."""
    from fakes import beating_disc, nifti_bytes

    path = tmp_path / "local.nii.gz"
    path.write_bytes(nifti_bytes(beating_disc()))
    return path


def names(array: np.ndarray) -> set[int]:
    """The label values of an array."""
    return {int(v) for v in np.unique(array)} - {0}
