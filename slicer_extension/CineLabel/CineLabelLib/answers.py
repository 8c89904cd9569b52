"""What a server answers, as data, and its refusals, as errors with one sentence each."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from CineLabelLib.core.errors import CineLabelError

T = TypeVar("T")


class ServerError(CineLabelError):
    """The server refused, failed, or is not there.

    Attributes:
        cause: the server's word for it, such as "conflict"; "" where it gave none.
        status: of the HTTP answer; None if there was no answer.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: object | None = None,
        remedy: str | None = None,
        cause: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.cause, self.status = cause, status


class ServerGone(ServerError):
    """Nobody answers at the address, or the connection broke off."""


class TimedOut(ServerGone):
    """The answer was not there in time."""


class TokenWrong(ServerError):
    """A token is needed, or is not right (401)."""


class NotAllowed(ServerError):
    """The token's role does not allow it (403)."""


class NotThere(ServerError):
    """What was asked for is not there (404)."""


class OutOfDate(ServerError):
    """It began from something that is not the newest any more, or another holds it (409).

    Attributes:
        version, who, time: of the newest, as far as the server told; cause "changed": the image.
    """

    version: int = 0
    who: str | None = None
    time: str | None = None


class TooLarge(ServerError):
    """The server takes no request of this size (413)."""


class Refused(ServerError):
    """The server cannot accept what was sent (400, 422)."""


class Busy(ServerError):
    """Too much is going on at the server (429, 503).

    Attributes:
        retry_after_s: when to ask again, None where it was not told.
    """

    retry_after_s: float | None = None


class NoSpace(ServerError):
    """The server's disk is full (507)."""


class ServerFault(ServerError):
    """The server failed (5xx), or answered what no CineLabel server answers.

    Attributes:
        request_id: the name of the request in the server's log.
    """

    request_id: str | None = None


@dataclass(frozen=True)
class Identity:
    """Whose token it is; `name` is "local" on a server without tokens."""

    name: str
    roles: tuple[str, ...]

    @property
    def role(self) -> str:
        """The highest: reader, annotator or admin."""
        return next((r for r in ("admin", "annotator", "reader") if r in self.roles), "reader")


@dataclass(frozen=True)
class Counts:
    """How many images the server has, how many are labelled (`completed`) and skipped."""

    total: int
    completed: int
    skipped: int
    studies: int
    waiting: int = 0
    problems: int = 0

    @property
    def open(self) -> int:
        return self.total - self.completed - self.skipped


@dataclass(frozen=True)
class Info:
    """What a server is; `strategies` are sentences by name, the one to offer first in front."""

    name: str
    version: str
    strategies: Mapping[str, str]
    datastore: Counts
    trainers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lease:
    """Who holds a case until when (ISO 8601, UTC)."""

    who: str
    until: str
    client_id: str = ""


@dataclass(frozen=True)
class Quality:
    """What is known of an image: `coverage`, `notes` in sentences; `grade` 1 mild to 3 severe."""

    spacing_mm: tuple[float, ...] | None = None
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    coverage: tuple[str, ...] | None = None
    grade: int | None = None


@dataclass(frozen=True)
class Case:
    """A frame of a study on the server.

    Attributes:
        phase: "ED", "ES" or None.
        state: "open", "labelled" or "skipped".
        version: of its newest label, 0 for none.
        who, time, reason: of what changed its state last.
        quality, image_sha256: told where the cases of one study were asked for.
    """

    image: str
    study: str
    frame: int
    n_frames: int
    state: str
    version: int
    phase: str | None = None
    kind: str = "nifti"
    grade: int | None = None
    lease: Lease | None = None
    who: str = ""
    time: str = ""
    reason: str = ""
    quality: Quality | None = None
    image_sha256: str | None = None


@dataclass(frozen=True)
class Page:
    """Some of the cases, and how many there are."""

    total: int
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class NextCase:
    """The case that a strategy chose: `slice` from 0, None for all of them; why, in a sentence."""

    image: str
    study: str
    frame: int
    n_frames: int
    version: int
    reason: str = ""
    slice: int | None = None
    phase: str | None = None
    lease: Lease | None = None
    quality: Quality | None = None


@dataclass(frozen=True)
class ImageInfo:
    """What is known of an image; `sha256` is of its file."""

    study: str
    frame: int
    n_frames: int
    state: str
    version: int
    quality: Quality
    phase: str | None = None
    lease: Lease | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class ImageFile:
    """The .nii.gz of a frame as the server sent it, with its SHA-256."""

    case: Case
    content: bytes
    sha256: str


@dataclass(frozen=True)
class LabelFile:
    """The .nii.gz of a label, values 1 LV, 2 MYO, 3 RV, and its version."""

    image: str
    content: bytes
    version: int


@dataclass(frozen=True)
class Event:
    """An entry of a case's history: submitted, imported, skipped, reopened, set_aside ..."""

    sequence: int
    kind: str
    who: str
    time: str
    version: int | None = None
    base_version: int | None = None
    model: str | None = None
    warnings: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class SliceDisagreement:
    """1 - Dice between the members in a slice; None where nobody labelled the structure."""

    frame: int
    slice: int
    disputed_ml: float
    LV: float | None = None
    MYO: float | None = None
    RV: float | None = None


@dataclass(frozen=True)
class WorstSlice:
    """A slice to look at: `disagreement` 0 to 1, the mean over its structures."""

    frame: int
    slice: int
    disagreement: float


@dataclass(frozen=True)
class Disagreement:
    """Where the members of the model disagree: a structure, every slice, the worst slices first."""

    mean: Mapping[str, float | None]
    slices: tuple[SliceDisagreement, ...]
    worst_slices: tuple[WorstSlice, ...]


