"""A scene of arrays, and a server that answers after a pause or refuses; both forget nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from CineLabelLib import answers, filling, nifti, shortaxis
from CineLabelLib.core.labels import LV, MYO, Structure
from CineLabelLib.outbox import Submission
from CineLabelLib.signals import Signal
from CineLabelLib.study import CineStudy

SHAPE = (32, 30, 6, 4)
AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])


def beating_disc(shape: tuple[int, int, int, int] = SHAPE) -> np.ndarray:
    """(x, y, z, t) int16: a bright disc whose radius beats, on noise."""
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    away = np.hypot(x - shape[0] / 2, y - shape[1] / 2)
    voxels = np.random.default_rng(0).integers(0, 60, shape).astype(np.int16)
    for t in range(shape[3]):
        voxels[away < 9 - 3 * np.sin(np.pi * t / shape[3]), :, t] += 400
    return voxels


def disc_labels(frame: int, shape: tuple[int, int, int, int] = SHAPE) -> np.ndarray:
    """(x, y, z) uint8: LV with muscle round it, smaller in the middle of the cycle."""
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    away = np.hypot(x - shape[0] / 2, y - shape[1] / 2)
    radius = 9 - 3 * np.sin(np.pi * frame / shape[3])
    labels = np.zeros(shape[:3], np.uint8)
    labels[away < radius + 3] = MYO.value
    labels[away < radius] = LV.value
    return labels


def nifti_bytes(voxels: np.ndarray) -> bytes:
    """A NIfTI file of an image (x, y, z) or (x, y, z, t)."""
    return nifti.image_bytes(voxels, AFFINE)


class FakeEdits:
    """Edits of the frame on screen with the real algorithms and a history of arrays."""

    def __init__(self, scene: FakeScene) -> None:
        self._scene = scene
        self._done: list[np.ndarray] = []
        self._undone: list[np.ndarray] = []

    def undo(self) -> None:
        self._undone.append(self._scene.put_back(self._done.pop()))

    def redo(self) -> None:
        self._done.append(self._scene.put_back(self._undone.pop()))

    def can_undo(self) -> bool:
        return bool(self._done)

    def can_redo(self) -> bool:
        return bool(self._undone)

    def forget(self) -> None:
        self._done.clear()
        self._undone.clear()

    def change(self, labels: np.ndarray) -> None:
        """Replace the labels of the frame on screen, as one step."""
        self._done.append(self._scene.put_back(labels))
        self._undone.clear()

    def lock(self, locked: bool) -> None:
        self.locked = locked

    def _here(self) -> np.ndarray:
        return self._scene.labels(self._scene.frame())

    def copy_slice(self, from_slice: int, to_slice: int, replace: bool = False) -> None:
        self.change(shortaxis.copy_slice(self._here(), from_slice, to_slice, replace=replace))

    def copy_frame(self, from_frame: int, slice: int | None = None, replace: bool = False) -> None:
        other = self._scene.labels(from_frame)
        self.change(shortaxis.copy_frame(self._here(), other, slice, replace=replace))

    def clear_slice(self, slice: int) -> None:
        self.change(shortaxis.clear_slice(self._here(), slice))

    def fill_between(self, structure: Structure | None = None) -> None:
        self.change(filling.fill_between(self._here(), structure))

    def smooth(self, structure: Structure | None = None, slice: int | None = None) -> None:
        self.change(shortaxis.smooth(self._here(), self._scene.spacing, structure, slice))

    def keep_largest(self, structure: Structure | None = None, slice: int | None = None) -> None:
        self.change(shortaxis.keep_largest(self._here(), structure, slice))

    def close_muscle(self, slice: int | None = None) -> None:
        self.change(shortaxis.close_muscle(self._here(), slice))

    def grow(self, structure: Structure, by_mm: float, slice: int | None = None) -> None:
        self.change(shortaxis.grow(self._here(), self._scene.spacing, structure, by_mm, slice))

    def scale_brush(self, larger: bool) -> float:
        self.brush = 10.0 if larger else 6.4
        return self.brush


class FakeScene:
    """A study on screen, without a screen (`desk/ports.py`, Scene)."""

    def __init__(self) -> None:
        self.frame_changed, self.slice_changed = Signal(), Signal()
        self.edited, self.closing = Signal(), Signal()
        self.notes: tuple[str, ...] = ()
        self.study: CineStudy | None = None
        self.edits = FakeEdits(self)
        self._labels = np.zeros((0, 0, 0, 0), np.uint8)
        self._frame = self._slice = 0
        self._playing = False
        self.opacity = 0.5
        self.disagreement: dict[int, np.ndarray | None] = {}
        self.beside: dict[int, np.ndarray | None] = {}

    @property
    def spacing(self) -> tuple[float, float, float]:
        assert self.study is not None
        return self.study.grid.spacing

    def show(self, study: CineStudy) -> None:
        self.study, self._labels = study, np.zeros(study.voxels.shape, np.uint8)
        self._frame, self._slice = study.ed or 0, study.n_slices // 2
        self.edits.forget()

    def clear(self) -> None:
        self.study = None

    def close(self) -> None:
        """The scene is emptied by somebody else."""
        self.closing.emit()
        self.clear()

    def frame(self) -> int:
        return self._frame

    def go_to(self, frame: int) -> None:
        if frame != self._frame:
            self._frame = frame
            self.edits.forget()
            self.frame_changed.emit(frame)

    def slice(self) -> int:
        return self._slice

    def go_to_slice(self, index: int) -> None:
        if index != self._slice:
            self._slice = index
            self.slice_changed.emit(index)

    def play(self, on: bool, frames_a_second: float = 20) -> None:
        self._playing, self.speed = on, frames_a_second

    def playing(self) -> bool:
        return self._playing

    def labels(self, frame: int, strict: bool = True) -> np.ndarray:
        return self._labels[..., frame].copy()

    def set_labels(self, frame: int, labels: np.ndarray) -> None:
        self._labels[..., frame] = labels

    def put_back(self, labels: np.ndarray) -> np.ndarray:
        """Replace the labels on screen as a person does; gives those before."""
        before = self._labels[..., self._frame].copy()
        self._labels[..., self._frame] = labels
        self.edited.emit(self._frame)
        return before

    def paint(self, frame: int, where: tuple[slice, ...], value: int) -> None:
        """An edit by the mouse."""
        self.go_to(frame)
        labels = self.labels(frame)
        labels[where] = value
        self.edits.change(labels)

    def show_disagreement(self, frame: int, values: np.ndarray | None) -> None:
        self.disagreement[frame] = values

    def show_beside(self, frame: int, labels: np.ndarray | None, title: str = "") -> None:
        self.beside[frame] = labels

    def show_opacity(self, opacity: float) -> None:
        self.opacity = opacity


class FakeServer:
    """What a CineLabel server answers, with one study `heart`, after `pause_s`.

    Attributes:
        pause_s: how long each answer takes; those on their way, too, when it changes.
        refusals: an error in place of an answer, by the client's method.
        asked: the methods that were called, in order.
        asked_by_main: those that the main thread called, and would have waited for.
        role: of whoever connects.
    """

    def __init__(self) -> None:
        self.pause_s = 0.0
        self.refusals: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.asked_by_main: list[str] = []
        self.role = "admin"
        self.versions = [0] * SHAPE[3]
        self.submitted: list[Submission] = []
        self.training: answers.Course | None = None
        self.current = "phantom-2"
        self.reviews: list[Any] = []

    def client(self, address: str, token: str | None) -> FakeClient:
        return FakeClient(self, address)

    def answer(self, method: str, follower: Any) -> None:
        """Wait as the network does, giving up when nobody waits any more, and refuse."""
        self.asked.append(method)
        if threading.current_thread() is threading.main_thread():
            self.asked_by_main.append(method)
        started = time.monotonic()
        while time.monotonic() - started < self.pause_s:
            if follower is not None:
                follower.check()
            time.sleep(0.005)
        if method in self.refusals:
            raise self.refusals[method]

    def case(self, frame: int) -> answers.Case:
        version = self.versions[frame]
        state = "labelled" if version else "open"
        phase = {0: "ED", 2: "ES"}.get(frame)
        return answers.Case(f"heart__t{frame:02d}", "heart", frame, SHAPE[3], state, version, phase)


def _frame(image: str) -> int:
    return int(image.rsplit("__t", 1)[1])


class FakeClient:
    """`client.Client` without a network; each method waits and may be refused."""

    def __init__(self, server: FakeServer, address: str, follower: Any = None) -> None:
        self._server, self.address, self._follower = server, address, follower

    def following(self, follower: Any) -> FakeClient:
        return FakeClient(self._server, self.address, follower)

    def close(self) -> None:
        """Nothing is open."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        reply = getattr(_Answers, name, None)
        if reply is None:
            raise AttributeError(name)

        def method(*args: Any, **kwargs: Any) -> Any:
            self._server.answer(name, self._follower)
            return reply(self._server, *args, **kwargs)

        return method


