"""Sunnybrook as DICOM with contours: which phase, which slices, which pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.grid import Grid
from cinelabel.datasets import cases, load_case
from cinelabel.studies.dicom import instance_places, write_cine
from cinelabel.studies.study import Study

SHAPE, FRAMES = (16, 12, 4), 5
ED, ES = 4, 2
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "sunnybrook"


def contour(folder: Path, k: int, phase: int, kind: str, half: float) -> Path:
    """A square around column 8.25, row 5.25, of the image that is written as slice k."""
    number = k * FRAMES + phase + 1
    path = (
        folder / "contours" / f"{kind}-contours" / f"IM-0001-{number:04d}-{kind}contour-manual.txt"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    lines = [f"{8.25 + half * x:.2f} {5.25 + half * y:.2f}" for x, y in corners]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def patient(tmp_path):
    """Slices 1 and 2 contoured at both phases, slice 3 at ED alone; epicardium at ED in 1 and 2."""
    folder = tmp_path / "SC-HF-I-1"
    frames = np.random.default_rng(1).integers(0, 900, (*SHAPE, FRAMES)).astype(np.float32)
    study = Study("heart", frames, Grid(SHAPE, np.diag([1.5, 1.25, 8.0, 1.0])), is_cine=True)
    write_cine(folder / "dicom", study)
    for k in (1, 2, 3):
        contour(folder, k, ED, "i", 2.5)
    for k in (1, 2):
        contour(folder, k, ES, "i", 1.5)
        contour(folder, k, ED, "o", 4.5)
    return folder


def test_phases_are_those_with_contours_and_ed_has_the_larger_cavity(patient):
    ed, es = cases("sunnybrook", patient.parent)
    assert [(c.name, c.frame) for c in (ed, es)] == [("SC-HF-I-1_ED", ED), ("SC-HF-I-1_ES", ES)]
    places = instance_places(patient / "dicom")
    assert sorted(places.values()) == [(k, t) for k in range(4) for t in range(FRAMES)]
    slices = [{places[k * FRAMES + ED + 1][0] for k in ks} for ks in ((1, 2, 3), (1, 2))]
    assert {name: set(which) for name, which in ed.scored_slices.items()} == {
        "LV": slices[0],
        "MYO": slices[1],
    }
    assert [s.name for s in ed.structures] == ["LV", "MYO"]
    assert [s.name for s in es.structures] == ["LV"]


def test_pixels_inside_the_contours_are_labelled_in_column_and_row(patient):
    (ed, es) = cases("sunnybrook", patient.parent)
    study, labels = load_case(ed)
    assert study.frames.shape == (*SHAPE, 1)
    (k,) = {instance_places(patient / "dicom")[1 * FRAMES + ED + 1][0]}
    expected = np.zeros(SHAPE[:2], np.uint8)
    expected[4:13, 1:10] = 2
    expected[6:11, 3:8] = 1
    np.testing.assert_array_equal(labels[..., k], expected)
    (bare,) = {instance_places(patient / "dicom")[0 * FRAMES + 1][0]}
    assert not labels[..., bare].any()
    assert set(np.unique(load_case(es)[1])) == {0, 1}


def test_contours_of_other_phases_are_counted_and_not_drawn(patient):
    contour(patient, 1, 0, "i", 2.0)
    found = cases("sunnybrook", patient.parent)
    assert [c.frame for c in found] == [ED, ES]
    assert found[0].details == {"contours of other phases": "1"}


def test_contours_without_an_image_or_twice_or_broken_are_errors_naming_the_file(patient):
    path = contour(patient, 9, 0, "i", 1.0)
    with pytest.raises(InputError, match=r"IM-0001-0046-icontour.*no image of the number 46"):
        cases("sunnybrook", patient.parent)
    path.unlink()
    twin = contour(patient, 1, ED, "i", 1.0)
    other = patient / "contours" / "second reader" / twin.name
    other.parent.mkdir()
    other.write_bytes(twin.read_bytes())
    with pytest.raises(InputError, match="is there twice"):
        cases("sunnybrook", patient.parent)
    other.unlink()
    for text in ("1 2\n3 4\n", "1 2 3\n" * 4, "one two\n" * 4, "1 2\n3\n4 5\n"):
        twin.write_text(text)
        with pytest.raises(InputError, match=f"{twin.name}: is not"):
            cases("sunnybrook", patient.parent)


def test_dicom_without_contours_is_no_case(patient):
    for path in (patient / "contours").rglob("*.txt"):
        path.unlink()
    with pytest.raises(InputError, match="no case"):
        cases("sunnybrook", patient.parent)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the examinations of ../shared/data are not here")
def test_contours_of_real_examinations_give_the_labels_that_others_made_of_them(tmp_path):
    (tmp_path / "SC-HF-I-1").mkdir()
    for name in ("dicom", "contours"):
        (tmp_path / "SC-HF-I-1" / name).symlink_to(SHARED / "SC-HF-I-1" / name)
    drawn = cases("sunnybrook", tmp_path)
    made = [case for case in cases("sunnybrook", SHARED) if case.patient == "SC-HF-I-1"]
    for ours, theirs in zip(drawn, made, strict=True):
        assert ours.scored_slices == theirs.scored_slices
        (study, labels), (still, truth) = load_case(ours), load_case(theirs)
        np.testing.assert_array_equal(study.frames, still.frames)
        for structure in ours.structures:
            a, b = labels == structure.value, truth == structure.value
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.98
