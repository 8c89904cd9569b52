"""A desk of plain parts: a scene of arrays, a clock that is set by hand, and a server in memory."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from CineLabelLib import answers, nifti
from CineLabelLib.core.errors import InputError, LabelError
from CineLabelLib.session import Session
from CineLabelLib.signals import Signal
from CineLabelLib.study import CineStudy
from CineLabelLib.work import Workers

DEADLINE_S = 20.0
SHAPE = (14, 12, 4, 5)
LEFT_HANDED = np.array([[0, 1.5, 0, 3.0], [1.5, 0, 0, -2.0], [0, 0, 8.0, 5.0], [0, 0, 0, 1]])
RIGHT_HANDED = LEFT_HANDED @ np.diag([1, 1, -1, 1])
ADDRESS = "http://127.0.0.1:9"


def heart(frame: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Labels (x, y, z) of a heart that contracts: an LV within MYO, an RV beside it."""
    labels = np.zeros(shape[:3], np.uint8)
    labels[2:9, 2:10] = 2
    labels[3 + frame % 3 : 8, 3:9] = 1
    labels[10:13, 3 : 9 - frame % 2] = 3
    return labels


class FakeEdits:
    """A history of one step of what a test did to the frame on screen."""

    def __init__(self, scene: FakeScene) -> None:
        self.scene = scene
        self.calls: list[tuple[Any, ...]] = []
        self.fails: Exception | None = None
        self._before: np.ndarray | None = None

    def can_undo(self) -> bool:
        return self._before is not None

    def can_redo(self) -> bool:
        return False

    def remember(self) -> None:
        self._before = self.scene.kept[..., self.scene.frame()].copy()

    def forget(self) -> None:
        self._before = None

    def undo(self) -> None:
        before, self._before = self._before, None
        self.scene.person_edits(before, undoable=False)

    def __getattr__(self, name: str) -> Callable[..., None]:
        def act(*args: Any) -> None:
            self.calls.append((name, *args))
            if self.fails is not None and not (args and args[-1] is True):
                raise self.fails

        return act


class FakeScene:
    """The scene as arrays; `person_edits` is what a person does with a brush."""

    def __init__(self) -> None:
        self.frame_changed, self.slice_changed = Signal(), Signal()
        self.edited, self.closing = Signal(), Signal()
        self.notes: tuple[str, ...] = ()
        self.edits = FakeEdits(self)
        self.notes: tuple[str, ...] = ()
        self.study: CineStudy | None = None
        self.kept = np.zeros((1, 1, 1, 1), np.uint8)
        self.fourth: set[int] = set()
        self.overlay: dict[int, np.ndarray | None] = {}
        self.beside: dict[int, tuple[np.ndarray | None, str]] = {}
        self.reads = 0
        self._frame = self._slice = 0

    def show(self, study: CineStudy) -> None:
        self.study, self.kept = study, np.zeros(study.voxels.shape, np.uint8)
        self._frame = self._slice = 0
        self.fourth.clear()

    def clear(self) -> None:
        self.study = None

    def frame(self) -> int:
        return self._frame

    def go_to(self, frame: int) -> None:
        self._frame = frame
        self.edits.forget()
        self.frame_changed.emit(frame)

    def slice(self) -> int:
        return self._slice

    def go_to_slice(self, index: int) -> None:
        self._slice = index
        self.slice_changed.emit(index)

    def play(self, on: bool, frames_a_second: float = 20) -> None: ...

    def playing(self) -> bool:
        return False

    def labels(self, frame: int, strict: bool = True) -> np.ndarray:
        self.reads += 1
        if strict and frame in self.fourth:
            raise LabelError("has the segment 'Scar', which is none of LV, MYO, RV")
        return self.kept[..., frame].copy()

    def set_labels(self, frame: int, labels: np.ndarray) -> None:
        self.kept[..., frame] = labels
        self.fourth.discard(frame)

    def show_disagreement(self, frame: int, values: np.ndarray | None) -> None:
        self.overlay[frame] = values

    def show_beside(self, frame: int, labels: np.ndarray | None, title: str = "") -> None:
        self.beside[frame] = (labels, title)

    def show_opacity(self, opacity: float) -> None: ...

    def person_edits(self, labels: np.ndarray, undoable: bool = True) -> None:
        if undoable:
            self.edits.remember()
        self.kept[..., self._frame] = labels
        self.edited.emit(self._frame)

    def close(self) -> None:
        """As Slicer does: says so while labels can be read, and has nothing afterwards."""
        self.closing.emit()
        self.study, self.kept = None, np.zeros((1, 1, 1, 1), np.uint8)


