"""Segmentation by the server: a frame, ED and ES or all; never over a person's edits unasked."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from CineLabelLib import nifti
from CineLabelLib.answers import Progress
from CineLabelLib.answers import Segmentation as Answer
from CineLabelLib.core.errors import CineLabelError, InputError
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.labels import STRUCTURES
from CineLabelLib.desk.base import Desk, Every, Lane, UseCase, told
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.states import Look, Origin, Scope, SegmentationState
from CineLabelLib.study import CineStudy
from CineLabelLib.work import Cancelled, pace

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task

POLL_S = 0.5
MOST_ENTROPY = math.log(1 + len(STRUCTURES))
"""Nats of voxels about which the model knows nothing."""


@dataclass(frozen=True, eq=False)
class Found:
    """What the server made of some frames: labels and uncertainty (0 to 1), (x, y, z) each."""

    labels: dict[int, np.ndarray]
    uncertainty: dict[int, np.ndarray]
    answers: dict[int | None, Answer]


class Segmentation(UseCase[SegmentationState]):
    """Asks for labels and brings them onto the frames.

    Args:
        mark_phases: called with ED and ES where the study does not say and the server found them.
    """

    def __init__(
        self, desk: Desk, editing: Editing, mark_phases: Callable[[int | None, int | None], None]
    ) -> None:
        super().__init__(desk, SegmentationState())
        self._editing, self._mark_phases = editing, mark_phases
        self._task: Task[Found] | None = None
        self._requests: tuple[Client, list[str]] | None = None  # one behind the other
        self._asking = False
        self._poll = Every(desk.clock, POLL_S)
        self._withheld: dict[int, tuple[np.ndarray, str]] = {}
        self._uncertainty: dict[int, np.ndarray] = {}
        desk.leaving.connect(self.cancel)
        desk.study_changed.connect(self._study_changed)
        desk.labels_changed.connect(self._labels_changed)
        desk.scene.frame_changed.connect(self._frame_changed)

    @told
    def run(self, scope: Scope, fast: bool = True) -> None:
        """Ask for labels; frames that a person edited by then are withheld."""
        study, client = self.desk.opened(), self.desk.connected()
        if self._task is not None:
            raise InputError("a segmentation runs already", remedy="Cancel it first")
        frames = self._frames(scope)
        self._withheld.clear()
        requests = {uuid.uuid4().hex: frame for frame in frames}
        self._requests = (client, list(requests))
        sentence = "Asking the server to segment."
        self._set(running=True, fraction=None, sentence=sentence, withheld=())

        known = self.desk.at_home() is not None

        def work(task: Task[Found]) -> Found:
            asked = replace(study, images=study.images if known else ())
            return _segment(client.following(task), asked, requests, fast)

        task = self.desk.ask(work, self._found, self._failed)
        self._task = task

    @told
    def cancel(self) -> None:
        """Give up; the server stops at its next phase."""
        if self._task is not None:
            self._task.cancel()
            self._end("Cancelled.")

    @told
    def replace_edited(self) -> None:
        """Replace the edited frames that were withheld by the model's labels."""
        withheld = dict(self._withheld)
        self._withheld.clear()
        for frame, (labels, model) in withheld.items():
            self._editing.put(frame, labels, Origin.MODEL, model)
        self._set(withheld=())

    @told
    def keep_edited(self) -> None:
        """Forget the model's labels of the frames that were withheld."""
        self._withheld.clear()
        self._set(withheld=())

    @told
    def go_to(self, look: Look) -> None:
        """Show a slice that is worth looking at."""
        self.desk.opened()
        self.desk.scene.go_to(look.frame)
        self.desk.scene.go_to_slice(look.slice)

    @told
    def show_disagreement(self, on: bool) -> None:
        """Lay over the frames where the model is uncertain, or take that away."""
        self._set(overlay=on)
        if self.desk.study is not None:
            self._overlay(self.desk.scene.frame())

    def tick(self) -> None:
        """Ask how far the server is."""
        if self._requests is None or self._asking or not self._poll.due():
            return
        asked = client, requests = self._requests
        self._asking = True

        def told_of(progress: Progress | None) -> None:
            self._asking = False
            if progress is not None and self._requests is asked:
                self._set(fraction=_fraction(progress), sentence=_how_far(progress))

        def not_told(error: CineLabelError) -> None:
            self._asking = False  # the request itself tells what is wrong

        self.desk.ask(
            lambda task: _progress(client.following(task), requests),
            told_of,
            not_told,
            lane=Lane.WATCH,
            of_study=False,
        )

    def _frames(self, scope: Scope) -> list[int] | list[None]:
        """A request each; None is all frames at once."""
        if scope is Scope.FRAME:
            return [self.desk.scene.frame()]
        if scope is Scope.ALL:
            return [None]
        ed, es = self.desk.ed, self.desk.es
        if ed is None or es is None:
            raise InputError(
                "ED and ES are not both known",
                remedy="Mark them on their frames, or segment all frames to find them",
            )
        return sorted({ed, es})

    def _found(self, found: Found) -> None:
        edited = self._editing.state.edited
        model = next(iter(found.answers.values())).model
        self._uncertainty = found.uncertainty
        free = {frame: labels for frame, labels in found.labels.items() if frame not in edited}
        withheld = {f: (labels, model) for f, labels in found.labels.items() if f in edited}
        self._withheld.update(withheld)
        self._editing.put_all(free, Origin.MODEL, model)
        whole = found.answers.get(None)
        if whole is not None and (self.desk.ed is None or self.desk.es is None):
            ed = whole.ed if self.desk.ed is None else self.desk.ed
            self._mark_phases(ed, whole.es if self.desk.es is None else self.desk.es)
        done = len(found.labels) - len(self._withheld)
        sentence = f"Segmented {_count(done)} by {model}."
        if self._withheld:
            have = "has" if len(self._withheld) == 1 else "have"
            kept = f"{_count(len(self._withheld))} {have} labels that a person made"
            sentence += f" {kept}: replace them, or keep them?"
        look = _look_at(found.answers)
        self._set(
            look_at=look,
            notes=_notes(found.answers, look),
            model=model,
            withheld=tuple(sorted(self._withheld)),
        )
        self._end(sentence)
        self._overlay(self.desk.scene.frame())

    def _failed(self, error: CineLabelError) -> None:
        if isinstance(error, Cancelled):
            self._end("Cancelled.")
        else:
            self._end(str(error))
            self.desk.tell(error)

    def _end(self, sentence: str) -> None:
        self._task = self._requests = None
        self._asking = False
        self._set(running=False, fraction=None, sentence=sentence)

    def _overlay(self, frame: int) -> None:
        values = self._uncertainty.get(frame) if self.state.overlay else None
        self.desk.scene.show_disagreement(frame, values)

    def _frame_changed(self, frame: int) -> None:
        if self.desk.study is not None and self.state.overlay:
            self._overlay(frame)

    def _labels_changed(self, frame: int) -> None:
        if frame in self._withheld and frame not in self._editing.state.edited:
            del self._withheld[frame]
            self._set(withheld=tuple(sorted(self._withheld)))

    def _study_changed(self) -> None:
        self._withheld.clear()
        self._uncertainty = {}
        overlay = self.state.overlay
        self._state = SegmentationState(overlay=overlay)
        self._set()