@dataclass(frozen=True)
class Segmentation:
    """A segmentation: what was told of it, and its files.

    Attributes:
        request_id: of the request.
        scope: "frame" or "study"; `frame` is None for a study.
        measures: as `core.measures.Measures` by name.
        reason: why the label is empty, None where it is not.
        agreement: mean Dice between the members a structure; None for a single one.
        coverage: sentences on slices that are missing.
        labels: .nii.gz, uint8, of a study 4D on the study's grid.
        uncertainty: .nii.gz, entropy in nats, float32; None if it was not asked for.
    """

    request_id: str
    study: str
    scope: str
    n_frames: int
    model: str
    fast: bool
    members: tuple[str, ...]
    measures: Mapping[str, Any]
    frame: int | None = None
    ed: int | None = None
    es: int | None = None
    reason: str | None = None
    agreement: Mapping[str, float | None] | None = None
    disagreement: Disagreement | None = None
    coverage: tuple[str, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    labels: bytes = b""
    uncertainty: bytes | None = None


@dataclass(frozen=True)
class Progress:
    """How far a segmentation is: queued, running, done, failed or cancelled.

    Attributes:
        done, total: steps, each a frame by a network; `rate` of them a second.
    """

    request_id: str
    state: str
    position: int | None = None
    done: int = 0
    total: int | None = None
    seconds_left: float | None = None
    error: str | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Queue:
    """The segmentations that wait and run."""

    running: int
    waiting: int
    limit: int
    seconds_each: float
    device: str = ""


@dataclass(frozen=True)
class Kept:
    """A label that the server keeps; `warnings` are sentences for the reader."""

    image: str
    version: int
    who: str
    time: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyReview:
    """The newest review of a study: `record` as `core.review.ReviewRecord.as_dict` gives it."""

    study: str
    version: int
    who: str
    time: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class SuggestedSlice:
    """A slice worth correcting, and why in a sentence."""

    slice: int
    disputed_cm2: float
    heart_cm2: float
    reason: str


@dataclass(frozen=True)
class Suggestions:
    """Slices of an image that are worth correcting, worst first; `reason` says why none are."""

    image: str
    slices: tuple[SuggestedSlice, ...]
    model: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """What became of a challenger: publish, keep (a person decides) or reject, and why."""

    outcome: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Course:
    """A training from its beginning to now.

    Attributes:
        job: its name.
        state: queued, running, done, failed, cancelled or interrupted.
        step, steps: of the learning; `done`, `total` of `stage`, and `rate` of these a second.
        curves: series by name, a member.
        figures: names, for `Client.figure`.
        before, after: figures on held-out patients of the version in use and of the challenger.
    """

    job: str
    state: str
    error: str | None = None
    created: str | None = None
    started: str | None = None
    ended: str | None = None
    stage: str | None = None
    done: float | None = None
    total: float | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    rates: Mapping[str, float] | None = None
    rate: float | None = None
    seconds_left: float | None = None
    curves: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    version: str | None = None
    in_use: bool | None = None
    decision: Decision | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    learned_from: Mapping[str, Any] | None = None
    held_out: Mapping[str, Any] | None = None
    problems: tuple[str, ...] | None = None

    @property
    def has_ended(self) -> bool:
        return self.state not in ("queued", "running")


@dataclass(frozen=True)
class ModelVersion:
    """A version of the model; `problem` says why it cannot be used."""

    version: str
    problem: str | None = None
    bundled: bool = False
    created: str | None = None
    parent: str | None = None
    members: tuple[str, ...] = ()
    decision: Decision | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Use:
    """A version was put in use: when, by whom, why."""

    version: str
    time: str
    who: str = ""
    why: str = ""
    rolled_back: bool = False


@dataclass(frozen=True)
class Models:
    """The versions, which one answers (`served`) and which was in use before."""

    current: str
    served: str
    versions: tuple[ModelVersion, ...]
    history: tuple[Use, ...] = ()
    before: str | None = None


def read(kind: type[T], told: object) -> T:
    """An answer from JSON, by the names and kinds of its fields; unknown fields are passed over.

    Raises:
        ServerFault: a field is missing, or is of another kind.
    """
    if not isinstance(told, Mapping):
        raise not_understood(f"{kind.__name__} is no object")
    hints, values = _hints(kind), {}
    for each in fields(kind):  # type: ignore[arg-type]
        if each.name in told:
            values[each.name] = _value(hints[each.name], told[each.name], each.name)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise not_understood(f"{each.name} of {kind.__name__} is missing")
    return kind(**values)


def not_understood(what: str) -> ServerFault:
    """The error for an answer that no CineLabel server gives."""
    return ServerFault(
        f"the answer of the server is not understood, {what}",
        remedy="Check that the address is that of a CineLabel server of this version",
        cause="answer",
    )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, told: Any, name: str) -> Any:
    """A value of the kind that a field has. Raises ServerFault."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if told is None:
            return None
        return _value(next(h for h in get_args(hint) if h is not type(None)), told, name)
    if origin is tuple and isinstance(told, (list, tuple)):
        return tuple(_value(get_args(hint)[0], item, name) for item in told)
    if is_dataclass(hint):
        return read(hint, told)  # type: ignore[arg-type]
    if hint is float and type(told) in (int, float):
        return float(told)
    if hint is Any or (origin or hint) is Mapping and isinstance(told, Mapping):
        return told
    if hint in (str, int, bool, bytes) and type(told) is hint:
        return told
    raise not_understood(f"{name} is {str(told)[:40]!r}")
