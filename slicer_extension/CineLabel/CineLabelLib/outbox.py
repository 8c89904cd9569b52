"""Submissions that could not be sent: kept on disk, in order, until the server has them.

An entry is a folder `<number>-<key>` with `submission.json` and `label.nii.gz`. It is written under
another name, flushed and renamed, so it is whole or not there; `state.json` in it tells how often
it was tried. No token is ever written.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from CineLabelLib.core.errors import InputError
from CineLabelLib.core.files import (
    check_identifier,
    flush_to_disk,
    output_error,
    write_json,
    write_text,
)
from CineLabelLib.locks import lock, try_lock

_SCHEMA_VERSION = 1
_ENTRY = re.compile(r"(\d{6,})-([A-Za-z0-9._-]+)")
_SUBMISSION, _LABEL, _STATE = "submission.json", "label.nii.gz", "state.json"
_SET_ASIDE = "set-aside"
_STATE_FIELDS = ("attempts", "last_error", "refused")
_KINDS: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "address": (str,),
        "image": (str,),
        "study": (str,),
        "frame": (int,),
        "sha256": (str,),
        "label_info": (list,),
        "base_version": (int, type(None)),
        "model": (str, type(None)),
        "comment": (str,),
        "image_digest": (str, type(None)),
        "reader": (str,),
        "made_at": (str,),
        "key": (str,),
        "follows": (str, type(None)),
    }
)
_UNFINISHED, _REMOVED = ".new-", ".gone-"


@dataclass(frozen=True)
class Submission:
    """A label on its way to the server. There is no token in it, and none is written to disk.

    Attributes:
        address: of the server, without a log-in.
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
        follows: `key` of the submission that it was drawn on, still unsent then or not.
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
    follows: str | None = None


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
        self.folder = Path(folder)

    def put(self, submission: Submission) -> str:
        """Keep a submission and return its id; one of the same key is kept once.

        Raises:
            InputError: the label is not what its digest says, or the address holds a log-in.
            OutputError: it cannot be written.
            BusyError: other programs are changing the outbox.
        """
        _require_sendable(submission)
        with self._locked():
            self._sweep()
            names = self._names()
            for name in names:
                if name.split("-", 1)[1] == submission.key:
                    return name
            number = 1 + max((int(name.split("-", 1)[0]) for name in names), default=0)
            name = f"{number:06d}-{submission.key}"
            self._write(name, submission)
        return name

    def entries(self) -> list[Entry]:
        """All that is whole, in order; what is damaged is set aside. Raises BusyError."""
        with self._locked():
            found = []
            for name in self._names():
                try:
                    found.append(_read(self.folder / name))
                except _DamagedError as error:
                    self._put_aside(name, str(error))
        return found

    def pending(self) -> list[Entry]:
        """What is still to be sent, in order."""
        return [entry for entry in self.entries() if not entry.refused]

    def failed(self, id: str, sentence: str) -> None:
        """Note an attempt that did not reach the server; the entry stays pending."""
        self._note(id, lambda e: replace(e, attempts=e.attempts + 1, last_error=sentence))

    def refused(self, id: str, sentence: str) -> None:
        """Note that the server refused it: not pending any more, until `again`."""
        self._note(
            id, lambda e: replace(e, attempts=e.attempts + 1, last_error=sentence, refused=True)
        )

    def again(self, id: str) -> None:
        """Make a refused entry pending again."""
        self._note(id, lambda e: replace(e, refused=False))

    def rebase(self, id: str, base_version: int) -> None:
        """Note that what an entry began from has become this version at the server meanwhile."""
        path = self.folder / check_identifier(id, "entry")
        with self._locked():
            if path.is_dir():
                submission = replace(_read(path).submission, base_version=base_version)
                write_text(path / _SUBMISSION, _as_json(submission))

    def remove(self, id: str) -> None:
        """Forget an entry that the server has; one that is gone already is passed over."""
        check_identifier(id, "entry")
        with self._locked():
            gone = self.folder / f"{_REMOVED}{id}-{secrets.token_hex(4)}"
            with suppress(FileNotFoundError):
                (self.folder / id).rename(gone)
            self._sweep()

    def set_aside(self) -> list[str]:
        """A sentence on each damaged entry; its files are in the folder `set-aside`."""
        reasons = sorted((self.folder / _SET_ASIDE).glob("*.txt"))
        return [path.read_text(encoding="utf-8").strip() for path in reasons]

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """True for the one program that may send now, False while another one does."""
        with try_lock(self.folder / ".sending.lock") as held:
            yield held

    def _locked(self) -> AbstractContextManager[None]:
        return lock(self.folder / ".lock")

    def _names(self) -> list[str]:
        """Names of the entries, in order."""
        found = [path.name for path in self.folder.iterdir() if _ENTRY.fullmatch(path.name)]
        return sorted(found, key=lambda name: (int(name.split("-", 1)[0]), name))

    def _write(self, name: str, submission: Submission) -> None:
        target = self.folder / name
        unfinished = self.folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
        try:
            unfinished.mkdir()
            (unfinished / _LABEL).write_bytes(submission.label)
            (unfinished / _SUBMISSION).write_text(_as_json(submission), encoding="utf-8")
            for path in (unfinished / _LABEL, unfinished / _SUBMISSION, unfinished):
                flush_to_disk(path)
            unfinished.rename(target)
            with suppress(OSError):  # some network file systems cannot flush a folder
                flush_to_disk(self.folder)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise output_error(error, target) from error

    def _note(self, id: str, change: Callable[[Entry], Entry]) -> None:
        """Change what is told of an entry; one that is gone already is passed over."""
        path = self.folder / check_identifier(id, "entry")
        with self._locked():
            if path.is_dir():
                entry = change(_read(path))
                state = {name: getattr(entry, name) for name in _STATE_FIELDS}
                write_json(path / _STATE, state)

    def _put_aside(self, name: str, sentence: str) -> None:
        """Move an entry away; the sentence is written first, so that none is without one."""
        target = self.folder / _SET_ASIDE / f"{name}-{secrets.token_hex(4)}"
        write_text(target.with_name(f"{target.name}.txt"), sentence + "\n")
        try:
            (self.folder / name).rename(target)
        except OSError as error:
            raise output_error(error, target) from error

    def _sweep(self) -> None:
        """Remove what a kill left: entries that were not whole yet, or whose removal had begun."""
        for path in self.folder.iterdir():
            if path.name.startswith((_UNFINISHED, _REMOVED)):
                shutil.rmtree(path, ignore_errors=True)


