"""The worst day: whatever goes wrong, no label is lost or doubled, and one sentence says so."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from CineLabelLib import nifti
from CineLabelLib.core.labels import LV, RV
from CineLabelLib.desk.states import Link, Scope
from CineLabelLib.outbox import Outbox
from reader_at_desk import Reader, heart, kept, require_kept, versions
from real_server import MOMENTS, House, RealServer, Trap, client_of

OF_THE_ALONE = "small__t01"


def require_one_sentence(sentences: list[str], *words: str) -> None:
    """One problem was told, in one paragraph that names what matters."""
    assert len(sentences) == 1, sentences
    assert "\n" not in sentences[0]
    assert "not foreseen" not in sentences[0]
    assert [word for word in words if word not in sentences[0]] == [], sentences[0]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "moment", [*(pytest.param(m, marks=SLOW) for m in MOMENTS[:2]), MOMENTS[2]]
)
def test_a_label_whose_server_is_killed_meanwhile_is_kept_and_sent_once_later(
    alone: RealServer, sit_down: Callable[..., Reader], moment: str
) -> None:
    trap = Trap(alone.kill)
    reader = sit_down(transport=trap)
    reader.connect(alone.url)
    reader.open(OF_THE_ALONE)
    before = len(versions(alone.url, None, OF_THE_ALONE))
    reader.draw()
    reader.scene.edits.erase(LV, heart(reader.study.grid.shape)[LV])
    labels = reader.labels()
    trap.moment = moment
    reader.submit()
    require_one_sentence(reader.problems, "1 submission waits in the outbox")
    assert np.array_equal(reader.labels(), labels)
    folder = reader.folder / "outbox"
    assert [entry.submission.image for entry in Outbox(folder).pending()] == [OF_THE_ALONE]
    alone.start()
    reader.later(6)
    reader.until(lambda: not reader.session.submitting.state.waiting, "the outbox is sent")
    reader.later(31)
    assert reader.session.connection.state.link is Link.CONNECTED
    assert len(versions(alone.url, None, OF_THE_ALONE)) == before + 1
    require_kept(kept(alone.url, None, OF_THE_ALONE), labels, reader.study)
    assert Outbox(folder).entries() == []


@SLOW
def test_a_label_is_sent_once_when_server_and_slicer_are_killed_and_start_again(
    alone: RealServer, sit_down: Callable[..., Reader]
) -> None:
    trap = Trap(alone.kill)
    reader = sit_down(transport=trap)
    reader.connect(alone.url)
    reader.open("small__t02")
    labels = reader.draw()
    study = reader.study
    before = versions(alone.url, None, "small__t02")
    trap.moment = MOMENTS[2]
    reader.submit()
    reader.vanish()
    again = sit_down()
    again.idle()
    assert [waiting.image for waiting in again.session.submitting.state.waiting] == ["small__t02"]
    alone.start()
    again.connect(alone.url)
    again.idle()
    assert again.session.submitting.state.waiting == ()
    assert again.problems == []
    assert len(versions(alone.url, None, "small__t02")) == len(before) + 1
    require_kept(kept(alone.url, None, "small__t02"), labels, study)


def test_unsaved_edits_are_offered_again_after_the_scene_was_closed(
    house: House, reader: Reader
) -> None:
    reader.open("small-5__t00")
    first = reader.draw()
    reader.session.opening.step(1)
    reader.draw()
    reader.scene.edits.erase(RV, heart(first.shape)[RV])
    second = reader.labels()
    reader.scene.seam.scene.Clear(0)
    assert reader.session.desk.study is None
    assert "offered when it is opened again" in reader.session.opening.state.sentence
    reader.idle()
    reader.open("small-5__t00")
    assert not reader.labels().any()
    unsaved = reader.session.opening.state.unsaved
    assert unsaved is not None
    assert (unsaved.frames, "anna" in unsaved.sentence) == ((0, 1), True)
    reader.session.opening.restore_unsaved()
    assert np.array_equal(reader.labels(0), first)
    assert np.array_equal(reader.labels(1), second)
    assert reader.session.editing.state.unsubmitted == {0, 1}
    reader.submit()
    assert reader.problems == []
    for frame, labels in ((0, first), (1, second)):
        image = reader.study.images[frame]
        require_kept(kept(house.url, house.tokens["anna"], image), labels, reader.study)


def test_edits_of_a_slicer_that_was_killed_are_offered_but_for_the_last_seconds(
    house: House, sit_down: Callable[..., Reader]
) -> None:
    reader = sit_down()
    reader.connect(house.url, house.tokens["anna"])
    reader.open("small-5__t02")
    labels = reader.draw()
    reader.later(11)
    reader.later(11)
    reader.vanish()
    again = sit_down()
    again.connect(house.url, house.tokens["anna"])
    again.open("small-5__t02")
    assert again.session.opening.state.unsaved is not None
    again.session.opening.restore_unsaved()
    assert np.array_equal(again.labels(), labels)


def test_a_label_of_an_image_that_changed_on_the_server_is_refused_and_kept(
    house: House, reader: Reader
) -> None:
    image, token = "small-6__t00", house.tokens["anna"]
    reader.open(image)
    labels = reader.draw()
    client = client_of(house.url, token)
    digest = client.cases(study="small-6")[0].image_sha256
    other = (house.studies / "small-7.nii.gz").read_bytes()
    part = house.studies / "small-6.nii.gz.part"
    part.write_bytes(other)
    part.rename(house.studies / "small-6.nii.gz")

    def changed() -> bool:
        cases = client.cases(study="small-6")
        return bool(cases) and cases[0].image_sha256 not in (None, digest)

    reader.until(changed, "the server takes the other image")
    reader.problems.clear()
    reader.submit()
    require_one_sentence(reader.problems, image, "is not the one that you labelled", "outbox")
    assert versions(house.url, token, image) == []
    assert np.array_equal(reader.labels(), labels)
    (waiting,) = reader.session.submitting.state.waiting
    assert waiting.refused
    (entry,) = Outbox(reader.folder / "outbox").entries()
    require_kept(nifti.read_labels(entry.submission.label), labels, reader.study)
    reader.later(60)
    assert versions(house.url, token, image) == []
    reader.open(image)
    assert not reader.labels().any()
    assert reader.session.opening.state.unsaved is None


def test_a_fourth_segment_keeps_a_frame_from_being_submitted_and_loses_nothing(
    house: House, reader: Reader
) -> None:
    image, token = "small-7__t00", house.tokens["anna"]
    reader.open(image)
    labels = reader.draw()
    segmentation = reader.scene.cine.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("Thrombus", "Thrombus")
    reader.session.tick()
    reader.problems.clear()
    reader.submit()
    assert len([p for p in reader.problems if "nothing was submitted" in p]) == 1
    assert all("Thrombus" in problem for problem in reader.problems)
    assert versions(house.url, token, image) == []
    assert segmentation.GetSegment("Thrombus") is not None
    assert np.array_equal(reader.scene.labels(0, strict=False), labels)
    reader.later(11)
    reader.scene.seam.scene.Clear(0)
    reader.idle()
    reader.open(image)
    reader.session.opening.restore_unsaved()
    assert np.array_equal(reader.labels(), labels)
    reader.problems.clear()
    reader.submit()
    assert reader.problems == []
    require_kept(kept(house.url, token, image), labels, reader.study)


def test_a_second_reader_who_submitted_in_between_is_named_and_nothing_is_overwritten(
    house: House, reader: Reader, sit_down: Callable[..., Reader]
) -> None:
    image, token = "small-7__t01", house.tokens["anna"]
    berta = sit_down("berta")
    berta.connect(house.url, house.tokens["berta"])
    reader.open(image)
    berta.open(image)
    mine = reader.draw()
    berta.draw()
    berta.scene.edits.erase(RV, heart(mine.shape)[RV])
    theirs = berta.labels()
    berta.submit()
    assert versions(house.url, token, image) == [1]
    reader.submit()
    require_one_sentence(reader.problems, image, "berta", "version 1", "open theirs beside")
    conflict = reader.session.submitting.state.conflict
    assert conflict is not None
    assert (conflict.who, conflict.version) == ("berta", 1)
    require_kept(kept(house.url, token, image), theirs, reader.study)
    assert np.array_equal(reader.labels(), mine)
    reader.problems.clear()
    reader.session.submitting.submit_over()
    require_one_sentence(reader.problems, "nobody looked at theirs yet")
    reader.session.submitting.open_theirs()
    reader.idle()
    assert np.array_equal(reader.labels(), mine)
    reader.session.submitting.submit_over()
    reader.idle()
    require_kept(kept(house.url, token, image), mine, reader.study)
    require_kept(kept(house.url, token, image, 1), theirs, reader.study)
    assert versions(house.url, token, image) == [1, 2]
    assert reader.session.submitting.state.waiting == ()


def test_a_label_whose_token_was_revoked_waits_until_the_reader_has_another(
    house: House, sit_down: Callable[..., Reader]
) -> None:
    image = "small-7__t02"
    reader = sit_down("leaving")
    reader.connect(house.url, house.tokens["leaving"])
    reader.open(image)
    labels = reader.draw()
    house.token("remove", "leaving")
    reader.submit()
    require_one_sentence(reader.problems, "token", "1 submission waits in the outbox")
    assert np.array_equal(reader.labels(), labels)
    assert versions(house.url, house.tokens["anna"], image) == []
    assert house.tokens["leaving"].encode() not in _all_bytes(reader.folder)
    new = house.token("add", "leaving", "--role", "annotator").splitlines()[0]
    reader.connect(house.url, new)
    reader.until(lambda: not reader.session.submitting.state.waiting, "the outbox is sent")
    require_kept(kept(house.url, new, image), labels, reader.study)
    assert versions(house.url, new, image) == [1]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond a few bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_nothing_is_submitted_and_the_edits_stay(
    house: House, reader: Reader
) -> None:
    image, token = "small-4__t01", house.tokens["anna"]
    reader.open(image)
    labels = reader.draw()
    with full_disk():
        reader.submit()
    require_one_sentence(reader.problems, "outbox")
    assert versions(house.url, token, image) == []
    assert reader.session.editing.state.unsubmitted == {1}
    assert Outbox(reader.folder / "outbox").entries() == []
    assert np.array_equal(reader.labels(), labels)
    reader.problems.clear()
    reader.submit()
    assert reader.problems == []
    require_kept(kept(house.url, token, image), labels, reader.study)


def test_edits_that_a_full_disk_did_not_take_are_kept_when_another_study_is_opened(
    house: House, reader: Reader
) -> None:
    reader.open("small-4__t01")
    before = reader.study
    reader.scene.edits.paint(RV, heart(before.grid.shape)[RV])
    reader.draw()
    reader.scene.edits.erase(LV, heart(before.grid.shape)[LV])
    labels = reader.labels()
    with full_disk():
        reader.session.opening.open_case("small-3__t00")
        reader.idle()
        reader.later(11)
    require_one_sentence(reader.problems, "autosave", "stays open")
    reader.later(11)
    reader.open("small-4__t01")
    reader.session.opening.restore_unsaved()
    assert np.array_equal(reader.labels(), labels)


def test_edits_that_a_full_disk_did_not_take_are_kept_when_the_scene_is_closed(
    house: House, reader: Reader
) -> None:
    reader.open("small-4__t02")
    labels = reader.draw()
    reader.scene.edits.erase(RV, heart(labels.shape)[RV])
    labels = reader.labels()
    with full_disk():
        reader.scene.seam.scene.Clear(0)
        reader.idle()
    require_one_sentence(reader.problems, "autosave", "stays open")
    reader.later(11)
    reader.open("small-4__t02")
    reader.session.opening.restore_unsaved()
    assert np.array_equal(reader.labels(), labels)


def test_a_server_that_hangs_neither_blocks_the_desk_nor_loses_a_label(
    alone: RealServer, sit_down: Callable[..., Reader]
) -> None:
    reader = sit_down()
    reader.connect(alone.url)
    reader.open("small__t00")
    before = len(versions(alone.url, None, "small__t00"))
    labels = reader.draw()
    with alone.hanging():
        reader.session.submitting.submit_edited()
        reader.session.segmentation.run(Scope.FRAME)
        reader.session.segmentation.cancel()
        reader.session.tick()
        assert np.array_equal(reader.labels(), labels)
    reader.idle()
    assert len(versions(alone.url, None, "small__t00")) == before + 1
    require_kept(kept(alone.url, None, "small__t00"), labels, reader.study)


def _all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
