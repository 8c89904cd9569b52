"""What is kept of a study without a server: labels and reviews as versions, and autosaves.

A version is a label file `labels-0001.nii.gz` (uint8, 4D for a cine, on the source's grid) and
`labels-0001.json` beside it, which tells who, when, which frames a person edited, and the digests
of the label and of the image. The label is written first: a version is there when its JSON is. No
file is ever overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from CineLabelLib import nifti
from CineLabelLib.core.errors import GridError, InputError
from CineLabelLib.core.files import atomic_write, write_json, write_text
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.review import ReviewRecord
from CineLabelLib.locks import lock
from CineLabelLib.study import CineStudy

_SCHEMA_VERSION = 1
_NAME_LENGTH = 100
_FIELDS = {
    "image": str,
    "sha256": str,
    "edited_frames": list,
    "bases": dict,
    "who": str,
    "time": str,
}


@dataclass(frozen=True, eq=False)
class SavedLabels:
    """Labels that were kept.

    Attributes:
        labels: uint8 (x, y, z, t) on the study's grid.
        edited_frames: frames (from 0) that a person changed, in order.
        who: the reader.
        time: when (ISO 8601, UTC).
        version: from 1; 0 for an autosave.
        notes: sentences on what is there besides: newer versions that are damaged, more autosaves.
        bases: the server's version that a frame's labels began from, where that is known.
    """

    labels: np.ndarray
    edited_frames: tuple[int, ...]
    who: str
    time: str
    version: int
    notes: tuple[str, ...] = ()
    bases: Mapping[int, int] = field(default_factory=dict)


def user_data_folder() -> Path:
    """The folder of CineLabel in the user's data folder of this system; it need not exist."""
    home = Path.home()
    if os.name == "nt":
        data = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        data = os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"
    return Path(data) / "CineLabel"


def folder_for(base: Path, study: CineStudy) -> Path:
    """`<base>/<study>-<short digest>`: the same image finds its records again."""
    return base / f"{study.name[:_NAME_LENGTH]}-{study.digest[:12]}"


class OtherImageError(InputError):
    """Labels that were drawn on another image than the one that is open."""


