"""DICOM images sorted into stacks: series told apart, slices along the normal, phases in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CineLabelLib.core.errors import InputError
from CineLabelLib.dicom_images import DicomImage

_SAME_DIRECTION = 5e-3  # largest difference of a direction cosine within a stack
_SAME_POSITION_MM = 0.1  # largest distance along the normal between images of one slice
_SAME_SPACING_MM = 1e-3
_UNEVEN_STEP = 0.1  # relative deviation of a slice step that is still even
_MISSING_SLICE = 1.5  # a step of this many usual steps has lost a slice
_IN_PLANE_SHIFT_MM = 1.0  # largest distance of a slice from the line through the stack
_STACK_SLICES = 3  # fewest slices of a short-axis stack
# Attribute of DicomImage that orders the phases, in order of preference, and its DICOM name.
PHASE_ORDER = {
    "trigger_time_ms": "TriggerTime",
    "instance_number": "InstanceNumber",
    "content_time_s": "ContentTime",
    "temporal_position": "TemporalPositionIdentifier",
}


@dataclass(frozen=True)
class Series:
    """A stack of a folder, as shown to choose from; `key` chooses it.

    `phases` is the number of images of the fullest slice, `joined` how many series are in it.
    """

    key: str
    description: str
    columns: int
    rows: int
    slices: int
    phases: int
    joined: int

    def __str__(self) -> str:
        name = f" '{self.description}'" if self.description else ""
        joined = f" from {self.joined} series" if self.joined > 1 else ""
        slices = "1 slice" if self.slices == 1 else f"{self.slices} slices"
        phases = "1 phase" if self.phases == 1 else f"{self.phases} phases"
        return f"{self.key}{name} {self.columns} x {self.rows}, {slices}{joined}, {phases}"


@dataclass(frozen=True, eq=False)
class Stack:
    """Images that share study, orientation, matrix and spacing: a series, or several joined.

    Attributes:
        slices: the images of each slice, in order of acquisition, phases not yet ordered.
        strays: single-slice series that fit the joined stack but for their number of phases.
        key: what chooses this stack among those of the folder.
    """

    slices: tuple[tuple[DicomImage, ...], ...]
    strays: tuple[Stack, ...] = ()
    key: str = ""

    @property
    def first(self) -> DicomImage:
        return self.slices[0][0]

    @property
    def phases(self) -> int:
        return max(len(images) for images in self.slices)

    @property
    def series_uids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(image.series_uid for images in self.slices for image in images))

    def summary(self) -> Series:
        first = self.first
        return Series(
            key=self.key,
            description=first.description,
            columns=first.columns,
            rows=first.rows,
            slices=len(self.slices),
            phases=self.phases,
            joined=len(self.series_uids),
        )

    def slice_name(self, index: int) -> str:
        """A slice by index (from 0) and position along the normal."""
        position = float(self.slices[index][0].position @ self.first.normal)
        return f"slice {index} (counted from 0, at {position:.1f} mm along the normal)"


def stacks_of(images: Sequence[DicomImage]) -> list[Stack]:
    """The stacks of a folder; a series that mixes orientations or matrices is several.

    Many scanners store each slice of a cine as a series of its own: those of one study that share
    orientation, matrix, spacing and number of phases are joined.
    """
    collected: list[list[DicomImage]] = []
    for image in images:
        for members in collected:
            if image.series_uid == members[0].series_uid and _same_plane(image, members[0]):
                members.append(image)
                break
        else:
            collected.append([image])
    return _with_keys(_join_single_slices([_sorted_stack(members) for members in collected]))


def choose(stacks: Sequence[Stack], series: str | None, folder: Path) -> Stack:
    """The stack of that key, or the only one that may be the cine; else InputError lists them."""
    remedy = f"Choose one of {'; '.join(str(stack.summary()) for stack in stacks)}"
    if series is not None:
        for stack in stacks:
            if stack.key == series:
                return stack
        raise InputError(f"has no series {series!r}", where=folder, remedy=remedy)
    if len(stacks) == 1:
        return stacks[0]
    large = [stack for stack in stacks if len(stack.slices) >= _STACK_SLICES]
    if len(large) == 1:
        return large[0]
    problem = f"holds {len(stacks)} series, of which {len(large) or 'none'} may be the cine stack"
    raise InputError(problem, where=folder, remedy=remedy)


def order_phases(stack: Stack, folder: Path) -> tuple[list[list[DicomImage]], str]:
    """The images of each slice in the order of the heart beat, and the attribute that gave it."""
    _require_equal_phases(stack, folder)
    if stack.phases == 1:
        return [list(images) for images in stack.slices], "trigger_time_ms"
    for attribute in PHASE_ORDER:
        known = [
            [value for image in images if (value := getattr(image, attribute)) is not None]
            for images in stack.slices
        ]
        if attribute == "trigger_time_ms":
            _require_no_repeated_time(stack, known, folder)
        if all(len(set(values)) == stack.phases for values in known):
            ordered = [
                sorted(images, key=lambda image: getattr(image, attribute))
                for images in stack.slices
            ]
            return ordered, attribute
    raise InputError(
        "does not tell the order of its phases",
        where=folder,
        remedy=f"The images need distinct values of {' or '.join(PHASE_ORDER.values())}",
    )


def affine_lps(stack: Stack, folder: Path) -> np.ndarray:
    """(4, 4) voxel index (column, row, slice) to LPS+ mm; InputError where no grid holds it."""
    first = stack.first
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing[1]
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    affine[:3, 3] = first.position
    _require_still_slices(stack, folder)
    if len(stack.slices) == 1:
        affine[:3, 2] = first.normal * first.step
        return affine
    positions = np.array([images[0].position for images in stack.slices])
    _require_even_steps(positions @ first.normal, folder)
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    line = positions[0] + np.arange(len(positions))[:, np.newaxis] * affine[:3, 2]
    shifts = np.linalg.norm((positions - line) @ first.orientation.T, axis=1)
    if shifts.max() > _IN_PLANE_SHIFT_MM:
        raise InputError(
            f"slice {shifts.argmax()} is shifted by {shifts.max():.1f} mm in its plane "
            "against the others",
            where=folder,
            remedy="One grid cannot hold these slices, export an unshifted stack",
        )
    return affine


def _same_plane(one: DicomImage, other: DicomImage) -> bool:
    """Whether two images can be slices or phases of one stack."""
    return (
        one.study_uid == other.study_uid
        and (one.rows, one.columns) == (other.rows, other.columns)
        and one.phase_map == other.phase_map
        and np.allclose(one.spacing, other.spacing, atol=_SAME_SPACING_MM, rtol=0)
        and float(np.abs(one.orientation - other.orientation).max()) <= _SAME_DIRECTION
    )


def _sorted_stack(images: Iterable[DicomImage]) -> Stack:
    """Images as slices along the normal; the end that was acquired first comes first."""
    images = list(images)
    normal = images[0].normal
    slices: list[list[DicomImage]] = []
    for image in sorted(images, key=lambda image: float(image.position @ normal)):
        if slices and (image.position - slices[-1][0].position) @ normal <= _SAME_POSITION_MM:
            slices[-1].append(image)
        else:
            slices.append([image])
    if _acquired(slices[-1]) < _acquired(slices[0]):
        slices.reverse()
    return Stack(tuple(tuple(members) for members in slices))


def _acquired(images: Sequence[DicomImage]) -> tuple[float, float]:
    """A number that grows with the order of acquisition; equal where nothing tells it."""
    return min((image.series_number or 0, image.instance_number or 0) for image in images)


def _join_single_slices(stacks: Sequence[Stack]) -> list[Stack]:
    """Stacks, with single-slice series of one plane and number of phases made one stack."""
    kept = [stack for stack in stacks if len(stack.slices) > 1]
    buckets: list[list[Stack]] = []
    for stack in stacks:
        if len(stack.slices) > 1:
            continue
        for bucket in buckets:
            if stack.phases == bucket[0].phases and _same_plane(stack.first, bucket[0].first):
                bucket.append(stack)
                break
        else:
            buckets.append([stack])
    joined: list[Stack] = []
    for bucket in buckets:
        whole = _sorted_stack(image for stack in bucket for image in stack.slices[0])
        joined += [whole] if len(whole.slices) > 1 else bucket
    return kept + [replace(stack, strays=_strays(stack, joined)) for stack in joined]


def _strays(stack: Stack, others: Sequence[Stack]) -> tuple[Stack, ...]:
    """Cine slices of the stack's plane that were not joined for their number of phases."""
    if len(stack.series_uids) < _STACK_SLICES:
        return ()
    return tuple(
        other
        for other in others
        if other is not stack
        and 1 < other.phases != stack.phases
        and len(other.slices) < _STACK_SLICES
        and _same_plane(other.first, stack.first)
    )


def _with_keys(stacks: Sequence[Stack]) -> list[Stack]:
    """Stacks in the order of their series numbers, each with a key of its own."""
    numbers = [
        "s" if stack.first.series_number is None else str(stack.first.series_number)
        for stack in stacks
    ]
    count: Counter[str] = Counter()
    keyed = []
    for number, stack in zip(numbers, stacks, strict=True):
        count[number] += 1
        key = number if numbers.count(number) == 1 else f"{number}-{count[number]}"
        keyed.append(replace(stack, key=key))
    return sorted(keyed, key=lambda stack: (stack.first.series_number or 0, stack.key))


def _require_equal_phases(stack: Stack, folder: Path) -> None:
    for index, images in enumerate(stack.slices):
        series = sorted({_series_name(image) for image in images})
        if len({image.series_uid for image in images}) > 1:
            raise InputError(
                f"{stack.slice_name(index)} was taken more than once, in series "
                f"{', '.join(series)}",
                where=folder,
                remedy="Keep one of them in the folder",
            )
    counts = [len(images) for images in stack.slices]
    usual = Counter(counts).most_common(1)[0][0]
    odd = [(stack.slice_name(z), count) for z, count in enumerate(counts) if count != usual]
    for stray in stack.strays:
        position = float(stray.first.position @ stack.first.normal)
        series_name = _series_name(stray.first)
        name = f"the slice at {position:.1f} mm along the normal (series {series_name})"
        odd.append((name, stray.phases))
    for name, count in odd:
        raise InputError(
            f"{name} has {count} phases and the others have {usual}",
            where=folder,
            remedy="Complete or remove that slice",
        )


