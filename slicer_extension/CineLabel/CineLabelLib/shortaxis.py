"""Operations on the labels of a short-axis frame: copy, clear, smooth, islands, grow, close.

Labels are (x, y, z) uint8 with values 0, LV, MYO, RV; a slice is `labels[:, :, k]`. A result is a
new array: what an operation does not name stays bit for bit, and so do neighbours, except where
slices are copied. In-plane lengths are millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from CineLabelLib.core.errors import CineLabelError, InputError, LabelError
from CineLabelLib.core.labels import BACKGROUND, LV, MYO, RV, STRUCTURES, Structure

SMOOTHING_MM = 2.0
EIGHT = np.ones((3, 3), bool)


class NothingToDo(CineLabelError):
    """An operation has nothing to work on, or would change nothing."""


class AlreadyLabelled(CineLabelError):
    """Slices that hold labels would be replaced, and nobody confirmed it.

    Args:
        slices: their numbers, from 0.
    """

    def __init__(self, slices: Sequence[int], what: str) -> None:
        self.slices = tuple(slices)
        super().__init__(
            f"{_these(slices)} labels already, which {what} would replace",
            remedy="Confirm it, or clear them first",
        )


def check(labels: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The labels themselves, if they are (x, y, z) uint8 with the values 0, LV, MYO and RV.

    Raises:
        LabelError: they are not, or have another shape than `shape`.
    """
    if labels.ndim != 3 or labels.dtype != np.uint8:
        raise LabelError(f"labels are {labels.ndim}D {labels.dtype}, not (x, y, z) uint8")
    if shape is not None and labels.shape != shape:
        raise LabelError(f"labels are {labels.shape} and the frame is {shape}")
    if labels.size and labels.max() > RV.value:
        raise LabelError(f"labels have the value {labels.max()}, which is none of LV, MYO, RV")
    return labels


def labelled_slices(labels: np.ndarray, structure: Structure | None = None) -> tuple[int, ...]:
    """The slices that show a structure, or any."""
    here = labels > BACKGROUND if structure is None else labels == structure.value
    return tuple(int(k) for k in np.flatnonzero(here.any(axis=(0, 1))))


def copy_slice(
    labels: np.ndarray, source: int, target: int, *, replace: bool = False
) -> np.ndarray:
    """Labels with slice `target` as slice `source` is.

    Args:
        replace: the reader confirmed that labels of `target` may be replaced.

    Raises:
        AlreadyLabelled: `target` has other labels and `replace` is not set.
        NothingToDo: `source` is empty.
        InputError: a slice does not exist.
    """
    _require_slices(labels, (source, target))
    if not labels[:, :, source].any():
        raise NothingToDo(f"slice {source} has no labels to copy")
    return _put(labels, labels[:, :, [source]], (target,), "a copy", replace)


def copy_frame(
    labels: np.ndarray, other: np.ndarray, index: int | None = None, *, replace: bool = False
) -> np.ndarray:
    """Labels with the slices, or slice `index`, of another frame's labels.

    Slices that are empty in the other frame stay as they are; only slices with labels are copied.

    Raises:
        AlreadyLabelled, NothingToDo, InputError: as `copy_slice`.
    """
    check(other, labels.shape)
    if index is not None:
        _require_slices(labels, (index,))
    slices = [k for k in labelled_slices(other) if index in (None, k)]
    if not slices:
        where = "that frame has" if index is None else f"slice {index} of that frame has"
        raise NothingToDo(f"{where} no labels to copy")
    return _put(labels, other[:, :, slices], slices, "a copy", replace)


def clear_slice(labels: np.ndarray, index: int) -> np.ndarray:
    """Labels without those of a slice. Raises NothingToDo where it is empty."""
    _require_slices(labels, (index,))
    if not labels[:, :, index].any():
        raise NothingToDo(f"slice {index} is empty already")
    result = labels.copy()
    result[:, :, index] = BACKGROUND
    return result


def smooth(
    labels: np.ndarray,
    spacing: Sequence[float],
    structure: Structure | None = None,
    index: int | None = None,
    width_mm: float = SMOOTHING_MM,
) -> np.ndarray:
    """Labels with smoother outlines, each slice by itself.

    Structures and background are blurred by a Gaussian, and each voxel becomes what is strongest
    there, so that no gap opens between muscle and cavity. With a `structure`, voxels change only
    into it from the background, or out of it. A slice in which something would vanish stays.

    Args:
        spacing: voxel size in mm, along x and y first.
        width_mm: standard deviation of the Gaussian.

    Raises:
        NothingToDo: there is nothing to smooth.
    """
    result = labels.copy()
    sigma = (width_mm / spacing[0], width_mm / spacing[1])
    for k in _slices_of(labels, structure, index):
        box = (*_box(labels[:, :, k], margin=1 + int(4 * max(sigma))), k)
        before = labels[box]
        shares = [
            ndimage.gaussian_filter((before == value).astype(np.float32), sigma, mode="nearest")
            for value in range(RV.value + 1)
        ]
        after = np.argmax(shares, axis=0).astype(np.uint8)
        if structure is not None:
            leaves = before == structure.value
            joins = (after == structure.value) & (before == BACKGROUND)
            after = np.where(leaves | joins, after, before)
        after = keep_apart(before, after)
        if set(np.unique(before)) <= set(np.unique(after)):
            result[box] = after
    return result