class LocalRecords:
    """The records of one study in a folder, made at the first save; two Slicers may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._session = secrets.token_hex(4)
        self._autosaves = 0
        self._recovered: str | None = None

    def save_labels(
        self,
        study: CineStudy,
        labels: np.ndarray,
        edited_frames: Collection[int],
        who: str,
        bases: Mapping[int, int] | None = None,
    ) -> int:
        """Keep labels uint8 (x, y, z, t) as the next version, and return its number.

        Args:
            bases: the server's versions that frames began from.

        Raises:
            GridError: the labels have another shape than the study.
            LabelError: a value is none of the structures.
            OtherImageError: the folder holds labels of another image.
            OutputError: they cannot be written.
        """
        content = _label_file(study, labels)
        with lock(self.folder / ".lock"):
            for path in self.folder.glob(".????????-labels-*"):  # left by a save that was killed
                _remove(path)
            self._require_same_image(study)
            version = self._next("labels")
            _write(self._path("labels", version), study, content, edited_frames, who, bases)
        return version

    def latest_labels(self, study: CineStudy) -> SavedLabels | None:
        """The newest whole version, None if there is none.

        Raises:
            OtherImageError: the labels are of another image.
            GridError: they lie on another grid.
            InputError: all versions are damaged.
        """
        damaged: list[str] = []
        for version in reversed(self._versions("labels")):
            try:
                found = _read(self._path("labels", version), study)
            except (OtherImageError, GridError):
                raise
            except InputError as error:
                damaged.append(str(error))
                continue
            return replace(found, version=version, notes=tuple(damaged))
        if damaged:
            raise InputError(f"no version of the labels is whole; {damaged[0]}", where=self.folder)
        return None

    def save_review(self, record: ReviewRecord) -> int:
        """Keep a review as the next version, and return its number. Raises OutputError."""
        with lock(self.folder / ".lock"):
            version = self._next("review")
            write_text(self._path("review", version), record.to_json() + "\n")
        return version

    def latest_review(self) -> ReviewRecord | None:
        """The newest review, None if there is none. Raises InputError if it is damaged."""
        versions = self._versions("review")
        if not versions:
            return None
        path = self._path("review", versions[-1])
        return ReviewRecord.from_json(_text(path), where=path)

    def autosave(
        self,
        study: CineStudy,
        labels: np.ndarray,
        edited_frames: Collection[int],
        who: str,
        bases: Mapping[int, int] | None = None,
    ) -> None:
        """Keep unsaved edits in place of this object's autosave before; raises as `save_labels`.

        Each object has autosaves of its own, so that two Slicers do not take each other's.
        """
        content = _label_file(study, labels)
        before = self._autosave_name()
        self._autosaves += 1
        path = self.folder / f"{self._autosave_name()}.json"
        _write(path, study, content, edited_frames, who, bases)
        self._remove_autosaves(before)

    def recover(self, study: CineStudy) -> SavedLabels | None:
        """The newest whole autosave of this image, None if there is none."""
        newest: dict[str, tuple[str, str, SavedLabels]] = {}  # by the object that made them
        notes: list[str] = []
        for path in sorted(self.folder.glob("autosave-*.json")):
            try:
                saved = _read(path, study)
            except InputError as error:
                notes.append(str(error))
            else:
                newest[path.stem.rsplit("-", 1)[0]] = (saved.time, path.stem, saved)
        if not newest:
            return None
        *others, (_, self._recovered, found) = sorted(newest.values(), key=lambda item: item[:2])
        notes += [f"There is another autosave, by {old.who} at {old.time}." for _, _, old in others]
        return replace(found, notes=tuple(notes))

    def forget_autosave(self) -> None:
        """Remove the autosave of this object and the one it recovered: they are saved now."""
        self._remove_autosaves(self._autosave_name())
        if self._recovered is not None:
            self._remove_autosaves(self._recovered)
            self._recovered = None

    def _autosave_name(self) -> str:
        return f"autosave-{self._session}-{self._autosaves:06d}"

    def _remove_autosaves(self, last: str) -> None:
        """Remove an autosave and those before it of the same object, with what a kill left."""
        session = last.rsplit("-", 1)[0]
        names = {path.name.split(".")[0] for path in self.folder.glob(f"{session}-*")}
        for name in sorted(name for name in names if name <= last):
            for suffix in (".json", ".nii.gz"):
                _remove(self.folder / f"{name}{suffix}")
        for path in self.folder.glob(f".????????-{session}-*"):
            _remove(path)

    def _path(self, kind: str, version: int) -> Path:
        return self.folder / f"{kind}-{version:04d}.json"

    def _versions(self, kind: str) -> list[int]:
        """Numbers of the versions that are there, in order."""
        names = (re.fullmatch(rf"{kind}-(\d+)\.json", path.name) for path in _listed(self.folder))
        return sorted(int(name[1]) for name in names if name)

    def _next(self, kind: str) -> int:
        """A number that no file has, those of a save that was killed included."""
        names = (re.match(rf"{kind}-(\d+)\.", path.name) for path in _listed(self.folder))
        return 1 + max((int(name[1]) for name in names if name), default=0)

    def _require_same_image(self, study: CineStudy) -> None:
        """Raise OtherImageError if the newest labels whose record is whole are of another image."""
        for version in reversed(self._versions("labels")):
            path = self._path("labels", version)
            try:
                record = _record(path)
            except InputError:
                continue
            if record["image"] != study.digest:
                raise _other_image(path)
            return


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _label_path(record: Path) -> Path:
    return record.with_suffix(".nii.gz")


def _label_file(study: CineStudy, labels: np.ndarray) -> bytes:
    if labels.shape != study.voxels.shape:
        raise GridError(
            f"labels of shape {labels.shape} do not fit the study's {study.voxels.shape}",
            where=study.name,
        )
    return nifti.label_bytes(labels, study.affine, study.header)


def _write(
    path: Path,
    study: CineStudy,
    content: bytes,
    edited_frames: Collection[int],
    who: str,
    bases: Mapping[int, int] | None,
) -> None:
    """Write the label, then the record at `path`, which makes it count."""
    with atomic_write(_label_path(path)) as temporary:
        temporary.write_bytes(content)
    record = {
        "schema_version": _SCHEMA_VERSION,
        "study": study.name,
        "image": study.digest,
        "sha256": hashlib.sha256(content).hexdigest(),
        "edited_frames": sorted({int(frame) for frame in edited_frames}),
        "bases": {str(frame): version for frame, version in (bases or {}).items()},
        "who": who,
        "time": datetime.now(timezone.utc).isoformat(),
    }
    write_json(path, record)


def _record(path: Path) -> dict[str, Any]:
    """What is told of a label. Raises InputError where it is damaged."""
    try:
        record = json.loads(_text(path))
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(record, dict) or record.get("schema_version") != _SCHEMA_VERSION:
        raise _damaged(path)
    if not all(isinstance(record.get(name), kind) for name, kind in _FIELDS.items()):
        raise _damaged(path)
    return record


def _read(path: Path, study: CineStudy) -> SavedLabels:
    """The labels of a record, with version 0.

    Raises:
        OtherImageError, GridError: they do not belong to the study.
        InputError: they are damaged.
    """
    record = _record(path)
    if record["image"] != study.digest:
        raise _other_image(path)
    label = _label_path(path)
    try:
        content = label.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be read, {reason}", where=label) from error
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise _damaged(label)
    image = nifti.read_labels(content, label)
    labels = image.voxels if image.voxels.ndim == 4 else image.voxels[..., np.newaxis]
    study.grid.require_equal(Grid(labels.shape[:3], image.affine), str(label))
    if labels.shape != study.voxels.shape or not set(record["edited_frames"]) <= set(
        range(study.n_frames)
    ):
        raise _damaged(path)
    frames = tuple(record["edited_frames"])
    told = record["bases"]
    bases = {frame: told[str(frame)] for frame in frames if str(frame) in told}
    if not all(type(version) is int and version >= 0 for version in bases.values()):
        raise _damaged(path)
    return SavedLabels(labels, frames, record["who"], record["time"], version=0, bases=bases)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be read, {reason}", where=path) from error
    except UnicodeDecodeError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    return InputError("is damaged", where=path, remedy="Restore it from a backup, or remove it")


def _other_image(path: Path) -> OtherImageError:
    return OtherImageError(
        "belongs to another image than the one that is open",
        where=path,
        remedy="Open the image that it was drawn on, or choose another folder for this study",
    )


def _remove(path: Path) -> None:
    """Remove a file; one that is gone, or held by another program, is left."""
    with suppress(OSError):
        path.unlink()
