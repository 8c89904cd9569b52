from __future__ import annotations

import json

import numpy as np
import pytest
from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.core.grid import Grid
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.core.measures import (
    find_ed_es,
    measure,
    measure_curves,
    structure_volume_ml,
    volume_curve_ml,
)

# Voxels of 2 x 2 x 10 mm = 0.04 ml, so that 25 voxels are 1 ml.
GRID = Grid((10, 10, 20), np.diag([2.0, 2.0, 10.0, 1.0]))


def frame(lv=0, myo=0, rv=0, grid=GRID):
    """Labels with as many voxels of each structure as asked for."""
    labels = np.zeros(int(np.prod(grid.shape)), np.uint8)
    labels[:lv] = 1
    labels[lv : lv + myo] = 2
    labels[lv + myo : lv + myo + rv] = 3
    return labels.reshape(grid.shape)


def cine(*frames):
    return np.stack(frames, axis=-1)


BEAT = cine(frame(500, 300, 600), frame(200, 325, 400), frame(350, 310, 500))


def test_volume_is_voxels_times_their_volume():
    labels = frame(500, 300, 600)
    assert structure_volume_ml(labels, GRID, LV) == pytest.approx(20)
    assert structure_volume_ml(labels, GRID, MYO) == pytest.approx(12)
    assert structure_volume_ml(labels, GRID, RV) == pytest.approx(24)


def test_volume_does_not_depend_on_handedness():
    mirrored = Grid(GRID.shape, GRID.affine @ np.diag([1, 1, -1, 1]))
    assert structure_volume_ml(frame(25), mirrored, LV) == pytest.approx(1)


def test_the_curve_has_the_volume_of_each_frame():
    np.testing.assert_allclose(volume_curve_ml(BEAT, GRID, LV), [20, 8, 14])


def test_ed_is_the_largest_and_es_the_smallest_volume():
    assert find_ed_es([100, 140, 60, 90]) == (1, 2)
    assert find_ed_es([100]) == (0, 0)
    assert find_ed_es([5, 5, 5]) == (0, 0)


def test_an_empty_curve_has_no_phases():
    with pytest.raises(InputError):
        find_ed_es([])


def test_function_worked_out_by_hand():
    found = measure(BEAT, GRID)
    assert (found.ed, found.es) == (0, 1)
    assert found.lv_edv_ml == pytest.approx(20)
    assert found.lv_esv_ml == pytest.approx(8)
    assert found.lv_sv_ml == pytest.approx(12)
    assert found.lv_ef_percent == pytest.approx(60)
    assert found.lv_mass_g == pytest.approx(12 * 1.05)
    assert found.rv_edv_ml == pytest.approx(24)
    assert found.rv_esv_ml == pytest.approx(16)
    assert found.rv_sv_ml == pytest.approx(8)
    assert found.rv_ef_percent == pytest.approx(100 / 3)
    assert found.myo_curve_ml == pytest.approx((12, 13, 12.4))


def test_phases_that_are_given_are_used():
    found = measure(BEAT, GRID, ed=2, es=0)
    assert (found.lv_edv_ml, found.lv_esv_ml) == pytest.approx((14, 20))
    assert found.lv_mass_g == pytest.approx(12.4 * 1.05)


def test_one_given_phase_is_completed_by_the_other():
    found = measure(BEAT, GRID, ed=2)
    assert (found.ed, found.es) == (2, 1)


def test_frames_nobody_labelled_are_not_end_systole():
    labels = cine(frame(), frame(500, 300), frame(), frame(200, 325), frame())
    found = measure(labels, GRID)
    assert (found.ed, found.es) == (1, 3)
    assert found.lv_ef_percent == pytest.approx(60)


def test_a_cavity_squeezed_to_nothing_is_end_systole():
    found = measure(cine(frame(500, 300), frame(0, 300)), GRID)
    assert (found.ed, found.es) == (0, 1)
    assert found.lv_ef_percent == pytest.approx(100)


def test_one_phase_without_a_name_has_volumes_in_the_curve_only():
    found = measure(frame(500, 300, 600), GRID)
    assert found.lv_curve_ml == pytest.approx((20,))
    assert found.lv_edv_ml is None
    assert found.lv_mass_g is None
    assert found.ed is None


def test_one_phase_named_end_diastole_has_volume_and_mass_but_no_ejection_fraction():
    found = measure(frame(500, 300, 600), GRID, ed=0)
    assert found.lv_edv_ml == pytest.approx(20)
    assert found.lv_mass_g == pytest.approx(12.6)
    assert (found.lv_esv_ml, found.lv_sv_ml, found.lv_ef_percent) == (None, None, None)


def test_one_phase_named_end_systole_has_no_mass():
    found = measure(frame(200, 300), GRID, es=0)
    assert found.lv_esv_ml == pytest.approx(8)
    assert found.lv_mass_g is None


def test_an_empty_cavity_has_no_ejection_fraction():
    found = measure(cine(frame(500, 300), frame(200, 300)), GRID)
    assert found.rv_edv_ml == 0
    assert found.rv_ef_percent is None
    empty = measure(np.zeros((*GRID.shape, 3), np.uint8), GRID, ed=0, es=1)
    assert empty.lv_ef_percent is None


def test_labels_without_a_heart_have_no_phases():
    found = measure(np.zeros((*GRID.shape, 3), np.uint8), GRID)
    assert (found.ed, found.es, found.lv_edv_ml) == (None, None, None)
    assert found.lv_curve_ml == (0, 0, 0)


def test_the_dictionary_is_json_and_names_the_conventions():
    found = measure(BEAT, GRID, trigger_times_ms=(0, 40, 80)).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["trigger_times_ms"] == [0, 40, 80]
    assert "papillary muscles and trabeculae counted to the cavity" in str(found["conventions"])
    assert "mass = 1.05 g/ml x MYO at ED" in str(found["conventions"])


@pytest.mark.parametrize("phases", [{"ed": 3}, {"es": -1}])
def test_a_phase_that_is_no_frame_is_refused(phases):
    with pytest.raises(InputError, match="3 frames, counted from 0"):
        measure(BEAT, GRID, **phases)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(GridError, match="do not fit"):
        measure(np.zeros((9, 10, 20), np.uint8), GRID)
    with pytest.raises(GridError, match="x, y, z"):
        measure(np.zeros((10, 10), np.uint8), GRID)


def test_values_that_are_no_structure_are_refused():
    with pytest.raises(LabelError, match="7"):
        measure(np.full(GRID.shape, 7), GRID)


def test_trigger_times_must_fit_the_frames():
    with pytest.raises(InputError, match="2 trigger times are given for 3 frames"):
        measure(BEAT, GRID, trigger_times_ms=(0, 40))


def test_curves_are_measured_like_the_labels_that_they_are_of():
    curves = [volume_curve_ml(BEAT, GRID, structure) for structure in (LV, MYO, RV)]
    assert measure_curves(*curves, ed=0) == measure(BEAT, GRID, ed=0)
