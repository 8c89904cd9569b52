"""A folder of studies as one image a frame, the form in which MONAI Label serves images.

The studies are only read. The frames are written to a workspace elsewhere, which also keeps the
labels; a source that has not changed (size and modification time) is not read again.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cinelabel import studies
from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.files import output_error, write_json
from cinelabel.studies.study import Study

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
INDEX = "studies.json"
IMAGES = "store"
INCOMING = "incoming"
ABSENT = "absent"
SUPERSEDED = "superseded"
STUDY_UID = "StudyInstanceUID"
NIFTI_SUFFIXES = (".nii", ".nii.gz")
LABEL_NAME = re.compile(r"(^|[_.-])(gt|seg|segmentation|labels?|mask|truth)$", re.IGNORECASE)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ServedStudy:
    """One study of the folder and the images made of it.

    Attributes:
        name: unique in the workspace.
        source: the NIfTI file or DICOM folder.
        series: which series of a DICOM folder, None where it holds one stack.
        kind: "nifti" or "dicom".
        n_frames: cardiac phases.
        ed, es: frames counted from 0, where the source names them.
    """

    name: str
    source: Path
    series: str | None
    kind: str
    n_frames: int
    ed: int | None
    es: int | None

    def image_id(self, frame: int) -> str:
        """The name of a frame's image, `<study>__t<NN>`."""
        return f"{self.name}__t{frame:02d}"

    def image_ids(self) -> list[str]:
        """The names of all frames, in order."""
        return [self.image_id(frame) for frame in range(self.n_frames)]

    def phase(self, frame: int) -> str | None:
        """What the source calls the frame: "ED", "ES" or None."""
        return {self.ed: "ED", self.es: "ES"}.get(frame)

    def info(self, frame: int) -> dict[str, Any]:
        """What clients are told about a frame's image; ready for JSON."""
        return {
            "study": self.name,
            "frame": frame,
            "n_frames": self.n_frames,
            "phase": self.phase(frame),
            "source": str(self.source),
            "kind": self.kind,
        }


@dataclass(frozen=True)
class Workspace:
    """The images made of a folder of studies, and where labels and sessions are kept."""

    path: Path
    studies: tuple[ServedStudy, ...]
    problems: tuple[str, ...]

    @property
    def images(self) -> Path:
        """Folder of the images; the labels lie in its `labels` folder."""
        return self.path / IMAGES

    def image_path(self, image_id: str) -> Path:
        """The file of an image."""
        return self.images / f"{image_id}.nii.gz"

    def frames(self) -> Iterator[tuple[str, ServedStudy, int]]:
        """Every image: its name, its study, and which frame it is."""
        for study in self.studies:
            for frame, image_id in enumerate(study.image_ids()):
                yield image_id, study, frame

    def find(self, image_id: str) -> tuple[ServedStudy, int] | None:
        """The study and frame of an image, None for a name that is not served."""
        for name, study, frame in self.frames():
            if name == image_id:
                return study, frame
        return None


def default_workspace(folder: Path) -> Path:
    """The workspace of a folder of studies in the user's data folder.

    It holds readers' labels, so it does not lie in a cache that may be emptied.
    """
    from platformdirs import user_data_path

    folder = folder.resolve()
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", folder.name) or "studies"
    return user_data_path("cinelabel", appauthor=False) / "workspaces" / f"{name}-{key}"


def load_study(served: ServedStudy) -> Study:
    """The whole source study of a frame, under its name in the workspace. Raises InputError."""
    return replace(studies.load(served.source, series=served.series), name=served.name)


def prepare(folder: Path, workspace: Path, progress: Progress | None = None) -> Workspace:
    """Write one image a frame for every study below a folder.

    What counts as a study is said in `find_sources`; of a DICOM folder every short-axis stack
    is served. What cannot be read is left out, with one sentence each in `problems`. Labels of an
    image that changed are moved to the folder `superseded` of the workspace.

    Args:
        folder: the studies; never written to.
        workspace: folder for images and labels; made if absent.
        progress: called with sources done, sources in all, and the source's name.

    Raises:
        InputError: `folder` is missing, contains the workspace, or holds no readable study.
        OutputError: the workspace cannot be written.
    """
    folder, workspace = folder.resolve(), workspace.resolve()
    _require_apart(folder, workspace)
    known = _read_index(workspace, folder)
    try:
        (workspace / IMAGES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, workspace) from error
    sources = find_sources(folder)
    keys = [source.relative_to(folder).as_posix() for source in sources]
    entries = {key: known[key] for key in keys if key in known}
    for number, (key, source) in enumerate(zip(keys, sources, strict=True)):
        if progress is not None:
            progress(number, len(sources), key)
        fingerprint = _fingerprint(source)
        if _is_current(entries.get(key), fingerprint, workspace):
            continue
        taken = {study["name"] for k, e in entries.items() if k != key for study in e["studies"]}
        entries[key] = _make_entry(source, folder, workspace, taken)
        entries[key]["fingerprint"] = fingerprint
        _write_index(workspace, folder, entries)
    if progress is not None:
        progress(len(sources), len(sources), "")
    entries = {key: entries[key] for key in keys}
    _write_index(workspace, folder, entries)
    prepared = _from_entries(workspace, entries)
    if not prepared.studies:
        raise _nothing_found(folder, prepared.problems)
    _put_unknown_images_away(prepared)
    shutil.rmtree(workspace / INCOMING, ignore_errors=True)
    return prepared


