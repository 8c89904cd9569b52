"""A folder of studies prepared at once, before anything is served; and where that is kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cinelabel import studies
from cinelabel.core.errors import InputError
from cinelabel.studies.cases import INDEX, ServedStudy
from cinelabel.studies.catalogue import IMAGES, Catalogue, OnChange, Progress, study_name
from cinelabel.studies.sources import find_sources
from cinelabel.studies.study import Study

__all__ = [
    "ServedStudy",
    "Workspace",
    "default_workspace",
    "find_sources",
    "load_study",
    "open_workspace",
    "prepare",
    "study_name",
]


@dataclass(frozen=True)
class Workspace:
    """The images made of a folder of studies, as they were when this was made."""

    path: Path
    studies: tuple[ServedStudy, ...]
    problems: tuple[str, ...]

    @property
    def images(self) -> Path:
        """Folder of the images."""
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


def prepare(
    folder: Path,
    workspace: Path,
    progress: Progress | None = None,
    on_change: OnChange | None = None,
) -> Workspace:
    """Write one image a frame for every study below a folder, as it is now.

    Args:
        folder: the studies; never written to, and nobody else should be writing to it.
        workspace: folder for the images; made if absent.
        progress: called with sources done, sources in all, and the source's name.
        on_change: sets the labels of an image that changed aside, see `Catalogue`.

    Raises:
        InputError: `folder` is missing, contains the workspace, or holds no readable study.
        OutputError: the workspace cannot be written.
    """
    find_sources(folder)
    catalogue = Catalogue(folder, workspace, on_change, settle_s=0)
    catalogue.refresh()
    catalogue.refresh(progress)
    if not catalogue.studies:
        raise _nothing_found(catalogue.folder, catalogue.problems + catalogue.waiting)
    return _snapshot(catalogue)


def open_workspace(workspace: Path) -> Workspace:
    """A workspace as it was prepared last. Raises InputError if it never was."""
    import json

    try:
        folder = Path(json.loads((workspace / INDEX).read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("is not a prepared workspace", where=workspace) from error
    return _snapshot(Catalogue(folder, workspace))


def _snapshot(catalogue: Catalogue) -> Workspace:
    return Workspace(catalogue.path, tuple(catalogue.studies), catalogue.problems)


def _nothing_found(folder: Path, problems: Sequence[str]) -> InputError:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return InputError(f"no study can be read: {problems[0].rstrip('.')}{more}", where=folder)
    return InputError(
        "holds no study",
        where=folder,
        remedy="Give a folder with NIfTI files or folders of DICOM files",
    )
