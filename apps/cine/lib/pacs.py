"""The DICOMweb server of a running app: its cine stacks come in, readers' labels go back.

Two threads talk to it, so a server that hangs keeps nobody waiting. What is to be sent follows
from labels and outbox on disk, so nothing is lost when the app is killed in between.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinelabel import studies
from cinelabel.core.errors import CineLabelError
from cinelabel.core.files import output_error
from cinelabel.labelstore import LabelStore
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.catalogue import FOLDER_SETTLES, Case, Catalogue

from lib.http.errors import without_paths

logger = logging.getLogger(__name__)

MIRROR, OUTBOX = "dicomweb", "outbox"
MIRROR_SETTLE_S = 0.5  # of the catalogue: a stack's folder appears whole
LOOK_AGAIN_S = 15.0  # for labels of another process, and for attempts whose time has come
LONGEST_WAIT_S = 3600.0  # between two attempts to make an object of a label; doubled each time
STOP_S = 2.0  # for the threads to end; one that waits for the server is left to the process's end


def mirror_folder(settings: ServerSettings) -> Path:
    """Where the stacks of the DICOMweb server lie: what the catalogue serves; made if absent.

    Raises OutputError if it cannot be made.
    """
    folder = settings.workspace / MIRROR
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the images name their patients
    except OSError as error:
        raise output_error(error, folder) from error
    return folder


@dataclass(frozen=True)
class _Unsent:
    """A label version of which no object could be made: why, and when that is tried again."""

    version: int
    reason: str
    wait_s: float
    next_time: float


class PacsLink:
    """Stacks in, labels out, from `start` to `stop`.

    Args:
        settings: with the address of the server; its log-in is in the environment.
        catalogue: of `mirror_folder`.
        labels: of the readers.

    Raises:
        InputError: the address is none.
    """

    def __init__(self, settings: ServerSettings, catalogue: Catalogue, labels: LabelStore) -> None:
        from cinelabel.studies.dicomweb import Mirror
        from cinelabel.studies.outbox import Outbox
        from cinelabel.studies.pacs import Credentials, Pacs

        assert settings.dicomweb is not None
        credentials = Credentials.from_environment()
        self.mirror = Mirror(
            settings.dicomweb,
            mirror_folder(settings),
            credentials=credentials,
            settle_s=settings.settle_s * FOLDER_SETTLES,
        )
        self.outbox = Outbox(settings.workspace / OUTBOX)
        self._receiver = Pacs(settings.dicomweb, credentials)
        self._catalogue, self._labels = catalogue, labels
        self._dealt_with: set[tuple[str, int]] = set()
        self._unsent: dict[str, _Unsent] = {}
        self._stop, self._new_label = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(
                target=self.mirror.watch,
                args=(settings.dicomweb_interval_s, self._stop),
                name="dicomweb-in",
                daemon=True,
            ),
            threading.Thread(target=self._send, name="dicomweb-out", daemon=True),
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    def submitted(self) -> None:
        """Note that there is a new label; returns at once."""
        self._new_label.set()

    def stop(self) -> None:
        """End both threads, soon: what is not sent is sent after the next start."""
        self._stop.set()
        self._new_label.set()
        end = time.monotonic() + STOP_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def status(self) -> dict[str, Any]:
        """What came, what did not and why, and which labels are still to be sent; for JSON."""
        report = self.mirror.report
        problems = [*report.problems, *(unsent.reason for unsent in list(self._unsent.values()))]
        return {
            "stacks": len(report.stacks),
            "studies_waiting": report.waiting,
            "left_out": list(report.left_out),
            "problems": list(map(without_paths, problems)),
            "labels_waiting": [
                {
                    "image": item.image,
                    "version": item.version,
                    "attempts": item.attempts,
                    "last_error": item.last_error and without_paths(item.last_error),
                }
                for item in self.outbox.waiting()
            ],
        }

    def _send(self) -> None:
        while not self._stop.is_set():
            self._new_label.clear()
            for step in (self._queue_labels, lambda: self.outbox.send(self._receiver, self._stop)):
                try:
                    step()
                except CineLabelError as error:
                    logger.warning("%s", error)
                except Exception:  # the thread must live on: the next label may go well
                    logger.exception("labels could not be sent")
            self._new_label.wait(LOOK_AGAIN_S)

    def _queue_labels(self) -> None:
        """Put into the outbox what readers submitted for images of the server."""
        for image_id, state in self._labels.states().items():
            case = self._catalogue.find(image_id)
            if (image_id, state.version) in self._dealt_with or not state.version:
                continue
            if self._stop.is_set() or case is None or not self._is_of_server(case):
                continue
            before = self._unsent.get(image_id)
            if before and before.version == state.version and time.monotonic() < before.next_time:
                continue
            try:
                self._queue(case)
                self._dealt_with.add((image_id, state.version))
                self._unsent.pop(image_id, None)
            except Exception as error:  # one strange label must not keep the others from it
                self._put_off(image_id, state.version, error)

    def _put_off(self, image_id: str, version: int, error: Exception) -> None:
        """Note why a label cannot be sent, and try it again later, ever more seldom."""
        ours = isinstance(error, CineLabelError)  # what others raise may quote what names a patient
        why = str(error) if ours else f"its object cannot be made ({type(error).__name__})."
        before = self._unsent.get(image_id)
        again = before is not None and (before.version, before.reason) == (version, why)
        wait_s = min(2 * before.wait_s, LONGEST_WAIT_S) if before and again else LOOK_AGAIN_S
        self._unsent[image_id] = _Unsent(version, why, wait_s, time.monotonic() + wait_s)
        if not again:
            logger.warning("the label of %s cannot be sent: %s", image_id, why)

    def _is_of_server(self, case: Case) -> bool:
        return self.mirror.folder.resolve() in case.source.resolve().parents

    def _queue(self, case: Case) -> None:
        """Make the segmentation object of a case's newest label, if a reader submitted it."""
        from cinelabel.studies import dicom
        from cinelabel.studies.dicom_seg import SegInfo

        label = self._labels.newest(case.image_id)
        if label is None or label.kind != "submitted":
            return
        if self.outbox.find(case.image_id, label.version) is not None:
            return
        labels, grid = studies.load_label(label.path)
        with self._catalogue.holding(case.image_id):
            study = self._catalogue.load_study(case.image_id)
            study.grid.require_equal(grid, f"label {label.version} of {case.image_id}")
            images = dicom.phase_images(case.source, case.frame, case.series)
            phase = f"{case.frame} ({case.phase})" if case.phase else str(case.frame)
            info = SegInfo(
                description=f"CineLabel LV, MYO, RV of phase {phase}",
                who=label.who,
                model=label.model,
                frame=case.frame,
                version=label.version,
            )
            self.outbox.put(case.image_id, labels, images, info)
