from __future__ import annotations

from dataclasses import replace

import pytest
from CineLabelLib import answers
from CineLabelLib.answers import Course, Decision
from CineLabelLib.desk.training import sentence_of


def test_a_training_is_started_followed_and_ended(bench):
    bench.connect()
    training = bench.session.training
    assert training.state.may
    training.start()
    bench.settle()
    assert training.state.running
    far = {"step": 3, "steps": 10, "rate": 0.02, "seconds_left": 300.0}
    bench.server.course = replace(bench.server.course, **far)
    bench.pass_time(4)
    assert training.state.sentence == (
        "Training is running: learning, step 3 of 10, 1.2 a minute, about 5 min left."
    )
    training.stop()
    bench.settle()
    assert not training.state.running
    assert training.state.sentence == "The training was cancelled."
    training.resume()
    bench.settle()
    assert ("resume_training", "j1") in bench.server.asked
    assert training.state.running


def test_a_training_that_ends_tells_the_decision_with_its_reasons(bench):
    bench.connect()
    bench.session.training.start()
    bench.settle()
    bench.server.course = replace(
        bench.server.course,
        state="done",
        version="v2",
        decision=Decision("keep", ("Dice of RV fell by 0.02.",)),
        before={"dice": {"RV": 0.9}},
        after={"dice": {"RV": 0.88}},
    )
    bench.pass_time(4)
    state = bench.session.training.state
    assert state.sentence == "Version v2 waits for a person. Dice of RV fell by 0.02."
    assert state.course.after == {"dice": {"RV": 0.88}}
    asked = len(bench.server.asked)
    bench.session.tick()
    assert len(bench.server.asked) == asked


def test_figures_are_fetched_by_name(bench):
    bench.connect()
    bench.session.training.start()
    bench.settle()
    bench.session.training.fetch_figure("loss")
    bench.settle()
    assert bench.session.training.state.figures["loss"].startswith(b"\x89PNG")
    bench.session.training.fetch_figure("nothing")
    assert bench.problems == ["the training has no figure 'nothing'."]


def test_a_version_is_used_and_rolled_back_with_a_reason(bench):
    bench.connect()
    training = bench.session.training
    training.use("v2", "")
    assert bench.problems[0].startswith("no reason is given.")
    training.use("v2", "better at the base")
    bench.settle()
    assert training.state.models.served == "v2"
    assert ("use", "v2", "better at the base") in bench.server.asked
    training.roll_back("worse at the apex")
    bench.settle()
    assert training.state.models.served == "v1"


@pytest.mark.parametrize(
    ("method", "arguments", "what"),
    [
        ("start", (), "start a training"),
        ("stop", (), "stop a training"),
        ("use", ("v2", "why"), "put a version in use"),
        ("roll_back", ("why",), "roll back"),
    ],
)
def test_those_who_may_not_are_told_who_may(bench, method, arguments, what):
    bench.server.role = "annotator"
    names = {"start": "start_training", "stop": "stop_training"}
    bench.server.fails[names.get(method, method)] = answers.NotAllowed("not yours", status=403)
    bench.connect()
    assert not bench.session.training.state.may
    getattr(bench.session.training, method)(*arguments)
    bench.settle()
    assert bench.problems == [
        f"only a token of the role admin may {what}; ask who runs the server."
    ]


def test_a_server_that_is_left_takes_its_trainings_along(bench):
    bench.connect()
    bench.session.training.start()
    bench.settle()
    bench.session.connection.disconnect()
    assert bench.session.training.state.course is None
    bench.session.training.start()
    assert bench.problems[0].startswith("no server is connected.")


@pytest.mark.parametrize(
    ("course", "sentence"),
    [
        (None, "There was no training yet."),
        (Course("j", "queued"), "Training is queued: waiting."),
        (Course("j", "failed", error="No labels."), "The training was failed: No labels."),
        (Course("j", "done"), "The training has ended without a new version."),
        (
            Course("j", "done", version="v3", decision=Decision("publish", ())),
            "Version v3 is in use.",
        ),
    ],
)
def test_where_a_training_stands_is_a_sentence(course, sentence):
    assert sentence_of(course) == sentence