def _segment(
    client: Client, study: CineStudy, requests: dict[str, int | None], fast: bool
) -> Found:
    """Ask for the frame of each request, None for all; in a thread."""
    found = Found({}, {}, {})
    for request, frame in requests.items():
        _take(found, study, frame, _ask(client, study, frame, fast, request))
    return found


def _ask(client: Client, study: CineStudy, frame: int | None, fast: bool, request: str) -> Answer:
    """The server's answer on a frame, None for all; a local study is sent along."""
    asked: dict[str, Any] = {"fast": fast, "uncertainty": not fast, "request_id": request}
    scope = "study" if frame is None else "frame"
    if study.images:
        return client.segment(study.images[frame or 0], scope, **asked)
    voxels = study.voxels if frame is None else study.frame(frame)
    content = nifti.image_bytes(voxels, study.affine)
    return client.segment("", scope, content=content, **asked)


def _take(found: Found, study: CineStudy, frame: int | None, answer: Answer) -> None:
    """Labels and uncertainty of an answer. Raises GridError where they are not the study's."""
    found.answers[frame] = answer
    frames = list(range(study.n_frames)) if frame is None else [frame]
    where = "the server's segmentation"
    labels = nifti.read_labels(answer.labels, where)
    found.labels.update(_per_frame(labels, study, frames, where))
    if answer.uncertainty is not None:
        where = "the server's uncertainty"
        entropy = _per_frame(nifti.read(answer.uncertainty, where), study, frames, where)
        for each, values in entropy.items():
            share = np.clip(values / MOST_ENTROPY, 0, 1)
            found.uncertainty[each] = share.astype(np.float32)