class FakeClock:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return datetime(2030, 5, 6, 7, 8, 9, tzinfo=timezone.utc) + timedelta(seconds=self.passed)

    def seconds(self) -> float:
        return self.passed


class FakeServer:
    """What a server of one study does, in memory, as far as the desk asks for it.

    `fails` holds an error a method; `hangs` keeps every request until it is set.
    """

    def __init__(self, frames: int = SHAPE[3], affine: np.ndarray = LEFT_HANDED) -> None:
        rng = np.random.default_rng(3)
        self.study = "heart"
        self.images = [f"heart__t{t:02d}" for t in range(frames)]
        self.files = {
            image: nifti.image_bytes(rng.integers(0, 900, SHAPE[:3]).astype(np.int16), affine)
            for image in self.images
        }
        self.affine = affine
        self.labels: dict[str, list[tuple[bytes, str, str]]] = {i: [] for i in self.images}
        self.kept: dict[str, answers.Kept] = {}
        self.leases: dict[str, str] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.fails: dict[str, Exception] = {}
        self.loses_answer = False
        self.hangs: threading.Event | None = None
        self.role = "admin"
        self.phases = {0: "ED", 2: "ES"}
        self.record: answers.StudyReview | None = None
        self.course: answers.Course | None = None
        self.model = "v1"

    def case(self, image: str) -> answers.Case:
        versions, frame = self.labels[image], self.images.index(image)
        last = versions[-1] if versions else (b"", "", "")
        return answers.Case(
            image,
            self.study,
            frame,
            len(self.images),
            "labelled" if versions else "open",
            len(versions),
            phase=self.phases.get(frame),
            who=last[1],
            time=last[2],
            image_sha256=hashlib.sha256(self.files[image]).hexdigest(),
        )

    def label(self, image: str, labels: np.ndarray, who: str, when: str) -> None:
        """Somebody else submits."""
        self.labels[image].append((nifti.label_bytes(labels, self.affine), who, when))

    def newest(self, image: str) -> np.ndarray:
        return nifti.read_labels(self.labels[image][-1][0]).voxels


