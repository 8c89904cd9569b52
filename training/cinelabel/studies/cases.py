"""The nouns of the catalogue: served studies, cases, and the index that keeps them on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from cinelabel.core.errors import OutputError
from cinelabel.core.files import write_text

logger = logging.getLogger(__name__)

SCHEMA_VERSION: Literal[2] = 2
INDEX = "studies.json"


@dataclass(frozen=True)
class ServedStudy:
    """A study and the images made of it.

    Attributes:
        name: unique in the workspace.
        source: the NIfTI file or DICOM folder.
        series: which series of a DICOM folder, None where it holds one stack.
        kind: "nifti" or "dicom".
        n_frames: cardiac phases.
        ed, es: frames counted from 0, as the source names them or a segmentation found them.
        series_uid: of a DICOM series.
        spacing_mm, shape: of its grid; None if an earlier version made the images.
        notes: what the reader had to decide, in sentences.
        single: whether its one image has the study's name, without a number.
    """

    name: str
    source: Path
    series: str | None
    kind: str
    n_frames: int
    ed: int | None
    es: int | None
    series_uid: str | None = None
    spacing_mm: tuple[float, float, float] | None = None
    shape: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = ()
    single: bool = False

    def image_id(self, frame: int) -> str:
        """The name of a frame's image, `<study>__t<NN>`."""
        return self.name if self.single else f"{self.name}__t{frame:02d}"

    def image_ids(self) -> list[str]:
        """The names of all frames, in order."""
        return [self.image_id(frame) for frame in range(self.n_frames)]

    def phase(self, frame: int) -> str | None:
        """What the frame is: "ED", "ES" or None."""
        return {self.ed: "ED", self.es: "ES"}.get(frame)

    def cases(self) -> Iterator[Case]:
        """Its frames as cases, in order."""
        for frame in range(self.n_frames):
            yield Case(
                image_id=self.image_id(frame),
                study=self.name,
                frame=frame,
                n_frames=self.n_frames,
                phase=self.phase(frame),
                kind=self.kind,
                source=self.source,
                series=self.series,
                spacing_mm=self.spacing_mm,
                shape=self.shape,
                notes=self.notes,
            )


@dataclass(frozen=True)
class Case:
    """A frame of a study, which MONAI Label calls an image.

    Attributes:
        image_id: `<study>__t<NN>`, or the name that a single image was added under.
        frame: counted from 0; `n_frames` are in the study.
        phase: "ED", "ES" or None.
        kind: "nifti" or "dicom".
        source, series: where the study lies; not for clients.
        spacing_mm, shape: of the image's grid; None if an earlier version made the image.
        notes: what the reader had to decide, in sentences.
    """

    image_id: str
    study: str
    frame: int
    n_frames: int
    phase: str | None
    kind: str
    source: Path
    series: str | None
    spacing_mm: tuple[float, float, float] | None
    shape: tuple[int, int, int] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """What was made of a source.

    Attributes:
        fingerprint: of the source when it was read.
        studies: what is served of it.
        problems: a sentence on each stack that could not be read.
        gone: whether the source is no longer there, so that nothing of it is served.
    """

    fingerprint: str
    studies: tuple[ServedStudy, ...] = ()
    problems: tuple[str, ...] = ()
    gone: bool = False

    def image_ids(self) -> Iterator[str]:
        """The images of all its studies."""
        for study in self.studies:
            yield from study.image_ids()


@dataclass(frozen=True)
class _Index:
    """The form of the index on disk; form 1 had fewer fields of a study.

    `device` is the number of the disk that the sources were on, None if that is not known.
    """

    schema_version: Literal[1, 2]
    folder: str
    sources: dict[str, Entry]
    device: int | None = None


def read_index(workspace: Path, folder: Path) -> dict[str, Entry]:
    """The entries of the last time by the key of their source, none if there was no such time.

    A damaged index counts as none, with a warning: the sources are then read again.

    Raises:
        OutputError: the workspace belongs to another folder of studies.
    """
    try:
        index = TypeAdapter(_Index).validate_json((workspace / INDEX).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        logger.warning("the list of studies is damaged (%s); they are read again", type(error))
        return {}
    if index.folder != str(folder):
        raise OutputError(
            f"is the workspace of {index.folder}",
            where=workspace,
            remedy="Choose another --workspace",
        )
    return index.sources


def read_device(workspace: Path) -> int | None:
    """The number of the disk that the sources were on the last time, None if it is not known."""
    try:
        return TypeAdapter(_Index).validate_json((workspace / INDEX).read_bytes()).device
    except (OSError, ValidationError):
        return None


def write_index(
    workspace: Path, folder: Path, entries: dict[str, Entry], device: int | None = None
) -> None:
    """Write the entries, whole or not at all. Raises OutputError."""
    index = _Index(SCHEMA_VERSION, str(folder), dict(sorted(entries.items())), device)
    write_text(workspace / INDEX, TypeAdapter(_Index).dump_json(index).decode() + "\n")
