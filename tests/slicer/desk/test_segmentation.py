from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from CineLabelLib import answers, nifti
from CineLabelLib.desk.states import Origin, Scope


@pytest.fixture
def opened(bench):
    bench.open_case()
    return bench


def run(bench, scope=Scope.FRAME, fast=True):
    bench.session.segmentation.run(scope, fast)
    bench.settle()


def test_the_frame_on_screen_gets_labels_of_the_model(opened, make_heart):
    opened.scene.go_to(1)
    run(opened)
    np.testing.assert_array_equal(opened.scene.kept[..., 1], make_heart(1))
    assert not opened.scene.kept[..., 0].any()
    state = opened.session.editing.state
    assert state.origins[1] is Origin.MODEL
    assert not state.edited
    assert opened.session.segmentation.state.sentence == "Segmented 1 frame by v1."


def test_ed_and_es_are_two_frames(opened):
    run(opened, Scope.ED_ES)
    labelled = [t for t in range(5) if opened.scene.kept[..., t].any()]
    assert labelled == [0, 2]


def test_all_frames_are_one_request(opened, make_heart):
    run(opened, Scope.ALL)
    np.testing.assert_array_equal(opened.scene.kept[..., 4], make_heart(4))
    assert [a[:3] for a in opened.server.asked if a[0] == "segment"] == [
        ("segment", "heart__t00", "study")
    ]


def test_a_local_study_is_sent_along(bench, make_heart):
    bench.open_local()
    bench.connect()
    run(bench, Scope.ALL)
    np.testing.assert_array_equal(bench.scene.kept[..., 3], make_heart(3))
    assert ("segment", "", "study", True, True) in bench.server.asked
    assert (bench.session.desk.ed, bench.session.desk.es) == (0, 2)


def test_phases_that_the_study_tells_are_not_replaced(bench):
    bench.server.phases = {1: "ED", 3: "ES"}
    bench.open_case()
    run(bench, Scope.ALL)
    assert (bench.session.desk.ed, bench.session.desk.es) == (1, 3)


def test_ed_and_es_that_are_not_known_are_said(bench):
    bench.server.phases = {}
    bench.open_case()
    run(bench, Scope.ED_ES)
    assert bench.problems[0].startswith("ED and ES are not both known.")


def test_without_a_server_it_is_said(bench):
    bench.open_local()
    run(bench)
    assert bench.problems[0].startswith("no server is connected.")


def test_a_frame_that_a_person_edited_waits_for_her_word(opened, make_heart):
    mine = opened.draw(1, make_heart(2))
    run(opened, Scope.ALL)
    np.testing.assert_array_equal(opened.scene.kept[..., 1], mine)
    np.testing.assert_array_equal(opened.scene.kept[..., 0], make_heart(0))
    assert opened.session.segmentation.state.withheld == (1,)
    assert opened.session.editing.state.edited == {1}


def test_an_edit_during_the_request_is_kept_too(opened, make_heart):
    opened.server.hangs = threading.Event()
    opened.session.segmentation.run(Scope.FRAME)
    opened.scene.person_edits(make_heart(2))
    opened.server.hangs.set()
    opened.settle()
    np.testing.assert_array_equal(opened.scene.kept[..., 0], make_heart(2))
    assert opened.session.segmentation.state.withheld == (0,)


def test_edits_are_replaced_when_she_says_so_and_come_back_by_restoring(opened, make_heart):
    mine = opened.draw(1, make_heart(2))
    run(opened)
    opened.session.segmentation.replace_edited()
    np.testing.assert_array_equal(opened.scene.kept[..., 1], make_heart(1))
    assert opened.session.segmentation.state.withheld == ()
    assert not opened.session.editing.state.unsubmitted
    opened.session.editing.restore_frame()
    np.testing.assert_array_equal(opened.scene.kept[..., 1], mine)


def test_edits_are_kept_when_she_says_so(opened, make_heart):
    mine = opened.draw(1, make_heart(2))
    run(opened)
    opened.session.segmentation.keep_edited()
    opened.session.segmentation.replace_edited()
    np.testing.assert_array_equal(opened.scene.kept[..., 1], mine)


def test_a_label_that_the_server_has_is_not_replaced_unasked(bench, make_heart):
    bench.server.label("heart__t01", make_heart(2), "Bo", "2030-05-06T07:00:00+00:00")
    bench.open_case(1)
    run(bench)
    np.testing.assert_array_equal(bench.scene.kept[..., 1], make_heart(2))
    assert bench.session.segmentation.state.withheld == (1,)
    assert "1 frame has labels that a person made" in bench.session.segmentation.state.sentence


def test_what_arrives_after_the_study_changed_is_dropped(opened):
    opened.server.hangs = threading.Event()
    opened.session.segmentation.run(Scope.FRAME)
    path = opened.folder / "local.nii.gz"
    opened.session.opening.open_file(path)
    opened.server.hangs.set()
    opened.open_local()
    assert not opened.scene.kept.any()
    assert not opened.session.segmentation.state.running


def test_what_arrives_after_cancelling_is_dropped(opened):
    opened.server.hangs = threading.Event()
    opened.session.segmentation.run(Scope.FRAME)
    opened.session.segmentation.cancel()
    assert opened.session.segmentation.state.sentence == "Cancelled."
    opened.server.hangs.set()
    opened.settle()
    assert not opened.scene.kept.any()
    assert not opened.problems
    run(opened)
    assert opened.scene.kept[..., 0].any()


