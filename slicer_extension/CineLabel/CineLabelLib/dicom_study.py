"""Short-axis cine from folders of DICOM files, as the server makes it of the same folder.

Geometry after DICOM PS3.3, C.7.6.2.1.1 (equation for the pixel-to-patient mapping), turned from
LPS+ to RAS+.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from CineLabelLib.core.errors import InputError
from CineLabelLib.dicom.headers import Instance, SetAside, read_pixels, scan
from CineLabelLib.dicom.series import (
    PHASE_ORDER,
    Group,
    SeriesSummary,
    affine_lps,
    choose,
    group_series,
    order_phases,
)
from CineLabelLib.study import CineStudy, require_image, study_name

Progress = Callable[[float, str], object]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NAMELESS_FOLDERS = ("dicom", "dcm", "images")  # these say what lies in them, not whose it is


def series_of(folder: Path) -> list[SeriesSummary]:
    """The series that a folder holds, without reading pixels. Raises InputError as `read_study`."""
    images, _ = scan(Path(folder))
    return [group.summary() for group in group_series(images)]


def read_study(
    folder: Path, series: str | None = None, progress: Progress | None = None
) -> CineStudy:
    """The cine in a folder, searched with its subfolders.

    Voxels are indexed (column, row, slice, phase). Slices are ordered along the normal, the end
    acquired first is slice 0, and nothing is flipped; phases are ordered by trigger time, or by
    instance number, content time or temporal position where that is missing. They are of the
    stored type, or float32 where a header rescales them.

    Args:
        folder: DICOM files of one patient.
        series: a key of `series_of`; needed when several may be the cine.
        progress: called with the share that is read and a sentence; what it raises ends the read.

    Raises:
        InputError: a sentence naming the file, slice or series that is wrong: no image, mixed
            patients, colour, a slice missing or taken twice, unequal numbers of phases, ...
        ChoiceError: several series may be the cine and none is chosen.
    """
    folder, progress = Path(folder), progress or _silent

    def count(done: int, total: int) -> None:
        progress(done / total / 2, f"Reading headers, {done} of {total}")

    images, set_aside = scan(folder, count)
    groups = group_series(images)
    group = choose(groups, series, folder)
    for left_out in set_aside:
        if left_out.series_uid in group.series_uids:
            raise InputError(left_out.reason, where=left_out.path, remedy=left_out.remedy)
    slices, order = order_phases(group, folder)
    affine = LPS_TO_RAS @ affine_lps(group, folder)
    voxels = _voxels(slices, progress)
    require_image(voxels, folder)
    here = folder.resolve()
    name = study_name(here.parent if here.name.lower() in _NAMELESS_FOLDERS else here)
    return CineStudy(
        name=name if len(groups) == 1 else f"{name}-{group.key}",
        voxels=voxels,
        affine=affine,
        trigger_times_ms=_trigger_times_ms(slices) if order == "trigger_time_ms" else None,
        source=folder,
        notes=_notes(group, groups, set_aside, order),
    )


def _silent(share: float, sentence: str) -> None:
    """A progress that tells nobody."""


def _voxels(slices: Sequence[Sequence[Instance]], progress: Progress) -> np.ndarray:
    """(x, y, z, t) of the images, of one type that holds them all."""
    total = sum(map(len, slices))
    pixels: list[list[np.ndarray]] = []
    done = 0
    for images in slices:
        pixels.append([])
        for image in images:
            progress((1 + done / total) / 2, f"Reading images, {done} of {total}")
            pixels[-1].append(read_pixels(image))
            done += 1
    kinds = {plane.dtype for planes in pixels for plane in planes}
    dtype = np.float32 if any(kind.kind == "f" for kind in kinds) else np.result_type(*kinds)
    voxels = np.empty((*pixels[0][0].shape, len(slices), len(slices[0])), dtype, order="F")
    for z, planes in enumerate(pixels):
        for t, plane in enumerate(planes):
            voxels[:, :, z, t] = plane
    return voxels


def _trigger_times_ms(slices: Sequence[Sequence[Instance]]) -> tuple[float, ...] | None:
    """The trigger time of each phase; breath-holds differ a little, so the median of slices."""
    times = [[image.trigger_time_ms for image in images] for images in slices]
    if any(time is None for row in times for time in row):
        return None
    return tuple(np.median(np.array(times, np.float64), axis=0).tolist())


def _notes(
    group: Group, groups: Sequence[Group], set_aside: Sequence[SetAside], order: str
) -> tuple[str, ...]:
    notes = []
    if len(group.series_uids) > 1:
        notes.append(f"Joined {len(group.series_uids)} series of one slice each.")
    if order != "trigger_time_ms":
        notes.append(f"Phases ordered by {PHASE_ORDER[order]}, trigger times are missing.")
    notes += [f"{item.path.name} left out, it {item.reason}." for item in set_aside]
    notes += [f"Series {other.summary()} left out." for other in groups if other is not group]
    return tuple(notes)
