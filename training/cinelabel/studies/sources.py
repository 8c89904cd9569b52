"""What below a folder is a study: NIfTI files and folders of DICOM files, in any mix and depth.

A scan reads names, sizes and times alone, and of files not seen before the first bytes; nothing is
written. What another program is still copying is told by its names (`x.nii.gz.part`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cinelabel.core.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
LABEL_NAME = re.compile(r"(^|[_.-])(gt|seg|segmentation|labels?|mask|truth)$", re.IGNORECASE)
STUDY_UID = "StudyInstanceUID"

# Names under which programs keep what they have not finished copying: browsers, WinSCP, KDE,
# Syncthing; rsync (.name.Ab12Cd) and our own (.1a2b3c4d-name); rsync's folders of delayed files.
UNFINISHED = re.compile(
    r"\.(part|partial|filepart|crdownload|download|incomplete|uploading|tmp|temp|aria2)$"
    r"|^\..+\.[A-Za-z0-9]{6}$"
    r"|^\.[0-9a-f]{8}-",
    re.IGNORECASE,
)
UNFINISHED_FOLDERS = (".~tmp~", ".rsync-partial")


class FileState(NamedTuple):
    """A file and what changes when somebody writes to it.

    `name` is the path below the source; `changed_ns` and `inode` tell files apart that were given
    an old modification time or were replaced by another file.
    """

    name: str
    size: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True)
class Source:
    """A NIfTI file or a DICOM folder as one scan saw it.

    Attributes:
        key: its path below the scanned folder, with '/'; '.' for the folder itself.
        path: the file or folder.
        files: of a file itself, of a folder all that is read of it.
        unfinished: a file that is still being copied, if there is one.
    """

    key: str
    path: Path
    files: tuple[FileState, ...]
    unfinished: str | None = None

    @property
    def fingerprint(self) -> str:
        """Changes when names, sizes or modification times do; the same on another mount."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name}\0{file.size}\0{file.modified_ns}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Scan:
    """The sources below a folder, sorted by path; folders that could not be listed, and why."""

    sources: tuple[Source, ...]
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Folder:
    """A listed folder: its files, which of them are unfinished, and the folders in it."""

    path: str
    files: tuple[FileState, ...]
    unfinished: tuple[str, ...]
    folders: tuple[_Folder, ...]

    def all_files(self, below: str = "") -> Iterator[FileState]:
        """Every file that a reader of DICOM sees, named relative to where the walk began."""
        for file in self.files:
            if not is_nifti(file.name):
                yield file._replace(name=below + file.name)
        for folder in self.folders:
            yield from folder.all_files(f"{below}{os.path.basename(folder.path)}/")

    def first_unfinished(self) -> str | None:
        """The name of a file that is still being copied, here or below."""
        if self.unfinished:
            return self.unfinished[0]
        return next(filter(None, (folder.first_unfinished() for folder in self.folders)), None)


