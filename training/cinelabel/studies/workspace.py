"""A folder of studies prepared at once, before anything is served; and where that is kept."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.studies.catalogue import Catalogue, OnChange, Progress
from cinelabel.studies.sources import find_sources


def default_workspace(folder: Path) -> Path:
    """The workspace of a folder of studies in the user's data folder.

    It holds readers' labels, so it does not lie in a cache that may be emptied.
    """
    from platformdirs import user_data_path

    folder = folder.resolve()
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", folder.name) or "studies"
    return user_data_path("cinelabel", appauthor=False) / "workspaces" / f"{name}-{key}"


def prepare(
    folder: Path,
    workspace: Path,
    progress: Progress | None = None,
    on_change: OnChange | None = None,
) -> Catalogue:
    """The catalogue of a folder as it is now, without waiting for anything to settle.

    Args:
        folder: the studies; never written to, and nobody else should be writing to it.
        workspace: folder for the images; made if absent.
        progress: called with sources taken, sources to take, and the name of the next.
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
        raise _nothing_found(catalogue)
    return catalogue


def _nothing_found(catalogue: Catalogue) -> InputError:
    problems = catalogue.problems + catalogue.waiting
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        problem = f"no study can be read: {problems[0].rstrip('.')}{more}"
        return InputError(problem, where=catalogue.folder)
    return InputError(
        "holds no study",
        where=catalogue.folder,
        remedy="Give a folder with NIfTI files or folders of DICOM files",
    )
