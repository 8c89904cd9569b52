"""The whole history of a store as a data set on disk, and back.

<folder>/labels.jsonl                           one event a line; versions name their `file`
         labels/<image>/v0001-<sha12>.nii.gz    every version
         images/<image>.nii.gz                  those of the workspace
         reviews.jsonl                          one version of a study's review a line
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

from cinelabel.core.errors import ConflictError, InputError
from cinelabel.core.files import sha256, write_text
from cinelabel.core.grid import Grid
from cinelabel.labelstore.index import CaseRow
from cinelabel.labelstore.records import Event, ReviewVersion, Submission, utc
from cinelabel.labelstore.store import LabelStore
from cinelabel.labelstore.validation import read_label
from cinelabel.models.folders import whole_folder
from cinelabel.studies import nifti

EVENTS = "labels.jsonl"
REVIEWS = "reviews.jsonl"
SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Exchanged:
    """What went out or came in, and what was left, a sentence each.

    Images go out only: those of a data set tell the grid of labels where the workspace has none.
    """

    versions: int = 0
    events: int = 0
    images: int = 0
    reviews: int = 0
    problems: tuple[str, ...] = ()

    def without(self, problem: object) -> Exchanged:
        """The same, and one more that was left."""
        return replace(self, problems=(*self.problems, str(problem)))


def export_to(folder: Path, store: LabelStore, images: Path) -> Exchanged:
    """Write every event and version of a store, with the images, to a new folder.

    Args:
        folder: appears whole or not at all.
        store: the label store.
        images: folder of the workspace's images.

    Raises:
        InputError: a label is missing or was changed on disk.
        OutputError: the folder exists or cannot be written.
    """
    done = Exchanged()
    events = store.events()
    reviews = [review for study in store.reviews() for review in store.review_history(study)]
    with whole_folder(folder) as target:
        lines = []
        for event in events:
            line = event.model_dump(mode="json")
            if event.version is not None:
                line["file"] = f"labels/{event.image}/{event.stem}{SUFFIX}"
                _copy_version(store, event, target / line["file"])
                done = replace(done, versions=done.versions + 1)
            lines.append(line)
        for image in sorted({event.image for event in events}):
            source = images / f"{image}{SUFFIX}"
            if source.is_file():
                _copy(source, target / "images" / source.name)
                done = replace(done, images=done.images + 1)
            else:
                done = done.without(f"{image}: the workspace does not have its image.")
        _write_lines(target / EVENTS, lines)
        _write_lines(target / REVIEWS, [review.as_dict() for review in reviews])
    return replace(done, events=len(events), reviews=len(reviews))


def import_from(folder: Path, store: LabelStore, images: Path, who: str) -> Exchanged:
    """Bring an exported data set in, or a plain folder of `<image>.nii.gz` labels.

    Histories come in as they are; labels of a plain folder become versions of kind "imported" by
    `who`, for images without a label. What does not fit is left, with a sentence.

    Args:
        folder: the data set or the plain folder; only read.
        store: the label store.
        images: folder of the workspace's images, whose grids the labels must lie on.
        who: the reader who imports.

    Raises:
        InputError: `folder` holds no labels, or its list cannot be read.
        OutputError: the workspace cannot be written.
    """
    if (folder / EVENTS).is_file():
        return _import_reviews(folder, store, _import_histories(folder, store, images))
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        raise InputError(
            "holds no labels",
            where=folder,
            remedy=f"Give a folder with {EVENTS}, or with files <image>{SUFFIX}",
        )
    done = Exchanged()
    for file in files:
        image = file.name[: -len(SUFFIX)]
        now = utc(datetime.now(timezone.utc))
        submission = Submission(image, who, "", now, base_version=0, comment="imported")
        try:
            store.submit(image, _grid(image, images), file, submission, kind="imported")
            done = replace(done, versions=done.versions + 1, events=done.events + 1)
        except (InputError, ConflictError) as error:
            done = done.without(error)
    return done


def _import_histories(folder: Path, store: LabelStore, images: Path) -> Exchanged:
    done = Exchanged()
    listed = [_event(line, f"{EVENTS} line {n}") for n, line in _read_lines(folder / EVENTS)]
    for image, group in groupby(listed, key=lambda event: event.image):
        events = list(group)
        versions = [event for event in events if event.version is not None]
        files = {e.version or 0: folder / "labels" / image / f"{e.stem}{SUFFIX}" for e in versions}
        try:
            _require_newest_on_grid(events, files, images, folder / "images")
            new = store.restore(image, events, files)
        except (InputError, ConflictError) as error:
            done = done.without(error)
            continue
        added = sum(event.version is not None for event in events[len(events) - new :])
        done = replace(done, versions=done.versions + added, events=done.events + new)
    return done


def _event(line: dict[str, Any], where: str) -> Event:
    fields = {key: value for key, value in line.items() if key != "file"}
    return Event.read(json.dumps(fields), where)


def _require_newest_on_grid(events: list[Event], files: dict[int, Path], *folders: Path) -> None:
    """Raise InputError unless the version that counts lies on the grid of its image."""
    case = CaseRow(events[0].image)
    for event in events:
        case = case.after(event)
    if case.newest and files[case.newest].is_file():
        read_label(files[case.newest], None, _grid(case.image, *folders))


def _grid(image: str, *folders: Path) -> Grid:
    """The grid of an image, from the first folder that has it. Raises InputError."""
    for folder in folders:
        if (path := folder / f"{image}{SUFFIX}").is_file():
            return nifti.peek(path)[1]
    raise InputError(
        "there is no such image", where=image, remedy="Name the label file as its image is named"
    )


def _import_reviews(folder: Path, store: LabelStore, done: Exchanged) -> Exchanged:
    if not (folder / REVIEWS).is_file():
        return done
    listed = [
        ReviewVersion.read(line, f"{REVIEWS} line {n}") for n, line in _read_lines(folder / REVIEWS)
    ]
    for study, group in groupby(listed, key=lambda review: review.study):
        try:
            done = replace(done, reviews=done.reviews + store.restore_reviews(study, list(group)))
        except (InputError, ConflictError) as error:
            done = done.without(error)
    return done


def _copy_version(store: LabelStore, event: Event, target: Path) -> None:
    """Copy a version. Raises InputError unless it is what was kept."""
    kept = store.version(event.image, event.version or 0)
    if kept is None or not kept.path.is_file():
        raise InputError(f"version {event.version} is missing", where=event.image)
    _copy(kept.path, target)
    if sha256(target) != event.sha256:
        raise InputError(f"version {event.version} was changed on disk", where=event.image)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    write_text(path, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects. Raises InputError naming the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read as text", where=path.name) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number} is not JSON", where=path.name) from error
        if not isinstance(found, dict):
            raise InputError(f"line {number} is not an object", where=path.name)
        yield number, found
