"""The client before the real server: every question, and what comes back is what is there."""

from __future__ import annotations

import gzip
import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies
from CineLabelLib import answers
from CineLabelLib.client import Client, Timeouts
from CineLabelLib.core.errors import CineLabelError
from CineLabelLib.core.review import MotionGrade, ReviewRecord
from CineLabelLib.outbox import Submission

IMAGE, OTHER = "heart__t00", "heart__t01"
PATIENT = Timeouts(connect_s=30, read_s=120, transfer_s=120, infer_s=300)

pytestmark = pytest.mark.usefixtures("all_open")


def connect(guarded: Any, role: str, client_id: str = "slicer") -> Client:
    return Client(guarded.url, guarded.tokens[role], client_id, timeouts=PATIENT)


@pytest.fixture
def ann(guarded: Any) -> Iterator[Client]:
    """A reader who may submit."""
    client = connect(guarded, "annotator")
    yield client
    client.close()


@pytest.fixture
def bob(guarded: Any) -> Iterator[Client]:
    """Another one, who may train besides."""
    client = connect(guarded, "admin")
    yield client
    client.close()


@pytest.fixture
def guest(guarded: Any) -> Iterator[Client]:
    client = connect(guarded, "reader")
    yield client
    client.close()


def case_of(client: Client, image: str = IMAGE) -> answers.Case:
    return next(case for case in client.cases(study="heart") if case.image == image)


def drawn(guarded: Any, client: Client, image: str = IMAGE, **changes: Any) -> Submission:
    """A right submission of the phantom's truth, over the newest version."""
    case, content = case_of(client, image), guarded.label(image)
    fields: dict[str, Any] = {
        "address": client.address,
        "image": image,
        "study": case.study,
        "frame": case.frame,
        "label": content,
        "sha256": hashlib.sha256(content).hexdigest(),
        "label_info": ("LV", "MYO", "RV"),
        "base_version": case.version,
        "model": "pair-1",
        "comment": "apex redrawn",
        "image_digest": case.image_sha256,
        "reader": "",
        "made_at": "2026-03-01T10:00:00+00:00",
        "key": str(uuid.uuid4()),
    }
    return Submission(**(fields | changes))


def test_the_server_tells_what_it_is_and_who_we_are(bob: Client, guest: Client) -> None:
    info = bob.info()
    assert info.name == "CineLabel"
    assert next(iter(info.strategies)) == "suggested"
    assert all(info.strategies.values())
    assert info.datastore.total == 2
    assert info.datastore.open + info.datastore.completed + info.datastore.skipped == 2
    assert (bob.check_token().name, bob.check_token().role) == ("admin-1", "admin")
    assert guest.check_token().role == "reader"
    assert bob.models().served == "pair-1"
    assert "pair-1" in [version.version for version in bob.models().versions]
    assert bob.queue().limit == 32


def test_a_token_that_is_wrong_or_missing_is_told(guarded: Any) -> None:
    for token in (None, "clt_of-nobody"):
        with pytest.raises(answers.TokenWrong) as caught:
            Client(guarded.url, token).check_token()
        assert caught.value.status == 401


def test_what_a_role_may_not_do_is_told(guest: Client, ann: Client) -> None:
    for forbidden in (
        lambda: guest.skip(IMAGE, "Blurred."),
        lambda: guest.hold(IMAGE),
        lambda: ann.start_training(),
        lambda: ann.use("pair-1"),
    ):
        with pytest.raises(answers.NotAllowed, match="token of the role"):
            forbidden()


def test_a_study_comes_whole_and_as_it_is_on_the_server(
    guarded: Any, ann: Client, tmp_path: Path
) -> None:
    frames = ann.fetch_study("heart")
    assert [frame.case.image for frame in frames] == [IMAGE, OTHER]
    for frame in frames:
        assert frame.sha256 == frame.case.image_sha256 == ann.image_info(frame.case.image).sha256
        (tmp_path / "frame.nii.gz").write_bytes(frame.content)
        voxels = studies.load(tmp_path / "frame.nii.gz").frames[..., 0]
        assert np.array_equal(voxels, guarded.phantom.study.frames[..., frame.case.frame])
        assert frame.case.quality is not None
        assert frame.case.quality.shape == voxels.shape
    with pytest.raises(answers.NotThere):
        ann.fetch_study("nobody")


