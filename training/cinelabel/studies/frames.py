"""A source read and written as one image a frame, into a folder where nobody looks yet.

Nothing here decides what is served: `catalogue` compares the new images with those it has, and
moves them into place.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cinelabel import studies
from cinelabel.core.errors import InputError
from cinelabel.studies.sources import stem
from cinelabel.studies.study import Study

PHASE_NAME = re.compile(r"(^|[_.-])(ED|ES)$", re.IGNORECASE)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """A study of a source and its images, in the order of the frames; the voxels are let go."""

    study: Study
    series: str | None
    images: tuple[Path, ...]


def write_frames(source: Path, folder: Path, progress: Progress) -> Iterator[Written | str]:
    """Every study of a source as 3D images in a folder, or a sentence on why it cannot be read.

    Of a DICOM folder every stack of slices is a study.

    Args:
        source: a NIfTI file or a DICOM folder.
        folder: where the images go; made if absent.
        progress: called with the frames written and those in all, for each study.

    Raises:
        OutputError: the images cannot be written.
    """
    try:
        stacks = _stacks(source)
    except InputError as error:
        yield str(error)
        return
    for number, series in enumerate(stacks):
        try:
            study = studies.load(source, series=series)
        except InputError as error:
            yield str(error)
            continue
        images = []
        for frame in range(study.n_frames):
            progress(frame, study.n_frames)
            images.append(folder / f"{number}-{frame:04d}.nii.gz")
            studies.save_image(images[-1], _one_frame(study, frame))
        progress(study.n_frames, study.n_frames)
        yield Written(_without_voxels(_with_phase_of_name(study, source)), series, tuple(images))


def same_image(new: Path, old: Path) -> bool:
    """Whether two image files hold the same voxels on the same grid; False if `old` is no image."""
    if not old.is_file():
        return False
    if filecmp.cmp(new, old, shallow=False):
        return True
    try:  # another version of zlib packs the same voxels into other bytes
        one, other = studies.load(new), studies.load(old)
    except InputError:
        return False
    same_place = np.array_equal(one.grid.affine, other.grid.affine)
    return same_place and np.array_equal(one.frames, other.frames)


def _stacks(source: Path) -> list[str | None]:
    """The series of a DICOM folder that are stacks; [None] where there is nothing to choose.

    A folder of which only the first slices have arrived is none yet.
    """
    if source.is_file():
        return [None]
    from cinelabel.dicom.series import RULES
    from cinelabel.studies import dicom

    found = dicom.read_series(source)
    stacks = [summary for summary in found if summary.slices >= RULES.stack_slices]
    if not stacks:
        most = max(summary.slices for summary in found)
        raise InputError(
            f"holds no stack of slices, at most {most} belong together",
            where=source,
            remedy=f"A stack has {RULES.stack_slices} slices or more",
        )
    if len(stacks) == 1:
        return [None]
    return [summary.key for summary in stacks]


def _one_frame(study: Study, frame: int) -> Study:
    return replace(
        study,
        frames=study.frames[..., frame : frame + 1],
        is_cine=False,
        trigger_times_ms=None,
        ed=None,
        es=None,
    )


def _with_phase_of_name(study: Study, source: Path) -> Study:
    """A file of one phase whose name ends in ED or ES is that phase."""
    found = PHASE_NAME.search(stem(source.name))
    if study.is_cine or found is None or study.kind != "nifti":
        return study
    return replace(study, ed=0) if found[2].upper() == "ED" else replace(study, es=0)


def _without_voxels(study: Study) -> Study:
    """The study with frames that take no memory: one zero, seen at every voxel."""
    return replace(study, frames=np.broadcast_to(np.float32(0), study.frames.shape))
