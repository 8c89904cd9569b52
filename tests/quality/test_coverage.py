"""Coverage of the ventricle, on stacks built slice by slice."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.core.errors import GridError
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.core.review import ReviewRecord
from cinelabel.quality.coverage import coverage, review_coverage


def stack(widths: list[int], rv: list[int] | None = None) -> np.ndarray:
    """A square ventricle of each width, one slice each; 0 for a slice without it."""
    labels = np.zeros((30, 30, len(widths)), np.uint8)
    for k, width in enumerate(widths):
        if width:
            labels[5 : 5 + width, 5 : 5 + width, k] = MYO.value
            labels[6 : 4 + width, 6 : 4 + width, k] = LV.value
    for k, width in enumerate(rv or []):
        labels[22 : 22 + width, 5:10, k] = RV.value
    return labels


def sentences(labels: np.ndarray) -> dict[int, tuple[str, ...]]:
    return {review.index: review.coverage for review in review_coverage(labels) if review.coverage}


def test_a_stack_with_a_free_slice_at_both_ends_is_complete():
    found = coverage(stack([0, 14, 12, 9, 5, 0]))
    assert (found.first, found.last, found.base) == (1, 4, 1)
    assert found.base_covered
    assert found.apex_covered
    assert found.complete
    assert sentences(stack([0, 14, 12, 9, 5, 0])) == {}


def test_the_wider_end_is_the_base_in_either_order():
    assert coverage(stack([0, 5, 9, 12, 14, 0])).base == 4
    found = coverage(stack([5, 9, 12, 14, 0]))
    assert (found.apex_covered, found.base_covered) == (False, True)
    assert "apex" in sentences(stack([5, 9, 12, 14, 0]))[0][0]


def test_a_ventricle_in_the_outermost_basal_slice_may_lack_its_base():
    found = sentences(stack([14, 12, 9, 5, 0]))
    assert list(found) == [0]
    assert "slice 0" in found[0][0]
    assert "base" in found[0][0]


def test_the_rv_decides_between_ends_of_equal_width():
    widths = [12, 12, 12, 12]
    assert coverage(stack(widths)).base is None
    assert coverage(stack(widths)).base_covered is None
    assert "an end of it" in sentences(stack(widths))[0][0]
    assert coverage(stack(widths, rv=[0, 0, 3, 6])).base == 3


def test_a_slice_without_ventricle_between_others_is_a_gap():
    found = sentences(stack([0, 14, 0, 9, 5, 0]))
    assert list(found) == [2]
    assert coverage(stack([0, 14, 0, 9, 5, 0])).gaps == (2,)
    assert not coverage(stack([0, 14, 0, 9, 5, 0])).complete


def test_all_frames_of_a_cine_count_together():
    labels = np.stack([stack([0, 14, 12, 9, 0]), stack([0, 0, 12, 9, 5])], axis=3)
    found = coverage(labels)
    assert (found.first, found.last) == (1, 4)
    assert found.apex_covered is False


def test_an_empty_label_says_so_once():
    found = sentences(stack([0, 0, 0]))
    assert found == {0: ("No left ventricle is labelled in any slice.",)}
    assert coverage(stack([0, 0, 0])).base_covered is None


def test_the_findings_fit_a_review_record():
    reviews = review_coverage(stack([14, 12, 9, 5]))
    record = ReviewRecord("study", slices=reviews)
    assert ReviewRecord.from_json(record.to_json()) == record


def test_other_shapes_are_refused():
    with pytest.raises(GridError, match="30, 30"):
        coverage(stack([3])[..., 0])
