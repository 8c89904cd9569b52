"""DICOM images sorted into stacks: series told apart, slices along the normal, phases in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import ChoiceError, InputError
from .headers import Instance


@dataclass(frozen=True)
class SortingRules:
    """When images belong together.

    Attributes:
        same_direction: largest difference of a direction cosine within a stack.
        same_position_mm: largest distance between images of one slice.
        same_spacing_mm: largest difference of pixel spacing within a stack.
        uneven_step: relative deviation of a slice step that is still even.
        missing_slice: a step of this many usual steps has lost a slice.
        in_plane_shift_mm: largest distance of a slice from the line through the stack.
        stack_slices: fewest slices of a short-axis stack.
    """

    same_direction: float = 5e-3
    same_position_mm: float = 0.1
    same_spacing_mm: float = 1e-3
    uneven_step: float = 0.1
    missing_slice: float = 1.5
    in_plane_shift_mm: float = 1.0
    stack_slices: int = 3


RULES = SortingRules()
# Attribute of Instance that orders the phases, in order of preference, and its DICOM name.
PHASE_ORDER = {
    "trigger_time_ms": "TriggerTime",
    "instance_number": "InstanceNumber",
    "content_time_s": "ContentTime",
    "temporal_position": "TemporalPositionIdentifier",
}


@dataclass(frozen=True)
class SeriesSummary:
    """A series (or series of one slice each, joined) of a folder, as shown to choose from.

    `key` chooses it; `phases` is the number of images of the fullest slice.
    """

    key: str
    uid: str
    number: int | None
    description: str
    rows: int
    columns: int
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
class Group:
    """Images that share study, orientation, matrix and spacing: a series, or several joined.

    Attributes:
        slices: the images of each slice, slices in order of acquisition, phases not yet ordered.
        strays: single-slice series that fit the joined stack but for their number of phases.
        key: what chooses this group among those of the folder.
    """

    slices: tuple[tuple[Instance, ...], ...]
    strays: tuple[Group, ...] = ()
    key: str = ""

    @property
    def first(self) -> Instance:
        return self.slices[0][0]

    @property
    def phases(self) -> int:
        return max(len(images) for images in self.slices)

    @property
    def series_uids(self) -> tuple[str, ...]:
        """UIDs of the series, in the order of the slices."""
        return tuple(dict.fromkeys(image.series_uid for images in self.slices for image in images))

    def summary(self) -> SeriesSummary:
        """What a listing shows."""
        return SeriesSummary(
            key=self.key,
            uid=self.first.series_uid,
            number=self.first.series_number,
            description=self.first.description,
            rows=self.first.rows,
            columns=self.first.columns,
            slices=len(self.slices),
            phases=self.phases,
            joined=len(self.series_uids),
        )


def group_series(images: Sequence[Instance]) -> list[Group]:
    """The series of a folder; one that mixes orientations or matrices is several groups.

    Many scanners store each slice of a cine as a series of its own: those of one study that share
    orientation, matrix, spacing and number of phases are joined.
    """
    collected: list[list[Instance]] = []
    for image in images:
        for members in collected:
            if image.series_uid == members[0].series_uid and _same_plane(image, members[0]):
                members.append(image)
                break
        else:
            collected.append([image])
    groups = [_sorted_group(members) for members in collected]
    return _with_keys(_join_single_slices(groups))


def choose(groups: Sequence[Group], series: str | None, folder: Path) -> Group:
    """The group that `series` names, or the only stack.

    Raises:
        ChoiceError: the choice is not clear; the sentence lists the series.
    """
    choices = tuple((group.key, str(group.summary())) for group in groups)
    remedy = f"Choose a series of {'; '.join(text for _, text in choices)}"
    if series is not None:
        chosen = [group for group in groups if series in _names(group)]
        exact = [group for group in chosen if group.key == series]
        if len(exact or chosen) == 1:
            return (exact or chosen)[0]
        problem = f"has {'several' if chosen else 'no'} series {series!r}"
        raise ChoiceError(problem, where=folder, remedy=remedy, choices=choices)
    if len(groups) == 1:
        return groups[0]
    stacks = [group for group in groups if len(group.slices) >= RULES.stack_slices]
    if len(stacks) == 1:
        return stacks[0]
    problem = f"holds {len(groups)} series, of which {len(stacks) or 'none'} may be the cine stack"
    raise ChoiceError(problem, where=folder, remedy=remedy, choices=choices)


def order_phases(group: Group, folder: Path) -> tuple[list[list[Instance]], str]:
    """The images of each slice in the order of the heart beat, and the attribute that gave it.

    Raises:
        InputError: a slice has another number of phases than the others, was taken twice, holds
            two images of one time, or nothing tells the order.
    """
    _require_equal_phases(group, folder)
    if group.phases == 1:
        return [list(images) for images in group.slices], "trigger_time_ms"
    for attribute in PHASE_ORDER:
        distinct = [len(set(_values(images, attribute))) for images in group.slices]
        if attribute == "trigger_time_ms":
            _require_no_repeated_time(group, distinct, folder)
        if all(count == group.phases for count in distinct):
            ordered = [
                sorted(images, key=lambda image: getattr(image, attribute))
                for images in group.slices
            ]
            return ordered, attribute
    raise InputError(
        "does not tell the order of its phases",
        where=folder,
        remedy=f"The images need distinct values of {' or '.join(PHASE_ORDER.values())}",
    )


def affine_lps(group: Group, folder: Path) -> np.ndarray:
    """(4, 4) voxel index (column, row, slice) to LPS+ mm.

    Raises:
        InputError: a slice is missing, steps are uneven, or a slice is shifted in its plane.
    """
    first = group.first
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing[1]
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    affine[:3, 3] = first.position
    _require_still_slices(group, folder)
    if len(group.slices) == 1:
        step = first.slice_spacing_mm or first.slice_thickness_mm or 1.0
        affine[:3, 2] = first.normal * step
        return affine
    positions = np.array([images[0].position for images in group.slices])
    _require_even_steps(positions @ first.normal, folder)
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    line = positions[0] + np.arange(len(positions))[:, np.newaxis] * affine[:3, 2]
    in_plane = (positions - line) @ first.orientation.T
    shifts = np.linalg.norm(in_plane, axis=1)
    if shifts.max() > RULES.in_plane_shift_mm:
        raise InputError(
            f"slice {shifts.argmax()} is shifted by {shifts.max():.1f} mm in its plane "
            "against the others",
            where=folder,
            remedy="One grid cannot hold these slices, export an unshifted stack",
        )
    return affine


def slice_name(group: Group, index: int) -> str:
    """A slice by index (from 0) and position along the normal."""
    position = float(group.slices[index][0].position @ group.first.normal)
    return f"slice {index} (counted from 0, at {position:.1f} mm along the normal)"


def _same_plane(one: Instance, other: Instance) -> bool:
    """Whether two images can be slices or phases of one stack."""
    return (
        one.study_uid == other.study_uid
        and (one.rows, one.columns) == (other.rows, other.columns)
        and one.phase_map == other.phase_map
        and np.allclose(one.spacing, other.spacing, atol=RULES.same_spacing_mm, rtol=0)
        and float(np.abs(one.orientation - other.orientation).max()) <= RULES.same_direction
    )


def _sorted_group(images: Iterable[Instance]) -> Group:
    """Images as slices along the normal; the end that was acquired first comes first."""
    images = list(images)
    normal = images[0].normal
    by_position = sorted(images, key=lambda image: float(image.position @ normal))
    slices: list[list[Instance]] = []
    for image in by_position:
        if slices and abs(float((image.position - slices[-1][0].position) @ normal)) <= (
            RULES.same_position_mm
        ):
            slices[-1].append(image)
        else:
            slices.append([image])
    if _acquired(slices[-1]) < _acquired(slices[0]):
        slices.reverse()
    return Group(tuple(tuple(images) for images in slices))


def _acquired(images: Sequence[Instance]) -> tuple[float, float]:
    """A number that grows with the order of acquisition; equal where nothing tells it."""
    return min((image.series_number or 0, image.instance_number or 0) for image in images)


def _join_single_slices(groups: Sequence[Group]) -> list[Group]:
    """Groups with single-slice series of one plane, position by position, made one group."""
    kept = [group for group in groups if len(group.slices) > 1]
    buckets: list[list[Group]] = []
    for group in groups:
        if len(group.slices) > 1:
            continue
        for bucket in buckets:
            if group.phases == bucket[0].phases and _same_plane(group.first, bucket[0].first):
                bucket.append(group)
                break
        else:
            buckets.append([group])
    joined: list[Group] = []
    for bucket in buckets:
        whole = _sorted_group(image for group in bucket for image in group.slices[0])
        joined += [whole] if len(whole.slices) > 1 else bucket
    return kept + [replace(group, strays=_strays(group, joined)) for group in joined]


def _strays(stack: Group, others: Sequence[Group]) -> tuple[Group, ...]:
    """Cine slices of the stack's plane that were not joined for their number of phases."""
    if len(stack.series_uids) < RULES.stack_slices:
        return ()
    return tuple(
        other
        for other in others
        if other is not stack
        and 1 < other.phases != stack.phases
        and len(other.slices) < RULES.stack_slices
        and _same_plane(other.first, stack.first)
    )