class _DamagedError(InputError):
    """An entry that cannot be what was put there."""


def _require_sendable(submission: Submission) -> None:
    check_identifier(submission.key, "key of a submission")
    parts = urlsplit(submission.address)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            "the server's address holds a log-in or more, which is not written to disk",
            remedy="Give the address alone, like https://host:8000, and the token in its own field",
        )
    if hashlib.sha256(submission.label).hexdigest() != submission.sha256:
        raise InputError("the label is not what its digest says", where=submission.image)


def _as_json(submission: Submission) -> str:
    record = {f.name: getattr(submission, f.name) for f in fields(Submission) if f.name != "label"}
    return json.dumps({"schema_version": _SCHEMA_VERSION, **record}, indent=2, ensure_ascii=False)


def _read(path: Path) -> Entry:
    """The entry in a folder. Raises _DamagedError, or InputError where a file cannot be read."""
    record, label = _json(path / _SUBMISSION), _bytes(path / _LABEL)
    record.setdefault("follows", None)
    if record.pop("schema_version", None) != _SCHEMA_VERSION or record.keys() != _KINDS.keys():
        raise _damaged(path / _SUBMISSION)
    if not all(isinstance(record[name], kinds) for name, kinds in _KINDS.items()):
        raise _damaged(path / _SUBMISSION)
    if hashlib.sha256(label).hexdigest() != record["sha256"]:
        raise _damaged(path / _LABEL)
    record["label_info"] = tuple(map(str, record["label_info"]))
    return Entry(path.name, Submission(label=label, **record), **_state(path / _STATE))


def _state(path: Path) -> dict[str, Any]:
    """How often an entry was tried; as if never where that is not known: repeating is safe."""
    try:
        state = _json(path)
        return {
            "attempts": int(state["attempts"]),
            "last_error": state["last_error"] and str(state["last_error"]),
            "refused": bool(state["refused"]),
        }
    except (_DamagedError, KeyError, TypeError, ValueError):
        return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_bytes(path))
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(record, dict):
        raise _damaged(path)
    return record


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _damaged(path) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be read, {reason}", where=path) from error


def _damaged(path: Path) -> _DamagedError:
    return _DamagedError(
        "is damaged or missing, so this submission was set aside and not sent",
        where=f"{path.parent.name}/{path.name}",
        remedy="Submit the frame again",
    )
