"""What the panel shows of each use case, as data that does not change once it is made.

Frames and slices count from 0. A `sentence` is meant for the reader as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from CineLabelLib.core.measures import Measures
from CineLabelLib.core.review import Decision, MotionGrade
from CineLabelLib.study import CineStudy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from CineLabelLib.answers import Case, Course, Models


class Link(Enum):
    """How the server is reached."""

    OFF = "off"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"


@dataclass(frozen=True)
class ConnectionState:
    """The server: its address, who we are there, which model answers, how many wait.

    Attributes:
        role: reader, annotator or admin; None where nothing is known.
        model: version in use; None without a server or a model.
        queue: segmentations that wait or run on the server, those of others included.
        strategies: for `Opening.next_case`, the one to offer first in front.
        open_cases, labelled_cases: of the server; None where it does not tell.
    """

    link: Link = Link.OFF
    sentence: str = "No server: local studies only."
    address: str = ""
    who: str | None = None
    role: str | None = None
    model: str | None = None
    queue: int = 0
    strategies: tuple[str, ...] = ()
    open_cases: int | None = None
    labelled_cases: int | None = None


@dataclass(frozen=True)
class Unsaved:
    """Edits of an earlier time that were not saved, offered when their study is opened."""

    frames: tuple[int, ...]
    sentence: str


@dataclass(frozen=True)
class SeriesChoice:
    """A folder with several series that may be meant: `series` is (key, description) of each."""

    folder: Path
    series: tuple[tuple[str, str], ...]
    sentence: str


@dataclass(frozen=True)
class OpeningState:
    """What is open, what is being opened.

    Attributes:
        busy: what is being opened, None when nothing is.
        fraction: of `busy`, 0 to 1; None where not known.
        image: the server's name of the frame that was opened, `<study>__t<NN>`.
        reason: why the server gave this case, and `slice` which it was chosen for.
        ed, es: as the source, the server or the reader says; None while not known.
        cases: as listed last by `list_cases`.
        unsaved: offered until `restore_unsaved` or `leave_unsaved` is called.
        choice: offered until `open_series` or `leave_series` is called, or something else opened.
    """

    study: CineStudy | None = None
    sentence: str = "No study is open."
    busy: str | None = None
    fraction: float | None = None
    image: str | None = None
    reason: str | None = None
    slice: int | None = None
    ed: int | None = None
    es: int | None = None
    cases: tuple[Case, ...] = ()
    unsaved: Unsaved | None = None
    choice: SeriesChoice | None = None


@dataclass(frozen=True, eq=False)
class SliceRow:
    """A breath-hold: what is known about it and what the reader decided.

    Attributes:
        badness: 0 (nothing found) to 1; rows are shown worst first by it.
        findings: sentences of two to eight words: shift, contrast, coverage, sharpness.
        thumbnail: (x, y) uint8; None until it is made.
    """

    index: int
    badness: float = 0.0
    artefact_score: float | None = None
    shift_mm: tuple[float, float] | None = None
    findings: tuple[str, ...] = ()
    decision: Decision | None = None
    thumbnail: np.ndarray | None = None


@dataclass(frozen=True)
class ReviewState:
    """The breath-holds of the study.

    Attributes:
        worst_first: the indices of `rows` in that order.
        notes: sentences on the whole study, such as on its coverage.
        saved: whether all decisions are where they belong: here, and on the server of its case.
    """

    rows: tuple[SliceRow, ...] = ()
    worst_first: tuple[int, ...] = ()
    grade: MotionGrade | None = None
    decision: Decision | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()
    saved: bool = True
    sentence: str = ""


class Scope(Enum):
    """Which frames are segmented."""

    FRAME = "frame"
    ED_ES = "ed and es"
    ALL = "all"


@dataclass(frozen=True)
class Look:
    """A slice that is worth looking at: where, why in a few words, and the ml in dispute."""

    frame: int
    slice: int
    structure: str
    disputed_ml: float
    reason: str


@dataclass(frozen=True)
class SegmentationState:
    """A request to segment, and what came of the last.

    Attributes:
        withheld: frames that a person edited, whose results wait for her word: `replace_edited`
            or `keep_edited`.
        look_at: worst first.
        notes: sentences on coverage, agreement and frames without a heart.
        overlay: whether disagreement is shown.
    """

    running: bool = False
    fraction: float | None = None
    sentence: str = ""
    withheld: tuple[int, ...] = ()
    look_at: tuple[Look, ...] = ()
    notes: tuple[str, ...] = ()
    model: str | None = None
    overlay: bool = False


class Origin(Enum):
    """Where the labels of a frame came from."""

    NONE = "none"
    MODEL = "model"
    SAVED = "saved"
    PERSON = "person"


@dataclass(frozen=True)
class EditingState:
    """What a person changed.

    Attributes:
        frame: on screen.
        edited: frames that she edited since the study was opened, or that a person labelled before.
        unsaved: those of them that changed since they were last saved or submitted.
        unsubmitted: those that she edited since they were last submitted.
        origins: one a frame.
        saved_at: ISO 8601; None when nothing was saved yet.
    """

    frame: int = 0
    edited: frozenset[int] = frozenset()
    unsaved: frozenset[int] = frozenset()
    unsubmitted: frozenset[int] = frozenset()
    origins: tuple[Origin, ...] = ()
    can_undo: bool = False
    can_redo: bool = False
    saved_at: str | None = None
    sentence: str = ""

    @property
    def origin(self) -> Origin:
        """Where the labels of the frame on screen came from."""
        return self.origins[self.frame] if self.frame < len(self.origins) else Origin.NONE

    @property
    def hers(self) -> frozenset[int]:
        """Those of `edited` that are surely this reader's; the others may be anybody's."""
        drawn = {f for f in self.edited if self.origins[f] is Origin.PERSON}
        return self.unsubmitted | drawn


class Surface(Enum):
    """Formulas of the body surface area, m2 of cm and kg."""

    MOSTELLER = "Mosteller 1987"
    DU_BOIS = "Du Bois and Du Bois 1916"


@dataclass(frozen=True)
class Figure:
    """A measure: its value, or what is missing for it.

    Attributes:
        indexed: by body surface area, None where it is not known or has no meaning.
        missing: what is to be done to have it, None where there is a value.
    """

    name: str
    unit: str
    value: float | None = None
    indexed: float | None = None
    indexed_unit: str = ""
    missing: str | None = None


@dataclass(frozen=True)
class MeasuringState:
    """The measures of the labels on screen.

    Attributes:
        frames: labelled frames, those that the curve has points for.
        times_ms: trigger times of `frames`; None where the source has none.
        lv_ml, myo_ml, rv_ml: volumes at `frames`.
        notes: what makes the figures doubtful, one sentence each.
        measures: by `core.measures`, for whoever writes them on.
    """

    figures: tuple[Figure, ...] = ()
    ed: int | None = None
    es: int | None = None
    frames: tuple[int, ...] = ()
    times_ms: tuple[float, ...] | None = None
    lv_ml: tuple[float, ...] = ()
    myo_ml: tuple[float, ...] = ()
    rv_ml: tuple[float, ...] = ()
    body_surface_m2: float | None = None
    surface: Surface = Surface.MOSTELLER
    notes: tuple[str, ...] = ()
    measures: Measures | None = None


@dataclass(frozen=True)
class Finding:
    """What a check of a frame's labels says; errors keep it from being submitted."""

    frame: int
    sentence: str
    is_error: bool


@dataclass(frozen=True)
class Conflict:
    """A submission that the server refused since another label came first.

    `keep_mine`, `open_theirs` and `submit_over` are the ways out; `seen` says whether theirs was
    opened, without which `submit_over` is refused, and `shown` whether it is beside mine now.
    """

    entry: str
    address: str
    image: str
    frame: int
    version: int
    who: str | None
    time: str | None
    sentence: str
    seen: bool = False
    shown: bool = False


@dataclass(frozen=True)
class Waiting:
    """A submission in the outbox; `refused` ones are not sent again by themselves."""

    entry: str
    image: str
    made_at: str
    attempts: int
    sentence: str
    refused: bool = False


@dataclass(frozen=True)
class SubmittingState:
    """What is being sent, waits and was sent.

    Attributes:
        sent: versions that the server keeps of this study's images, by image.
        findings: of the last check.
    """

    busy: bool = False
    sentence: str = ""
    findings: tuple[Finding, ...] = ()
    conflict: Conflict | None = None
    waiting: tuple[Waiting, ...] = ()
    sent: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class TrainingState:
    """Training on the server and its model versions.

    Attributes:
        course: the last training; None if there was none.
        models: versions, which is in use, history; None until told.
        figures: PNG by name, of those that were fetched.
        may: whether this reader may start, stop, use and roll back.
    """

    running: bool = False
    sentence: str = ""
    course: Course | None = None
    models: Models | None = None
    figures: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    may: bool = False
