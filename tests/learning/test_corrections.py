"""What readers' labels teach, and whose they are."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import InputError, OutputError, RunError
from cinelabel.core.review import Action, Decision, MotionGrade, ReviewRecord, SliceReview
from cinelabel.learning.corrections import (
    UNTOLD,
    Correction,
    find_corrections,
    hold_out,
    judging_frames,
    read_examples,
    read_lesson,
    taught_slices,
    unusable_slices,
)
from cinelabel.transforms.preparation import Preparation

SEEN = Preparation(spacing_mm=2.0, size=16)


def heart(slices=slice(1, 4)):
    """LV in MYO beside RV, in some slices of five."""
    labels = np.zeros((24, 30, 5), np.uint8)
    labels[9:14, 10:15, slices] = 2
    labels[10:13, 11:14, slices] = 1
    labels[14:17, 10:14, slices] = 3
    return labels


def test_the_newest_label_of_each_labelled_image_is_found(readers):
    for name in ("a__t00", "b__t00", "c__t00"):
        readers.submit(name, heart(), readers.write(name, heart()), model="m-1")
    grid = readers.write("a__t00", heart())
    readers.submit("a__t00", heart(slice(1, 3)), grid, base_version=1)
    readers.labels.skip("b__t00", "reader", "blurred")
    readers.image("c__t00").unlink()

    def served(name):
        return readers.image(name) if readers.image(name).exists() else None

    (found,) = find_corrections(readers.labels, served, lambda name: name[0])
    assert (found.image, found.patient, found.version, found.whole) == ("a__t00", "a", 2, True)


def test_of_a_corrected_prediction_every_slice_teaches(readers):
    readers.submit("a", heart(), readers.write("a", heart()), model="m-1")
    (found,) = readers.corrections()
    assert read_lesson(found).slices.tolist() == [0, 1, 2, 3, 4]


def test_of_a_label_drawn_from_nothing_only_slices_with_structures_teach(readers):
    labels = heart()
    labels[:, :, 2] = 0
    readers.submit("a", labels, readers.write("a", labels))
    (found,) = readers.corrections()
    assert read_lesson(found).slices.tolist() == [1, 3]
    assert taught_slices(labels, whole=True).tolist() == [0, 1, 2, 3, 4]


def test_examples_are_what_the_member_is_shown_with_the_labels_in_the_same_window(readers):
    labels = heart()
    grid = readers.write("a", labels)
    readers.submit("a", labels, grid)
    examples = read_examples(readers.corrections(), SEEN, 0, [])
    assert examples.images.shape == examples.labels.shape == (3, 16, 16)
    volume = np.asarray(nib.load(readers.image("a")).dataobj, np.float32)
    crop = SEEN.crop(grid, ((9 + 16) / 2, (10 + 14) / 2))
    shown = SEEN.prepare(volume, crop)[1:4]
    np.testing.assert_array_equal(examples.images, shown.astype(np.float16))
    np.testing.assert_array_equal(examples.labels, crop.apply_labels(labels)[1:4])


def test_a_structure_that_is_nowhere_in_a_label_is_not_known(readers):
    without = np.where(heart() == 3, 0, heart()).astype(np.uint8)
    readers.submit("a__t00", without, readers.write("a__t00", without))
    readers.submit("b__t00", heart(), readers.write("b__t00", heart()))
    examples = read_examples(readers.corrections(), SEEN, 0, [])
    assert examples.known.tolist() == [[True, True, True, False]] * 3 + [[True] * 4] * 3
    assert examples.patients.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_label_that_was_changed_behind_the_store_is_left_out_with_a_sentence(readers):
    for name in ("a", "b"):
        readers.submit(name, heart(), readers.write(name, heart()))
    spoilt = readers.corrections()[0].label_file
    spoilt.chmod(0o644)
    spoilt.write_bytes(b"other")
    problems = []
    examples = read_examples(readers.corrections(), SEEN, 0, problems)
    assert len(examples) == 3
    assert len(problems) == 1
    assert problems[0].startswith("a is left out: ")
    assert "not the label that was submitted" in problems[0]


def test_reading_labels_tells_how_far_it_is(readers):
    for name in ("a", "b"):
        readers.submit(name, heart(), readers.write(name, heart()))
    seen = []
    read_examples(readers.corrections(), SEEN, 0, [], lambda *state: seen.append(state))
    assert seen == [(0, 2, "reading labels"), (1, 2, "reading labels")]


def test_too_few_slices_are_an_error_that_says_what_to_do(readers):
    readers.submit("a", heart(slice(1, 3)), readers.write("a", heart()))
    with pytest.raises(RunError, match="2 labelled slices are too few .* at least 3 slices"):
        read_examples(readers.corrections(), SEEN, 0, [])
    with pytest.raises(RunError, match="0 labelled slices are too few"):
        read_examples([], SEEN, 0, [])


def test_a_correction_is_the_same_after_its_way_through_json(readers):
    readers.submit("a", heart(), readers.write("a", heart()))
    (found,) = readers.corrections()
    assert Correction.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_held_out_share_grows_with_the_patients_and_nobody_changes_sides(tmp_path):
    file, patients, before = tmp_path / "learning" / "patients.json", [], frozenset()
    for number in range(40):
        patients.append(f"p{number}")
        now = hold_out(file, patients)
        assert len(now) == len(patients) // 5
        assert before <= now
        assert not (now - before) & set(patients[:-1])
        before = now
    assert hold_out(file, patients[:7]) == before & set(patients[:7])


def test_who_is_held_out_does_not_follow_the_order_of_names(tmp_path):
    names = [f"p{number:02d}" for number in range(10)]
    assert hold_out(tmp_path / "a.json", names) == hold_out(tmp_path / "b.json", names[::-1])
    assert hold_out(tmp_path / "a.json", names) != {"p04", "p09"}


def test_without_the_file_of_held_out_patients_nothing_is_guessed(tmp_path):
    file = tmp_path / "patients.json"
    hold_out(file, ["a", "b"])
    file.write_text(file.read_text()[:20])
    with pytest.raises(InputError, match="cannot be read which patients are held out"):
        hold_out(file, ["a", "b"])


def test_a_file_of_held_out_patients_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "learning").write_text("a file")
    with pytest.raises(OutputError, match="not a folder"):
        hold_out(tmp_path / "learning" / "patients.json", ["a"])


def test_two_processes_deal_patients_into_one_file(tmp_path):
    file = tmp_path / "patients.json"
    script = (
        "import sys; from pathlib import Path\n"
        "from cinelabel.learning.corrections import hold_out\n"
        "for n in range(10): hold_out(Path(sys.argv[1]), [f'{sys.argv[2]}{n}'])"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(file), who]) for who in "pq"]
    assert [process.wait(60) for process in both] == [0, 0]
    kept = json.loads(file.read_text())
    expected = sorted(f"{who}{n}" for who in "pq" for n in range(10))
    assert sorted(kept["training"] + kept["held_out"]) == expected
    assert len(kept["held_out"]) == 4


def by_anna(action):
    return Decision(Action(action), "blurred", "anna", "2026-01-01T00:00:00+00:00")


def test_a_decision_on_a_slice_counts_before_that_on_the_study_and_both_before_the_grade():
    severe = ReviewRecord("a", grade=MotionGrade.SEVERE)
    assert unusable_slices(severe, 3) == (0, 1, 2)
    assert unusable_slices(replace(severe, decision=by_anna("accept")), 3) == ()
    assert unusable_slices(ReviewRecord("a", grade=MotionGrade.INTERMEDIATE), 3) == ()
    slices = (SliceReview(0, decision=by_anna("repeat")), SliceReview(2, artefact_score=0.4))
    assert unusable_slices(ReviewRecord("a", slices=slices), 3) == (0,)
    kept = (SliceReview(1, decision=by_anna("accept")),)
    excluded = ReviewRecord("a", slices=kept, decision=by_anna("exclude"))
    assert unusable_slices(excluded, 3) == (0, 2)


def test_of_excluded_slices_only_those_teach_in_which_the_prediction_was_changed(readers):
    predicted = heart()
    predicted[:, :, 2] = 0
    grid = readers.write("a__t00", heart())
    readers.labels.saw_prediction("a__t00", "reader", "test", "m-1", predicted)
    readers.submit("a__t00", heart(), grid)
    readers.labels.save_review("a", ReviewRecord("a", decision=by_anna("exclude")), "anna")
    (found,) = find_corrections(
        readers.labels, readers.image, lambda name: name[0], study=lambda name: name[0]
    )
    assert found.unusable == (0, 1, 2, 3, 4)
    assert read_lesson(found).slices.tolist() == [2]
    assert Correction.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_an_excluded_slice_that_a_reader_drew_from_nothing_teaches():
    assert taught_slices(heart(), whole=False, unusable=[0, 1, 2]).tolist() == [1, 2, 3]
    assert taught_slices(heart(), whole=True, unusable=[0, 1, 2]).tolist() == [3, 4]


def test_ed_and_es_judge_first_and_then_frames_evenly_spread(tmp_path):
    def frame(patient, number, phase=None):
        name = f"{patient}__t{number:02d}"
        return Correction(name, patient, 1, "", tmp_path, tmp_path, True, phase=phase)

    frames = [frame("a", k, {7: "ES", 3: "ED"}.get(k)) for k in range(10)] + [frame("b", 0)]
    chosen = [c.image for c in judging_frames(frames, 4)]
    assert chosen == ["a__t03", "a__t07", "a__t00", "a__t09", "b__t00"]
    assert [c.image for c in judging_frames(frames, 1)] == ["a__t03", "b__t00"]


def test_a_stack_holds_every_slice_that_teaches_and_marks_those_that_do_not(readers):
    labels = heart(slice(0, 4))
    labels[:, :, 2] = 0
    readers.submit("a", labels, readers.write("a", labels))
    examples = read_examples(readers.corrections(), replace(SEEN, depth=2), 0, [])
    told = (examples.labels != UNTOLD).any((2, 3))
    assert examples.images.shape == (3, 2, 16, 16)  # slices 0 and 1, 2 and 3, 3 and 4
    assert told.tolist() == [[True, True], [False, True], [True, False]]
    longer = read_examples(readers.corrections(), replace(SEEN, depth=8), 0, [])
    assert longer.images.shape == (1, 8, 16, 16)
    np.testing.assert_array_equal(longer.images[0, 0], longer.images[0, 1])
