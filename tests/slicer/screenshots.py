"""Photographs the panel on stand-ins, with phantom studies and a real server, for the README.

    python tests/slicer/screenshots.py            # writes slicer_extension/Screenshots

The server segments with the bundled ensemble. Only what takes hours is made up: the figures of a
training, told by a server that was told them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "slicer_extension" / "CineLabel"
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
for folder in (MODULE, ROOT / "tests" / "slicer" / "standins", ROOT / "tests" / "slicer" / "panel"):
    sys.path.insert(0, str(folder))

WIDTH = 480
SECTIONS = ("study", "breath_holds", "segment", "edit", "measure", "learn")


def main() -> None:
    """Make the studies, start the server, work through the sections and photograph each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "slicer_extension" / "Screenshots")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        photograph(Path(scratch), out)


def photograph(scratch: Path, out: Path) -> None:
    """A reader's work on a phantom study, section by section."""
    from cinelabel.phantom.breathing import Manner
    from cinelabel.phantom.layouts import write_cohort
    from cinelabel.serving import process
    from cinelabel.serving.settings import ServerSettings
    from cinelabel.studies.workspace import prepare

    write_cohort(scratch / "studies", studies=2, seed=4, frames=10, manner=Manner.HALF_HOLD)
    workspace = prepare(scratch / "studies", scratch / "workspace")
    settings = ServerSettings(
        studies=scratch / "studies",
        workspace=workspace.path,
        port=process.free_port(),
        model="phantom-ensemble-1",
    )
    with process.Server(settings) as server:
        server.wait_until_ready()
        Reader(scratch, settings.url, out).work()


