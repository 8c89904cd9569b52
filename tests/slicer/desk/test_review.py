from __future__ import annotations

import numpy as np
import pytest
from CineLabelLib import answers, thumbnails
from CineLabelLib.core.review import Action, Decision, ReviewRecord, SliceReview
from CineLabelLib.desk.review import merge


def look(index, badness, findings=()):
    picture = np.full((4, 4), index, np.uint8)
    return thumbnails.SliceLook(index, picture, 0.5, None, None, 1.0, findings, badness)


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """Slice 2 looks worst, then slice 0."""
    seen = (look(0, 0.3, ("low contrast",)), look(1, 0.0), look(2, 0.9), look(3, 0.1))
    monkeypatch.setattr(thumbnails, "look", lambda study: seen)


def decisions(record):
    return {
        s["index"]: s["decision"]["action"] for s in record["slices"] if s["decision"] is not None
    }


def a_record(*slices, **more):
    return ReviewRecord("heart", slices=tuple(slices), **more)


def at(index, action, time, reader="Bo"):
    decision = Decision(action, "why", reader, f"2030-05-06T{time}:00+00:00")
    return SliceReview(index, decision=decision)


def test_without_a_model_slices_are_ordered_by_what_the_images_show(bench):
    bench.open_local()
    state = bench.session.review.state
    assert state.worst_first == (2, 0, 3, 1)
    assert state.rows[0].findings == ("low contrast",)
    assert state.rows[3].thumbnail[0, 0] == 3


def test_the_score_of_a_model_counts_where_it_is_worse(bench):
    scored = a_record(SliceReview(1, artefact_score=0.95), model="grader-1")
    bench.server.record = answers.StudyReview(
        "heart", 1, "Bo", "2030-05-06T06:00:00+00:00", scored.as_dict()
    )
    bench.open_case()
    state = bench.session.review.state
    assert state.worst_first == (1, 2, 0, 3)
    assert state.model == "grader-1"


def test_a_decision_is_kept_beside_a_local_study(bench):
    bench.open_local()
    bench.session.review.decide(2, Action.REPEAT, "breathing")
    bench.settle()
    assert bench.session.review.state.saved
    again = bench.restart()
    again.open_local()
    decision = again.session.review.state.rows[2].decision
    assert (decision.action, decision.reason, decision.reader) == (
        Action.REPEAT,
        "breathing",
        "reader",
    )


def test_a_decision_reaches_the_server(bench):
    bench.open_case()
    bench.session.review.decide(1, Action.ACCEPT)
    bench.session.review.decide_study(Action.EXCLUDE, "wrong patient")
    bench.settle()
    assert decisions(bench.server.record.record) == {1: "accept"}
    assert bench.server.record.record["decision"]["reason"] == "wrong patient"
    assert bench.session.review.state.saved


def test_a_decision_is_taken_back(bench):
    bench.open_case()
    bench.session.review.decide(1, Action.ACCEPT)
    bench.session.review.decide(1, None)
    bench.settle()
    assert decisions(bench.server.record.record) == {}


@pytest.mark.parametrize("action", [Action.REPEAT, Action.EXCLUDE])
def test_repeating_and_excluding_want_a_reason(bench, action):
    bench.open_local()
    bench.session.review.decide(0, action, " ")
    assert bench.problems[0].startswith("no reason is given.")
    assert bench.session.review.state.rows[0].decision is None


def test_the_next_one_is_the_worst_without_a_decision(bench):
    bench.open_local()
    bench.session.review.decide(2, Action.ACCEPT)
    bench.session.review.go_to_next()
    assert bench.scene.slice() == 0


def test_a_decision_made_at_once_is_kept_beside_earlier_ones(bench):
    path = bench.open_local()
    bench.session.review.decide(2, Action.ACCEPT)
    bench.settle()
    again = bench.restart()
    again.session.opening.open_file(path)
    again.until(lambda: again.session.desk.study is not None)
    again.session.review.decide(1, Action.ACCEPT)
    again.settle()
    third = again.restart()
    third.open_local()
    decided = [row.index for row in third.session.review.state.rows if row.decision]
    assert decided == [1, 2]


