"""Submissions that could not be sent: kept on disk, in order, until the server has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Submission:
    """A label on its way to the server. There is no token in it, and none is written to disk.

    Attributes:
        address: of the server.
        image, study, frame: the case; `frame` from 0.
        label: the bytes of the .nii.gz file, and `sha256` its hexadecimal digest.
        label_info: names of the segments in the order of their values, from 1.
        base_version: the version that it started from, 0 for none, None if that is not known.
        model: version of the model whose prediction was corrected.
        comment: the reader's.
        image_digest: SHA-256 of the image file that was corrected.
        reader: who.
        made_at: when (ISO 8601, UTC).
        key: a uuid, so that repeating is safe.
    """

    address: str
    image: str
    study: str
    frame: int
    label: bytes
    sha256: str
    label_info: tuple[str, ...]
    base_version: int | None
    model: str | None
    comment: str
    image_digest: str | None
    reader: str
    made_at: str
    key: str


@dataclass(frozen=True)
class Entry:
    """A submission in the outbox.

    Attributes:
        id: its name there.
        attempts: how often it was tried.
        last_error: a sentence on the last one.
        refused: whether the server refused it, so that a person must decide.
    """

    id: str
    submission: Submission
    attempts: int = 0
    last_error: str | None = None
    refused: bool = False


class Outbox:
    """The outbox in a folder; several Slicers may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, submission: Submission) -> str:
        """Keep a submission and return its id; one of the same key is kept once."""
        raise NotImplementedError

    def entries(self) -> list[Entry]:
        """All that is whole, in order; what is damaged is set aside."""
        raise NotImplementedError

    def pending(self) -> list[Entry]:
        """What is still to be sent, in order."""
        raise NotImplementedError

    def failed(self, id: str, sentence: str) -> None:
        """Note an attempt that did not reach the server; the entry stays pending."""
        raise NotImplementedError

    def refused(self, id: str, sentence: str) -> None:
        """Note that the server refused it: not pending any more, until `again`."""
        raise NotImplementedError

    def again(self, id: str) -> None:
        """Make a refused entry pending again."""
        raise NotImplementedError

    def remove(self, id: str) -> None:
        """Forget an entry that the server has; one that is gone already is passed over."""
        raise NotImplementedError

    def set_aside(self) -> list[str]:
        """A sentence on each damaged entry that was set aside."""
        raise NotImplementedError

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """True for the one process that may send now, False while another one does."""
        raise NotImplementedError
        yield False
