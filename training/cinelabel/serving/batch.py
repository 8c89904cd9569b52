"""The kind of job `batch`: segments many cases and keeps the labels as predictions.

The cases of a study are segmented together, from their images in the workspace. A case whose
prediction is of the same model version and of its image as it is now is not segmented again, so a
batch that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from cinelabel import studies
from cinelabel.core.errors import (
    CineLabelError,
    ConflictError,
    InputError,
    ModelError,
    OutputError,
)
from cinelabel.labelstore import LabelStore, LabelVersion
from cinelabel.quality.coverage import coverage_sentences
from cinelabel.segmentation import Segmentation, Segmenter
from cinelabel.segmentation.disagreement import disagreement, summary
from cinelabel.serving.work import Cancelled, Context
from cinelabel.studies.cases import INDEX, Case
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.study import Study

logger = logging.getLogger(__name__)

STAGE = "segment"
PROBLEMS_TOLD = 50


@dataclass(frozen=True)
class BatchRequest:
    """What a batch does.

    Attributes:
        cases: all of them, or those that are open or labelled when the batch begins.
        images: names of those to segment, instead of `cases`.
        model: model version; None: the one in use when the batch begins.
        device: where the networks run.
        fast: one member of the model, without mirroring.
        again: segment also what this model version has segmented.
    """

    cases: Literal["all", "open", "labelled"] = "all"
    images: tuple[str, ...] | None = None
    model: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fast: bool = False
    again: bool = False

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def read(cls, request: Any) -> BatchRequest:
        """A request from what JSON gives. Raises InputError naming the field that is wrong."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(request))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part)[:40] for part in first["loc"]) or "it"
            raise InputError(f"the batch is wrong: {name}: {first['msg'].lower()}") from error


@dataclass(frozen=True)
class _Batch:
    """A batch under way."""

    wanted: BatchRequest
    catalogue: Catalogue
    store: LabelStore
    segmenter: Segmenter
    context: Context
    total: int


def run(request: Any, context: Context) -> dict[str, Any]:
    """Segment the cases that are asked for.

    A study that cannot be segmented is left out, with a sentence in `problems`.

    Returns:
        `model`; how many cases were asked for, `segmented`, and `kept` as they were; `problems`,
        the first 50, and `n_problems`.

    Raises:
        InputError: the request is wrong, names an unknown image, or the workspace has no index.
        ModelError: the model cannot be used.
        OutputError: the labels cannot be written.
        Cancelled: the batch was asked to stop; what is segmented stays.
    """
    wanted = BatchRequest.read(request)
    catalogue = Catalogue(folder_of(context.workspace), context.workspace)
    store = LabelStore(context.workspace)
    cases = _choose(wanted, catalogue, store)
    segmenter = Segmenter.load(wanted.model, wanted.device)
    batch = _Batch(wanted, catalogue, store, segmenter, context, len(cases))
    predictions = {} if wanted.again else store.predictions()
    left = [case for case in cases if not _is_done(batch, case, predictions.get(case.image_id))]
    done = kept = len(cases) - len(left)
    problems: list[str] = []
    segmented = 0
    for study, group in groupby(left, key=lambda case: case.study):
        together = list(group)
        try:
            _segment(batch, together, done)
            segmented += len(together)
        except (Cancelled, ModelError, OutputError, MemoryError):
            raise
        except Exception as error:  # one strange study must not keep the others from it
            problems.append(_sentence(study, error))
            logger.warning("%s", problems[-1], exc_info=not isinstance(error, CineLabelError))
        done += len(together)
    context.progress(STAGE, len(cases), len(cases), problems=len(problems))
    return {
        "model": segmenter.version.name,
        "cases": len(cases),
        "segmented": segmented,
        "kept": kept,
        "problems": problems[:PROBLEMS_TOLD],
        "n_problems": len(problems),
    }


