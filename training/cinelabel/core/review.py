"""The review record: motion grade, findings a slice, the reader's decision; its JSON form.

Grades are those of the CMRxMotion challenge (Wang et al. 2022): 1 mild, 2 intermediate, 3 severe.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, TypeVar

from .errors import InputError
from .files import check_identifier

SCHEMA_VERSION = 1

_T = TypeVar("_T")


class MotionGrade(IntEnum):
    """How much motion spoils a study."""

    MILD = 1
    INTERMEDIATE = 2
    SEVERE = 3


class Action(str, Enum):
    """What the reader decides about a study or a breath-hold."""

    ACCEPT = "accept"
    REPEAT = "repeat"
    EXCLUDE = "exclude"


@dataclass(frozen=True)
class Decision:
    """A reader's decision: what, why, who and when (ISO 8601 with a time zone)."""

    action: Action
    reason: str
    reader: str
    time: str

    def __post_init__(self) -> None:
        _require(bool(self.reader.strip()), "the decision names no reader")
        try:
            zone = datetime.fromisoformat(self.time.replace("Z", "+00:00")).tzinfo
        except ValueError:
            zone = None
        _require(zone is not None, f"{self.time!r} is not an ISO 8601 time with a time zone")


@dataclass(frozen=True)
class SliceReview:
    """Findings in one slice, one breath-hold; None where something was not assessed.

    Attributes:
        index: slice along the third axis, from 0.
        artefact_score: 0 (none) to 1 (unusable).
        shift_mm: in-plane shift along the first and second axis against the other slices.
        coverage: findings about what the slice should show and does not.
        contrast: findings about signal, noise and contrast.
        decision: the reader's, about this breath-hold.
    """

    index: int
    artefact_score: float | None = None
    shift_mm: tuple[float, float] | None = None
    coverage: tuple[str, ...] = ()
    contrast: tuple[str, ...] = ()
    decision: Decision | None = None

    def __post_init__(self) -> None:
        _require(self.index >= 0, f"slice {self.index} does not exist")
        score = self.artefact_score
        _require(
            score is None or 0 <= score <= 1, f"the artefact score {score} is not between 0 and 1"
        )
        shift = self.shift_mm
        _require(
            shift is None or (len(shift) == 2 and all(map(math.isfinite, shift))),
            f"the shift {shift} is not two numbers in mm",
        )


@dataclass(frozen=True)
class ReviewRecord:
    """The review of a study.

    Attributes:
        study: name of the study.
        grade: motion grade, None if not assessed.
        probabilities: of mild, intermediate and severe; sum 1.
        slices: one review a slice, in the order of the slices.
        decision: the reader's, about the study.
        model: version of the model that graded.
        schema_version: version of this record's form.
    """

    study: str
    grade: MotionGrade | None = None
    probabilities: tuple[float, float, float] | None = None
    slices: tuple[SliceReview, ...] = ()
    decision: Decision | None = None
    model: str | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        check_identifier(self.study, "study name")
        _require(
            self.schema_version == SCHEMA_VERSION,
            f"schema version {self.schema_version} is not {SCHEMA_VERSION}",
        )
        p = self.probabilities
        _require(
            p is None or (len(p) == 3 and all(0 <= x <= 1 for x in p) and abs(sum(p) - 1) <= 1e-3),
            f"the probabilities {p} are not three that sum to 1",
        )
        indices = [s.index for s in self.slices]
        _require(indices == sorted(set(indices)), "its slices are not in order, each once")

    def unfit(self, index: int | None = None) -> str | None:
        """Why a slice, or all of them, is of no use, in two or three words; None otherwise.

        A decision about the slice counts before that about the study, and both before the grade,
        of which severe motion is not diagnostic (CMRxMotion, Wang et al. 2022).
        """
        own = next((found.decision for found in self.slices if found.index == index), None)
        decision = own or self.decision
        if decision is not None:
            return _UNFIT[decision.action]
        return "graded non-diagnostic" if self.grade is MotionGrade.SEVERE else None

    def as_dict(self) -> dict[str, object]:
        """The record with plain values, ready for JSON."""
        return json.loads(self.to_json())

    def to_json(self) -> str:
        """The record as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: object = "review record") -> ReviewRecord:
        """Read a record written by `to_json`.

        Raises:
            InputError: the text is no JSON, a field is missing, unknown or of the wrong kind, or
                the schema version is another; `where` is named.
        """
        try:
            return _record(json.loads(text))
        except json.JSONDecodeError as error:
            raise InputError(f"is not JSON, {error}", where=where) from error
        except InputError as error:
            problem = f"{error.where}: {error.problem}" if error.where else error.problem
            raise InputError(problem, where=where, remedy=error.remedy) from error
        except (TypeError, ValueError) as error:
            raise InputError(f"is not a review record, {error}", where=where) from error


_UNFIT: Mapping[Action, str | None] = MappingProxyType(
    {Action.ACCEPT: None, Action.REPEAT: "to be repeated", Action.EXCLUDE: "excluded"}
)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise InputError(problem)


def _record(raw: object) -> ReviewRecord:
    entries = _entries(raw, ReviewRecord, required={"study", "schema_version"})
    version = entries["schema_version"]
    _require(version == SCHEMA_VERSION, f"schema version {version} is not {SCHEMA_VERSION}")
    return ReviewRecord(
        study=_text(entries["study"]),
        grade=_optional(entries.get("grade"), MotionGrade),
        probabilities=_optional(entries.get("probabilities"), _numbers),
        slices=tuple(_slice(item) for item in _list(entries.get("slices", []))),
        decision=_optional(entries.get("decision"), _decision),
        model=_optional(entries.get("model"), _text),
    )


def _slice(raw: object) -> SliceReview:
    entries = _entries(raw, SliceReview, required={"index"})
    _require(type(entries["index"]) is int, f"slice {entries['index']!r} is not a whole number")
    return SliceReview(
        index=entries["index"],
        artefact_score=_optional(entries.get("artefact_score"), _number),
        shift_mm=_optional(entries.get("shift_mm"), _numbers),
        coverage=tuple(_text(item) for item in _list(entries.get("coverage", []))),
        contrast=tuple(_text(item) for item in _list(entries.get("contrast", []))),
        decision=_optional(entries.get("decision"), _decision),
    )


def _decision(raw: object) -> Decision:
    entries = _entries(raw, Decision, required={"action", "reason", "reader", "time"})
    return Decision(
        action=Action(entries["action"]),
        reason=_text(entries["reason"]),
        reader=_text(entries["reader"]),
        time=_text(entries["time"]),
    )


def _entries(raw: object, kind: type, required: set[str]) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise InputError(f"{raw!r} is not an object with fields")
    known = {field.name for field in fields(kind)}
    for missing in sorted(required - raw.keys()):
        raise InputError(f"the field {missing!r} is missing")
    for unknown in sorted(raw.keys() - known):
        raise InputError(f"the field {unknown!r} is not known")
    return raw


def _optional(value: object, read: Callable[[Any], _T]) -> _T | None:
    return None if value is None else read(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{value!r} is not a text")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{value!r} is not a number")
    return float(value)


def _numbers(value: object) -> tuple[Any, ...]:
    return tuple(_number(item) for item in _list(value))


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{value!r} is not a list")
    return value