class Reader:
    """Somebody who works through a case and is photographed."""

    def __init__(self, scratch: Path, address: str, out: Path) -> None:
        import qt
        from CineLabelLib import widget
        from CineLabelLib.client import Client
        from CineLabelLib.session import Session
        from CineLabelLib.work import Workers
        from fakes import FakeScene

        self.application = qt.QApplication.instance() or qt.QApplication([])
        self.scene, self.out, self.address = FakeScene(), out, address
        session = Session(
            self.scene,
            Workers(),
            lambda to, token: Trained(Client(to, token, client_id="mary")),
            scratch / "desk",
            widget.SystemClock(),
            "mary",
        )
        settings = qt.QSettings(str(scratch / "settings.ini"), qt.QSettings.IniFormat)
        self.panel = widget.Panel(session, MODULE / "Resources", None, settings)
        self.session = session
        self.panel.widget.resize(WIDTH, 800)
        self.panel.widget.show()

    def work(self) -> None:
        """Open, review, segment, edit, measure and submit."""
        from CineLabelLib.core.labels import LV
        from CineLabelLib.core.review import Action

        panel, session, state = self.panel, self.session, self.session.opening
        panel.study.ui.addressEdit.setText(self.address)
        panel.study.ui.connectButton.click()
        self.wait(lambda: session.connection.state.model is not None)
        panel.study.ui.listButton.click()
        self.settle()
        panel.study.ui.nextButton.click()
        self.wait(lambda: state.state.study is not None)
        self.settle()
        self.shoot("study")
        rows = session.review.state.worst_first
        panel.breath_holds.ui.reasonBox.setEditText("breathing motion")
        for index, action in zip(
            rows, (Action.REPEAT, Action.EXCLUDE, Action.ACCEPT), strict=False
        ):
            self.scene.go_to_slice(index)
            panel.breath_holds.decide(action)
        self.settle()
        self.shoot("breath_holds")
        segment = panel.segment.ui
        segment.scopeBox.setCurrentIndex(2)
        segment.segmentButton.click()
        self.wait(lambda: (session.segmentation.state.fraction or 0) > 0.3)
        self.shoot("segmenting", panel.segment)
        self.wait(lambda: not session.segmentation.state.running)
        segment.qualityBox.setCurrentIndex(1)
        segment.scopeBox.setCurrentIndex(1)
        segment.segmentButton.click()
        self.wait(lambda: not session.segmentation.state.running)
        segment.overlayCheck.click()
        self.settle()
        self.shoot("segment")
        self.scene.go_to(session.opening.state.ed or 0)
        labels = self.scene.labels(self.scene.frame())
        x, y, z = (int(np.median(axis)) for axis in np.nonzero(labels == LV.value))
        self.scene.go_to_slice(z)
        self.scene.paint(self.scene.frame(), np.s_[x - 3 : x + 3, y - 3 : y + 3, z], LV.value)
        self.settle()
        panel.edit.ui.structureBox.setCurrentIndex(1)
        panel.edit.refresh()
        self.shoot("edit")
        panel.measure.ui.heightSpin.setValue(172)
        panel.measure.ui.weightSpin.setValue(70)
        self.settle()
        self.shoot("measure")
        panel.learn.ui.commentEdit.setText("basal slice corrected")
        panel.learn.ui.submitEditedButton.click()
        self.settle()
        panel.learn.ui.figureBox.setCurrentIndex(1)
        session.training.fetch_figure("losses.png")
        self.settle()
        self.shoot("learn")
        self.shoot_whole()
        panel.close()

    def wait(self, until: Callable[[], object], seconds: float = 120) -> None:
        """Let the panel work until something holds."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                raise SystemExit(f"Nothing came of it: {self.panel.ui.messageLabel.text()}")
            self.session.tick()
            self.application.processEvents()
            time.sleep(0.01)

    def settle(self) -> None:
        """Let the panel work until nothing is under way."""
        workers = self.session.desk.workers
        started = time.monotonic()
        self.wait(
            lambda: (
                time.monotonic() > started + 1.0
                and not any(lane.busy for lane in (workers.work, workers.watch, workers.files))
            )
        )

    def shoot(self, name: str, section: Any = None) -> None:
        """Photograph a section at its full height."""
        widget = (section or getattr(self.panel, name)).widget
        self.application.processEvents()
        widget.resize(WIDTH, widget.sizeHint().height())
        self.application.processEvents()
        self._save(widget, name)

    def shoot_whole(self) -> None:
        """Photograph the panel as it is in Slicer's window, from the top."""
        self.panel.ui.sectionsArea.verticalScrollBar().setValue(0)
        self.application.processEvents()
        self._save(self.panel.widget, "panel")

    def _save(self, widget: Any, name: str) -> None:
        path = self.out / f"{name}.png"
        widget.grab().save(str(path))
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {self.panel.ui.messageLabel.text()}")


class Trained:
    """A client whose server has trained: its course, versions and figure are made up."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def following(self, follower: Any) -> Trained:
        return Trained(self._client.following(follower))

    def training(self, job: str | None = None) -> Any:
        from CineLabelLib.answers import Course, Decision

        return Course(
            "tuned",
            "done",
            learned_from={"patients": 12, "slices": 118},
            figures=("losses.png",),
            version="tuned-1",
            decision=Decision("keep", ("Dice of MYO fell by 0.02 in one held-out patient.",)),
        )

    def models(self) -> Any:
        from CineLabelLib.answers import Decision, ModelVersion

        told = self._client.models()
        names = ("LV", "MYO", "RV")
        before, after = (
            {"dice": dict(zip(names, dice, strict=True))}
            for dice in ((0.86, 0.81, 0.78), (0.89, 0.83, 0.84))
        )
        challenger = ModelVersion("tuned-1", decision=Decision("keep"), before=before, after=after)
        return replace(told, versions=(*told.versions, challenger))

    def figure(self, job: str, name: str) -> bytes:
        return losses_png()


def losses_png() -> bytes:
    """A falling loss, as the server's figures are drawn."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = np.arange(0, 400, 5)
    noise = np.random.default_rng(0).normal(0, 0.02, steps.size)
    figure, axes = pyplot.subplots(figsize=(5.2, 2.2), dpi=100)
    axes.plot(steps, 0.25 + 0.5 * np.exp(-steps / 90) + noise, color="#0072B2")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content)
    return content.getvalue()


if __name__ == "__main__":
    main()
