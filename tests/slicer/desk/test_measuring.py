from __future__ import annotations

import csv

import numpy as np
import pytest
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.measures import measure
from CineLabelLib.desk.states import Origin, Surface

AFFINE = np.array([[0, 1.5, 0, 3.0], [1.5, 0, 0, -2.0], [0, 0, 8.0, 5.0], [0, 0, 0, 1]])


def figures(bench):
    return {figure.name: figure for figure in bench.session.measuring.state.figures}


@pytest.fixture
def measured(bench, make_heart):
    """A local study whose frames 0 (ED) and 2 (ES) are labelled."""
    bench.open_local()
    bench.session.opening.mark_phases(0, 2)
    for frame in (0, 2):
        bench.session.editing.put(frame, make_heart(frame), Origin.MODEL)
    bench.settle()
    return bench


def test_figures_are_those_of_the_backend(measured, make_heart):
    labels = np.stack([make_heart(0), make_heart(2)], -1)
    expected = measure(labels, Grid(labels.shape[:3], AFFINE), ed=0, es=1)
    found = figures(measured)
    assert found["LV EDV"].value == pytest.approx(expected.lv_edv_ml)
    assert found["LV EF"].value == pytest.approx(expected.lv_ef_percent)
    assert found["LV mass"].value == pytest.approx(expected.lv_mass_g)
    assert found["RV ESV"].value == pytest.approx(expected.rv_esv_ml)
    assert found["RV EF"].value == pytest.approx(expected.rv_ef_percent)


def test_the_figures_follow_an_edit(measured):
    before = figures(measured)["LV EDV"].value
    labels = measured.scene.labels(0)
    labels[4, 4] = 2
    measured.draw(0, labels)
    assert figures(measured)["LV EDV"].value == pytest.approx(before - 4 * 1.5 * 1.5 * 8 / 1000)


def test_an_edit_measures_its_own_frame_alone(measured, make_heart, monkeypatch):
    frames = []
    own = measured.session.measuring._measure_frame
    monkeypatch.setattr(
        measured.session.measuring, "_measure_frame", lambda f: (frames.append(f), own(f))
    )
    measured.draw(2, make_heart(1))
    assert frames == [2]


def test_the_curve_has_the_labelled_frames_alone(measured):
    state = measured.session.measuring.state
    assert state.frames == (0, 2)
    assert len(state.lv_ml) == len(state.rv_ml) == 2


def test_phases_that_nobody_told_are_guessed_from_labelled_frames_and_it_is_said(bench, make_heart):
    bench.open_local()
    for frame in (1, 3):
        bench.session.editing.put(frame, make_heart(frame - 1), Origin.MODEL)
    bench.settle()
    state = bench.session.measuring.state
    assert (state.ed, state.es) == (1, 3)
    assert state.notes == ("ED and ES are chosen by LV volume among the 2 labelled of 5 frames.",)


def test_without_labels_figures_say_what_is_missing(bench):
    bench.open_local()
    found = figures(bench)
    assert found["LV EF"].value is None
    assert found["LV EF"].missing == "Mark ED, or label ED and ES."


def test_a_phase_that_is_not_labelled_is_no_volume_of_zero(measured, make_heart):
    measured.session.editing.put(2, np.zeros_like(make_heart()), Origin.MODEL)
    measured.settle()
    found = figures(measured)
    assert found["LV EDV"].value is not None
    assert found["LV EF"].value is None
    assert found["LV EF"].missing == "Label LV at ES, frame 2."


def test_a_missing_structure_is_said_and_the_others_are_measured(measured, make_heart):
    labels = make_heart(0)
    labels[labels == 3] = 0
    measured.session.editing.put(0, labels, Origin.MODEL)
    measured.settle()
    found = figures(measured)
    assert found["RV EDV"].missing == "Label RV at ED, frame 0."
    assert found["LV EF"].missing is None


def test_a_slice_left_out_between_others_is_said(measured, make_heart):
    labels = make_heart(0)
    labels[:, :, 1] = 0
    measured.session.editing.put(0, labels, Origin.MODEL)
    measured.settle()
    assert figures(measured)["LV EDV"].missing == "Label LV in slice 1 at ED, frame 0."


@pytest.mark.parametrize(
    ("surface", "area"), [(Surface.MOSTELLER, 1.8181), (Surface.DU_BOIS, 1.8097)]
)
def test_figures_are_indexed_by_body_surface(measured, surface, area):
    measured.session.measuring.set_body(170, 70, surface)
    state, found = measured.session.measuring.state, figures(measured)
    assert state.body_surface_m2 == pytest.approx(area, abs=5e-4)
    edv = found["LV EDV"]
    assert edv.indexed == pytest.approx(edv.value / state.body_surface_m2)
    assert edv.indexed_unit == "ml/m2"
    assert found["LV EF"].indexed is None


def test_a_body_that_nobody_has_is_refused_and_nothing_is_indexed(measured):
    measured.session.measuring.set_body(1.78, 76)
    assert measured.problems == [
        "the height 1.78 cm is not between 30 and 250. Give the height in cm."
    ]
    assert figures(measured)["LV EDV"].indexed is None


def test_the_next_study_is_not_indexed_by_the_body_of_the_one_before(measured):
    measured.session.measuring.set_body(170, 70, Surface.DU_BOIS)
    measured.open_local()
    state = measured.session.measuring.state
    assert (state.body_surface_m2, state.surface) == (None, Surface.DU_BOIS)


def test_an_es_larger_than_ed_is_said(measured, make_heart):
    measured.session.opening.mark_phases(2, 0)
    assert figures(measured)["LV EF"].value < 0
    assert "LV is larger at ES than at ED" in " ".join(measured.session.measuring.state.notes)


def test_the_text_names_figures_phases_and_the_formula(measured):
    measured.session.measuring.set_body(178, 76.4)
    text = measured.session.measuring.text()
    assert "LV EDV: " in text
    assert "ED frame 0, ES frame 2 (counted from 0)" in text
    assert "Body surface area: 1.94 m2 (Mosteller 1987)" in text


def test_the_csv_has_each_figure_and_the_curve(measured, tmp_path):
    measured.session.measuring.export_csv(tmp_path / "heart.csv")
    with (tmp_path / "heart.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_name = {row["measure"]: row for row in rows}
    edv = figures(measured)["LV EDV"].value
    assert float(by_name["LV EDV"]["value"]) == pytest.approx(edv, abs=1e-3)
    assert [row["frame"] for row in rows if row["measure"] == "LV volume"] == ["0", "2"]


def test_a_csv_that_cannot_be_written_is_a_sentence_and_leaves_nothing(measured, tmp_path):
    (tmp_path / "no-folder").write_text("a file")
    measured.session.measuring.export_csv(tmp_path / "no-folder" / "heart.csv")
    assert "cannot be written" in measured.problems[0]
    assert sorted(p.name for p in tmp_path.glob("*.csv")) == []
