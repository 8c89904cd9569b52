"""Short-axis cine from folders of DICOM files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from CineLabelLib.study import CineStudy

Progress = Callable[[float, str], object]


@dataclass(frozen=True)
class Series:
    """A stack of a folder, as shown to choose from; `key` chooses it."""

    key: str
    description: str
    columns: int
    rows: int
    slices: int
    phases: int
    joined: int


def series_of(folder: Path) -> list[Series]:
    """The stacks that a folder holds, without reading pixels."""
    raise NotImplementedError


def read_study(
    folder: Path, series: str | None = None, progress: Progress | None = None
) -> CineStudy:
    """The cine in a folder, searched with its subfolders; `series` is a key of `series_of`.

    `progress` is called with the share that is read and a sentence; what it raises ends the read.
    """
    raise NotImplementedError
