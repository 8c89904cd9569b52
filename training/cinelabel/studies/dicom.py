"""Short-axis cine from folders of DICOM files, and phantom studies written as DICOM.

Geometry after DICOM PS3.3, C.7.6.2.1.1 (equation for the pixel-to-patient mapping), turned from
LPS+ to RAS+.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.grid import Grid
from cinelabel.dicom.headers import Instance, SetAside, read_pixels, scan
from cinelabel.dicom.series import (
    PHASE_ORDER,
    Group,
    SeriesSummary,
    affine_lps,
    choose,
    group_series,
    order_phases,
)
from cinelabel.studies.dicom_writer import write_cine
from cinelabel.studies.nifti import study_name
from cinelabel.studies.study import Study, require_image

__all__ = ["SeriesSummary", "phase_images", "read", "read_all", "read_series", "write_cine"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NAMELESS_FOLDERS = ("dicom", "dcm", "images")
"""Folder names that say what lies in them, not whose it is; the study takes the parent's."""


def read_series(folder: Path) -> list[SeriesSummary]:
    """What a folder holds, without reading pixels. Raises InputError as `read`."""
    images, _ = scan(Path(folder))
    return [group.summary() for group in group_series(images)]


def read(folder: Path, series: str | None = None) -> Study:
    """The study in a folder, searched with its subfolders.

    Voxels are indexed (column, row, slice, phase). Slices are ordered along the normal, the end
    acquired first is slice 0, and nothing is flipped; phases are ordered by trigger time, or by
    instance number, content time or temporal position where that is missing.

    Args:
        folder: DICOM files of one patient.
        series: number, UID or description of a series; needed when several may be the cine.

    Raises:
        InputError: a sentence naming the file, slice or series that is wrong: no image, mixed
            patients, colour, a slice missing or taken twice, unequal numbers of phases, ...
    """
    folder = Path(folder)
    images, set_aside = scan(folder)
    groups = group_series(images)
    group = choose(groups, series, folder)
    name = _folder_name(folder)
    if len(groups) == 1:
        return _assemble(group, set_aside, folder, name)
    study = _assemble(group, set_aside, folder, f"{name}-{group.key}")
    others = (f"series {other.summary()} left out" for other in groups if other is not group)
    return replace(study, notes=(*study.notes, *others))


def read_all(folder: Path) -> list[Study]:
    """Every series of a folder as a study, single long-axis slices included.

    Raises:
        InputError: as for `read`, for the first series that cannot be read.
    """
    folder = Path(folder)
    images, set_aside = scan(folder)
    groups = group_series(images)
    if len(groups) == 1:
        return [_assemble(groups[0], set_aside, folder, _folder_name(folder))]
    name = _folder_name(folder)
    return [_assemble(group, set_aside, folder, f"{name}-{group.key}") for group in groups]


def instance_places(folder: Path) -> dict[int, tuple[int, int]]:
    """(slice, phase), from 0 and as `read` orders them, by the images' instance numbers.

    No pixels are read. Raises InputError as `read`, and where two images share a number or one has
    none.
    """
    places: dict[int, tuple[int, int]] = {}
    for z, phases in enumerate(_ordered_images(Path(folder), None)):
        for t, image in enumerate(phases):
            number = image.instance_number
            if number is None or int(number) in places:
                problem = "has no number" if number is None else f"has the number {number:g} again"
                raise InputError(f"{problem} (InstanceNumber)", where=image.path)
            places[int(number)] = (z, t)
    return places


def phase_images(folder: Path, frame: int, series: str | None = None) -> list[Instance]:
    """The images of one phase (from 0), slice by slice as `read` orders them; no pixels are read.

    Raises InputError as `read`, and where there is no such phase.
    """
    slices = _ordered_images(Path(folder), series)
    if not 0 <= frame < len(slices[0]):
        raise InputError(f"has {len(slices[0])} phases and no phase {frame}", where=folder)
    return [phases[frame] for phases in slices]


def _ordered_images(folder: Path, series: str | None) -> list[list[Instance]]:
    """The images of a folder's stack by slice and phase."""
    images, _ = scan(folder)
    group = choose(group_series(images), series, folder)
    return order_phases(group, folder)[0]


def _folder_name(folder: Path) -> str:
    """The study's name: that of its folder, or of the one above if the name says nothing."""
    here = folder.resolve()
    return study_name(here.parent if here.name.lower() in NAMELESS_FOLDERS else here)


def _assemble(group: Group, set_aside: list[SetAside], folder: Path, name: str) -> Study:
    for left_out in set_aside:
        if left_out.series_uid in group.series_uids:
            raise InputError(left_out.reason, where=left_out.path, remedy=left_out.remedy)
    slices, order = order_phases(group, folder)
    affine = LPS_TO_RAS @ affine_lps(group, folder)
    first = group.first
    shape = (first.columns, first.rows, len(slices))
    frames = np.empty((*shape, group.phases), np.float32, order="F")
    for z, images in enumerate(slices):
        for t, image in enumerate(images):
            frames[:, :, z, t] = read_pixels(image)
    require_image(frames, folder)
    times = [[image.trigger_time_ms for image in images] for images in slices]
    known = order == "trigger_time_ms" and all(t is not None for row in times for t in row)
    return Study(
        name=name,
        frames=frames,
        grid=Grid(shape, affine),
        is_cine=group.phases > 1,
        trigger_times_ms=_median_times(times) if known else None,
        source=folder,
        kind="dicom",
        series_uid=first.series_uid,
        slice_thickness_mm=first.slice_thickness_mm,
        notes=_notes(group, set_aside, order),
    )


def _median_times(times: list[list[float | None]]) -> tuple[float, ...]:
    """The trigger time of each phase; breath-holds differ a little, so the median of slices."""
    return tuple(np.median(np.array(times, np.float64), axis=0).tolist())


def _notes(group: Group, set_aside: list[SetAside], order: str) -> tuple[str, ...]:
    notes = []
    if len(group.series_uids) > 1:
        notes.append(f"joined {len(group.series_uids)} series of one slice each")
    if order != "trigger_time_ms":
        notes.append(f"phases ordered by {PHASE_ORDER[order]}, trigger times are missing")
    notes += [f"{item.path.name} left out, it {item.reason}" for item in set_aside]
    return tuple(notes)