def test_fetching_a_study_tells_each_frame_and_from_the_second_on_how_fast(ann: Client) -> None:
    told: list[tuple[float | None, str]] = []
    follower = SimpleNamespace(cancelled=False, report=lambda *report: told.append(report))
    ann.following(follower).fetch_study("heart")
    assert told[0] == (0.0, "Fetching frame 1 of 2")
    assert told[1][0] == 0.5
    assert re.fullmatch(r"Fetching frame 2 of 2, [\d.]+ a \w+, about \d+ \w+ left", told[1][1])


def test_cases_come_in_pages_until_there_are_no_more(
    ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ann.cases()
    monkeypatch.setattr("CineLabelLib.client.PAGE", 1)
    assert ann.cases() == whole
    assert len(whole) == 2
    assert ann.cases(state="skipped") == ()


def test_the_next_case_is_held_with_a_reason_and_let_go(ann: Client, bob: Client) -> None:
    given = ann.next_case("suggested")
    assert given is not None
    assert given.lease is not None
    assert given.lease.who == "annotator-1"
    assert given.reason.endswith(".")
    with pytest.raises(answers.OutOfDate, match="annotator-1 holds this case") as caught:
        bob.hold(given.image)
    assert caught.value.who == "annotator-1"
    assert ann.let_go(given.image).lease is None
    assert bob.hold(given.image, minutes=5).lease is not None
    other = ann.next_case("first")
    assert other is not None
    assert other.image != given.image
    bob.skip(given.image, "Blurred.")
    ann.skip(other.image, "Blurred, too.")
    assert ann.next_case("first") is None
    assert bob.reopen(given.image, "It can be read.").state == "open"
    with pytest.raises(answers.Refused):
        ann.next_case("nothing")


def test_a_label_is_kept_voxel_for_voxel_under_its_version(guarded: Any, ann: Client) -> None:
    wanted = drawn(guarded, ann)
    kept = ann.submit(wanted)
    assert (kept.version, kept.who) == ((wanted.base_version or 0) + 1, "annotator-1")
    found = ann.label(IMAGE)
    assert found.version == kept.version
    assert np.array_equal(voxels(found.content), guarded.phantom.labels[..., 0])
    assert ann.label(IMAGE, kept.version).content == found.content
    last = ann.history(IMAGE)[-1]
    assert (last.kind, last.version, last.text) == ("submitted", kept.version, "apex redrawn")
    with pytest.raises(answers.NotThere):
        ann.label(IMAGE, kept.version + 1)


def test_a_submission_that_is_sent_twice_is_kept_once(guarded: Any, ann: Client) -> None:
    wanted = drawn(guarded, ann)
    kept = ann.submit(wanted)
    assert ann.submit(wanted) == kept
    assert case_of(ann).version == kept.version


def test_a_label_over_one_that_was_not_seen_tells_who_was_first(
    guarded: Any, ann: Client, bob: Client
) -> None:
    mine, theirs = drawn(guarded, ann), drawn(guarded, bob, comment="his")
    first = ann.submit(mine)
    with pytest.raises(answers.OutOfDate) as caught:
        bob.submit(theirs)
    error = caught.value
    assert (error.cause, error.version, error.who) == ("conflict", first.version, "annotator-1")
    assert error.time == first.time


def test_a_label_of_an_image_that_changed_is_refused_as_changed(guarded: Any, ann: Client) -> None:
    with pytest.raises(answers.OutOfDate, match="image has changed") as caught:
        ann.submit(drawn(guarded, ann, image_digest="0" * 64))
    assert caught.value.cause == "changed"


def test_labels_that_cannot_be_kept_are_refused_with_the_servers_sentence(
    guarded: Any, ann: Client
) -> None:
    before = case_of(ann).version
    for changes in ({"label": b"nothing"}, {"label_info": ("LV", "aorta")}, {"key": "short"}):
        with pytest.raises(answers.Refused):
            ann.submit(drawn(guarded, ann, **changes))
    with pytest.raises(answers.TooLarge):
        ann.submit(drawn(guarded, ann, label=bytes(9 << 20)))
    with pytest.raises(answers.NotThere):
        ann.submit(replace(drawn(guarded, ann), image="nobody__t00"))
    assert case_of(ann).version == before


def test_a_frame_and_a_study_are_segmented_on_their_grids(guarded: Any, ann: Client) -> None:
    shape = guarded.phantom.study.frames.shape
    frame = ann.segment(IMAGE, request_id="r-frame", fast=False, uncertainty=True)
    assert (frame.scope, frame.frame, frame.model) == ("frame", 0, "pair-1")
    assert voxels(frame.labels).shape == shape[:3]
    assert set(np.unique(voxels(frame.labels))) <= {0, 1, 2, 3}
    assert frame.uncertainty is not None
    assert frame.disagreement is not None
    assert frame.disagreement.slices
    ended = ann.progress("r-frame")
    assert ended is not None
    assert ended.state == "done"
    assert ended.rate is not None
    whole = ann.segment(IMAGE, scope="study")
    assert voxels(whole.labels).shape == shape
    assert whole.frame is None
    assert whole.uncertainty is None
    assert whole.measures["lv_edv_ml"] > whole.measures["lv_esv_ml"]


def voxels(content: bytes) -> np.ndarray:
    return np.asanyarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)


