"""The kind of job `scores`: what strategies know of the cases, computed once a model version.

Kept in `scores/<version>/<image>.npz` of the workspace. The job is light: it stays on the CPU,
scores a few frames a study, and ends early when another job waits; whatever is left is scored by
the next one, which `Scores.require` starts when it is asked for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from cinelabel import studies
from cinelabel.active.scores import FrameScores, Scorer, read_scores, write_scores
from cinelabel.core.errors import CineLabelError, InputError, ModelError, OutputError
from cinelabel.core.files import check_identifier
from cinelabel.labelstore import LabelStore
from cinelabel.segmentation import Segmenter
from cinelabel.serving.batch import folder_of
from cinelabel.serving.jobs import Job, JobRunner
from cinelabel.serving.train import patient_of
from cinelabel.serving.work import Context
from cinelabel.studies.cases import Case
from cinelabel.studies.catalogue import Catalogue

logger = logging.getLogger(__name__)

KIND = "scores"
FRAMES = 4
"""Of a study that are scored without being asked for: ED and ES, the others evenly spread."""
RETRY_S = 600.0
"""After a job that failed or was ended, none is started again for so long."""
UNDER_WAY = "They are being computed."


@dataclass(frozen=True)
class Request:
    """What a job is asked for: a model version, and images to score before all others."""

    version: str
    images: tuple[str, ...] = ()

    @classmethod
    def read(cls, request: Any) -> Request:
        """A request from what JSON gives. Raises InputError."""
        try:
            version, images = request["version"], request.get("images", [])
            return cls(check_identifier(version, "model version"), tuple(map(str, images)))
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError("the request for scores names no model version") from error


class Scores:
    """The scores of a workspace, and the job that adds to them; several threads may use it."""

    def __init__(self, workspace: Path, runner: JobRunner) -> None:
        self._folder = workspace / KIND
        self._runner = runner
        self._version = ""
        self._known: dict[str, tuple[tuple[int, int], FrameScores]] = {}
        self._lock = threading.Lock()

    def find(self, version: str, image: str, file: Path) -> FrameScores | None:
        """The scores of an image as it is now, None where it has none."""
        try:
            stamp = _stamp(file)
        except OSError:
            return None
        with self._lock:
            if version != self._version:
                self._version, self._known = version, {}
            known = self._known
        kept = known.get(image)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        found = _kept(self._folder, version, image, stamp)
        if found is not None:
            known[image] = stamp, found
        return found

    def require(
        self,
        version: str,
        catalogue: Catalogue,
        labelled: Collection[str],
        first: Collection[str] = (),
    ) -> str:
        """Have what is missing computed; a job under way is not joined by a second one.

        Args:
            version: of the model.
            catalogue: of the cases.
            labelled, first: images to score besides, and before all others.

        Returns:
            How it stands in a sentence, empty when nothing is missing.
        """
        wanted = to_score(catalogue.cases(), labelled, first)
        files = ((case.image_id, catalogue.image_path(case.image_id)) for case in wanted)
        if all(self.find(version, *each) is not None for each in files):
            return ""
        with self._lock:
            last = next((job for job in reversed(self._runner.jobs()) if job.kind == KIND), None)
            if last is not None and not last.has_ended:
                return UNDER_WAY
            if last is not None and last.state != "done" and _is_recent(last, version):
                return f"They could not be computed: {last.error}"
            try:
                request = {"version": version, "images": sorted(first)}
                self._runner.start(KIND, request, "cinelabel")
            except CineLabelError as error:
                return f"They cannot be computed now: {error}"
        return UNDER_WAY


def _is_recent(job: Job, version: str) -> bool:
    """Whether a job for that version ended a moment ago."""
    ended = datetime.fromisoformat(job.ended or job.created)
    age_s = (datetime.now(timezone.utc) - ended).total_seconds()
    return job.request.get("version") == version and age_s < RETRY_S


def run(request: Any, context: Context) -> dict[str, Any]:
    """Score the cases that a strategy may choose from and that have no scores of this version.

    Returns:
        `model`, how many were `scored`, and how many are `left` because another job waits.

    Raises:
        InputError: the request is wrong, or the workspace has no index.
        ModelError: the model cannot be used.
        OutputError: the scores cannot be written.
        Cancelled: the job was asked to stop; what is scored stays.
    """
    wanted = Request.read(request)
    catalogue = Catalogue(folder_of(context.workspace), context.workspace)
    cases = to_score(catalogue.cases(), _labelled(context.workspace), wanted.images)
    folder = context.workspace / KIND
    left = [case for case in cases if _needs(folder, wanted.version, case, catalogue)]
    others = JobRunner(context.folder.parent)
    scorer = Scorer(Segmenter.load(wanted.version, "cpu"))
    for done, case in enumerate(left):
        context.progress("score", done, len(left), image=case.image_id)
        if any(job.state == "queued" for job in others.jobs()):
            return {"model": wanted.version, "scored": done, "left": len(left) - done}
        file = catalogue.image_path(case.image_id)
        with contextlib.suppress(FileNotFoundError):  # the study is gone
            stamp = _stamp(file)
            found = _score(scorer, case, file)
            write_scores(_file(folder, wanted.version, case.image_id), found, stamp)
    context.progress("score", len(left), len(left))
    return {"model": wanted.version, "scored": len(left), "left": 0}


def to_score(
    cases: Sequence[Case], labelled: Collection[str], first: Collection[str] = ()
) -> list[Case]:
    """The cases to score: those asked for, those labelled, then a frame of each study in turn."""
    asked = [case for case in cases if case.image_id in first]
    done = [case for case in cases if case.image_id in labelled]
    by_study = [_frames(list(group)) for _, group in groupby(cases, key=lambda case: case.study)]
    turns = [case for turn in zip_longest(*by_study) for case in turn if case is not None]
    return list({case.image_id: case for case in (*asked, *done, *turns)}.values())


def _frames(study: Sequence[Case]) -> list[Case]:
    """ED and ES, then others evenly spread, `FRAMES` in all."""
    marked = sorted((case for case in study if case.phase), key=lambda case: str(case.phase))
    spread = np.linspace(0, len(study), FRAMES, endpoint=False).astype(int)
    chosen = {case.image_id: case for case in (*marked, *(study[at] for at in spread))}
    return list(chosen.values())[:FRAMES]


def _score(scorer: Scorer, case: Case, file: Path) -> FrameScores:
    """The scores, or why there are none."""
    try:
        patient = patient_of(case)
    except InputError:
        patient = case.study
    try:
        return scorer.score(studies.load(file), patient=patient)
    except (ModelError, OutputError, MemoryError):
        raise
    except Exception as error:  # one strange image must not keep the others from it
        ours = isinstance(error, CineLabelError)
        reason = str(error) if ours else f"it cannot be scored ({type(error).__name__})."
        logger.warning("%s: %s", case.image_id, reason, exc_info=not ours)
        return FrameScores.none(0, f"There are no scores: {reason}", patient)


def _labelled(workspace: Path) -> set[str]:
    states = LabelStore(workspace).states()
    return {image for image, case in states.items() if case.state == "labelled"}


def _needs(folder: Path, version: str, case: Case, catalogue: Catalogue) -> bool:
    try:
        stamp = _stamp(catalogue.image_path(case.image_id))
    except OSError:
        return False
    return _kept(folder, version, case.image_id, stamp) is None


def _kept(folder: Path, version: str, image: str, stamp: tuple[int, int]) -> FrameScores | None:
    try:
        return read_scores(_file(folder, version, image), stamp)
    except InputError as error:  # they are computed again
        logger.warning("%s", error)
        return None


def _file(folder: Path, version: str, image: str) -> Path:
    return folder / version / f"{image}.npz"


def _stamp(file: Path) -> tuple[int, int]:
    """What changes with an image: bytes, and time of its last change. Raises OSError."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns
