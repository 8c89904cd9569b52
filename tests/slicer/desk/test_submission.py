from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
from CineLabelLib import answers, nifti
from CineLabelLib.core.grid import Grid
from CineLabelLib.desk import checks
from CineLabelLib.desk.states import Origin
from CineLabelLib.outbox import Outbox


@pytest.fixture
def opened(bench):
    bench.open_case()
    return bench


def submit(bench, edited=False, comment=""):
    submitting = bench.session.submitting
    (submitting.submit_edited if edited else submitting.submit_frame)(comment)
    bench.settle()


def sent(bench):
    return [asked[1] for asked in bench.server.asked if asked[0] == "submit"]


def test_the_frame_on_screen_reaches_the_server_voxel_for_voxel(opened):
    mine = opened.draw(1)
    submit(opened)
    np.testing.assert_array_equal(opened.server.newest("heart__t01"), mine)
    state = opened.session.submitting.state
    assert dict(state.sent) == {"heart__t01": 1}
    assert state.waiting == ()
    assert opened.told == ["The server keeps heart__t01 as version 1."]
    assert not opened.session.editing.state.unsaved


@pytest.mark.parametrize("hand", [1, -1])
def test_a_label_leaves_on_the_grid_and_handedness_of_its_image(tmp_path, hand, make_heart):
    affine = np.diag([1.5, 1.5, 8.0 * hand, 1.0])
    voxels = np.arange(14 * 12 * 4 * 2, dtype=np.int16).reshape(14, 12, 4, 2)
    path = tmp_path / "study.nii.gz"
    path.write_bytes(nifti.image_bytes(voxels, affine))
    study = nifti.read_study(path)
    content, _ = checks.encode(study, 1, make_heart(1))
    label = nifti.read_labels(content)
    assert Grid(label.voxels.shape, label.affine).handedness == hand
    np.testing.assert_array_equal(label.voxels, make_heart(1))


def test_all_edited_frames_are_submitted_and_no_other(opened, make_heart):
    opened.session.editing.put(0, make_heart(0), Origin.MODEL, "v1")
    opened.draw(3)
    opened.draw(1)
    submit(opened, edited=True)
    assert sent(opened) == ["heart__t01", "heart__t03"]
    submit(opened, edited=True)
    assert sent(opened) == ["heart__t01", "heart__t03"]
    assert opened.problems[0].startswith("no frame was edited since the last submission.")


def test_what_the_model_made_is_submitted_only_while_it_is_on_screen(opened, make_heart):
    for frame in range(5):
        opened.session.editing.put(frame, make_heart(frame), Origin.MODEL, "v1")
    opened.scene.go_to(2)
    submit(opened)
    assert sent(opened) == ["heart__t02"]


def test_the_model_that_labels_began_with_is_told(opened, make_heart):
    opened.session.editing.put(1, make_heart(1), Origin.MODEL, "v7")
    opened.draw(1, make_heart(2))
    opened.server.fails["submit"] = answers.ServerGone("nobody answers")
    submit(opened, comment=" at the base ")
    kept = Outbox(opened.folder / "desk" / "outbox").pending()[0].submission
    assert (kept.model, kept.comment, kept.base_version) == ("v7", "at the base", 0)
    assert kept.label_info == ("LV", "MYO", "RV")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda labels: np.zeros_like(labels), "it has no labels"),
        (lambda labels: np.where(labels == 3, 4, labels).astype(np.uint8), "label value 4"),
        (lambda labels: labels[:-1], "should be (14, 12, 4) uint8"),
        (lambda labels: labels.astype(np.int16), "should be (14, 12, 4) uint8"),
    ],
)
def test_labels_that_cannot_be_right_do_not_leave(opened, make_heart, change, sentence):
    wrong = change(make_heart())
    found = checks.check_frame(opened.session.desk.study, 2, wrong)
    assert [finding.is_error for finding in found] == [True]
    assert sentence in found[0].sentence
    assert "rame 2" in found[0].sentence


def test_a_frame_without_labels_is_not_submitted(opened):
    opened.scene.go_to(4)
    submit(opened)
    assert sent(opened) == []
    assert opened.problems == [
        "nothing was submitted: Frame 4: it has no labels. Draw them, or skip the case with a "
        "reason."
    ]


def test_one_wrong_frame_keeps_all_from_leaving(opened, make_heart):
    opened.draw(1)
    opened.draw(2, np.zeros_like(make_heart()))
    submit(opened, edited=True)
    assert sent(opened) == []
    assert opened.session.editing.state.unsubmitted == {1, 2}


def test_a_fourth_segment_is_refused_with_its_name(opened):
    opened.draw(1)
    opened.scene.fourth.add(1)
    opened.draw(1)
    submit(opened)
    assert sent(opened) == []
    assert "'Scar', which is none of LV, MYO, RV" in opened.problems[-1]


def test_islands_and_gaps_are_warnings(opened, make_heart):
    labels = make_heart(0)
    labels[0, 0, 2] = 1
    labels[:, :, 1] = 0
    found = checks.check_frame(opened.session.desk.study, 0, labels)
    assert not any(finding.is_error for finding in found)
    told = " ".join(finding.sentence for finding in found)
    assert "LV has islands in slice 2." in told
    assert "MYO is missing in slice 1 between others." in told


def test_a_study_of_this_machine_is_not_submitted(bench):
    bench.open_local()
    bench.connect()
    bench.draw(0)
    submit(bench)
    assert "of this machine and not known to the server" in bench.problems[0]
    assert sent(bench) == []


def test_a_label_that_came_first_is_explained_and_mine_is_kept(opened, make_heart):
    opened.draw(1)
    opened.server.label("heart__t01", make_heart(0), "Bo", "2030-05-06T07:10:00+00:00")
    submit(opened)
    conflict = opened.session.submitting.state.conflict
    assert (conflict.image, conflict.version, conflict.who) == ("heart__t01", 1, "Bo")
    assert "Bo submitted version 1 at 2030-05-06T07:10:00+00:00" in opened.problems[0]
    assert opened.session.submitting.state.waiting[0].refused
    opened.pass_time(60)
    assert sent(opened) == ["heart__t01"]


def test_submitting_over_theirs_wants_that_it_was_seen(opened, make_heart):
    mine = opened.draw(1, make_heart(2))
    opened.server.label("heart__t01", make_heart(0), "Bo", "2030-05-06T07:10:00+00:00")
    submit(opened)
    submitting = opened.session.submitting
    submitting.submit_over()
    opened.settle()
    assert sent(opened) == ["heart__t01"]
    assert "nobody looked at theirs yet" in opened.problems[-1]
    submitting.open_theirs()
    opened.settle()
    theirs, title = opened.scene.beside[1]
    np.testing.assert_array_equal(theirs, make_heart(0))
    assert title == "Bo, version 1"
    np.testing.assert_array_equal(opened.scene.kept[..., 1], mine)
    submitting.submit_over()
    opened.settle()
    np.testing.assert_array_equal(opened.server.newest("heart__t01"), mine)
    assert len(opened.server.labels["heart__t01"]) == 2
    assert submitting.state.conflict is None
    assert submitting.state.waiting == ()
    assert opened.scene.beside[1][0] is None


def test_mine_stays_in_the_outbox_and_can_be_opened_later(opened, make_heart):
    mine = opened.draw(1, make_heart(2))
    opened.server.label("heart__t01", make_heart(0), "Bo", "2030-05-06T07:10:00+00:00")
    submit(opened)
    opened.session.submitting.keep_mine()
    assert opened.session.submitting.state.conflict is None
    again = opened.restart()
    again.open_case(1)
    np.testing.assert_array_equal(again.scene.kept[..., 1], make_heart(0))
    entry = again.session.submitting.state.waiting[0]
    again.session.submitting.open_mine(entry.entry)
    again.settle()
    np.testing.assert_array_equal(again.scene.kept[..., 1], mine)
    assert again.session.editing.state.unsubmitted == {1}


def test_a_refused_one_can_be_tried_again_or_withdrawn(opened, make_heart):
    opened.draw(1)
    opened.server.label("heart__t01", make_heart(0), "Bo", "2030-05-06T07:10:00+00:00")
    submit(opened)
    submitting = opened.session.submitting
    submitting.keep_mine()
    submitting.try_again(submitting.state.waiting[0].entry)
    opened.settle()
    assert submitting.state.conflict.who == "Bo"
    submitting.withdraw(submitting.state.waiting[0].entry)
    opened.settle()
    assert submitting.state.waiting == ()
    assert submitting.state.conflict is None


def test_mine_is_not_opened_onto_a_case_of_that_name_of_another_server(opened, make_heart):
    mine = opened.draw(1, make_heart(2))
    opened.server.fails["submit"] = answers.ServerGone("nobody answers")
    submit(opened)
    opened.addresses["http://127.0.0.1:8"] = type(opened.server)()
    submitting = opened.session.submitting
    opened.session.connection.connect("http://127.0.0.1:8")
    opened.settle()
    opened.open_case(1)
    submitting.open_mine(submitting.state.waiting[0].entry)
    opened.settle()
    assert opened.problems[-1] == (
        "heart__t01: waits for http://127.0.0.1:9, and the open case is of http://127.0.0.1:8."
    )
    assert not opened.scene.kept.any()
    opened.connect()
    opened.open_case(1)
    submitting.open_mine(submitting.state.waiting[0].entry)
    opened.settle()
    np.testing.assert_array_equal(opened.scene.kept[..., 1], mine)


@pytest.fixture
def refused(opened, make_heart):
    """Bo's label came first, and is shown beside mine."""
    opened.draw(1)
    opened.server.label("heart__t01", make_heart(0), "Bo", "2030-05-06T07:10:00+00:00")
    submit(opened)
    opened.session.submitting.open_theirs()
    opened.settle()
    assert opened.session.submitting.state.conflict.shown
    return opened


def test_theirs_is_not_opened_onto_a_case_of_that_name_of_another_server(refused):
    refused.addresses["http://127.0.0.1:8"] = type(refused.server)()
    refused.session.connection.connect("http://127.0.0.1:8")
    refused.settle()
    refused.open_case(1)
    refused.session.submitting.open_theirs()
    refused.settle()
    assert refused.problems[-1] == (
        "heart__t01: waits for http://127.0.0.1:9, and the open case is of http://127.0.0.1:8."
    )
    assert not refused.session.submitting.state.conflict.shown


def test_theirs_is_asked_of_the_server_that_refused_mine_alone(refused):
    refused.addresses["http://127.0.0.1:8"] = type(refused.server)()
    refused.session.connection.connect("http://127.0.0.1:8")
    refused.settle()
    refused.session.submitting.open_theirs()
    assert refused.problems[-1] == (
        "heart__t01: is of another server. Connect to http://127.0.0.1:9."
    )


def test_a_conflict_stays_while_its_submission_is_refused(refused):
    refused.pass_time(60)
    assert refused.session.submitting.state.conflict.shown


@pytest.mark.parametrize("settle", [Outbox.remove, Outbox.again])
def test_a_conflict_that_another_program_settled_is_closed(refused, settle):
    refused.server.fails["submit"] = answers.ServerGone("nobody answers")
    submitting = refused.session.submitting
    settle(Outbox(refused.folder / "desk" / "outbox"), submitting.state.conflict.entry)
    refused.pass_time(6)
    assert submitting.state.conflict is None
    assert refused.scene.beside[1][0] is None
    assert submitting.state.sentence == "heart__t01 waits for no decision any more."
    assert not any(waiting.refused for waiting in submitting.state.waiting)


@pytest.mark.parametrize("answers_again", [True, False])
def test_a_conflict_is_closed_when_its_submission_is_tried_again(refused, answers_again):
    submitting = refused.session.submitting
    refused.server.labels["heart__t01"].clear()
    if not answers_again:
        refused.server.fails["submit"] = answers.ServerGone("nobody answers")
    submitting.try_again(submitting.state.conflict.entry)
    refused.settle()
    assert submitting.state.conflict is None
    assert refused.scene.beside[1][0] is None
    assert len(submitting.state.waiting) == (0 if answers_again else 1)


def test_an_outbox_that_cannot_be_read_leaves_a_conflict_as_it_is(refused, monkeypatch):
    def unreadable(outbox):
        raise answers.CineLabelError("cannot be read")

    monkeypatch.setattr(Outbox, "entries", unreadable)
    told = list(refused.problems)
    refused.pass_time(6)
    assert refused.session.submitting.state.conflict.shown
    assert refused.problems == told


def test_an_image_that_changed_on_the_server_is_refused_and_mine_is_kept(opened):
    opened.draw(1)
    voxels = np.ones((14, 12, 4), np.int16)
    voxels[0] = 2
    opened.server.files["heart__t01"] = nifti.image_bytes(voxels, opened.server.affine)
    submit(opened)
    assert "is not the one that you labelled any more" in opened.problems[0]
    assert opened.session.submitting.state.conflict is None
    assert opened.session.submitting.state.waiting[0].refused
    assert not opened.server.labels["heart__t01"]


@pytest.mark.parametrize(
    "error",
    [
        answers.ServerGone("nobody answers"),
        answers.TimedOut("the server does not answer"),
        answers.Busy("too much is going on"),
        answers.NoSpace("the disk of the server is full"),
        answers.TokenWrong("the token is not right"),
        answers.NotAllowed("a reader may not submit"),
        answers.ServerFault("the server failed"),
    ],
)
def test_what_the_server_does_not_take_now_is_sent_later(opened, error):
    mine = opened.draw(1)
    opened.server.fails["submit"] = error
    submit(opened)
    assert opened.problems == [f"{error} 1 submission waits in the outbox."]
    assert not opened.session.editing.state.unsaved
    opened.server.fails.clear()
    opened.pass_time(31)
    np.testing.assert_array_equal(opened.server.newest("heart__t01"), mine)
    assert opened.session.submitting.state.waiting == ()


def test_a_submission_whose_answer_is_lost_is_not_kept_twice(opened):
    opened.draw(1)
    opened.server.loses_answer = True
    submit(opened)
    assert len(opened.session.submitting.state.waiting) == 1
    opened.server.loses_answer = False
    opened.pass_time(31)
    assert len(opened.server.labels["heart__t01"]) == 1
    assert opened.session.submitting.state.waiting == ()


@pytest.mark.parametrize("arrived", [False, True])
def test_a_kill_during_a_submission_loses_nothing_and_sends_nothing_twice(
    opened, tmp_path, arrived
):
    mine = opened.draw(1)
    hung = opened.server.hangs = threading.Event()
    opened.session.submitting.submit_frame()
    opened.until(lambda: sent(opened) == ["heart__t01"])
    left = shutil.copytree(opened.folder, tmp_path / "as the kill left it")
    assert len(Outbox(left / "desk" / "outbox").pending()) == 1
    if arrived:
        hung.set()
        opened.settle()
        assert len(opened.server.labels["heart__t01"]) == 1
    opened.server.hangs = None
    again = opened.restart(left)
    again.connect()
    again.until(lambda: not again.session.submitting.state.waiting)
    again.settle()
    hung.set()
    assert len(again.server.labels["heart__t01"]) == 1
    np.testing.assert_array_equal(again.server.newest("heart__t01"), mine)


def test_what_waits_is_sent_in_order_and_a_later_label_follows_my_own(opened, make_heart):
    opened.server.fails["submit"] = answers.ServerGone("nobody answers")
    for labels in (make_heart(0), make_heart(1)):
        opened.draw(1, labels)
        submit(opened)
    opened.draw(0)
    submit(opened)
    opened.server.fails.clear()
    opened.server.asked.clear()
    opened.pass_time(31)
    assert sent(opened) == ["heart__t01", "heart__t01", "heart__t00"]
    assert len(opened.server.labels["heart__t01"]) == 2
    np.testing.assert_array_equal(opened.server.newest("heart__t01"), make_heart(1))
    assert not opened.session.submitting.state.waiting


def test_what_waits_is_sent_when_slicer_is_started_again(opened):
    opened.draw(1)
    opened.server.fails["submit"] = answers.ServerGone("nobody answers")
    submit(opened)
    opened.server.fails.clear()
    again = opened.restart()
    again.settle()
    assert len(again.session.submitting.state.waiting) == 1
    again.connect()
    assert len(again.server.labels["heart__t01"]) == 1


def test_a_label_goes_to_the_server_of_its_case_alone(opened):
    other = type(opened.server)()
    opened.addresses["http://127.0.0.1:8"] = other
    opened.draw(1)
    opened.session.connection.connect("http://127.0.0.1:8")
    opened.settle()
    submit(opened)
    assert not other.labels["heart__t01"]
    assert len(opened.session.submitting.state.waiting) == 1
    opened.connect()
    assert len(opened.server.labels["heart__t01"]) == 1


def test_an_edit_during_a_submission_stays_to_be_submitted(opened, make_heart):
    opened.draw(1)
    opened.session.submitting.submit_frame()
    opened.scene.person_edits(make_heart(2))
    opened.settle()
    assert opened.session.editing.state.unsubmitted == {1}
    opened.pass_time(1)
    submit(opened, edited=True)
    np.testing.assert_array_equal(opened.server.newest("heart__t01"), make_heart(2))


def test_a_full_disk_keeps_all_of_a_submission_back(opened, monkeypatch):
    opened.draw(1)
    opened.draw(2)
    put, calls = Outbox.put, []

    def second_fails(self, submission):
        calls.append(submission)
        if len(calls) == 2:
            raise answers.CineLabelError("cannot be written, the disk is full")
        return put(self, submission)

    monkeypatch.setattr(Outbox, "put", second_fails)
    submit(opened, edited=True)
    assert opened.problems == ["cannot be written, the disk is full."]
    assert opened.session.editing.state.unsubmitted == {1, 2}
    assert Outbox(opened.folder / "desk" / "outbox").pending() == []


@pytest.mark.parametrize("what", ["skip", "reopen"])
def test_skipping_and_reopening_want_a_reason(opened, what):
    opened.scene.go_to(2)
    getattr(opened.session.submitting, what)("  ")
    opened.settle()
    assert opened.problems[0].startswith("no reason is given.")
    getattr(opened.session.submitting, what)("no heart in it")
    opened.settle()
    assert (what, "heart__t02", "no heart in it") in opened.server.asked


def test_a_server_that_holds_the_case_for_another_is_told_and_kept(opened):
    opened.draw(1)
    opened.server.fails["submit"] = answers.OutOfDate("Bo holds this case")
    submit(opened)
    assert opened.problems == ["Bo holds this case. It stays in the outbox."]


def test_saving_edits_does_not_make_anothers_labels_mine(bench, make_heart):
    bench.server.label("heart__t01", make_heart(1), "Bo", "2020-05-06T07:00:00+00:00")
    bench.open_case()
    bench.draw(3)
    bench.session.editing.save()
    bench.settle()
    bench.server.label("heart__t01", make_heart(2), "Bo", "2020-05-06T07:30:00+00:00")
    again = bench.restart()
    again.open_case()
    np.testing.assert_array_equal(again.scene.kept[..., 1], make_heart(2))
    assert again.session.editing.state.unsubmitted == {3}


@pytest.mark.parametrize("saved", [True, False])
def test_labels_of_an_earlier_time_do_not_go_over_newer_ones_unseen(bench, make_heart, saved):
    bench.open_case()
    bench.draw(3)
    if saved:
        bench.session.editing.save()
    else:
        bench.scene.close()
    bench.settle()
    bench.server.label("heart__t03", make_heart(1), "Bo", "2020-05-06T07:00:00+00:00")
    again = bench.restart()
    again.open_case()
    if not saved:
        again.session.opening.restore_unsaved()
    np.testing.assert_array_equal(again.scene.kept[..., 3], make_heart(3))
    again.session.submitting.submit_edited()
    again.settle()
    assert again.session.submitting.state.conflict.who == "Bo"
    assert len(again.server.labels["heart__t03"]) == 1
