"""Labels on their way to a DICOMweb server: kept on disk until the server has them.

Each item is a segmentation object (`<image>-v<NNNN>.dcm`) and what is known of its sending (`.json`
beside it). An object has the same UID whenever it is sent, so sending it twice does not double it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from cinelabel.core.errors import CineLabelError, OutputError
from cinelabel.core.files import check_identifier, output_error, write_json
from cinelabel.dicom.headers import Instance
from cinelabel.studies.dicom_seg import SegInfo, write_seg
from cinelabel.studies.pacs import Pacs

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 3600.0  # between two attempts; doubled each time
PUTTING, SENDING = ".putting.lock", ".sending.lock"
LOCK_PATIENCE_S = 60.0  # for another process that makes an object


@dataclass(frozen=True)
class Item:
    """A label version that was sent, or will be.

    Attributes:
        image, version: which label it is.
        sop_uid: of its segmentation object.
        sent: whether the server has it.
        attempts: how often it was tried.
        last_error: why the last attempt failed, a sentence.
        next_time: when it is tried again, seconds since 1970.
    """

    image: str
    version: int
    sop_uid: str
    sent: bool = False
    attempts: int = 0
    last_error: str | None = None
    next_time: float = 0.0

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.image}-v{self.version:04d}"


class Outbox:
    """Segmentation objects to be sent, in a folder that outlives the process.

    Several processes may use one folder: one of them sends at a time, and what it sent stays sent.

    Args:
        folder: made if absent.
        first_wait_s: seconds after a first failure; doubled with each, up to an hour.
    """

    def __init__(self, folder: Path, first_wait_s: float = FIRST_WAIT_S) -> None:
        self.folder = folder
        self._first_wait_s = first_wait_s

    def put(
        self, image: str, labels: np.ndarray, images: Sequence[Instance], info: SegInfo
    ) -> Item:
        """Queue version `info.version` of an image's labels (x, y, z), unless it is there.

        Raises:
            InputError, GridError, LabelError: as `write_seg`.
            OutputError: the folder cannot be written.
        """
        check_identifier(image, "image name")
        self._make_folder()
        with self._locked(PUTTING, LOCK_PATIENCE_S) as alone:
            if not alone:
                raise OutputError("another server keeps it locked", where=self.folder)
            found = self.find(image, info.version)
            if found is not None:
                return found
            item = Item(image, info.version, "")
            sop_uid = write_seg(self._object(item), labels, images, info)
            item = replace(item, sop_uid=sop_uid)
            self._write(item)  # last: an object without its record is written again
            return item

    def find(self, image: str, version: int) -> Item | None:
        """What is known of a label version, None if it must be queued: it is not there, or lost."""
        item = self._read(self.folder / f"{Item(image, version, '').name}.json")
        return item if item and (item.sent or self._object(item).is_file()) else None

    def items(self) -> list[Item]:
        """All that was ever queued, by name."""
        found = (self._read(path) for path in sorted(self.folder.glob("*.json")))
        return [item for item in found if item is not None]

    def waiting(self) -> list[Item]:
        """What the server does not have yet, by name."""
        found = (self._read(path.with_suffix(".json")) for path in self.folder.glob("*.dcm"))
        return sorted((item for item in found if item and not item.sent), key=lambda i: i.name)

    def send(self, pacs: Pacs, stop: threading.Event | None = None) -> int:
        """Try everything whose time has come; how many the server took.

        A failure is noted in the item, and the item tried again later. Nothing is done while
        another process sends.

        Raises:
            OutputError: the folder cannot be written.
        """
        count = 0
        if not self.folder.is_dir():
            return count
        with self._locked(SENDING, 0) as alone:
            for item in self.waiting() if alone else []:
                if stop is not None and stop.is_set():
                    break
                if item.next_time <= time.time():
                    count += self._try(item, pacs)
        return count

    @contextlib.contextmanager
    def _locked(self, name: str, patience_s: float) -> Iterator[bool]:
        """Keep other threads and processes out; False if one of them does not leave in time."""
        lock = FileLock(self.folder / name, timeout=patience_s)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        except OSError as error:
            raise output_error(error, self.folder) from error
        try:
            yield True
        finally:
            lock.release()

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # objects name patients
        except OSError as error:
            raise output_error(error, self.folder) from error

    def _try(self, item: Item, pacs: Pacs) -> bool:
        attempts = item.attempts + 1
        try:
            pacs.store(self._object(item))
        except Exception as error:  # one strange object must not keep the others from it
            ours = isinstance(error, CineLabelError)
            why = str(error) if ours else f"It cannot be sent ({type(error).__name__})."
            wait = min(self._first_wait_s * 2.0 ** min(item.attempts, 20), LONGEST_WAIT_S)
            self._write(
                replace(item, attempts=attempts, last_error=why, next_time=time.time() + wait)
            )
            return False
        self._write(replace(item, sent=True, attempts=attempts, last_error=None))
        self._object(item).unlink(missing_ok=True)
        return True

    def _object(self, item: Item) -> Path:
        return self.folder / f"{item.name}.dcm"

    def _write(self, item: Item) -> None:
        write_json(self.folder / f"{item.name}.json", asdict(item))

    def _read(self, path: Path) -> Item | None:
        """The item of a record; one that is damaged does not count, and is queued anew."""
        try:
            item = Item(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            logger.warning("%s is damaged", path)
            return None
        return item
