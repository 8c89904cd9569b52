"""What the store keeps and answers: submissions, events (the audit entries), leases, states."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cinelabel.core.errors import ConflictError, InputError
from cinelabel.core.files import check_identifier
from cinelabel.core.review import ReviewRecord

NAME_LENGTH = 180  # of an image or study; file systems allow 255 for a name
TEXT_LENGTH = 4000
FINAL = "final"

State = Literal["open", "labelled", "skipped"]
Kind = Literal["submitted", "imported", "skipped", "reopened", "set_aside", "lease_taken_over"]


@dataclass(frozen=True)
class Submission:
    """What a reader hands in with a label file.

    Attributes:
        image: name of the frame's image.
        who: the reader.
        client_id: the program or session the reader used; "" if unknown.
        time: ISO 8601 with a time zone.
        tag: "final"; predictions go through `LabelStore.save_prediction`.
        model: version of the model whose prediction was corrected.
        prediction: the label version or request it started from.
        base_version: the version it started from, 0 for none; None if the client does not say.
        comment: the reader's words.
        warnings: what the client noticed, in sentences.
        key: the client's own name of this submission, so that it may repeat it.
    """

    image: str
    who: str
    client_id: str
    time: str
    tag: str = FINAL
    model: str | None = None
    prediction: str | None = None
    base_version: int | None = None
    comment: str = ""
    warnings: tuple[str, ...] = ()
    key: str | None = None


class Event(BaseModel):
    """An entry of a case's history, and the form of its record on disk.

    Attributes:
        sequence: counts the events of the image from 1.
        version: counts the labels of the image from 1; None for events without a label.
        sha256: of the label file kept.
        submitted_sha256: of the file as it was handed in.
        names: segment names as handed in, in the order of their values; empty if canonical.
        base_version: the version the label started from, 0 for none.
        predicted: of each slice of the prediction it began as, see `slice_digests`; empty where
            that is not known.
        text: the reason or comment given.
        key: as in `Submission`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    image: str
    sequence: int = Field(ge=1)
    kind: Kind
    who: str
    client_id: str = ""
    time: str
    version: int | None = Field(default=None, ge=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    submitted_sha256: str | None = None
    names: tuple[str, ...] = ()
    base_version: int | None = Field(default=None, ge=0)
    model: str | None = None
    prediction: str | None = None
    predicted: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    text: str = ""
    key: str | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Event:
        check_name(self.image, "image name")
        check_time(self.time)
        has_label = self.kind in ("submitted", "imported")
        if (self.version is not None, self.sha256 is not None) != (has_label, has_label):
            raise ValueError(f"an event '{self.kind}' has version {self.version}")
        return self

    @property
    def stem(self) -> str:
        """Name of its files on disk, without a suffix."""
        if self.version is not None and self.sha256 is not None:
            return f"v{self.version:04d}-{self.sha256[:12]}"
        return f"e{self.sequence:05d}-{self.kind}"

    @classmethod
    def read(cls, text: str | bytes, where: object) -> Event:
        """An event from its JSON. Raises InputError naming `where`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "record"
            raise InputError(
                f"is not the record of a label, {field}: {first['msg']}", where=where
            ) from error
        except InputError as error:
            raise InputError(f"is not the record of a label, {error}", where=where) from error


@dataclass(frozen=True)
class LabelVersion:
    """A label of a case as it is kept.

    Attributes:
        version: from 1; 0 for a prediction.
        sha256: of the file.
        path: the file, NIfTI with values 1 LV, 2 MYO, 3 RV on the image's grid; never changes.
        kind: "submitted", "imported" or "predicted".
        names: segment names as handed in.
        predicted: as in `Event`.
        info: of a prediction, what was told about it.
    """

    image: str
    version: int
    sha256: str
    path: Path
    who: str
    client_id: str
    time: str
    kind: str
    model: str | None = None
    prediction: str | None = None
    base_version: int | None = None
    comment: str = ""
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    info: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """What clients are told, ready for JSON; without the path and the digests."""
        return {k: value for k, value in asdict(self).items() if k not in ("path", "predicted")}


@dataclass(frozen=True)
class Origin:
    """The prediction that a label began as: version of its model, and its `slice_digests`."""

    model: str | None = None
    prediction: str | None = None
    predicted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lease:
    """A case that is held for a reader until a time (ISO 8601, UTC)."""

    image: str
    who: str
    client_id: str
    since: str
    until: str


@dataclass(frozen=True)
class CaseState:
    """Where a case stands.

    Attributes:
        version: the newest label, 0 if there is none.
        lease: who holds it now.
        who, time, reason: of the last event that changed the state; empty if there is none.
    """

    image: str
    state: State = "open"
    version: int = 0
    lease: Lease | None = None
    who: str = ""
    time: str = ""
    reason: str = ""


@dataclass(frozen=True)
class ReviewVersion:
    """The review of a study as it is kept; versions count from 1."""

    study: str
    version: int
    who: str
    time: str
    base_version: int
    record: ReviewRecord

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; the form on disk."""
        return {**vars(self), "record": self.record.as_dict()}

    @classmethod
    def read(cls, told: object, where: object) -> ReviewVersion:
        """A review from what `as_dict` gave. Raises InputError naming `where`."""
        if not isinstance(told, dict) or "record" not in told:
            raise InputError("is not a kept review", where=where)
        record = ReviewRecord.from_json(json.dumps(told["record"]), where)
        try:
            kept = cls(**{**told, "record": record})
        except TypeError as error:
            raise InputError("is not a kept review", where=where) from error
        numbers = kept.version, kept.base_version
        if kept.study != record.study or not all(type(number) is int for number in numbers):
            raise InputError("is not a kept review", where=where)
        check_name(kept.study, "study name")
        return kept


def utc(moment: datetime) -> str:
    """A moment as ISO 8601 in UTC with microseconds; such texts sort by time."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def check_name(name: str, what: str) -> str:
    """`name` if it can name a folder. Raises InputError."""
    if len(name) > NAME_LENGTH:
        raise InputError(
            f"a name of {len(name)} characters is too long for an {what}",
            remedy=f"Use at most {NAME_LENGTH}",
        )
    return check_identifier(name, what)


def check_text(text: str, what: str, *, required: bool = False) -> str:
    """`text` if it can be kept as UTF-8, is not too long, and is there. Raises InputError."""
    if required and not text.strip():
        raise InputError(f"{what} is missing")
    if len(text) > TEXT_LENGTH:
        raise InputError(f"{what} has {len(text)} characters, more than {TEXT_LENGTH}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not text, it holds half a character") from error
    return text


def check_time(text: str) -> str:
    """`text` if it is an ISO 8601 time with a time zone. Raises InputError."""
    try:
        zone = datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise InputError(f"{text!r} is not an ISO 8601 time with a time zone")
    return text


def conflict(name: str, base: int, newest: int, who: str, time: str) -> ConflictError:
    """The sentence for a change of `name` that began from another version than the newest."""
    there = f"version {newest} by {who} of {time} is there"
    if not newest:
        there = "no version counts now, because there is none or the image has changed"
    began = f"yours began from version {base}" if base else "yours began from none"
    return ConflictError(
        f"{there}, {began}",
        where=name,
        remedy="Load the newest state, bring your changes into it and submit again",
        version=newest,
        who=who,
        time=time,
    )