def test_decisions_made_while_the_server_is_away_reach_it_later(bench):
    bench.open_case()
    bench.server.fails["save_review"] = answers.ServerGone("nobody answers")
    bench.server.fails["check_token"] = answers.ServerGone("nobody answers")
    bench.session.review.decide(1, Action.ACCEPT)
    bench.pass_time(6)
    assert "kept here, not on the server yet" in bench.session.review.state.sentence
    assert not bench.session.review.state.saved
    bench.server.fails.clear()
    bench.pass_time(6)
    bench.settle()
    assert decisions(bench.server.record.record) == {1: "accept"}


def test_decisions_of_a_killed_slicer_reach_the_server_at_the_next_opening(bench):
    bench.open_case()
    bench.server.fails["save_review"] = answers.ServerGone("nobody answers")
    bench.session.review.decide(1, Action.ACCEPT)
    bench.settle()
    bench.server.fails.clear()
    again = bench.restart()
    again.open_case()
    assert decisions(again.server.record.record) == {1: "accept"}


@pytest.mark.parametrize("index", [1, None])
def test_a_decision_taken_back_while_the_server_is_away_does_not_return(bench, index):
    decision = at(0, Action.EXCLUDE, "07:00").decision
    theirs = (
        a_record(decision=decision)
        if index is None
        else a_record(SliceReview(1, decision=decision))
    )
    bench.server.record = answers.StudyReview("heart", 1, "Bo", decision.time, theirs.as_dict())
    bench.open_case()
    bench.server.fails["save_review"] = answers.ServerGone("nobody answers")
    review = bench.session.review
    review.decide_study(None) if index is None else review.decide(index, None)
    bench.settle()
    bench.server.fails.clear()
    again = bench.restart()
    again.open_case()
    state = again.session.review.state
    assert state.decision is None
    assert not any(row.decision for row in state.rows)
    assert decisions(again.server.record.record) == {}
    assert again.server.record.record["decision"] is None


def test_a_decision_taken_back_does_not_return_with_what_somebody_decided_meanwhile(bench):
    first = a_record(at(1, Action.EXCLUDE, "07:00"))
    bench.server.record = answers.StudyReview(
        "heart", 1, "Bo", "2030-05-06T07:00:00+00:00", first.as_dict()
    )
    bench.open_case()
    second = a_record(at(1, Action.EXCLUDE, "07:00"), at(3, Action.EXCLUDE, "07:05"))
    bench.server.record = answers.StudyReview(
        "heart", 2, "Bo", "2030-05-06T07:05:00+00:00", second.as_dict()
    )
    bench.session.review.decide(1, None)
    bench.settle()
    assert decisions(bench.server.record.record) == {3: "exclude"}


def test_what_somebody_decided_meanwhile_is_kept_beside_mine(bench):
    bench.open_case()
    theirs = a_record(at(3, Action.EXCLUDE, "07:00"))
    bench.server.record = answers.StudyReview(
        "heart", 1, "Bo", "2030-05-06T07:00:00+00:00", theirs.as_dict()
    )
    bench.session.review.decide(1, Action.ACCEPT)
    bench.settle()
    assert decisions(bench.server.record.record) == {1: "accept", 3: "exclude"}
    assert bench.session.review.state.rows[3].decision.reader == "Bo"


def test_the_later_decision_about_a_slice_counts():
    theirs = a_record(at(0, Action.ACCEPT, "07:00"), at(1, Action.ACCEPT, "09:00"))
    mine = a_record(at(0, Action.REPEAT, "08:00"), at(1, Action.REPEAT, "08:00"))
    both = merge(theirs, mine)
    assert [found.decision.action for found in both.slices] == [Action.REPEAT, Action.ACCEPT]


def test_what_another_took_back_since_does_not_come_back():
    theirs = a_record(SliceReview(0))
    mine = a_record(at(0, Action.REPEAT, "08:00"))
    since = "2030-05-06T09:00:00+00:00"
    assert merge(theirs, mine, since).slices[0].decision is None


def test_a_server_that_fails_leaves_the_review_usable(bench):
    bench.server.fails["review"] = answers.ServerFault("the server failed")
    bench.open_case()
    state = bench.session.review.state
    assert len(state.rows) == 4
    assert "the server failed." in state.notes
