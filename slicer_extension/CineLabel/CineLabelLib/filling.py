"""Filling the slices between labelled ones, so that the muscle around the cavity stays closed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from CineLabelLib.core.labels import BACKGROUND, LV, MYO, RV, STRUCTURES, Structure
from CineLabelLib.shortaxis import NothingToDo, check, keep_apart, labelled_slices

Between = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""From two masks (x, y) bool and a number n: the n masks (x, y, n) between them, evenly spaced."""


def fill_between(
    labels: np.ndarray, structure: Structure | None = None, between: Between | None = None
) -> np.ndarray:
    """Labels with the empty slices of structures filled between labelled ones.

    Cavity and muscle are filled as one solid, and the cavity is cut out of it, so that the muscle
    stays closed. Only background changes.

    Args:
        structure: the one to fill; None fills all.
        between: how masks are interpolated; `between_by_distance` where None.

    Raises:
        NothingToDo: no slice is empty between labelled ones.
    """
    check(labels)
    between = between or between_by_distance
    wanted = STRUCTURES if structure is None else (structure,)
    gaps = {each: _gaps(labels, each) for each in wanted}
    if not any(gaps.values()):
        name = "any structure" if structure is None else structure.name
        raise NothingToDo(f"no slice without {name} lies between slices with it")
    left = (labels == LV.value) | (labels == MYO.value)
    with_muscle = (labels == MYO.value).any(axis=(0, 1))
    cavity = _filled(labels == LV.value, between)
    heart = _filled(left & with_muscle, between) | cavity
    right = _filled(labels == RV.value, between) & ~heart
    result = labels.copy()
    for each, mask in ((LV, cavity), (MYO, heart & ~cavity), (RV, right)):
        for k in gaps.get(each, ()):
            before, after = labels[:, :, k], result[:, :, k]
            after[mask[:, :, k] & (before == BACKGROUND)] = each.value
            after[:] = keep_apart(before, after)
    return result


def between_by_distance(below: np.ndarray, above: np.ndarray, n: int) -> np.ndarray:
    """The masks (x, y, n) between two masks (x, y), by their distance maps.

    Shape-based interpolation: signed distances to the two outlines are averaged, the nearer slice
    counting more (Raya and Udupa 1990).
    """
    low, high = _signed_distance(below), _signed_distance(above)
    weights = np.arange(1, n + 1) / (n + 1)
    return (1 - weights) * low[..., None] + weights * high[..., None] > 0


def _filled(mask: np.ndarray, between: Between) -> np.ndarray:
    filled = mask.copy()
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    for low, high in zip(slices[:-1], slices[1:], strict=True):
        if high - low > 1:
            inner = between(mask[:, :, low], mask[:, :, high], int(high - low - 1))
            filled[:, :, low + 1 : high] = inner
    return filled


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return inside - ndimage.distance_transform_edt(~mask)


def _gaps(labels: np.ndarray, structure: Structure) -> list[int]:
    slices = labelled_slices(labels, structure)
    return [k for k in range(slices[0], slices[-1]) if k not in slices] if slices else []
