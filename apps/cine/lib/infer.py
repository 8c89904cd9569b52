"""Segmentation over HTTP: what may be asked, waiting for the device, and what is answered.

Reading the study, comparing the members and writing the label happen outside the device's queue.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio
import numpy as np
from cinelabel import studies
from cinelabel.core.errors import CineLabelError, InputError
from cinelabel.core.labels import LABEL_NAMES
from cinelabel.models.store import ModelStore
from cinelabel.quality.coverage import coverage_sentences
from cinelabel.segmentation import Segmentation, Segmenter
from cinelabel.segmentation.disagreement import disagreement, summary
from cinelabel.studies import Study, nifti
from cinelabel.studies.study import LARGEST_BYTES
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.http.errors import Refused, without_paths
from lib.progress import ProgressBoard, Tracker
from lib.queue import CancelledError, DeviceQueue, Waited

if TYPE_CHECKING:
    from cinelabel.studies.catalogue import Case

Scope = Literal["frame", "study"]
SCOPES = ("frame", "study")
FLAGS = ("fast", "uncertainty", "save_label")
IGNORED: Mapping[str, type] = {
    "client_id": str,
    "device": str,
    "label_info": list,
    "logging": str,
    "restore_label_idx": bool,
    "result_compress": bool,
    "result_dtype": str,
    "result_extension": str,
}
"""Parameters that clients of MONAI Label send; the answer is the same without them."""
KINDS = {str: "text", list: "list", bool: "truth value"}
PREDICTED = "original"
SPARE_THREADS = 8
"""Besides those of waiting requests: the one that has the device, some that write labels."""
NO_SEG = "DICOM SEG is written for a frame of a served DICOM study alone"


@dataclass(frozen=True)
class Wanted:
    """What a request asks for.

    Attributes:
        scope: "frame" for the image alone, "study" for all frames of its source study.
        fast: one member of the model, without mirroring.
        uncertainty: the entropy of the members' average too.
        save_label: keep the label as the image's prediction.
        request_id: the client's name for the request, to ask for its progress.
    """

    scope: Scope = "frame"
    fast: bool = False
    uncertainty: bool = False
    save_label: bool = False
    request_id: str | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """What is to be segmented: how to read it, and the case it is of, None if it is not served."""

    read: Callable[[], Study]
    case: Case | None = None


def read_brought(path: Path) -> Study:
    """An image that a client brought along: a NIfTI file or a folder of DICOM files.

    Raises:
        InputError: it cannot be read, or its headers announce more than `LARGEST_BYTES`.
    """
    if path.is_file():
        nifti.require_size(path, LARGEST_BYTES)
    else:
        from cinelabel.dicom import headers

        headers.require_size(path, LARGEST_BYTES)
    return studies.load(path)


@dataclass(frozen=True, eq=False)
class Result:
    """A segmentation and how it came about."""

    source: Source
    wanted: Wanted
    study: Study
    segmentation: Segmentation
    waited: Waited
    read_s: float


def read_wanted(params: Mapping[str, Any], fast: bool) -> Wanted:
    """What the parameters of a request ask for; `fast` where they do not say.

    Raises:
        InputError: naming a parameter that is unknown or of a wrong kind.
    """
    for name, value in params.items():
        if name in IGNORED and value is not None and not isinstance(value, IGNORED[name]):
            raise InputError(f"{name} is not a {KINDS[IGNORED[name]]}")
        if name not in IGNORED and name not in (*FLAGS, "scope", "request_id", "label_tag"):
            raise InputError(f"there is no parameter {name[:40]!r}")
    scope = params.get("scope", "frame")
    if scope not in SCOPES:
        raise InputError(f"scope is 'frame' or 'study', not {str(scope)[:40]!r}")
    flags = {name: params.get(name, fast and name == "fast") for name in FLAGS}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise InputError(f"{name} is true or false, not {str(flag)[:40]!r}")
    if params.get("label_tag", PREDICTED) != PREDICTED:
        raise InputError(f"a predicted label has the tag '{PREDICTED}'")
    if scope == "study" and flags["save_label"]:
        raise InputError(
            "the label of a whole study cannot be saved as that of one frame",
            remedy="Ask for the frame, or start a batch",
        )
    request_id = params.get("request_id")
    if request_id is not None and not isinstance(request_id, str):
        raise InputError("request_id is not a text")
    return Wanted(cast(Scope, scope), request_id=request_id, **flags)


class SegmentationTask(InferTask):
    """The model `cine`: the networks, the queue before them, and the progress of its requests.

    Whoever waits does so in one of `threads`, which no other endpoint needs. Clients show `fast`
    among the options, as the server was started.
    """

    def __init__(self, model: str | None, device: str, fast: bool = False) -> None:
        """Nothing is loaded yet. model: a version, None for the one that is current."""
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=dict(LABEL_NAMES),
            dimension=3,
            description="LV, myocardium and RV of a short-axis frame or study",
            config={"fast": fast},
        )
        self.fast = fast
        self.queue = DeviceQueue(device)
        self.board = ProgressBoard()
        self.threads = anyio.CapacityLimiter(self.queue.limit + SPARE_THREADS)
        self._model = model
        self._device = device
        self._segmenter: Segmenter | None = None

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """MONAI Label's own call: segments the file `image`; whoever calls removes the label."""
        params = {k: v for k, v in request.items() if k not in ("image", "model", "description")}
        wanted = read_wanted(params, self.fast)
        with self.admit(wanted.request_id, "local") as tracker:
            source = Source(partial(studies.load, request["image"]))
            result = self.run(source, wanted, tracker)
        handle, path = tempfile.mkstemp(suffix=".nii.gz", prefix="cinelabel-")
        os.close(handle)
        studies.save_label(path, result.segmentation.labels, result.study)
        return path, facts(result, tracker)

    @contextmanager
    def admit(self, request_id: str | None, who: str) -> Iterator[Tracker]:
        """A place in the queue that is given up at the end, with the request's progress.

        Raises:
            QueueFullError: too many wait.
            InputError: the id is not valid.
            ConflictError: it is in use.
        """
        ticket = self.queue.join()
        try:
            tracker = self.board.begin(request_id, who, ticket)
            try:
                yield tracker
            except (CancelledError, asyncio.CancelledError):
                tracker.end("cancelled")
                raise
            except (CineLabelError, Refused) as error:
                tracker.end("failed", without_paths(str(error)))
                raise
            except BaseException:
                tracker.end("failed", "The server failed; its log says why.")
                raise
            tracker.end("done")
        finally:
            ticket.leave()

    def run(self, source: Source, wanted: Wanted, tracker: Tracker) -> Result:
        """Read, wait for the device, segment.

        Raises:
            CancelledError: the request was cancelled.
            CineLabelError: the study or the model cannot be read.
        """
        tracker.ticket.wait_to_prepare()
        start = time.perf_counter()
        study = source.read()
        read_s = time.perf_counter() - start
        with tracker.ticket.turn() as waited:
            tracker.start()
            segmentation = self._current().segment(
                study,
                fast=wanted.fast,
                keep_members=not wanted.fast,
                uncertainty=wanted.uncertainty,
                progress=tracker.step,
            )
        return Result(source, wanted, study, segmentation, waited, read_s)

    def _current(self) -> Segmenter:
        """The networks of the version in use, loaded again when that changes; in a turn only."""
        version = self._model or ModelStore().current()
        if self._segmenter is None or self._segmenter.version.name != version:
            self._segmenter = None  # before the next one takes memory
            self._segmenter = Segmenter.load(version, device=self._device)
        return self._segmenter