def open_workspace(workspace: Path) -> Workspace:
    """A workspace as it was prepared last. Raises InputError if it never was."""
    try:
        index = json.loads((workspace / INDEX).read_text(encoding="utf-8"))
        return _from_entries(workspace, index["sources"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("is not a prepared workspace", where=workspace) from error


def find_sources(folder: Path) -> list[Path]:
    """NIfTI files and DICOM folders below a folder, in any mix and depth, sorted by path.

    A folder with DICOM files is one source, and so is one whose folders hold the series of one
    examination. Hidden files and those named like labels (`..._gt`, `..._seg`, `labels`) do not
    count. Raises InputError if there is no such folder.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "there is no such folder"
        raise InputError(what, where=folder, remedy="Give a folder with NIfTI or DICOM studies")
    return list(_sources(folder))


def _sources(folder: Path) -> Iterator[Path]:
    visible = _visible(folder)
    files = [path for path in visible if path.is_file()]
    folders = [path for path in visible if path.is_dir() and not path.is_symlink()]
    yield from (f for f in files if _is_nifti(f) and not LABEL_NAME.search(_stem(f)))
    if any(_is_dicom(file) for file in files):
        yield folder
        return
    examinations = {_examination(child) for child in folders}
    if len(folders) > 1 and len(examinations) == 1 and None not in examinations:
        yield folder
        return
    for child in folders:
        yield from _sources(child)


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden names; nothing if it cannot be opened."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        logger.warning("%s is left out, %s", folder, error.strerror)
        return []


def _examination(folder: Path) -> str | None:
    """StudyInstanceUID of the first DICOM file directly in a folder, None without one."""
    found = next((f for f in _visible(folder) if f.is_file() and _is_dicom(f)), None)
    if found is None:
        return None
    import pydicom
    from pydicom.errors import InvalidDicomError

    from cinelabel.studies.dicom_headers import quiet

    try:
        with quiet():
            header = pydicom.dcmread(found, stop_before_pixels=True, specific_tags=[STUDY_UID])
            return str(header.get(STUDY_UID, "")) or None
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return None


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def _require_apart(folder: Path, workspace: Path) -> None:
    if workspace == folder or folder in workspace.parents:
        raise InputError(
            "the workspace lies inside the folder of studies, which is never written to",
            where=workspace,
            remedy="Choose another --workspace",
        )


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _is_dicom(path: Path) -> bool:
    """Whether a file has the preamble of DICOM; the suffix does not matter."""
    if _is_nifti(path):
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _fingerprint(source: Path) -> str:
    """Changes when a source does: sizes and modification times, of a folder those of its files."""
    files = [source] if source.is_file() else sorted(f for f in source.rglob("*") if f.is_file())
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _is_current(entry: dict[str, Any] | None, fingerprint: str, workspace: Path) -> bool:
    """Whether an entry was made from the source as it is now, and all its images are there."""
    if entry is None or entry["fingerprint"] != fingerprint or entry["problems"]:
        return False
    served = [_from_json(study) for study in entry["studies"]]
    names = [name for study in served for name in study.image_ids()]
    return all((workspace / IMAGES / f"{name}.nii.gz").is_file() for name in names)


def _make_entry(source: Path, folder: Path, workspace: Path, taken: set[str]) -> dict[str, Any]:
    """Read a source and write its images; sentences instead of what cannot be read."""
    name = study_name(source, folder)
    problems, made = [], []
    try:
        stacks = _stacks(source)
    except InputError as error:
        return {"studies": [], "problems": [str(error)]}
    for series in stacks:
        try:
            study = studies.load(source, series=series)
        except InputError as error:
            problems.append(str(error))
            continue
        served = ServedStudy(
            name=_free_name(name if len(stacks) == 1 else f"{name}-{series}", taken),
            source=source,
            series=series,
            kind=study.kind,
            n_frames=study.n_frames,
            ed=study.ed,
            es=study.es,
        )
        taken.add(served.name)
        for frame in range(study.n_frames):
            _write_frame(workspace, served, study, frame)
        made.append({**asdict(served), "source": str(source)})
    return {"studies": made, "problems": problems}


def _stacks(source: Path) -> list[str | None]:
    """The series of a DICOM folder that are stacks; [None] where there is nothing to choose."""
    if source.is_file():
        return [None]
    from cinelabel.studies import dicom
    from cinelabel.studies.dicom_series import RULES

    found = dicom.read_series(source)
    stacks = [summary for summary in found if summary.slices >= RULES.stack_slices]
    if len(found) == 1 or len(stacks) == 1:
        return [None]
    if not stacks:
        raise InputError("holds no stack of slices", where=source)
    return [summary.key for summary in stacks]


def study_name(source: Path, folder: Path) -> str:
    """A name that stays the same when other studies come: the path, without what it repeats."""
    parts: list[str] = []
    for part in (*source.relative_to(folder).parent.parts, _stem(source)):
        if source == folder:
            break
        if parts and part.startswith(parts[-1]):
            parts.pop()
        parts.append(part)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts or [folder.name]))
    return name if name.strip("._-") else "study"


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _write_frame(workspace: Path, served: ServedStudy, study: Study, frame: int) -> None:
    """Write one frame as a 3D image; labels stay only if its content is what it was."""
    image_id = served.image_id(frame)
    target = workspace / IMAGES / f"{image_id}.nii.gz"
    incoming = workspace / INCOMING / target.name
    one = replace(
        study,
        name=served.name,
        frames=study.frames[..., frame : frame + 1],
        is_cine=False,
        trigger_times_ms=None,
        ed=None,
        es=None,
    )
    studies.save_image(incoming, one)
    absent = workspace / ABSENT / target.name
    previous = target if target.is_file() else absent
    if not (previous.is_file() and filecmp.cmp(incoming, previous, shallow=False)):
        _set_labels_aside(workspace, image_id)
    try:
        os.replace(incoming, target)
        absent.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(error, target) from error


def _set_labels_aside(workspace: Path, image_id: str) -> None:
    """Move the labels of an image that changed to a dated folder."""
    found = sorted((workspace / IMAGES / "labels").glob(f"*/{image_id}.*"))
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    for label in found:
        kept = workspace / SUPERSEDED / now / label.parent.name / label.name
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(label, kept)
        except OSError as error:
            raise output_error(error, kept) from error
        logger.warning("%s changed; its label was moved to %s", image_id, kept)


def _put_unknown_images_away(workspace: Workspace) -> None:
    """Stop serving images whose study is gone; they and their labels are kept for its return."""
    known = {workspace.image_path(image_id).name for image_id, _, _ in workspace.frames()}
    for path in workspace.images.glob("*.nii.gz"):
        if path.name not in known:
            logger.warning("%s is no longer among the studies", path.name)
            (workspace.path / ABSENT).mkdir(exist_ok=True)
            os.replace(path, workspace.path / ABSENT / path.name)


def _nothing_found(folder: Path, problems: Sequence[str]) -> InputError:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return InputError(f"no study can be read: {problems[0].rstrip('.')}{more}", where=folder)
    return InputError(
        "holds no study",
        where=folder,
        remedy="Give a folder with NIfTI files or folders of DICOM files",
    )


def _from_json(study: dict[str, Any]) -> ServedStudy:
    return ServedStudy(**{**study, "source": Path(study["source"])})


def _from_entries(workspace: Path, entries: dict[str, dict[str, Any]]) -> Workspace:
    served = [_from_json(study) for entry in entries.values() for study in entry["studies"]]
    problems = [problem for entry in entries.values() for problem in entry["problems"]]
    return Workspace(workspace, tuple(served), tuple(problems))


def _read_index(workspace: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of the last time by source, none if there was no such time."""
    try:
        index = json.loads((workspace / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        logger.warning("%s is damaged; the studies are read again", workspace / INDEX)
        return {}
    if index.get("schema_version") != SCHEMA_VERSION:
        return {}
    if index.get("folder") != str(folder):
        raise OutputError(
            f"is the workspace of {index.get('folder')}",
            where=workspace,
            remedy="Choose another --workspace",
        )
    return index["sources"]


def _write_index(workspace: Path, folder: Path, entries: dict[str, dict[str, Any]]) -> None:
    write_json(
        workspace / INDEX,
        {"schema_version": SCHEMA_VERSION, "folder": str(folder), "sources": entries},
    )