def test_a_segmentation_that_is_not_known_has_no_progress_and_is_not_cancelled(ann: Client) -> None:
    assert ann.progress("r-nothing") is None
    assert ann.cancel("r-nothing") is None
    with pytest.raises(answers.NotThere):
        ann.segment("nobody__t00")


def test_suggestions_say_why_there_are_none(ann: Client) -> None:
    found = ann.suggestions(IMAGE)
    assert found.image == IMAGE
    assert found.slices or found.reason


def test_a_review_is_kept_in_versions_and_never_over_an_unseen_one(
    ann: Client, bob: Client
) -> None:
    assert ann.review("nobody") is None
    last = ann.review("heart")
    base = last.version if last else 0
    record = ReviewRecord("heart", grade=MotionGrade.INTERMEDIATE)
    kept = ann.save_review(record, base)
    assert (kept.version, kept.who) == (base + 1, "annotator-1")
    assert ann.review("heart") == kept
    assert kept.record == record.as_dict()
    with pytest.raises(answers.OutOfDate) as caught:
        bob.save_review(record, base)
    assert caught.value.who == "annotator-1"
    assert case_of(ann).grade == 2


def test_training_and_models_answer_or_say_why_not(bob: Client) -> None:
    with pytest.raises(answers.NotThere):
        bob.training("nothing")
    with pytest.raises(answers.NotThere):
        bob.figure("nothing", "rates.png")
    with pytest.raises(answers.Refused):
        bob.start_training({"nothing": 1})
    for changing in (lambda: bob.use("pair-1", "a test"), lambda: bob.roll_back("a test")):
        with pytest.raises(answers.OutOfDate, match="without --model"):
            changing()


def test_a_training_is_started_told_of_and_stopped(bob: Client) -> None:
    job = bob.start_training({"minutes": 1})
    course = bob.training()
    assert course is not None
    assert course.job == job
    with pytest.raises(answers.Busy, match="under way"):
        bob.start_training()
    bob.stop_training()
    ended = bob.training(job)
    assert ended is not None
    assert ended.state in ("running", "cancelled", "failed")


def test_every_error_is_one_sentence_of_the_family(guarded: Any, ann: Client) -> None:
    with pytest.raises(CineLabelError) as caught:
        ann.image("../../etc/passwd")
    assert str(caught.value).endswith(".")
    assert str(guarded.folder) not in str(caught.value)