class FakeClient:
    """A client of a FakeServer; `following` gives it the task that may be cancelled."""

    def __init__(self, server: FakeServer, address: str = ADDRESS) -> None:
        self.server, self.address, self.client_id = server, address, "reader"

    def following(self, task: Any) -> FakeClient:
        other = FakeClient(self.server, self.address)
        other._task = task  # type: ignore[attr-defined]
        return other

    def close(self) -> None:
        self._asked("close", self.address)

    def _asked(self, name: str, *what: Any) -> None:
        hangs = self.server.hangs
        self.server.asked.append((name, *what))
        if hangs is not None:
            hangs.wait(DEADLINE_S)
        if name in self.server.fails:
            raise self.server.fails[name]

    def check_token(self) -> answers.Identity:
        self._asked("check_token")
        return answers.Identity("reader", ("reader", "annotator", "admin")[: _rank(self.server)])

    def info(self) -> answers.Info:
        self._asked("info")
        done = sum(bool(v) for v in self.server.labels.values())
        counts = answers.Counts(len(self.server.images), done, 0, 1)
        return answers.Info("CineLabel", "1", {"suggested": "", "first": ""}, counts)

    def queue(self) -> answers.Queue:
        self._asked("queue")
        return answers.Queue(0, 0, 32, 1.0)

    def models(self) -> answers.Models:
        self._asked("models")
        versions = tuple(answers.ModelVersion(v) for v in ("v1", "v2"))
        return answers.Models(self.server.model, self.server.model, versions)

    def cases(self, state: str | None = None, study: str | None = None) -> tuple[Any, ...]:
        self._asked("cases", state, study)
        return tuple(self.server.case(image) for image in self.server.images)

    def next_case(self, strategy: str) -> answers.NextCase | None:
        self._asked("next_case", strategy)
        open_ones = [i for i in self.server.images if not self.server.labels[i]]
        if not open_ones:
            return None
        lease = answers.Lease("reader", "2030-05-06T08:08:09Z")
        self.server.leases[open_ones[0]] = "reader"
        frame = self.server.images.index(open_ones[0])
        return answers.NextCase(
            open_ones[0], "heart", frame, SHAPE[3], 0, "Two answers differ.", 2, lease=lease
        )

    def image_info(self, image: str) -> Any:
        self._asked("image_info", image)
        return SimpleNamespace(study=self.server.study)

    def hold(self, image: str, minutes: float = 60.0) -> Any:
        self._asked("hold", image)
        self.server.leases[image] = "reader"
        return self.server.case(image)

    def let_go(self, image: str) -> Any:
        self._asked("let_go", image)
        self.server.leases.pop(image, None)
        return self.server.case(image)

    def fetch_study(self, study: str) -> tuple[answers.ImageFile, ...]:
        self._asked("fetch_study", study)
        files = [(self.server.case(i), self.server.files[i]) for i in self.server.images]
        return tuple(answers.ImageFile(c, f, hashlib.sha256(f).hexdigest()) for c, f in files)

    def label(self, image: str, version: int | None = None) -> answers.LabelFile:
        self._asked("label", image, version)
        number = version or len(self.server.labels[image])
        return answers.LabelFile(image, self.server.labels[image][number - 1][0], number)

    def submit(self, submission: Any) -> answers.Kept:
        self._asked("submit", submission.image, submission.key)
        server, image = self.server, submission.image
        if submission.key not in server.kept:
            digest = hashlib.sha256(server.files[image]).hexdigest()
            if submission.image_digest != digest:
                raise conflict(cause="changed")
            if submission.base_version != len(server.labels[image]):
                _, who, when = server.labels[image][-1]
                raise conflict(len(server.labels[image]), who, when)
            when = "2030-05-06T07:30:00+00:00"
            server.labels[image].append((submission.label, submission.reader, when))
            number = len(server.labels[image])
            server.kept[submission.key] = answers.Kept(image, number, submission.reader, when)
        if server.loses_answer:
            raise answers.TimedOut("the server does not answer")
        return server.kept[submission.key]

    def skip(self, image: str, reason: str) -> Any:
        self._asked("skip", image, reason)
        return self.server.case(image)

    def reopen(self, image: str, reason: str) -> Any:
        self._asked("reopen", image, reason)
        return self.server.case(image)

    def segment(
        self,
        image: str,
        scope: str = "frame",
        fast: bool = True,
        uncertainty: bool = False,
        request_id: str | None = None,
        content: bytes | None = None,
    ) -> answers.Segmentation:
        self._asked("segment", image, scope, fast, content is not None)
        sent = nifti.read(content or self.server.files[image])
        whole = scope == "study"
        frame = None if whole or not image else self.server.images.index(image)
        frames = range(SHAPE[3]) if whole else [frame or 0]
        labels = np.stack([heart(f) for f in frames], -1)
        worst = answers.WorstSlice(0, 1, 0.4), answers.WorstSlice(0, 2, 0.2)
        slices = tuple(answers.SliceDisagreement(0, k, 1.5, LV=0.1, MYO=0.5) for k in (1, 2))
        entropy = np.full(SHAPE[:3] + ((len(frames),) if whole else ()), 0.7, np.float32)
        return answers.Segmentation(
            request_id or "",
            "heart",
            scope,
            len(frames),
            self.server.model,
            fast,
            ("a",) if fast else ("a", "b"),
            {},
            frame,
            ed=0 if whole else None,
            es=2 if whole else None,
            disagreement=None if fast else answers.Disagreement({}, slices, worst),
            coverage=("The base may be missing.",),
            labels=nifti.label_bytes(labels, sent.affine),
            uncertainty=nifti.image_bytes(entropy, sent.affine) if uncertainty else None,
        )

    def progress(self, request_id: str) -> answers.Progress | None:
        self._asked("progress", request_id)
        return answers.Progress(request_id, "running", done=1, total=4, seconds_left=3.0)

    def cancel(self, request_id: str) -> Any:
        self._asked("cancel", request_id)

    def review(self, study: str) -> answers.StudyReview | None:
        self._asked("review", study)
        return self.server.record

    def save_review(self, record: Any, base_version: int) -> answers.StudyReview:
        self._asked("save_review", base_version)
        before = self.server.record.version if self.server.record else 0
        if base_version != before:
            raise conflict(before, "Bo", "2030-05-06T07:00:00+00:00")
        when = "2030-05-06T07:30:00+00:00"
        self.server.record = answers.StudyReview(
            "heart", before + 1, "reader", when, record.as_dict()
        )
        return self.server.record

    def training(self, job: str | None = None) -> answers.Course | None:
        self._asked("training")
        return self.server.course

    def start_training(self, options: Any = None) -> str:
        self._asked("start_training")
        self.server.course = answers.Course("j1", "running", stage="learning", figures=("loss",))
        return "j1"

    def stop_training(self) -> None:
        self._asked("stop_training")
        assert self.server.course is not None
        self.server.course = replace(self.server.course, state="cancelled")

    def resume_training(self, job: str) -> str:
        self._asked("resume_training", job)
        self.server.course = answers.Course("j2", "running", stage="learning")
        return "j2"

    def figure(self, job: str, name: str) -> bytes:
        self._asked("figure", job, name)
        return b"\x89PNG"

    def use(self, version: str, why: str = "", force: bool = False) -> answers.Models:
        self._asked("use", version, why)
        self.server.model = version
        return self.models()

    def roll_back(self, why: str = "") -> answers.Models:
        self._asked("roll_back", why)
        self.server.model = "v1"
        return self.models()