def _per_frame(
    image: nifti.Image, study: CineStudy, frames: list[int], where: str
) -> dict[int, np.ndarray]:
    voxels = image.voxels if image.voxels.ndim == 4 else image.voxels[..., np.newaxis]
    study.grid.require_equal(Grid(voxels.shape[:3], image.affine), where)
    if voxels.shape[3] != len(frames):
        raise InputError(f"has {voxels.shape[3]} frames, not {len(frames)}", where=where)
    return {frame: voxels[..., k] for k, frame in enumerate(frames)}


def _look_at(answers: dict[int | None, Answer]) -> tuple[Look, ...]:
    """The slices that the members of the model disagree on, the largest volume in dispute first."""
    looks = []
    for asked, answer in answers.items():
        if answer.disagreement is None:
            continue
        of_slice = {(s.frame, s.slice): s for s in answer.disagreement.slices}
        for worst in answer.disagreement.worst_slices:
            if worst.disagreement <= 0:
                continue
            each = of_slice[worst.frame, worst.slice]
            structure = max(("LV", "MYO", "RV"), key=lambda name: getattr(each, name) or 0.0)
            reason = f"the networks differ by {each.disputed_ml:.1f} ml"
            frame = worst.frame if asked is None else asked
            looks.append(Look(frame, worst.slice, structure, each.disputed_ml, reason))
    return tuple(sorted(looks, key=lambda look: -look.disputed_ml))


def _notes(answers: dict[int | None, Answer], look: tuple[Look, ...]) -> tuple[str, ...]:
    notes: list[str] = []
    for answer in answers.values():
        notes += [answer.reason] if answer.reason else []
        notes += answer.coverage
        if answer.agreement:
            known = {name: dice for name, dice in answer.agreement.items() if dice is not None}
            means = ", ".join(f"{name} {dice:.2f}" for name, dice in known.items())
            notes += [f"Mean Dice between the networks: {means}."] if means else []
    if any(answer.disagreement is None for answer in answers.values()):
        notes.append("One network answered: the full ensemble shows where networks disagree.")
    return tuple(dict.fromkeys(notes))


def _progress(client: Client, requests: list[str]) -> Progress | None:
    """How far requests are that are asked one behind the other, as if they were one; in a thread.

    Those to come are taken to be as large and as fast as those before them. None if the server
    does not know the first.
    """
    told: list[Progress] = []
    for request in requests:
        progress = client.progress(request)
        if progress is None:
            break
        told.append(progress)
        if progress.state != "done":
            break
    each = next((p.total for p in reversed(told) if p.total), None)
    if len(requests) == 1 or each is None:
        return told[-1] if told else None
    rate = next((p.rate for p in reversed(told) if p.rate), None)
    done, total = sum(p.done for p in told), each * len(requests)
    left = None if rate is None else (total - done) / rate
    return replace(told[-1], done=done, total=total, rate=rate, seconds_left=left)


def _fraction(progress: Progress) -> float | None:
    return progress.done / progress.total if progress.total else None


def _how_far(progress: Progress) -> str:
    if progress.state == "queued":
        before = progress.position or 0
        return f"Waiting: {before} before this one." if before else "Waiting."
    step = f", step {progress.done} of {progress.total}" if progress.total else ""
    return f"Segmenting{step}{pace(progress.rate if step else None, progress.seconds_left)}."


def _count(n: int) -> str:
    return "1 frame" if n == 1 else f"{n} frames"