def _series_name(image: DicomImage) -> str:
    return image.series_uid if image.series_number is None else str(image.series_number)


def _require_no_repeated_time(stack: Stack, times: Sequence[Sequence[float]], folder: Path) -> None:
    """One trigger time for all phases is a filler; a few equal ones are repeated images."""
    for index, known in enumerate(times):
        if len(known) == len(stack.slices[index]) and 1 < len(set(known)) < len(known):
            time, count = Counter(known).most_common(1)[0]
            raise InputError(
                f"{stack.slice_name(index)} has {count} images at trigger time {time:g} ms",
                where=folder,
                remedy="Remove the repeated images",
            )


def _require_still_slices(stack: Stack, folder: Path) -> None:
    for index, images in enumerate(stack.slices):
        apart = max(float(np.linalg.norm(i.position - images[0].position)) for i in images)
        if apart > _IN_PLANE_SHIFT_MM:
            raise InputError(
                f"the phases of {stack.slice_name(index)} lie up to {apart:.1f} mm apart",
                where=folder,
                remedy="Export the phases of each slice from one acquisition",
            )


def _require_even_steps(along_normal: np.ndarray, folder: Path) -> None:
    steps = np.abs(np.diff(along_normal))
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    for index, step in enumerate(steps):
        pair = f"between slices {index} and {index + 1} (counted from 0)"
        if step > _MISSING_SLICE * usual:
            raise InputError(
                f"a slice is missing {pair}, which are {step:.1f} mm apart where the usual step "
                f"is {usual:.1f} mm",
                where=folder,
                remedy="Export the whole stack",
            )
        if abs(step - usual) > _UNEVEN_STEP * usual:
            raise InputError(
                f"the slices are not evenly spaced, the step {pair} is {step:.1f} mm and the "
                f"usual one {usual:.1f} mm",
                where=folder,
                remedy="Export one evenly spaced stack",
            )
