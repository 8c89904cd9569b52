"""A reader at a desk of real parts: session, scene, threads and client; and what she draws."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from CineLabelLib import nifti
from CineLabelLib.client import Client
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.labels import LV, MYO, RV, STRUCTURES
from CineLabelLib.desk.states import Link, Scope
from CineLabelLib.mrml.scene import MrmlScene
from CineLabelLib.session import Session
from CineLabelLib.study import CineStudy
from CineLabelLib.work import Workers
from real_server import client_of

DEADLINE_S = 120.0
POLL_S = 0.005


class Clock:
    """The time, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def seconds(self) -> float:
        return time.monotonic() + self.ahead_s


class Reader:
    """One reader with one Slicer; `problems` and `told` are the sentences that she was shown."""

    def __init__(
        self,
        folder: Path,
        name: str = "anna",
        transport: Any = None,
        client_class: type[Client] = Client,
    ) -> None:
        self.folder, self.name = folder, name
        self._transport, self._client_class = transport, client_class
        self.scene, self.clock = MrmlScene(), Clock()
        self.problems: list[str] = []
        self.told: list[str] = []
        self.session = Session(self.scene, Workers(), self._client, folder, self.clock, name)
        self.session.problem.connect(self.problems.append)
        self.session.told.connect(self.told.append)

    def _client(self, address: str, token: str | None) -> Client:
        return self._client_class(address, token, self.name, self._transport)

    @property
    def study(self) -> CineStudy:
        study = self.session.desk.study
        assert study is not None, self.problems
        return study

    @property
    def image(self) -> str:
        """The server's name of the frame on screen."""
        return self.study.images[self.scene.frame()]

    def until(self, true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Let the desk go on until something is so."""
        end = time.monotonic() + deadline_s
        while not true():
            assert time.monotonic() < end, f"{what}: it does not happen. {self.problems}"
            self.session.tick()
            time.sleep(POLL_S)

    def idle(self) -> None:
        """Let the desk go on until no thread does anything."""
        workers = self.session.desk.workers
        lanes = (workers.work, workers.watch, workers.files)
        self.until(lambda: not any(lane.busy for lane in lanes), "all that was asked for is done")
        self.session.tick()

    def later(self, seconds: float) -> None:
        """Put the clock forward and do what is due by then."""
        self.clock.ahead_s += seconds
        self.session.tick()
        self.idle()

    def connect(self, url: str, token: str | None = None) -> None:
        connection = self.session.connection
        connection.connect(url, token)
        self.until(lambda: connection.state.link is not Link.CONNECTING, "the server answers")
        assert connection.state.link is Link.CONNECTED, connection.state.sentence
        self.idle()

    def open(self, image: str) -> None:
        """Open a case of the server on its frame."""
        self.session.opening.open_case(image)
        self.idle()
        assert self.image == image, self.problems

    def open_local(self, path: Path) -> None:
        opening = self.session.opening
        (opening.open_folder if path.is_dir() else opening.open_file)(path)
        self.idle()
        assert self.study.source is not None, self.problems

    def segment(self, scope: Scope = Scope.FRAME) -> None:
        self.session.segmentation.run(scope, fast=True)
        self.until(lambda: not self.session.segmentation.state.running, "the server segments")
        assert self.session.segmentation.state.model, self.problems

    def draw(self) -> np.ndarray:
        """Draw a heart onto an empty frame by the segment editor; the labels as they are then."""
        for structure, mask in heart(self.study.grid.shape).items():
            self.scene.edits.paint(structure, mask)
        return self.labels()

    def labels(self, frame: int | None = None) -> np.ndarray:
        return self.scene.labels(self.scene.frame() if frame is None else frame)

    def submit(self) -> None:
        """Submit what was edited; whatever comes of it."""
        self.session.submitting.submit_edited()
        self.idle()

    def leave(self) -> None:
        """Close Slicer."""
        self.session.close()
        self.scene.clear()

    def vanish(self) -> None:
        """Slicer is killed: nothing is told to anybody."""
        self.session.desk.workers.close(DEADLINE_S)
        self.scene.closing._slots.clear()
        self.scene.clear()


def heart(shape: tuple[int, ...]) -> dict[Any, np.ndarray]:
    """A heart without any symmetry, in two slices in the middle: a mask (x, y, z) a structure."""
    x, y, z = (n // 2 for n in shape)
    masks = {structure: np.zeros(shape, bool) for structure in STRUCTURES}
    masks[MYO][x - 5 : x + 3, y - 4 : y + 4, z - 1 : z + 1] = True
    masks[LV][x - 3 : x + 1, y - 2 : y + 3, z - 1 : z + 1] = True
    masks[MYO] &= ~masks[LV]
    masks[RV][x + 3 : x + 6, y - 4 : y + 2, z - 1] = True
    masks[RV][x + 3 : x + 5, y - 3 : y + 2, z] = True
    return masks


def kept(url: str, token: str | None, image: str, version: int | None = None) -> nifti.Image:
    """The label that a server keeps, read by itself."""
    file = client_of(url, token).label(image, version)
    return nifti.read_labels(file.content, image)


def versions(url: str, token: str | None, image: str) -> list[int]:
    """The versions that were submitted of an image."""
    events = client_of(url, token).history(image)
    return [event.version or 0 for event in events if event.kind == "submitted"]


def require_kept(found: nifti.Image, labels: np.ndarray, study: CineStudy) -> None:
    """The store's label is the desk's voxel for voxel, on the source grid."""
    assert np.array_equal(found.voxels, labels)
    assert study.grid.difference(Grid(found.voxels.shape, found.affine)) is None
