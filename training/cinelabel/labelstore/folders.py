"""Where the label store keeps its files, and how they get there whole and for good.

<folder>/labels/<image>/v0001-<sha12>.nii.gz    a label; never changed, never overwritten
                        v0001-<sha12>.json      its audit entry
                        e00002-skipped.json     an event without a label
<folder>/reviews/<study>/v0001.json             a review
<folder>/predictions/<image>/<sha12>.nii.gz     what a model predicted, with its .json
<folder>/labels.sqlite                          the index, made from the records
<folder>/labels.lock                            held by whoever changes something
<folder>/labels.tmp/                            files being written
<folder>/labels.unfinished/                     what was left half done, put aside
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from cinelabel.core.errors import BusyError, OutputError
from cinelabel.core.files import flush_to_disk, output_error, sha256
from cinelabel.core.grid import Grid
from cinelabel.labelstore.records import Event
from cinelabel.studies import nifti
from cinelabel.studies.study import Study

LOCK_TIMEOUT_S = 30.0
LOCK_POLL_S = 0.005


@dataclass(frozen=True)
class Draft:
    """A label file that is on disk under a temporary name."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Folders:
    """The places of a store below its folder."""

    root: Path

    @property
    def index(self) -> Path:
        """The SQLite file."""
        return self.root / "labels.sqlite"

    @property
    def labels(self) -> Path:
        """A folder an image."""
        return self.root / "labels"

    @property
    def reviews(self) -> Path:
        """A folder a study."""
        return self.root / "reviews"

    @property
    def predictions(self) -> Path:
        """A folder an image."""
        return self.root / "predictions"

    @property
    def temporary(self) -> Path:
        """Files being written."""
        return self.root / "labels.tmp"

    @property
    def unfinished(self) -> Path:
        """What was put aside."""
        return self.root / "labels.unfinished"

    def make(self) -> None:
        """Make those that are missing. Raises OutputError."""
        for path in (self.labels, self.reviews, self.predictions, self.temporary):
            make_folder(path)

    def label(self, event: Event) -> Path:
        """The label file of an event."""
        return self.labels / event.image / f"{event.stem}.nii.gz"

    def record(self, event: Event) -> Path:
        """The record of an event."""
        return self.labels / event.image / f"{event.stem}.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the store meanwhile, in this process or another.

        Raises:
            BusyError: somebody else has been changing it for too long.
            OutputError: it cannot be written.
        """
        path = self.root / "labels.lock"
        lock = FileLock(path, LOCK_TIMEOUT_S, poll_interval=LOCK_POLL_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(
                "another program has been changing the labels for too long",
                where=self.root.name,
                remedy="End the one that hangs and try again",
            ) from error
        except OSError as error:
            raise output_error(error, path) from error
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def draft(self, labels: np.ndarray, grid: Grid) -> Iterator[Draft]:
        """Labels (x, y, z) on disk under a temporary name, gone at the end unless it was renamed.

        Raises:
            OutputError: they cannot be written.
        """
        with self._temporary_label() as path:
            frames = np.broadcast_to(np.float32(0), (*grid.shape, 1))
            nifti.write_label(path, labels, Study("label", frames, grid, is_cine=False))
            yield Draft(path, sha256(path))

    @contextlib.contextmanager
    def copied(self, file: Path) -> Iterator[Draft]:
        """A copy of a label file under a temporary name, gone at the end unless it was renamed.

        Raises:
            OutputError: it cannot be written.
        """
        with self._temporary_label() as path:
            try:
                shutil.copyfile(file, path)
                flush_to_disk(path)
            except OSError as error:
                raise output_error(error, path) from error
            yield Draft(path, sha256(path))

    @contextlib.contextmanager
    def _temporary_label(self) -> Iterator[Path]:
        path = self.temporary / f"{secrets.token_hex(8)}.nii.gz"
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def about(name: str) -> Iterator[None]:
    """Name the image or study, not a path of this machine, where something cannot be written."""
    try:
        yield
    except OutputError as error:
        raise type(error)(error.problem, where=name, remedy=error.remedy) from error


def children(path: Path) -> list[Path]:
    """The folders in a folder, sorted."""
    return sorted(child for child in path.iterdir() if child.is_dir())


def make_folder(path: Path) -> None:
    """Make a folder that is still there after a power cut. Raises OutputError."""
    if path.is_dir():
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        flush_to_disk(path.parent)
    except OSError as error:
        raise output_error(error, path) from error


def place(source: Path, target: Path) -> None:
    """Rename a flushed file to its name, for good. Raises OutputError."""
    try:
        make_folder(target.parent)
        os.replace(source, target)
        flush_to_disk(target.parent)
    except OSError as error:
        raise output_error(error, target) from error