def _with_keys(groups: Sequence[Group]) -> list[Group]:
    numbers = [
        "s" if group.first.series_number is None else str(group.first.series_number)
        for group in groups
    ]
    count: Counter[str] = Counter()
    keyed = []
    for number, group in zip(numbers, groups, strict=True):
        count[number] += 1
        key = number if numbers.count(number) == 1 else f"{number}-{count[number]}"
        keyed.append(replace(group, key=key))
    return sorted(keyed, key=lambda group: (group.first.series_number or 0, group.key))


def _names(group: Group) -> set[str]:
    numbers = {image.series_number for images in group.slices for image in images}
    return {group.key, group.first.description, *group.series_uids, *map(str, numbers - {None})}


def _series_name(image: Instance) -> str:
    return image.series_uid if image.series_number is None else str(image.series_number)


def _values(images: Sequence[Instance], attribute: str) -> list[float]:
    values = (getattr(image, attribute) for image in images)
    return [value for value in values if value is not None]


def _require_equal_phases(group: Group, folder: Path) -> None:
    for index, images in enumerate(group.slices):
        series = sorted({_series_name(image) for image in images})
        if len({image.series_uid for image in images}) > 1:
            raise InputError(
                f"{slice_name(group, index)} was taken more than once, in series "
                f"{', '.join(series)}",
                where=folder,
                remedy="Keep one of them in the folder",
            )
    counts = [len(images) for images in group.slices]
    usual = Counter(counts).most_common(1)[0][0]
    for index, count in enumerate(counts):
        if count != usual:
            raise InputError(
                f"{slice_name(group, index)} has {count} phases and the others have {usual}",
                where=folder,
                remedy="Complete or remove that slice",
            )
    for stray in group.strays:
        position = float(stray.first.position @ group.first.normal)
        raise InputError(
            f"the slice at {position:.1f} mm along the normal (series "
            f"{_series_name(stray.first)}) has "
            f"{stray.phases} phases and the others have {usual}",
            where=folder,
            remedy="Complete or remove that slice",
        )


