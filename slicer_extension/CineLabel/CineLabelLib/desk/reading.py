"""Bringing a study with its labels from a server or from this machine; all of it in a thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from CineLabelLib import nifti
from CineLabelLib.answers import ImageFile
from CineLabelLib.core.errors import CineLabelError, InputError
from CineLabelLib.core.files import write_json
from CineLabelLib.core.grid import Grid
from CineLabelLib.records import LocalRecords, SavedLabels, folder_for
from CineLabelLib.study import CineStudy

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task

PHASES = "phases.json"


@dataclass(frozen=True, eq=False)
class Brought:
    """A study with what is known of it.

    Attributes:
        ed, es: as the reader marked them, else as the source says.
        records: of the study on this machine.
        labels: of frames that somebody labelled, (x, y, z) uint8.
        mine: those of `labels` that this machine has and the server has not.
        versions: the server's newest label of each image, 0 for none.
        notes: sentences for the reader.
    """

    study: CineStudy
    records: LocalRecords
    ed: int | None
    es: int | None
    labels: Mapping[int, np.ndarray]
    mine: frozenset[int] = frozenset()
    versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


def bring_local(path: Path, series: str | None, folder: Path, task: Task[Brought]) -> Brought:
    """A NIfTI file or a DICOM folder with the labels that were saved here.

    Raises:
        ChoiceError: the folder holds several series that may be meant.
        InputError: it cannot be read; a sentence naming the file.
        Cancelled: nobody waits for it any more.
    """

    def progress(fraction: float, sentence: str) -> None:
        task.check()
        task.report(fraction, sentence)

    if path.is_dir():
        from CineLabelLib import dicom_study  # pydicom takes its time: here, beside the main thread

        study = dicom_study.read_study(path, series, progress)
    else:
        study = nifti.read_study(path)
    task.check()
    return _with_records(study, folder, {}, {}, {})


def bring_served(client: Client, study: str, folder: Path, task: Task[Brought]) -> Brought:
    """A study of the server with its newest labels.

    Raises:
        ServerError: it cannot be fetched.
        InputError: what the server sent is no study.
        Cancelled: nobody waits for it any more.
    """
    ours = client.following(task)
    files = ours.fetch_study(study)
    found = assemble(study, files)
    labels, times = {}, {}
    for frame, file in enumerate(files):
        if file.case.version > 0:
            task.report(None, f"Fetching the label of frame {frame} of {study}")
            content = ours.label(file.case.image, file.case.version).content
            labels[frame] = read_label(content, found, file.case.image)
            times[frame] = file.case.time
    versions = {file.case.image: file.case.version for file in files}
    return _with_records(found, folder, labels, times, versions)


def assemble(name: str, files: tuple[ImageFile, ...]) -> CineStudy:
    """The study of the frames that a server sent. Raises InputError where their grids differ."""
    frames = [nifti.read(file.content, file.case.image) for file in files]
    grid = Grid(frames[0].voxels.shape[:3], frames[0].affine)
    for file, frame in zip(files, frames, strict=True):
        if frame.voxels.ndim != 3:
            raise InputError("is not the image of one frame", where=file.case.image)
        grid.require_equal(Grid(frame.voxels.shape, frame.affine), file.case.image)
    phases = {file.case.phase: number for number, file in enumerate(files) if file.case.phase}
    return CineStudy(
        name=name,
        voxels=np.stack([frame.voxels for frame in frames], axis=-1),
        affine=frames[0].affine,
        ed=phases.get("ED"),
        es=phases.get("ES"),
        images=tuple(file.case.image for file in files),
        digests=tuple(file.sha256 for file in files),
        header=frames[0].header,
    )


def read_label(content: bytes, study: CineStudy, where: str) -> np.ndarray:
    """A label of a frame, (x, y, z) uint8. Raises GridError where it has not the study's grid."""
    found = nifti.read_labels(content, where)
    study.grid.require_equal(Grid(found.voxels.shape[:3], found.affine), where)
    return found.voxels.reshape(study.grid.shape)


def save_phases(records: LocalRecords, ed: int | None, es: int | None) -> None:
    """Keep ED and ES as the reader marked them. Raises OutputError."""
    write_json(records.folder / PHASES, {"ed": ed, "es": es})


def _with_records(
    study: CineStudy,
    folder: Path,
    labels: dict[int, np.ndarray],
    times: Mapping[int, str],
    versions: Mapping[str, int],
) -> Brought:
    """With what this machine kept: newer than the server's labels it counts, older it does not."""
    home, notes, mine, bases = folder_for(folder, study), list(study.notes), set(), dict(versions)
    records = LocalRecords(home)
    saved = _tried(lambda: records.latest_labels(study), notes)
    if saved is not None:
        notes += saved.notes
        for frame in saved.edited_frames:
            own, theirs = saved.labels[..., frame], labels.get(frame)
            if theirs is not None and np.array_equal(own, theirs):
                continue
            if theirs is None or _is_later(saved.time, times.get(frame, "")):
                labels[frame] = own
                mine.add(frame)
                if study.images and frame in saved.bases:  # a newer one is a conflict
                    bases[study.images[frame]] = saved.bases[frame]
    notes += _of_other_images(home)
    ed, es = _phases(records, study)
    return Brought(
        study,
        records,
        ed,
        es,
        labels,
        frozenset(mine),
        bases,
        tuple(notes),
    )


def _of_other_images(home: Path) -> list[str]:
    """Sentences on unsaved edits of a study of this name whose image was another one."""
    name = home.name.rsplit("-", 1)[0]
    return [
        f"The image has changed: unsaved edits of the earlier one are kept in {other}."
        for other in sorted(home.parent.glob(f"{name}-{'?' * 12}"))
        if other != home and any(other.glob("autosave-*.json"))
    ]


def _tried(read: Callable[[], SavedLabels | None], notes: list[str]) -> SavedLabels | None:
    """Records that cannot be used keep no study from being opened; the reader is told."""
    try:
        return read()
    except CineLabelError as error:
        notes.append(str(error))
        return None


def _is_later(one: str, other: str) -> bool:
    """Whether a time (ISO 8601) is later than another; true where the other is unknown."""
    try:
        first, second = (datetime.fromisoformat(t.replace("Z", "+00:00")) for t in (one, other))
        return first > second
    except (ValueError, TypeError):
        return True


def _phases(records: LocalRecords, study: CineStudy) -> tuple[int | None, int | None]:
    """ED and ES as marked before, where that can be read, else as the source says."""
    try:
        kept = json.loads((records.folder / PHASES).read_text(encoding="utf-8"))
        found = [kept.get(name) for name in ("ed", "es")]
    except (OSError, ValueError, AttributeError):
        return study.ed, study.es
    ed, es = (f if type(f) is int and 0 <= f < study.n_frames else None for f in found)
    return (study.ed if ed is None else ed), (study.es if es is None else es)
