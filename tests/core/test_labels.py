from __future__ import annotations

import numpy as np
import pytest
from cinelabel.core.errors import LabelError
from cinelabel.core.labels import CANONICAL, LABEL_NAMES, LV, MYO, RV, STRUCTURES, LabelMap

ACDC_LIKE = LabelMap("upside down", {3: 1, 2: 2, 1: 3})
SCARS = LabelMap("scars", {500: 1, 200: 2, 1220: 2, 2221: 2, 600: 3})


def test_canonical_values_are_one_two_three():
    assert [(s.name, s.value) for s in STRUCTURES] == [("LV", 1), ("MYO", 2), ("RV", 3)]
    assert dict(LABEL_NAMES) == {"LV": 1, "MYO": 2, "RV": 3}


def test_structures_have_distinct_colours_and_codes():
    assert len({s.colour for s in STRUCTURES}) == 3
    assert {s.code.value for s in STRUCTURES} == {"87878005", "74281007", "53085002"}
    assert {s.code.scheme for s in STRUCTURES} == {"SCT"}


def test_canonical_labels_stay_what_they_are():
    labels = np.array([[0, 1], [2, 3]], np.int16)
    found = CANONICAL.to_canonical(labels, "a.nii")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


def test_swapped_values_are_swapped_back():
    found = ACDC_LIKE.to_canonical(np.array([0, 1, 2, 3, 3]), "a.nii")
    assert found.tolist() == [0, RV.value, MYO.value, LV.value, LV.value]


def test_several_values_may_mean_one_structure():
    found = SCARS.to_canonical(np.array([0, 500, 200, 1220, 2221, 600]), "a.nii")
    assert found.tolist() == [0, 1, 2, 2, 2, 3]


def test_whole_floats_pass():
    assert CANONICAL.to_canonical(np.array([0.0, 2.0]), "a.nii").tolist() == [0, 2]


@pytest.mark.parametrize("value", [7, -1, 257, 0.5, np.nan, np.inf])
def test_other_values_are_refused_by_file_and_value(value):
    with pytest.raises(LabelError) as error:
        CANONICAL.to_canonical(np.array([0, 1, value]), "label.nii.gz")
    assert str(error.value).startswith(f"label.nii.gz: has label value {value:g},")
    assert "1 (LV), 2 (MYO), 3 (RV)" in str(error.value)


def test_zero_is_background_whatever_the_map_says():
    assert LabelMap("odd", {0: 1}).to_canonical(np.array([0]), "a").tolist() == [0]
