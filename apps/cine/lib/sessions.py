"""Images that a client brings along for inference, kept for an hour in the workspace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.core.files import output_error, write_json

EXPIRY_S = 3600
MOST_SESSIONS = 64
LOOK_S = 60.0
"""Between two looks for sessions whose time is over."""
SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
META = "session.json"


@dataclass(frozen=True)
class Session:
    """One session: its identifier, the image's place inside its folder, and when it was used.

    Times are seconds since 1970, `expiry` is in seconds; `image` is "image.nii.gz" or the folder
    "image" of DICOM files.
    """

    name: str
    image: str
    create_ts: int
    last_access_ts: int
    expiry: int


class Sessions:
    """The sessions of a workspace, one folder each; several threads may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._closed = threading.Event()

    def watch(self) -> None:
        """Remove sessions whose time is over, in a thread until `close`."""
        threading.Thread(target=self._watch, name="sessions", daemon=True).start()

    def close(self) -> None:
        """End `watch`."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_S):
            self.remove_expired()

    def add(self, files: Sequence[tuple[str, Path]], expiry: int = 0) -> Session:
        """Move received files into a new session.

        Args:
            files: name given by the client, and where the content lies; one NIfTI file, or the
                DICOM files of a study. Nothing is unpacked and no name is used for a file.
            expiry: seconds until it is removed if unused, at most an hour.

        Raises:
            InputError: no file, an empty one, a name of another kind, or too many sessions.
            OutputError: the workspace cannot be written.
        """
        _require_images(files)
        self.remove_expired()
        if len(list(self._folder.glob("*"))) >= MOST_SESSIONS:
            raise InputError(
                f"there are {MOST_SESSIONS} sessions already",
                remedy="Remove sessions that are not needed, or wait an hour",
            )
        name, now = str(uuid.uuid4()), int(time.time())
        single = len(files) == 1 and SUFFIX.search(files[0][0])
        image = f"image{single.group().lower()}" if single else "image"
        expiry = expiry if 0 < expiry < EXPIRY_S else EXPIRY_S
        session = Session(name, image, now, now, expiry)
        folder = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)  # the images name their patients
            if single:
                shutil.move(files[0][1], folder / image)
            else:
                (folder / image).mkdir()
                for number, (_, path) in enumerate(files):
                    shutil.move(path, folder / image / f"{number:05d}.dcm")
            write_json(folder / META, asdict(session))
            os.utime(folder / META, (now, now))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise output_error(error, folder) from error
        return session

    def get(self, name: str) -> Session | None:
        """A session, None if there is none of this name, or its time is over."""
        session = self._read(name) if _is_name(name) else None
        return None if session is None or _end(session) < time.time() else session

    def _read(self, name: str) -> Session | None:
        meta = self._folder / name / META
        try:
            kept = json.loads(meta.read_text(encoding="utf-8"))
            return Session(**{**kept, "last_access_ts": int(meta.stat().st_mtime)})
        except (OSError, ValueError, TypeError):
            return None

    def image(self, session: Session) -> Path:
        """The file or folder of a session's image."""
        return self._folder / session.name / session.image

    def touch(self, session: Session) -> None:
        """Start a session's time anew; nothing happens if it was removed."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._folder / session.name / META)

    def remove(self, session: Session) -> None:
        """Remove a session and its image."""
        shutil.rmtree(self._folder / session.name, ignore_errors=True)

    def remove_expired(self) -> None:
        """Remove the sessions that nobody used for their time."""
        now = time.time()
        for folder in self._folder.glob("*"):
            session = self._read(folder.name)
            with contextlib.suppress(OSError):
                made = folder.stat().st_mtime  # without a session its server was killed meanwhile
                if (_end(session) if session else made + EXPIRY_S) < now:
                    shutil.rmtree(folder)


def _end(session: Session) -> float:
    """When the time of a session is over, in seconds since 1970."""
    return session.last_access_ts + session.expiry


def _is_name(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _require_images(files: Sequence[tuple[str, Path]]) -> None:
    if not files:
        raise InputError("a session needs an image")
    for name, path in files:
        if path.stat().st_size == 0:
            raise InputError(
                "has zero bytes", where=Path(name).name, remedy="Save and send it again"
            )
    nifti = [name for name, _ in files if SUFFIX.search(name)]
    if nifti and len(files) > 1:
        raise InputError("a session is one NIfTI file or the DICOM files of one study")
    archives = [n for n, _ in files if re.search(r"\.(zip|tar|tgz|gz|bz2|xz|7z|rar)$", n, re.I)]
    if not nifti and archives:
        raise InputError("is an archive", where=Path(archives[0]).name, remedy="Unpack it first")
