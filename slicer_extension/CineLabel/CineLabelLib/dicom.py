"""Short-axis cine from folders of DICOM files, as the server makes it of the same folder.

Geometry after DICOM PS3.3, C.7.6.2.1.1 (equation for the pixel-to-patient mapping), turned from
LPS+ to RAS+.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from CineLabelLib.core.errors import InputError
from CineLabelLib.dicom_images import DicomImage, Progress, SetAside, read_pixels, scan
from CineLabelLib.dicom_stacks import (
    PHASE_ORDER,
    Series,
    Stack,
    affine_lps,
    choose,
    order_phases,
    stacks_of,
)
from CineLabelLib.study import CineStudy, require_image, study_name

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NAMELESS_FOLDERS = ("dicom", "dcm", "images")  # these say what lies in them, not whose it is


def series_of(folder: Path) -> list[Series]:
    """The stacks that a folder holds, without reading pixels. Raises InputError as `read_study`."""
    images, _ = scan(Path(folder), _silent)
    return [stack.summary() for stack in stacks_of(images)]


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
        series: a key of `series_of`; needed when several stacks may be the cine.
        progress: called with the share that is read and a sentence; what it raises ends the read.

    Raises:
        InputError: a sentence naming the file, slice or series that is wrong: no image, mixed
            patients, colour, a slice missing or taken twice, unequal numbers of phases, ...
    """
    folder, progress = Path(folder), progress or _silent
    images, set_aside = scan(folder, lambda share, text: progress(share / 2, text))
    stacks = stacks_of(images)
    stack = choose(stacks, series, folder)
    for left_out in set_aside:
        if left_out.series_uid in stack.series_uids:
            raise InputError(left_out.reason, where=left_out.path, remedy=left_out.remedy)
    slices, order = order_phases(stack, folder)
    affine = LPS_TO_RAS @ affine_lps(stack, folder)
    voxels = _voxels(slices, progress)
    require_image(voxels, folder)
    here = folder.resolve()
    name = study_name(here.parent if here.name.lower() in _NAMELESS_FOLDERS else here)
    return CineStudy(
        name=name if len(stacks) == 1 else f"{name}-{stack.key}",
        voxels=voxels,
        affine=affine,
        trigger_times_ms=_trigger_times_ms(slices) if order == "trigger_time_ms" else None,
        source=folder,
        notes=_notes(stack, stacks, set_aside, order),
    )


def _silent(share: float, sentence: str) -> None:
    """A progress that tells nobody."""


def _voxels(slices: Sequence[Sequence[DicomImage]], progress: Progress) -> np.ndarray:
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


def _trigger_times_ms(slices: Sequence[Sequence[DicomImage]]) -> tuple[float, ...] | None:
    """The trigger time of each phase; breath-holds differ a little, so the median of slices."""
    times = [[image.trigger_time_ms for image in images] for images in slices]
    if any(time is None for row in times for time in row):
        return None
    return tuple(np.median(np.array(times, np.float64), axis=0).tolist())


def _notes(
    stack: Stack, stacks: Sequence[Stack], set_aside: Sequence[SetAside], order: str
) -> tuple[str, ...]:
    notes = []
    if len(stack.series_uids) > 1:
        notes.append(f"Joined {len(stack.series_uids)} series of one slice each.")
    if order != "trigger_time_ms":
        notes.append(f"Phases ordered by {PHASE_ORDER[order]}, trigger times are missing.")
    notes += [f"{item.path.name} left out, it {item.reason}." for item in set_aside]
    notes += [f"Series {other.summary()} left out." for other in stacks if other is not stack]
    return tuple(notes)
