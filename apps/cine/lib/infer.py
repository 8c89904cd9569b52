"""Segmentation as MONAI Label asks for it: a frame, or the whole study that a frame belongs to."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from cinelabel import studies
from cinelabel.core.labels import LABEL_NAMES
from cinelabel.segmentation import Segmentation, Segmenter
from cinelabel.studies import Study
from cinelabel.studies.workspace import ServedStudy, Workspace, load_study
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

logger = logging.getLogger(__name__)

SCOPES = ("frame", "study")


class SegmentationTask(InferTask):
    """Labels and measures of an image, with the model version that the server was started with.

    Request: `image` (a path, put there by MONAI Label); `scope`: "frame" for the image alone,
    "study" for all frames of its source study on the study's grid; and `fast`: one member of the
    model, without mirroring. The clients show `fast` among the options, as the server was started.
    """

    def __init__(
        self, workspace: Workspace, model: str | None, device: str, fast: bool = False
    ) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=dict(LABEL_NAMES),
            dimension=3,
            description="LV, myocardium and RV of a short-axis frame or study",
            config={"fast": fast},
        )
        self._fast = fast
        self._workspace = workspace
        self._model = model
        self._device = device
        self._segmenter: Segmenter | None = None
        self._lock = threading.Lock()

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment; an image without a heart gives an empty label and a `reason`.

        Raises:
            MONAILabelException: for an unknown scope, or `fast` that is neither true nor false.
            ImageNotFoundException: for an unknown image.
            CineLabelError: the study or the model cannot be read.
        """
        scope = request.get("scope", "frame")
        if scope not in SCOPES:
            raise _invalid(f"scope is 'frame' or 'study', not {scope!r}.")
        fast = request.get("fast", self._fast)
        if not isinstance(fast, bool):
            raise _invalid(f"fast is true or false, not {fast!r}.")
        path = Path(request.get("image") or "")
        if not path.is_absolute() or not path.exists():
            raise ImageNotFoundException("There is no such image.")
        served = self._served(path)
        if scope == "study" and request.get("save_label"):
            raise _invalid("The label of a whole study cannot be saved as that of one frame.")
        study = load_study(served[0]) if served and scope == "study" else studies.load(path)
        with self._lock:
            if self._segmenter is None:
                self._segmenter = Segmenter.load(self._model, device=self._device)
            result = self._segmenter.segment(study, fast=fast)
        return _write_label(study, result), _answer(study, served, scope, result)

    def _served(self, path: Path) -> tuple[ServedStudy, int] | None:
        """The study and frame of an image of the workspace, None for a session's image."""
        if path.parent.resolve() != self._workspace.images.resolve():
            return None
        return self._workspace.find(path.name.removesuffix(".nii.gz"))


def _invalid(sentence: str) -> MONAILabelException:
    return MONAILabelException(MONAILabelError.INVALID_INPUT, sentence)


def _write_label(study: Study, result: Segmentation) -> str:
    """A label file that MONAI Label deletes after sending it."""
    handle, path = tempfile.mkstemp(suffix=".nii.gz", prefix="cinelabel-")
    os.close(handle)
    try:
        studies.save_label(path, result.labels, study)
    except BaseException:
        os.unlink(path)
        raise
    return path


def _answer(
    study: Study, served: tuple[ServedStudy, int] | None, scope: str, result: Segmentation
) -> dict[str, Any]:
    """The JSON part of an answer."""
    name, frame = (served[0].name, served[1]) if served else (study.name, None)
    heart = result.heart
    return {
        "label_names": dict(LABEL_NAMES),
        "measures": result.measures.as_dict(),
        "study": name,
        "scope": scope,
        "frame": frame if scope == "frame" else None,
        "n_frames": served[0].n_frames if served else study.n_frames,
        "ed": result.ed,
        "es": result.es,
        "heart": asdict(heart) if is_dataclass(heart) else None,
        "reason": result.reason,
        "model": result.model,
        "device": result.device,
        "fast": result.fast,
        "members": list(result.members),
        "agreement": None if result.agreement is None else result.agreement.mean(),
        "timings_s": {step: round(seconds, 4) for step, seconds in result.timings_s.items()},
    }