def _require_no_repeated_time(group: Group, distinct: Sequence[int], folder: Path) -> None:
    """One trigger time for all phases is a filler; a few equal ones are repeated images."""
    for index, (images, count) in enumerate(zip(group.slices, distinct, strict=True)):
        known = _values(images, "trigger_time_ms")
        if len(known) == len(images) and 1 < count < len(images):
            time, times = Counter(known).most_common(1)[0]
            raise InputError(
                f"{slice_name(group, index)} has {times} images at trigger time {time:g} ms",
                where=folder,
                remedy="Remove the repeated images",
            )


def _require_still_slices(group: Group, folder: Path) -> None:
    for index, images in enumerate(group.slices):
        apart = max(float(np.linalg.norm(i.position - images[0].position)) for i in images)
        if apart > RULES.in_plane_shift_mm:
            raise InputError(
                f"the phases of {slice_name(group, index)} lie up to {apart:.1f} mm apart",
                where=folder,
                remedy="Export the phases of each slice from one acquisition",
            )


def _require_even_steps(along_normal: np.ndarray, folder: Path) -> None:
    steps = np.abs(np.diff(along_normal))
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    for index, step in enumerate(steps):
        pair = f"between slices {index} and {index + 1} (counted from 0)"
        if step > RULES.missing_slice * usual:
            raise InputError(
                f"a slice is missing {pair}, which are {step:.1f} mm apart where the usual step "
                f"is {usual:.1f} mm",
                where=folder,
                remedy="Export the whole stack",
            )
        if abs(step - usual) > RULES.uneven_step * usual:
            raise InputError(
                f"the slices are not evenly spaced, the step {pair} is {step:.1f} mm and the "
                f"usual one {usual:.1f} mm",
                where=folder,
                remedy="Export one evenly spaced stack",
            )