def _rank(server: FakeServer) -> int:
    return ("reader", "annotator", "admin").index(server.role) + 1


def conflict(
    version: int = 0, who: str | None = None, when: str | None = None, cause: str = "conflict"
) -> answers.OutOfDate:
    error = answers.OutOfDate("it did not start from the newest label", cause=cause, status=409)
    error.version, error.who, error.time = version, who, when
    return error


class Bench:
    """A session with its fakes; what it told is in `problems` and `told`."""

    def __init__(self, folder: Path, server: FakeServer | None = None) -> None:
        self.folder = folder
        self.scene, self.clock, self.workers = FakeScene(), FakeClock(), Workers()
        self.server = server or FakeServer()
        self.addresses: dict[str, FakeServer] = {ADDRESS: self.server}
        self.session = Session(
            self.scene, self.workers, self._client, folder / "desk", self.clock, "reader"
        )
        self.problems: list[str] = []
        self.told: list[str] = []
        self.session.problem.connect(self.problems.append)
        self.session.told.connect(self.told.append)

    def _client(self, address: str, token: str | None) -> Any:
        if token == "plain":
            raise InputError("the token would travel unprotected")
        return FakeClient(self.addresses[address], address)

    def until(self, holds: Callable[[], bool]) -> None:
        """Tick until something holds."""
        end = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < end, f"it never came; told: {self.told, self.problems}"
            self.session.tick()

    def settle(self) -> None:
        """Tick until nothing is under way."""
        lanes = (self.workers.work, self.workers.watch, self.workers.files)
        self.until(lambda: not any(lane.busy for lane in lanes))
        for _ in range(SHAPE[3]):  # frames are measured one at a time
            self.session.tick()

    def pass_time(self, seconds: float) -> None:
        self.clock.passed += seconds
        self.session.tick()
        self.settle()

    def connect(self) -> None:
        self.session.connection.connect(ADDRESS)
        self.settle()

    def open_case(self, frame: int = 0) -> None:
        """Connected, with the server's study open at a frame."""
        if self.session.desk.client is None:
            self.connect()
        self.session.opening.open_case(self.server.images[frame])
        self.settle()

    def open_local(self, affine: np.ndarray = LEFT_HANDED) -> Path:
        path = self.folder / "local.nii.gz"
        if not path.exists():
            voxels = np.random.default_rng(1).integers(0, 900, SHAPE).astype(np.int16)
            path.write_bytes(nifti.image_bytes(voxels, affine))
        self.session.opening.open_file(path)
        self.settle()
        return path

    def draw(self, frame: int, labels: np.ndarray | None = None) -> np.ndarray:
        """A person goes to a frame and draws on it."""
        labels = heart(frame) if labels is None else labels
        self.scene.go_to(frame)
        self.scene.person_edits(labels)
        self.pass_time(1.0)
        return labels

    def restart(self, folder: Path | None = None) -> Bench:
        """Slicer was killed and is started again; `folder` is what the kill left on disk."""
        self.workers.close()  # no thread of what was killed goes on beside the new one
        return Bench(folder or self.folder, self.server)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    if made.server.hangs is not None:
        made.server.hangs.set()
    made.workers.close(2.0)


@pytest.fixture
def make_heart() -> Callable[..., np.ndarray]:
    return heart


@pytest.fixture
def a_conflict() -> Callable[..., answers.OutOfDate]:
    return conflict