def keep_largest(
    labels: np.ndarray, structure: Structure | None = None, index: int | None = None
) -> np.ndarray:
    """Labels with the largest part of each structure in each slice; diagonal voxels touch.

    What is taken away becomes what surrounds it where that is one structure, else background.
    """
    result = labels.copy()
    for k in _slices_of(labels, structure, index):
        for each in STRUCTURES if structure is None else (structure,):
            here = result[:, :, k]
            parts, count = ndimage.label(here == each.value, EIGHT)
            sizes = np.bincount(parts.ravel())[1:]
            for part in range(1, count + 1):
                if part != 1 + sizes.argmax():
                    island = parts == part
                    ring = ndimage.binary_dilation(island, EIGHT) & ~island
                    around = np.unique(here[ring])
                    here[island] = around[0] if len(around) == 1 else BACKGROUND
    return result


def grow(
    labels: np.ndarray,
    spacing: Sequence[float],
    structure: Structure,
    by_mm: float,
    index: int | None = None,
    *,
    locked: bool = True,
) -> np.ndarray:
    """Labels with a structure grown in plane, or shrunk where `by_mm` < 0, by a voxel or more.

    With locked neighbours only its border with the background moves. Otherwise the muscle, or
    both cavities, give way to it and follow it; the cavities never come to touch.

    Raises:
        NothingToDo: the structure is not there, cannot move, or would vanish from a slice.
    """
    if by_mm == 0:
        raise NothingToDo("growing by 0 mm changes nothing")
    result = labels.copy()
    step = max(abs(by_mm), *spacing[:2])
    for k in _slices_of(labels, structure, index):
        before, after = labels[:, :, k], result[:, :, k]
        inside = before == structure.value
        gives_way = ~inside if not locked else before == BACKGROUND
        if structure is not MYO:
            gives_way &= (before == BACKGROUND) | (before == MYO.value)
        if by_mm > 0:
            near = ndimage.distance_transform_edt(~inside, spacing[:2]) <= step
            after[near & gives_way] = structure.value
        elif gives_way.any():
            far, nearest = ndimage.distance_transform_edt(
                ~gives_way, spacing[:2], return_indices=True
            )
            leaves = inside & (far <= step)
            if (leaves == inside).all():
                raise NothingToDo(
                    f"{structure.name} of slice {k} would vanish", remedy="Shrink it by less"
                )
            after[leaves] = before[tuple(nearest)][leaves]
        after[:] = keep_apart(before, after)
    if (result == labels).all():
        raise NothingToDo(
            f"{structure.name} cannot move, its neighbours are locked around it",
            remedy="Unlock them first",
        )
    return result


def close_muscle(labels: np.ndarray, index: int | None = None) -> np.ndarray:
    """Labels with muscle between the cavities, and without holes between cavity and muscle.

    Voxels of RV that touch LV, diagonally too, become MYO. A hole within LV and MYO becomes LV
    where LV alone surrounds it, else MYO.

    Raises:
        NothingToDo: there is no LV, or the muscle is closed.
    """
    result = labels.copy()
    for k in _slices_of(labels, LV, index):
        here = result[:, :, k]
        here[(here == RV.value) & ndimage.binary_dilation(here == LV.value, EIGHT)] = MYO.value
        left = (here == LV.value) | (here == MYO.value)
        holes, count = ndimage.label(ndimage.binary_fill_holes(left) & (here == BACKGROUND))
        for hole in range(1, count + 1):
            inside = holes == hole
            ring = ndimage.binary_dilation(inside, EIGHT) & ~inside
            here[inside] = LV.value if (here[ring] == LV.value).all() else MYO.value
    if (result == labels).all():
        raise NothingToDo("the muscle is closed already")
    return result


def keep_apart(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """`after`, but voxels that became LV or RV and touch the other are as they were `before`."""
    while True:
        near_lv = ndimage.binary_dilation(after == LV.value, EIGHT) & (after == RV.value)
        near_rv = ndimage.binary_dilation(after == RV.value, EIGHT) & (after == LV.value)
        back = (after != before) & (near_lv | near_rv)
        if not back.any():
            return after
        after = np.where(back, before, after)


def _box(labels: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The part of a slice that holds its labels and a margin around them."""
    i, j = (np.flatnonzero(labels.any(axis=axis)) for axis in (1, 0))
    low, high = (i[0] - margin, j[0] - margin), (i[-1] + margin + 1, j[-1] + margin + 1)
    return slice(max(low[0], 0), high[0]), slice(max(low[1], 0), high[1])


def _slices_of(labels: np.ndarray, structure: Structure | None, index: int | None) -> list[int]:
    check(labels)
    if index is not None:
        _require_slices(labels, (index,))
    slices = [k for k in labelled_slices(labels, structure) if index in (None, k)]
    if not slices:
        what = "labels" if structure is None else structure.name
        where = "this frame" if index is None else f"slice {index}"
        raise NothingToDo(f"{where} has no {what}", remedy="Draw it first")
    return slices


def _require_slices(labels: np.ndarray, slices: Sequence[int]) -> None:
    for k in slices:
        if not 0 <= k < labels.shape[2]:
            raise InputError(f"there is no slice {k}, slices are 0 to {labels.shape[2] - 1}")


def _put(
    labels: np.ndarray, source: np.ndarray, slices: Sequence[int], what: str, replace: bool
) -> np.ndarray:
    check(labels)
    result = labels.copy()
    result[:, :, list(slices)] = source
    other = (labels != result).any(axis=(0, 1)) & (labels > BACKGROUND).any(axis=(0, 1))
    if other.any() and not replace:
        raise AlreadyLabelled([int(k) for k in np.flatnonzero(other)], what)
    return result


def _these(slices: Sequence[int]) -> str:
    if len(slices) == 1:
        return f"slice {slices[0]} has"
    return f"slices {', '.join(map(str, slices[:-1]))} and {slices[-1]} have"