class Scanner:
    """Scans a folder again and again; of files that have not changed, nothing is read twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, tuple[FileState, str | None]] = {}
        self._seen: dict[str, tuple[FileState, str | None]] = {}
        self._unreadable: list[tuple[str, str]] = []

    def scan(self) -> Scan:
        """The sources as they are now.

        A folder with DICOM files is one source, and so is one whose folders hold the series of
        one examination. Hidden files and those named like labels (`..._gt`, `..._seg`, `labels`)
        do not count; folders that are links are not followed.

        Raises:
            InputError: there is no such folder, or it cannot be listed.
        """
        require_folder(self.folder)
        self._seen, self._unreadable = {}, []
        listed = self._list(str(self.folder))
        for path, why in self._unreadable:
            if path == str(self.folder):
                raise InputError(f"cannot be listed, {why}", where=self.folder)
        found = sorted(self._sources(listed), key=lambda source: source.key)
        self._known = self._seen
        return Scan(tuple(found), tuple(self._unreadable))

    def _list(self, path: str) -> _Folder:
        """Names and states of what is in a folder; an unreadable one counts as empty."""
        files, unfinished, folders = [], [], []
        try:
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.startswith("."):
                            folders.append(entry.path)
                        elif entry.name in UNFINISHED_FOLDERS and os.listdir(entry.path):
                            unfinished.append(entry.name)
                    elif UNFINISHED.search(entry.name):
                        unfinished.append(entry.name)
                    elif not entry.name.startswith(".") and entry.is_file():
                        files.append(file_state(entry.name, entry.stat()))
        except FileNotFoundError:  # removed while it was listed: the next scan sees what is left
            pass
        except OSError as error:
            self._unreadable.append((path, (error.strerror or "it fails").lower()))
        listed = tuple(self._list(folder) for folder in folders)
        return _Folder(path, tuple(files), tuple(unfinished), listed)

    def _sources(self, folder: _Folder) -> Iterator[Source]:
        for file in folder.files:
            if is_nifti(file.name) and not LABEL_NAME.search(stem(file.name)):
                copies = [name for name in folder.unfinished if file.name in name]
                path = Path(folder.path, file.name)
                yield Source(self._key(path), path, (file,), copies[0] if copies else None)
        if self._examination(folder) is not None or self._is_one_examination(folder):
            path, files = Path(folder.path), tuple(folder.all_files())
            yield Source(self._key(path), path, files, folder.first_unfinished())
            return
        for child in folder.folders:
            yield from self._sources(child)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _is_one_examination(self, folder: _Folder) -> bool:
        """Whether several folders each hold DICOM files of one and the same examination."""
        uids = {self._examination(child) for child in folder.folders}
        return len(folder.folders) > 1 and len(uids) == 1 and uids.isdisjoint({None, ""})

    def _examination(self, folder: _Folder) -> str | None:
        """StudyInstanceUID of the first DICOM file directly in a folder.

        Empty if the file does not tell, None if there is no DICOM file.
        """
        for file in folder.files:
            if is_nifti(file.name):
                continue
            path = f"{folder.path}/{file.name}"
            known = self._known.get(path)
            uid = known[1] if known and known[0] == file else _study_uid(path)
            self._seen[path] = (file, uid)
            if uid is not None:
                return uid
        return None


def find_sources(folder: Path) -> list[Path]:
    """Paths of what `Scanner.scan` finds below a folder. Raises InputError if there is none."""
    return [source.path for source in Scanner(folder).scan().sources]


def require_folder(folder: Path) -> None:
    """Raise InputError unless the folder of studies is there."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "there is no such folder"
        raise InputError(what, where=folder, remedy="Give a folder with NIfTI or DICOM studies")


def current_fingerprint(path: Path) -> str:
    """The fingerprint of a source as it is at this moment; '' if it cannot be listed."""
    if path.is_dir():
        listed = Scanner(path)._list(str(path))
        files = tuple(listed.all_files()) if listed.first_unfinished() is None else ()
    else:
        try:
            files = (file_state(path.name, path.stat()),)
        except OSError:
            files = ()
    return Source(".", path, files).fingerprint if files else ""


def file_state(name: str, status: os.stat_result) -> FileState:
    """A file's state from its `stat`."""
    return FileState(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def is_nifti(name: str) -> bool:
    """Whether a file's name is one of NIfTI."""
    return name.lower().endswith(NIFTI_SUFFIXES)


def stem(name: str) -> str:
    """A file's name without the suffixes of NIfTI."""
    return re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)


def _study_uid(path: str) -> str | None:
    """StudyInstanceUID of a DICOM file; '' if it does not tell, None for other files."""
    try:
        with open(path, "rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
    except OSError:
        return None
    import pydicom
    from pydicom.errors import InvalidDicomError

    from cinelabel.dicom.headers import quiet

    try:
        quiet()
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[STUDY_UID])
        return str(header.get(STUDY_UID, ""))
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return ""