class _Answers:
    """The answers themselves, a function a method of the client."""

    def check_token(self: FakeServer) -> answers.Identity:
        return answers.Identity("mary", (self.role,))

    def info(self: FakeServer) -> answers.Info:
        done = sum(v > 0 for v in self.versions)
        counts = answers.Counts(SHAPE[3], done, 0, 1)
        return answers.Info("CineLabel", "1", {"suggested": "", "first": ""}, counts)

    def models(self: FakeServer) -> answers.Models:
        kept = answers.Decision("keep", ("Dice fell in one patient.",))
        dice = {"dice": {"LV": 0.91, "MYO": 0.83, "RV": 0.85}}
        versions = (
            answers.ModelVersion("phantom-2", bundled=True),
            answers.ModelVersion("tuned-1", decision=kept, before=dice, after=dice),
        )
        return answers.Models(self.current, self.current, versions, before="phantom-1")

    def queue(self: FakeServer) -> answers.Queue:
        return answers.Queue(0, 0, 32, 1.0)

    def cases(
        self: FakeServer, state: str | None = None, study: str | None = None
    ) -> tuple[answers.Case, ...]:
        found = (self.case(frame) for frame in range(SHAPE[3]))
        return tuple(case for case in found if state in (None, case.state))

    def next_case(self: FakeServer, strategy: str) -> answers.NextCase:
        reason = "Slice 3 (counted from 0): the networks disagree about 2.1 cm² there."
        return answers.NextCase(
            "heart__t01", "heart", 1, SHAPE[3], self.versions[1], reason=reason, slice=3
        )

    def skip(self: FakeServer, image: str, reason: str) -> answers.Case:
        return replace(self.case(_frame(image)), state="skipped", reason=reason)

    def reopen(self: FakeServer, image: str, reason: str) -> answers.Case:
        return self.case(_frame(image))

    def hold(self: FakeServer, image: str, minutes: float = 60.0) -> answers.Case:
        return self.case(_frame(image))

    let_go = hold

    def image_info(self: FakeServer, image: str) -> answers.ImageInfo:
        case = self.case(_frame(image))
        return answers.ImageInfo(
            "heart", case.frame, SHAPE[3], case.state, case.version, answers.Quality()
        )

    def fetch_study(self: FakeServer, study: str) -> tuple[answers.ImageFile, ...]:
        voxels = beating_disc()
        return tuple(
            answers.ImageFile(self.case(t), nifti_bytes(voxels[..., t]), f"{t:064x}")
            for t in range(SHAPE[3])
        )

    def label(self: FakeServer, image: str, version: int | None = None) -> answers.LabelFile:
        frame = _frame(image)
        content = nifti.label_bytes(disc_labels(frame), AFFINE)
        return answers.LabelFile(image, content, self.versions[frame])

    def history(self: FakeServer, image: str) -> tuple[answers.Event, ...]:
        return ()

    def suggestions(self: FakeServer, image: str) -> answers.Suggestions:
        return answers.Suggestions(image, ())

    def submit(self: FakeServer, submission: Submission) -> answers.Kept:
        self.submitted.append(submission)
        self.versions[submission.frame] += 1
        version = self.versions[submission.frame]
        return answers.Kept(submission.image, version, "mary", "2026-01-02T03:04:05Z")

    def segment(
        self: FakeServer,
        image: str,
        scope: str = "frame",
        fast: bool = True,
        uncertainty: bool = False,
        **_: Any,
    ) -> answers.Segmentation:
        frames = range(SHAPE[3]) if scope == "study" else (_frame(image),)
        labels = np.stack([disc_labels(t) for t in frames], axis=-1)
        if scope != "study":
            labels = labels[..., 0]
        slices = tuple(
            answers.SliceDisagreement(t, z, 0.4 * z, 0.05 * z, 0.06 * z, None)
            for t in frames
            for z in range(SHAPE[2])
        )
        worst = tuple(
            answers.WorstSlice(each.frame, each.slice, each.disputed_ml / 4)
            for each in sorted(slices, key=lambda each: -each.disputed_ml)
        )
        doubt = np.zeros(labels.shape, np.float32)
        doubt[labels == MYO.value] = 0.5
        return answers.Segmentation(
            request_id="r",
            study="heart",
            scope=scope,
            n_frames=SHAPE[3],
            model=self.current,
            fast=fast,
            members=("one", "two"),
            measures={},
            frame=None if scope == "study" else _frame(image),
            ed=0,
            es=2,
            agreement={"LV": 0.95, "MYO": 0.9, "RV": None},
            disagreement=answers.Disagreement({"LV": 0.1}, slices, worst),
            coverage=("The base may be missing.",),
            labels=nifti.label_bytes(labels, AFFINE),
            uncertainty=nifti_bytes(doubt) if uncertainty else None,
        )

    def progress(self: FakeServer, request_id: str) -> answers.Progress:
        return answers.Progress(request_id, "running", 0, 1, 4, 2.0)

    def cancel(self: FakeServer, request_id: str) -> answers.Progress:
        return answers.Progress(request_id, "cancelled")

    def review(self: FakeServer, study: str) -> answers.StudyReview | None:
        return None

    def save_review(self: FakeServer, record: Any, base_version: int) -> answers.StudyReview:
        self.reviews.append(record)
        version = len(self.reviews)
        return answers.StudyReview(record.study, version, "mary", "2026-01-02", record.as_dict())

    def start_training(self: FakeServer, options: Any = None) -> str:
        self.training = answers.Course("job", "running", step=120, steps=400, loss=0.31)
        return "job"

    def stop_training(self: FakeServer) -> None:
        if self.training is not None:
            self.training = replace(self.training, state="interrupted")

    def resume_training(self: FakeServer, job: str) -> str:
        return _Answers.start_training(self)

    def training(self: FakeServer, job: str | None = None) -> answers.Course | None:
        return self.training

    def figure(self: FakeServer, job: str, name: str) -> bytes:
        return b""

    def use(self: FakeServer, version: str, why: str = "", force: bool = False) -> answers.Models:
        self.current = version
        return _Answers.models(self)

    def roll_back(self: FakeServer, why: str = "") -> answers.Models:
        self.current = "phantom-1"
        return _Answers.models(self)
