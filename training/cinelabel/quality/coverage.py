"""Whether a stack covers the left ventricle from base to apex, read from its labels.

A stack covers an end of the ventricle when at least one slice lies beyond it (Schulz-Menger et
al. 2020: the stack spans from the mitral plane through the apex). The ventricle tapers to its
apex: the basal end is the wider one, or, of two alike, the one towards which the RV lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinelabel.core.errors import GridError
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.core.review import SliceReview


@dataclass(frozen=True)
class CoverageRules:
    """Numbers of the search for the basal end.

    Attributes:
        end_share: share of the ventricle's slices that counts as one end.
        taper: an end whose mean area is below this share of the other's is the apex.
        rv_offset: slices by which the centre of the RV must lie off that of the ventricle.
    """

    end_share: float = 1 / 3
    taper: float = 0.8
    rv_offset: float = 0.25


RULES = CoverageRules()


@dataclass(frozen=True)
class Coverage:
    """Where the left ventricle lies in a stack.

    Attributes:
        slices: number of slices of the stack.
        first, last: first and last slice with LV or MYO, None where there is none.
        base: slice at the basal end (`first` or `last`), None where it cannot be told.
        base_covered, apex_covered: whether a slice lies beyond that end; None where unknown.
        gaps: slices between `first` and `last` without LV and MYO.
    """

    slices: int
    first: int | None
    last: int | None
    base: int | None
    base_covered: bool | None
    apex_covered: bool | None
    gaps: tuple[int, ...]

    @property
    def complete(self) -> bool:
        """Whether both ends are covered and no slice between them lacks the ventricle."""
        ends = self.first not in (None, 0) and self.last not in (None, self.slices - 1)
        return ends and not self.gaps


def coverage(labels: np.ndarray) -> Coverage:
    """Coverage of canonical labels (x, y, z), or (x, y, z, t): all frames together.

    Raises GridError for other shapes.
    """
    if labels.ndim not in (3, 4):
        raise GridError(f"labels of shape {labels.shape} are not (x, y, z) or (x, y, z, t)")
    ventricle = _areas(labels, LV.value) + _areas(labels, MYO.value)
    slices = len(ventricle)
    present = np.flatnonzero(ventricle)
    if present.size == 0:
        return Coverage(slices, None, None, None, None, None, ())
    first, last = int(present[0]), int(present[-1])
    gaps = tuple(k for k in range(first, last + 1) if ventricle[k] == 0)
    base = _basal_end(ventricle, _areas(labels, RV.value), first, last)
    free = {first: first > 0, last: last < slices - 1}
    if base is None:
        return Coverage(slices, first, last, None, None, None, gaps)
    apex = last if base == first else first
    return Coverage(slices, first, last, base, free[base], free[apex], gaps)


def review_coverage(labels: np.ndarray) -> tuple[SliceReview, ...]:
    """One review a slice, whose `coverage` holds the findings in sentences (empty: none).

    labels: canonical, (x, y, z) or (x, y, z, t). Raises GridError for other shapes.
    """
    found = coverage(labels)
    sentences: dict[int, list[str]] = {k: [] for k in range(found.slices)}
    if found.first is None or found.last is None:
        sentences[0].append("No left ventricle is labelled in any slice.")
    else:
        for end, outermost in ((found.first, 0), (found.last, found.slices - 1)):
            if end == outermost:
                sentences[end].append(_end_sentence(end, found.base))
        for k in found.gaps:
            sentences[k].append(
                f"Slice {k} shows no left ventricle, though slices on both sides of it do."
            )
    return tuple(SliceReview(k, coverage=tuple(texts)) for k, texts in sentences.items())


def coverage_sentences(labels: np.ndarray) -> list[str]:
    """What `review_coverage` finds, by slice."""
    return [sentence for one in review_coverage(labels) for sentence in one.coverage]


def _areas(labels: np.ndarray, value: int) -> np.ndarray:
    """Voxels of a value in each slice, (z,)."""
    other = tuple(axis for axis in range(labels.ndim) if axis != 2)
    return np.count_nonzero(labels == value, axis=other)


def _basal_end(ventricle: np.ndarray, rv: np.ndarray, first: int, last: int) -> int | None:
    """The wider end, else the end towards which the RV lies; None if both are undecided."""
    if first == last:
        return None
    depth = max(1, round((last - first + 1) * RULES.end_share))
    low = float(ventricle[first : first + depth].mean())
    high = float(ventricle[last - depth + 1 : last + 1].mean())
    if min(low, high) < RULES.taper * max(low, high):
        return first if low > high else last
    rv_centre, centre = _centre(rv), _centre(ventricle)
    if rv_centre is None or centre is None or abs(rv_centre - centre) < RULES.rv_offset:
        return None
    return last if rv_centre > centre else first


def _centre(areas: np.ndarray) -> float | None:
    total = int(areas.sum())
    return None if total == 0 else float((np.arange(len(areas)) * areas).sum() / total)


def _end_sentence(end: int, base: int | None) -> str:
    if base is None:
        return f"The left ventricle reaches the outermost slice {end}: an end of it may be missing."
    name = "base" if end == base else "apex"
    return f"The left ventricle reaches the outermost slice {end}: its {name} may be missing."