def test_the_server_is_asked_how_far_it_is(opened):
    opened.server.hangs = threading.Event()
    opened.session.segmentation.run(Scope.FRAME)
    opened.clock.passed += 1
    opened.session.tick()
    opened.until(lambda: any(a[0] == "progress" for a in opened.server.asked))
    opened.server.hangs.set()
    opened.server.hangs = None
    opened.settle()
    assert not opened.session.segmentation.state.running


class Followed:
    """Requests that each wait to be let through; `told` is what the server says of them."""

    def __init__(self, bench, monkeypatch):
        self.bench, self.told = bench, {}
        self.gate, self.requests = threading.Semaphore(0), []
        client = type(bench.session.desk.client)
        segment = client.segment

        def waits(ours, *args, request_id, **options):
            self.requests.append(request_id)
            assert self.gate.acquire(timeout=20)
            return segment(ours, *args, request_id=request_id, **options)

        monkeypatch.setattr(client, "segment", waits)
        monkeypatch.setattr(client, "progress", lambda ours, request: self._progress(request))

    def _progress(self, request):
        told = self.told.get(self.requests.index(request)) if request in self.requests else None
        return told and answers.Progress(request, **told)

    def says(self, number, **told):
        """What the state tells once the server says this of a request."""
        self.told[number] = told
        segmentation, heard = self.bench.session.segmentation, []
        self.bench.until(lambda: len(self.requests) > number)
        segmentation.changed.connect(heard.append)
        self.bench.clock.passed += 1
        self.bench.until(lambda: heard)
        segmentation.changed.disconnect(heard.append)
        return segmentation.state.fraction, segmentation.state.sentence


@pytest.fixture
def followed(opened, monkeypatch):
    made = Followed(opened, monkeypatch)
    yield made
    made.gate.release(5)
    opened.settle()


def test_steps_rate_and_time_left_are_told(followed):
    followed.bench.session.segmentation.run(Scope.ALL)
    waiting = followed.says(0, state="queued", position=2)
    assert waiting == (None, "Waiting: 2 before this one.")
    begun = followed.says(0, state="running", total=8)
    assert begun == (0.0, "Segmenting, step 0 of 8.")
    running = {"state": "running", "done": 2, "total": 8, "rate": 1.25, "seconds_left": 4.8}
    told = "Segmenting, step 2 of 8, 1.2 a second, about 5 s left."
    assert followed.says(0, **running) == (0.25, told)


def test_the_progress_of_ed_and_es_counts_both(followed):
    followed.bench.session.segmentation.run(Scope.ED_ES)
    assert followed.says(0, state="queued", position=0) == (None, "Waiting.")
    running = {"state": "running", "done": 1, "total": 2, "rate": 0.5, "seconds_left": 2.0}
    first = (0.25, "Segmenting, step 1 of 4, 0.5 a second, about 6 s left.")
    assert followed.says(0, **running) == first
    done = {**running, "state": "done", "done": 2, "seconds_left": 0.0}
    between = (0.5, "Segmenting, step 2 of 4, 0.5 a second, about 4 s left.")
    assert followed.says(0, **done) == between
    followed.gate.release()
    behind_others = (0.5, "Waiting: 3 before this one.")
    assert followed.says(1, state="queued", position=3) == behind_others
    second = (0.75, "Segmenting, step 3 of 4, 2.0 a second, about 1 s left.")
    assert followed.says(1, **{**running, "rate": 2.0}) == second


def test_two_at_a_time_are_refused(opened):
    opened.server.hangs = threading.Event()
    opened.session.segmentation.run(Scope.FRAME)
    opened.session.segmentation.run(Scope.ALL)
    opened.server.hangs.set()
    opened.settle()
    assert opened.problems == ["a segmentation runs already. Cancel it first."]


def test_a_failure_is_one_sentence_and_nothing_changes(opened):
    opened.server.fails["segment"] = answers.Busy("32 requests wait already")
    run(opened)
    assert opened.problems == ["32 requests wait already."]
    assert opened.session.segmentation.state.sentence == "32 requests wait already."
    assert not opened.scene.kept.any()


def test_labels_on_another_grid_are_refused(opened):
    moved = opened.server.affine.copy()
    moved[0, 3] += 5
    voxels = nifti.read(opened.server.files["heart__t00"]).voxels
    opened.server.files["heart__t00"] = nifti.image_bytes(voxels, moved)
    run(opened)
    assert "does not lie on the study's grid" in opened.problems[0]
    assert not opened.scene.kept.any()


def test_slices_to_look_at_come_worst_first_and_lead_there(opened):
    opened.scene.go_to(3)
    run(opened, fast=False)
    state = opened.session.segmentation.state
    assert [(look.frame, look.slice, look.structure) for look in state.look_at] == [
        (3, 1, "MYO"),
        (3, 2, "MYO"),
    ]
    opened.scene.go_to(0)
    opened.session.segmentation.go_to(state.look_at[1])
    assert (opened.scene.frame(), opened.scene.slice()) == (3, 2)
    assert state.notes == ("The base may be missing.",)


def test_a_single_network_says_that_it_has_no_second_opinion(opened):
    run(opened)
    assert "the full ensemble" in opened.session.segmentation.state.notes[-1]


def test_disagreement_is_laid_over_the_frame_on_screen_while_wanted(opened):
    run(opened, fast=False)
    segmentation = opened.session.segmentation
    segmentation.show_disagreement(True)
    shown = opened.scene.overlay[0]
    assert shown.dtype == np.float32
    assert shown.max() == pytest.approx(0.7 / math.log(4))
    opened.scene.go_to(1)
    assert opened.scene.overlay[1] is None
    opened.scene.go_to(0)
    segmentation.show_disagreement(False)
    assert opened.scene.overlay[0] is None
