"""What is kept of a study without a server: labels and reviews as versions, and autosaves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from CineLabelLib.core.review import ReviewRecord
from CineLabelLib.study import CineStudy


@dataclass(frozen=True, eq=False)
class SavedLabels:
    """Labels that were kept.

    Attributes:
        labels: uint8 (x, y, z, t) on the study's grid.
        edited_frames: frames (from 0) that a person changed, in order.
        who: the reader.
        time: when (ISO 8601, UTC).
        version: from 1; 0 for an autosave.
        notes: sentences on newer versions that are damaged and were passed over.
    """

    labels: np.ndarray
    edited_frames: tuple[int, ...]
    who: str
    time: str
    version: int
    notes: tuple[str, ...] = ()


def user_data_folder() -> Path:
    """The folder of CineLabel in the user's data folder of this system; it need not exist."""
    raise NotImplementedError


def folder_for(base: Path, study: CineStudy) -> Path:
    """`<base>/<study>-<short digest>`: the same image finds its records again."""
    raise NotImplementedError


class LocalRecords:
    """The records of one study in a folder, made at the first save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_labels(
        self, study: CineStudy, labels: np.ndarray, edited_frames: Collection[int], who: str
    ) -> int:
        """Keep labels as the next version, and return its number."""
        raise NotImplementedError

    def latest_labels(self, study: CineStudy) -> SavedLabels | None:
        """The newest whole version, None if there is none."""
        raise NotImplementedError

    def save_review(self, record: ReviewRecord) -> int:
        """Keep a review as the next version, and return its number."""
        raise NotImplementedError

    def latest_review(self) -> ReviewRecord | None:
        """The newest review, None if there is none."""
        raise NotImplementedError

    def autosave(
        self, study: CineStudy, labels: np.ndarray, edited_frames: Collection[int], who: str
    ) -> None:
        """Keep unsaved edits in place of the autosave before."""
        raise NotImplementedError

    def recover(self, study: CineStudy) -> SavedLabels | None:
        """The newest autosave that was not forgotten, None if there is none."""
        raise NotImplementedError

    def forget_autosave(self) -> None:
        """Remove the autosave of this object and the one it recovered: they are saved now."""
        raise NotImplementedError
