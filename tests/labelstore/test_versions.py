"""Submissions become versions, start from the newest one, and are told apart from predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import ConflictError, InputError, LabelError
from cinelabel.core.files import sha256
from cinelabel.core.grid import Grid
from cinelabel.core.review import MotionGrade, ReviewRecord
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.labelstore.validation import slice_digests
from cinelabel.studies import nifti

IMAGE = "p1__t00"
By = Callable[..., Submission]
Write = Callable[..., Path]


def test_a_submission_is_the_newest_version_with_its_record(
    store: LabelStore, label: Path, grid: Grid, heart: np.ndarray, by: By
):
    kept = store.submit(IMAGE, grid, label, by(model="phantom-2", prediction="r7", comment="apex"))
    assert store.newest(IMAGE) == kept
    assert (kept.version, kept.who, kept.model, kept.comment) == (1, "anna", "phantom-2", "apex")
    labels, kept_grid = nifti.read_label(kept.path)
    assert np.array_equal(labels, heart)
    assert kept_grid.equals(grid)
    assert nib.load(kept.path).get_data_dtype() == np.uint8
    record = json.loads(kept.path.with_name(kept.path.name.replace(".nii.gz", ".json")).read_text())
    assert record["sha256"] == kept.sha256 == sha256(kept.path)
    assert record["submitted_sha256"] == sha256(label)
    assert (record["who"], record["base_version"], record["prediction"]) == ("anna", 0, "r7")


def test_every_version_stays_as_it_was(
    store: LabelStore, write: Write, grid: Grid, heart: np.ndarray, by: By
):
    kept = []
    for number in range(3):
        heart[18, 16, 1] = number  # another label each time
        kept.append(store.submit(IMAGE, grid, write(heart), by(base_version=number)))
    assert [version.version for version in kept] == [1, 2, 3]
    for version in kept:
        assert store.version(IMAGE, version.version) == version
        assert sha256(version.path) == version.sha256
    assert store.newest(IMAGE) == kept[-1]
    assert [store.version(IMAGE, number) for number in (0, -1, 4, 2**80)] == [None] * 4


def test_shuffled_segments_are_mapped_by_name(
    store: LabelStore, write: Write, grid: Grid, heart: np.ndarray, by: By
):
    names = ["Right Ventricle", "lv", "Myocardium"]
    shuffled = np.choose(heart, [0, 2, 3, 1]).astype(np.int16)
    kept = store.submit(IMAGE, grid, write(shuffled), by(), names)
    assert np.array_equal(nifti.read_label(kept.path)[0], heart)
    assert kept.names == tuple(names)


def test_a_submission_over_a_version_its_reader_has_not_seen_is_a_conflict(
    store: LabelStore, label: Path, grid: Grid, by: By
):
    store.submit(IMAGE, grid, label, by())
    with pytest.raises(ConflictError) as conflict:
        store.submit(IMAGE, grid, label, by(who="bob"))
    assert (conflict.value.version, conflict.value.who) == (1, "anna")
    assert str(conflict.value) == (
        "p1__t00: version 1 by anna of 2026-03-01T10:00:00+00:00 is there, yours began from none. "
        "Load the newest state, bring your changes into it and submit again."
    )
    assert store.counts()["versions"] == 1
    assert store.submit(IMAGE, grid, label, by(who="bob", base_version=1)).version == 2


def test_what_a_client_was_shown_stands_in_for_a_base_version(
    store: LabelStore, label: Path, grid: Grid, write: Write, heart: np.ndarray, by: By
):
    store.submit(IMAGE, grid, label, by())
    store.saw(IMAGE, "bob", "slicer-2", 1)
    bob = by(who="bob", client_id="slicer-2")
    assert store.submit(IMAGE, grid, label, bob).version == 2
    with pytest.raises(ConflictError, match="yours began from version 1"):
        store.submit(IMAGE, grid, write(np.flip(heart, 1)), by())
    assert store.submit(IMAGE, grid, write(np.flip(heart, 1)), bob).version == 3


def test_a_submission_whose_answer_was_lost_is_answered_again(
    store: LabelStore, label: Path, grid: Grid, by: By
):
    first = store.submit(IMAGE, grid, label, by(base_version=0))
    assert store.submit(IMAGE, grid, label, by(base_version=0)) == first
    assert store.counts()["versions"] == 1


def test_a_submission_of_the_same_key_is_kept_once_whatever_happened_since(
    store: LabelStore, label: Path, grid: Grid, write: Write, heart: np.ndarray, by: By
):
    keyed = by(base_version=0, key="5d0c1d9e-77")
    first = store.submit(IMAGE, grid, label, keyed)
    assert store.submit(IMAGE, grid, label, keyed) == first
    store.submit(IMAGE, grid, write(np.flip(heart, 1)), by(base_version=1))
    store.reopen(IMAGE, "bob", "for another look")
    assert store.submit(IMAGE, grid, label, keyed) == first
    store.set_aside(IMAGE, "its image has changed")
    assert store.submit(IMAGE, grid, label, keyed) == first
    assert store.kept_before(IMAGE, "5d0c1d9e-77", label) == first
    assert store.kept_before(IMAGE, "5d0c1d9e-78", label) is None
    assert store.kept_before("p2__t00", "5d0c1d9e-77", label) is None
    assert store.counts()["versions"] == 2


def test_the_key_of_a_submission_holds_in_a_store_that_is_opened_anew_and_in_its_record(
    store: LabelStore, label: Path, grid: Grid, by: By
):
    keyed = by(base_version=0, key="5d0c1d9e-77")
    first = store.submit(IMAGE, grid, label, keyed)
    (store.folder / "labels.sqlite").unlink()  # the records alone are left
    again = LabelStore(store.folder)
    assert again.submit(IMAGE, grid, label, keyed) == first
    assert again.counts()["versions"] == 1


def test_a_key_is_that_of_one_label(
    store: LabelStore, label: Path, grid: Grid, write: Write, heart: np.ndarray, by: By
):
    store.submit(IMAGE, grid, label, by(base_version=0, key="5d0c1d9e-77"))
    other = write(np.flip(heart, 1))
    with pytest.raises(ConflictError, match="Give each submission a key of its own"):
        store.submit(IMAGE, grid, other, by(base_version=1, key="5d0c1d9e-77"))
    with pytest.raises(InputError, match="key of a submission"):
        store.submit(IMAGE, grid, other, by(base_version=1, key="a/b"))
    assert store.submit(IMAGE, grid, other, by(base_version=1, key="5d0c1d9e-78")).version == 2


def test_the_same_label_again_from_a_client_that_names_no_version_is_no_new_version(
    store: LabelStore, label: Path, grid: Grid, by: By
):
    first = store.submit(IMAGE, grid, label, by())
    assert store.submit(IMAGE, grid, label, by()) == first
    assert store.submit(IMAGE, grid, label, by(comment="Checked again.")).version == 2
    store.reopen(IMAGE, "anna", "for another look")
    assert store.submit(IMAGE, grid, label, by(comment="Checked again.")).version == 3


def test_a_prediction_is_kept_apart_and_replaced(
    store: LabelStore, label: Path, grid: Grid, write: Write, heart: np.ndarray, by: By
):
    kept = store.submit(IMAGE, grid, label, by())
    store.save_prediction(IMAGE, label, "phantom-1", {"dice": 0.9})
    heart[18, 16, 1] = 2
    store.save_prediction(IMAGE, write(heart), "phantom-2", {"dice": 0.8})
    predicted = store.prediction(IMAGE)
    assert predicted is not None
    assert (predicted.kind, predicted.model, predicted.info) == (
        "predicted",
        "phantom-2",
        {"dice": 0.8},
    )
    assert np.array_equal(nifti.read_label(predicted.path)[0], heart)
    assert store.predictions() == {IMAGE: predicted}
    assert store.newest(IMAGE) == kept
    assert store.prediction("p2__t00") is None


def test_labels_of_an_image_that_changed_stay_in_the_history_only(
    store: LabelStore, label: Path, grid: Grid, by: By
):
    kept = store.submit(IMAGE, grid, label, by())
    store.set_aside(IMAGE, "its image changed on disk")
    assert store.newest(IMAGE) is None
    assert store.version(IMAGE, 1) == kept
    assert store.states()[IMAGE].state == "open"
    assert store.problems == ("p1__t00: its labels no longer count, its image changed on disk.",)
    with pytest.raises(ConflictError, match="the image changed at"):
        store.submit(IMAGE, grid, label, by())
    with pytest.raises(ConflictError, match="you were not given the case since then"):
        store.submit(IMAGE, grid, label, by(base_version=0))
    store.saw(IMAGE, "anna", "slicer-1", 0)
    assert store.submit(IMAGE, grid, label, by(base_version=0)).version == 2


@pytest.mark.parametrize("base", [None, 0])
@pytest.mark.parametrize("shown", [True, False])
def test_a_label_of_an_image_that_has_changed_since_is_refused_also_if_it_had_none(
    store: LabelStore, label: Path, grid: Grid, by: By, base: int | None, shown: bool
):
    if shown:
        store.saw(IMAGE, "anna", "slicer-1", 0)
        store.lease(IMAGE, "anna", "slicer-1")
    store.set_aside(IMAGE, "its image changed on disk")
    if shown:
        store.lease(IMAGE, "anna", "slicer-1")  # only prolonged
    with pytest.raises(ConflictError, match="you were not given the case since then"):
        store.submit(IMAGE, grid, label, by(base_version=base))
    store.release(IMAGE, "anna", "slicer-1")
    store.lease(IMAGE, "anna", "slicer-1")
    assert store.submit(IMAGE, grid, label, by(base_version=base)).version == 1


def test_an_image_that_is_new_has_no_history(store: LabelStore, label: Path, grid: Grid, by: By):
    store.set_aside(IMAGE, "its image is new, or was lost", False)
    assert store.history(IMAGE) == []
    assert store.submit(IMAGE, grid, label, by()).version == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"who": " "}, "the reader's name is missing"),
        ({"tag": "original"}, "the tag 'original'"),
        ({"tag": "../../x"}, "the tag '../../x'"),
        ({"time": "yesterday"}, "'yesterday' is not an ISO 8601 time"),
        ({"time": "2026-03-01T10:00:00"}, "with a time zone"),
        ({"comment": "x" * 5000}, "5000 characters"),
        ({"comment": "\ud800"}, "half a character"),
        ({"base_version": -1}, "no version -1"),
    ],
)
def test_a_submission_with_unusable_words_is_refused(
    store: LabelStore, label: Path, grid: Grid, by: By, changes: dict[str, object], sentence: str
):
    with pytest.raises(InputError, match=sentence):
        store.submit(IMAGE, grid, label, replace(by(), **changes))
    assert store.history(IMAGE) == []


@pytest.mark.parametrize("image", ["../out", "a/b", "", ".", "..", "x" * 300, "a\0b", "é"])
def test_a_name_that_is_no_identifier_is_refused_everywhere(
    store: LabelStore, label: Path, grid: Grid, by: By, image: str
):
    for call in (
        lambda: store.submit(image, grid, label, by(image)),
        lambda: store.save_prediction(image, label, None, {}),
        lambda: store.saw(image, "anna", "c", 1),
        lambda: store.lease(image, "anna", "c"),
        lambda: store.release(image, "anna", "c"),
        lambda: store.skip(image, "anna", "why"),
        lambda: store.reopen(image, "anna", "why"),
        lambda: store.set_aside(image, "why"),
        lambda: store.review(image),
        lambda: store.save_review(image, ReviewRecord("p1"), "anna", 0),
    ):
        with pytest.raises(InputError, match="not a valid|too long"):
            call()


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


def test_a_case_is_held_for_one_reader_until_the_lease_runs_out(tmp_path: Path):
    clock = Clock()
    store = LabelStore(tmp_path / "workspace", clock)
    lease = store.lease(IMAGE, "anna", "c1", minutes=30)
    assert lease.until == "2026-03-01T12:30:00.000000+00:00"
    with pytest.raises(ConflictError, match="anna holds this case until"):
        store.lease(IMAGE, "bob", "c2")
    with pytest.raises(ConflictError):
        store.lease(IMAGE, "anna", "another window")
    for minutes in (0, -5, float("nan"), float("inf"), 1e9):
        with pytest.raises(InputError, match="a lease of"):
            store.lease(IMAGE, "anna", "c1", minutes)
    clock.now += timedelta(minutes=20)
    renewed = store.lease(IMAGE, "anna", "c1", minutes=30)
    assert (renewed.since, renewed.until > lease.until) == (lease.since, True)
    assert store.leases() == [renewed]
    clock.now += timedelta(minutes=31)
    assert store.leases() == []
    assert store.states() == {}
    assert store.lease(IMAGE, "bob", "c2").who == "bob"
    (event,) = store.history(IMAGE)
    assert (event.kind, event.who) == ("lease_taken_over", "bob")
    assert "The lease of anna ran out" in event.text


def test_a_lease_ends_by_its_holder_alone_and_by_a_submission(
    store: LabelStore, label: Path, grid: Grid, by: By
):
    store.lease(IMAGE, "anna", "slicer-1")
    store.release(IMAGE, "bob", "slicer-1")
    assert [lease.who for lease in store.leases()] == ["anna"]
    kept = store.submit(IMAGE, grid, label, by(who="bob"))
    assert kept.warnings[0].startswith("anna holds this case until")
    assert len(store.leases()) == 1
    assert store.submit(IMAGE, grid, label, by(base_version=1)).warnings == ()
    assert store.leases() == []


def test_cases_are_skipped_and_reopened_with_a_reason(
    store: LabelStore, label: Path, grid: Grid, by: By
):
    with pytest.raises(InputError, match="the reason is missing"):
        store.skip(IMAGE, "anna", "  ")
    store.skip(IMAGE, "anna", "no heart in it")
    state = store.states()[IMAGE]
    assert (state.state, state.who, state.reason) == ("skipped", "anna", "no heart in it")
    store.reopen(IMAGE, "bob", "there is one")
    assert store.states()[IMAGE].state == "open"
    store.submit(IMAGE, grid, label, by())
    assert store.states(["p2__t00", IMAGE])[IMAGE].state == "labelled"
    assert store.states(["p2__t00"])["p2__t00"].state == "open"
    store.skip("p2__t00", "bob", "why")
    assert store.counts() == {"labelled": 1, "skipped": 1, "versions": 1}
    assert [event.kind for event in store.history(IMAGE)] == ["skipped", "reopened", "submitted"]
    store.lease(IMAGE, "carl", "c")
    with pytest.raises(ConflictError, match="carl holds"):
        store.reopen(IMAGE, "anna", "apex")


def test_reviews_have_versions_and_conflicts_too(store: LabelStore):
    assert store.review("p1") is None
    first = store.save_review("p1", ReviewRecord("p1", grade=MotionGrade.MILD), "anna")
    second = ReviewRecord("p1", grade=MotionGrade.SEVERE)
    with pytest.raises(ConflictError, match="version 1 by anna") as conflict:
        store.save_review("p1", second, "bob", 0)
    assert conflict.value.version == 1
    kept = store.save_review("p1", second, "bob", 1)
    assert store.review("p1") == kept
    assert store.review_history("p1") == [first, kept]
    with pytest.raises(InputError, match="of the study p2"):
        store.save_review("p1", ReviewRecord("p2"), "anna", 2)


def test_an_empty_label_is_refused_and_skipping_is_offered(
    store: LabelStore, write: Write, heart: np.ndarray, grid: Grid, by: By
):
    with pytest.raises(LabelError, match="empty. Skip the case"):
        store.submit(IMAGE, grid, write(heart * 0), by())


def test_a_label_began_as_the_prediction_that_its_client_was_shown_last(
    store: LabelStore, label: Path, grid: Grid, write: Write, heart: np.ndarray, by: By
):
    predicted = heart.copy()
    predicted[..., 2] = 0
    store.saw_prediction(IMAGE, "anna", "slicer-1", "m-2", predicted)
    kept = store.submit(IMAGE, grid, label, by())
    assert kept.model == "m-2"
    same = [a == b for a, b in zip(kept.predicted, slice_digests(heart), strict=True)]
    assert same == [True, True, False, True]
    again = store.submit(IMAGE, grid, write(np.flip(heart, 1)), by())
    assert (again.version, again.model, again.predicted) == (2, "m-2", kept.predicted)


def test_a_prediction_that_another_client_was_shown_says_nothing_of_a_label(
    store: LabelStore, label: Path, grid: Grid, heart: np.ndarray, by: By
):
    store.saw_prediction(IMAGE, "anna", "slicer-1", "m-2", heart)
    kept = store.submit(IMAGE, grid, label, by(client_id="slicer-2"))
    assert (kept.model, kept.predicted) == (None, ())


def test_a_prediction_is_forgotten_when_its_client_takes_the_case_anew(
    store: LabelStore, label: Path, grid: Grid, heart: np.ndarray, by: By
):
    store.saw(IMAGE, "anna", "slicer-1", 0)
    store.saw_prediction(IMAGE, "anna", "slicer-1", "m-2", heart)
    store.saw(IMAGE, "anna", "slicer-1", 0)
    assert store.submit(IMAGE, grid, label, by()).model is None


def test_a_later_version_by_another_hand_began_as_the_one_it_goes_on_from(
    store: LabelStore, label: Path, grid: Grid, write: Write, heart: np.ndarray, by: By
):
    store.saw_prediction(IMAGE, "anna", "slicer-1", "m-2", heart)
    first = store.submit(IMAGE, grid, label, by())
    later = store.submit(IMAGE, grid, write(np.flip(heart, 1)), by(who="bob", base_version=1))
    assert (later.model, later.predicted) == (first.model, first.predicted)
    other = by(who="eve", base_version=2, model="m-3")
    assert store.submit(IMAGE, grid, label, other).predicted == ()