def label_file(result: Result) -> bytes:
    """The label as .nii.gz, on the grid of the image or study."""
    with _temporary() as path:
        studies.save_label(path, result.segmentation.labels, result.study)
        return path.read_bytes()


def uncertainty_file(result: Result) -> bytes | None:
    """The entropy in nats as .nii.gz float32, None if it was not asked for."""
    entropy = result.segmentation.entropy
    if entropy is None:
        return None
    with _temporary() as path:
        frames = entropy.astype(np.float32)
        studies.save_image(path, replace(result.study, frames=frames))
        return path.read_bytes()


def dicom_seg_file(result: Result, who: str) -> bytes:
    """The label of a frame of a DICOM study as DICOM SEG.

    Raises:
        InputError: the study is no DICOM study, or its files cannot be read.
    """
    from cinelabel.studies.dicom import phase_images
    from cinelabel.studies.dicom_seg import SegInfo, write_seg

    case, found = result.source.case, result.segmentation
    if case is None or case.kind != "dicom" or result.wanted.scope != "frame":
        raise InputError(NO_SEG)
    info = SegInfo(f"CineLabel {found.model}", who, found.model, case.frame, version=0)
    with _temporary() as path:
        images = phase_images(case.source, case.frame, case.series)
        write_seg(path, found.labels[..., 0], images, info)
        return path.read_bytes()


@contextmanager
def _temporary() -> Iterator[Path]:
    """A place for a NIfTI file, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="cinelabel-") as folder:
        yield Path(folder, "image.nii.gz")


def facts(result: Result, tracker: Tracker) -> dict[str, Any]:
    """The JSON part of an answer."""
    case, found, study = result.source.case, result.segmentation, result.study
    of_frame = result.wanted.scope == "frame"
    compared = None
    if found.member_labels is not None and len(found.members) > 1:
        compared = summary(disagreement(found.member_labels, study.grid))
    seconds = {"read": result.read_s, **found.timings_s}
    return {
        "request_id": tracker.id,
        "label_names": dict(LABEL_NAMES),
        "measures": found.measures.as_dict(),
        "study": case.study if case else study.name,
        "scope": result.wanted.scope,
        "frame": case.frame if case and of_frame else None,
        "n_frames": case.n_frames if case else study.n_frames,
        "ed": found.ed,
        "es": found.es,
        "heart": None if found.heart is None else asdict(found.heart),
        "reason": found.reason,
        "model": found.model,
        "device": found.device,
        "fast": found.fast,
        "members": list(found.members),
        "agreement": None if found.agreement is None else found.agreement.mean(),
        "disagreement": compared,
        "coverage": coverage_sentences(found.labels),
        "queue": {
            "position_at_arrival": result.waited.position_at_arrival,
            "waited_s": round(result.waited.waited_s, 4),
        },
        "timings_s": {step: round(value, 4) for step, value in seconds.items()},
    }
