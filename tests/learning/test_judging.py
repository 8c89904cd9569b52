"""Held-out patients are segmented as a user would get them, and scored by hand-worked Dice."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cinelabel.core.errors import ModelError
from cinelabel.learning import judging
from cinelabel.learning.judging import draft_of, moved_by, score_version, without_moved
from cinelabel.networks.weights import get_weights, on_cpu
from cinelabel.phantom.cohort import make_study
from cinelabel.segmentation import Segmenter

LV_IN_LOWER_HALF = np.zeros((24, 30, 5), np.uint8)
LV_IN_LOWER_HALF[12:, :, :] = 1


@pytest.fixture(scope="module", autouse=True)
def _judged_plainly():
    """Here it is as it is everywhere."""


class Answers:
    """Segments every study alike."""

    def __init__(self, version, device):
        self.labels = LV_IN_LOWER_HALF

    def segment(self, study, **options):
        return SimpleNamespace(labels=self.labels[..., None])


@pytest.fixture
def answered(monkeypatch):
    monkeypatch.setattr(judging, "Segmenter", Answers)


def test_dice_of_a_patient_is_over_all_frames_and_known_structures(answered, readers):
    labels = np.zeros((24, 30, 5), np.uint8)
    labels[10:14, 10:15, 1:4] = 1
    for frame in range(2):
        name = f"p1__t{frame:02d}"
        readers.submit(name, labels, readers.write(name, labels))
    found = score_version(None, readers.corrections(), [])
    # in three slices that teach: 10 of 20 pixels are in the half of 360
    assert found.patients == ({"LV": pytest.approx(2 * 10 / (20 + 360), abs=1e-5)},)


def test_the_mean_is_over_the_patients_that_have_a_structure(answered, readers):
    for patient, values in (("p1", (1, 3)), ("p2", (1,))):
        labels = np.zeros((24, 30, 5), np.uint8)
        for value in values:
            labels[10 + value : 14 + value, 10:15, 1:4] = value
        readers.submit(f"{patient}__t00", labels, readers.write(f"{patient}__t00", labels))
    found = score_version(None, readers.corrections(), [])
    assert [set(patient) for patient in found.patients] == [{"LV", "RV"}, {"LV"}]
    assert found.mean["RV"] == 0
    assert found.to_dict() == {"dice": found.mean, "patients": list(found.patients)}


def test_labels_that_cannot_be_read_are_problems_and_nobody_left_is_no_score(answered, readers):
    labels = LV_IN_LOWER_HALF.copy()
    readers.submit("p1__t00", labels, readers.write("p1__t00", labels))
    (correction,) = readers.corrections()
    correction.image_file.unlink()
    problems: list[str] = []
    assert score_version(None, [correction], problems) is None
    assert problems[0].startswith("p1__t00 is left out: ")


def test_a_version_is_judged_by_what_all_of_it_serves(models, six_patients):
    version, corrections = models.load("tiny-1"), six_patients.corrections()[:2]
    told = []
    found = score_version(
        version, corrections, [], device="cpu", progress=lambda *state: told.append(state)
    )
    assert told == [(0, 2, "scoring"), (1, 2, "scoring")]
    lesson = judging.read_lessons(corrections[:1], [], None, "")
    (_, first), *_ = lesson
    served = Segmenter(version, "cpu").segment(judging._study(first))
    assert served.members == ("first", "second")
    assert served.labels.any()
    assert len(found.patients) == 1


def test_a_draft_has_the_tuned_weights_as_they_would_be_published_and_leaves_nothing(
    models, tmp_path
):
    parent = models.load("tiny-1")
    weights = {name: t + 1 for name, t in on_cpu(get_weights(parent.network("second"))).items()}
    (tmp_path / "draft" / "left by a kill").mkdir(parents=True)
    with draft_of(parent, {"second": weights}, tmp_path / "draft") as draft:
        assert [m.name for m in draft.card.members] == [m.name for m in parent.card.members]
        made = get_weights(draft.network("second"))
        assert all(torch.equal(made[name], t.half().float()) for name, t in weights.items())
        kept = get_weights(draft.network("first"))
        before = get_weights(parent.network("first"))
        assert all(torch.equal(kept[name], before[name]) for name in before)
        assert draft.path.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "draft" not in models.versions()


def test_a_version_whose_files_are_gone_cannot_be_judged(models, six_patients, tmp_path):
    parent = models.load("tiny-1")
    with draft_of(parent, {}, tmp_path / "draft") as draft:
        for file in draft.path.glob("*.xml"):
            file.unlink()
        with pytest.raises(ModelError):
            score_version(draft, six_patients.corrections()[:1], [], device="cpu")


HEART = make_study(3, frames=1)
TRUTH = HEART.labels[..., 0]
GRID = HEART.study.grid
TWENTY_MM = round(20 / GRID.spacing[0])


def test_a_label_that_lies_20_mm_beside_the_heart_is_known_whichever_way_it_was_moved():
    for axis, by in ((0, TWENTY_MM), (1, TWENTY_MM), (0, -TWENTY_MM)):
        found = moved_by(np.roll(TRUTH, by, axis), TRUTH, GRID)
        assert found == pytest.approx(abs(by) * GRID.spacing[axis], abs=GRID.spacing[0])


def test_a_label_of_few_slices_without_rv_is_known_as_well():
    partial = np.where(TRUTH == 3, 0, TRUTH)
    partial[:, :, ::2] = 0
    assert moved_by(np.roll(partial, TWENTY_MM, 0), TRUTH, GRID) is not None


def test_labels_at_their_place_or_of_another_form_are_not_called_moved():
    elsewhere = np.zeros_like(TRUTH)  # what a network that failed may have made of a liver
    elsewhere[5:12, 5:12] = 1
    assert moved_by(TRUTH, TRUTH, GRID) is None
    assert moved_by(np.roll(TRUTH, 3, 0), TRUTH, GRID) is None
    assert moved_by(TRUTH, elsewhere, GRID) is None
    assert moved_by(TRUTH, np.zeros_like(TRUTH), GRID) is None


def test_what_leaves_the_image_when_it_is_moved_back_is_lost_and_nothing_comes_in():
    labels = np.zeros((4, 3, 1), np.uint8)
    labels[3, 2] = 1
    assert judging._shifted(labels, np.array([-3, -2]))[0, 0, 0] == 1
    assert judging._shifted(labels, np.array([1, 0])).sum() == 0


def test_a_moved_label_is_left_out_by_its_name_and_the_others_stay(readers, monkeypatch):
    drawn = np.zeros((24, 30, 5), np.uint8)
    drawn[8:16, 6:14, 1:4], drawn[10:14, 8:12, 1:4], drawn[16:20, 6:14, 1:4] = 2, 1, 3
    monkeypatch.setattr(Answers, "__init__", lambda self, *given: setattr(self, "labels", drawn))
    monkeypatch.setattr(judging, "Segmenter", Answers)
    for name, labels in (("p1__t00", drawn), ("p2__t00", np.roll(drawn, 13, 1))):
        readers.submit(name, labels, readers.write(name, labels))
    problems: list[str] = []
    kept = without_moved(None, readers.corrections(), problems)
    assert [correction.image for correction in kept] == ["p1__t00"]
    assert problems == [
        "p2__t00 is left out: the label has the form of the heart that is seen, and lies 20 mm "
        "beside it."
    ]
