"""Checks of a frame's labels before anything leaves: what is wrong, and what is only doubtful."""

from __future__ import annotations

import hashlib

import numpy as np

from CineLabelLib import nifti
from CineLabelLib.core.errors import GridError, LabelError
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.labels import CANONICAL, STRUCTURES
from CineLabelLib.desk.states import Finding
from CineLabelLib.study import CineStudy


def check_frame(study: CineStudy, frame: int, labels: np.ndarray) -> list[Finding]:
    """What is wrong (errors) or doubtful about labels (x, y, z) of a frame."""

    def error(sentence: str) -> list[Finding]:
        return [Finding(frame, f"Frame {frame}: {sentence}", True)]

    if labels.shape != study.grid.shape or labels.dtype != np.uint8:
        return error(
            f"its labels are {labels.shape} {labels.dtype} and should be {study.grid.shape} uint8."
        )
    try:
        CANONICAL.to_canonical(labels, f"frame {frame}")
    except LabelError as wrong:
        return [Finding(frame, str(wrong), True)]
    if not labels.any():
        return error("it has no labels. Draw them, or skip the case with a reason.")
    return [Finding(frame, f"Frame {frame}: {doubt}", False) for doubt in _doubts(labels)]


def encode(study: CineStudy, frame: int, labels: np.ndarray) -> tuple[bytes, str]:
    """The label file of a frame and its SHA-256, read back and compared before it may leave.

    Raises:
        GridError: the file has not the grid and the handedness of the image.
        LabelError: it does not hold the very labels.
    """
    content = nifti.label_bytes(labels, study.affine, study.header)
    where = f"the label of frame {frame}"
    again = nifti.read_labels(content, where)
    own = Grid(again.voxels.shape, again.affine)
    study.grid.require_equal(own, where)
    if own.handedness != study.grid.handedness:
        raise GridError("is mirrored", where=where)
    if not np.array_equal(again.voxels, labels):
        raise LabelError("is not what is on screen once it is written", where=where)
    return content, hashlib.sha256(content).hexdigest()


def _doubts(labels: np.ndarray) -> list[str]:
    from scipy import ndimage

    doubts = []
    missing = [s.name for s in STRUCTURES if not (labels == s.value).any()]
    if missing:
        doubts.append(f"{' and '.join(missing)} {_have(len(missing))} no labels.")
    for structure in STRUCTURES:
        mask = labels == structure.value
        there = np.flatnonzero(mask.any(axis=(0, 1)))
        if there.size and there.size <= there[-1] - there[0]:
            gaps = sorted(set(range(there[0], there[-1])) - set(there.tolist()))
            doubts.append(f"{structure.name} is missing in slice {_numbers(gaps)} between others.")
        split = [int(k) for k in there if ndimage.label(mask[:, :, k], np.ones((3, 3)))[1] > 1]
        if split:
            doubts.append(f"{structure.name} has islands in slice {_numbers(split)}.")
    return doubts


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values))


def _have(n: int) -> str:
    return "has" if n == 1 else "have"