def folder_of(workspace: Path) -> Path:
    """The folder of studies that a workspace is of."""
    try:
        return Path(json.loads((workspace / INDEX).read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("holds no cases", where=workspace, remedy="Serve it first") from error


def _choose(wanted: BatchRequest, catalogue: Catalogue, store: LabelStore) -> list[Case]:
    """The cases that are asked for, study by study."""
    served = catalogue.cases()
    if wanted.images is not None:
        names = set(wanted.images)
        unknown = names.difference(case.image_id for case in served)
        if unknown:
            raise InputError("there is no such image", where=min(unknown))
        return [case for case in served if case.image_id in names]
    if wanted.cases == "all":
        return list(served)
    states = store.states(case.image_id for case in served)
    return [case for case in served if states[case.image_id].state == wanted.cases]


def _is_done(batch: _Batch, case: Case, prediction: LabelVersion | None) -> bool:
    """Whether a prediction is what the batch would make again."""
    if prediction is None or prediction.model != batch.segmenter.version.name:
        return False
    info = prediction.info or {}
    try:
        state = batch.catalogue.image_state(case.image_id)
    except InputError:  # the study's turn tells why
        return False
    return (info.get("fast"), info.get("image")) == (batch.wanted.fast, state)


def _segment(batch: _Batch, cases: Sequence[Case], done: int) -> None:
    """Segment cases of one study, of which `done` cases of the batch come before."""
    first = cases[0]

    def progress(steps: int, of: int, member: str) -> None:
        batch.context.progress(
            STAGE, done + len(cases) * steps // of, batch.total, study=first.study, member=member
        )

    batch.context.progress(STAGE, done, batch.total, study=first.study, member=None)
    frames = [case for case in batch.catalogue.cases() if case.study == first.study]
    states = {case.image_id: batch.catalogue.image_state(case.image_id) for case in frames}
    images = [studies.load(batch.catalogue.image_path(case.image_id)) for case in frames]
    found = batch.segmenter.segment(
        _together(first.study, images),
        frames=[case.frame for case in cases],
        fast=batch.wanted.fast,
        keep_members=not batch.wanted.fast,
        progress=progress,
    )
    for case in cases:
        if batch.catalogue.image_state(case.image_id) != states[case.image_id]:
            raise ConflictError(
                "the image changed while it was segmented",
                where=case.image_id,
                remedy="Start the batch again",
            )
        info = {"image": states[case.image_id], "fast": found.fast, **_told(found, images, case)}
        file = batch.context.folder / "label.nii.gz"
        studies.save_label(file, found.labels[..., case.frame], images[case.frame])
        batch.store.save_prediction(case.image_id, file, found.model, info)
        file.unlink()
    if len(cases) == len(frames) and found.ed is not None and found.es is not None:
        batch.catalogue.mark_phases(first.image_id, found.ed, found.es)


def _together(name: str, images: Sequence[Study]) -> Study:
    """The frames of a study as one. Raises InputError when they lie on different grids."""
    first = images[0]
    for image in images[1:]:
        first.grid.require_equal(image.grid, name)
    frames = np.concatenate([image.frames for image in images], axis=3)
    return replace(first, name=name, frames=frames, is_cine=len(images) > 1)


def _told(found: Segmentation, images: Sequence[Study], case: Case) -> dict[str, Any]:
    """What is kept beside the label of a frame."""
    compared = None
    if found.member_labels is not None and len(found.members) > 1:
        own = {
            name: labels[..., case.frame : case.frame + 1]
            for name, labels in found.member_labels.items()
        }
        compared = summary(disagreement(own, images[case.frame].grid))
    return {
        "device": found.device,
        "members": list(found.members),
        "reason": found.reason,
        "disagreement": compared,
        "coverage": coverage_sentences(found.labels[..., case.frame]),
    }


def _sentence(study: str, error: Exception) -> str:
    if not isinstance(error, CineLabelError):
        return f"{study}: cannot be segmented ({type(error).__name__})."
    return str(error) if study in str(error) else f"{study}: {error}"
