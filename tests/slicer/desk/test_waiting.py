"""What waits in the outbox while its study is opened again is never gone over unseen."""

from __future__ import annotations

import numpy as np
import pytest
from CineLabelLib import answers

IMAGE = "heart__t01"


@pytest.fixture
def waits(bench, make_heart):
    """The study opened again, without the label that waits for a server that is busy."""
    bench.open_case()
    bench.draw(1, make_heart(2))
    bench.server.fails["submit"] = answers.Busy("too much is going on")
    submit(bench)
    bench.open_case(1)
    assert len(bench.session.submitting.state.waiting) == 1
    assert not bench.scene.kept.any()
    return bench


def submit(bench):
    bench.session.submitting.submit_frame()
    bench.settle()


def show_mine(bench):
    submitting = bench.session.submitting
    submitting.open_mine(submitting.state.waiting[0].entry)
    bench.settle()


def test_a_label_drawn_without_the_one_that_was_sent_meanwhile_is_a_conflict(waits, make_heart):
    waits.server.fails.clear()
    waits.pass_time(31)
    assert len(waits.server.labels[IMAGE]) == 1
    waits.draw(1, make_heart(1))
    submit(waits)
    conflict = waits.session.submitting.state.conflict
    assert (conflict.version, conflict.who) == (1, "reader")
    np.testing.assert_array_equal(waits.server.newest(IMAGE), make_heart(2))


def test_a_label_drawn_without_the_one_that_waits_is_a_conflict_when_both_are_sent(
    waits, make_heart
):
    waits.draw(1, make_heart(1))
    submit(waits)
    waits.server.fails.clear()
    waits.pass_time(31)
    assert waits.session.submitting.state.conflict.version == 1
    np.testing.assert_array_equal(waits.server.newest(IMAGE), make_heart(2))


@pytest.mark.parametrize("sent_first", [True, False])
def test_a_label_drawn_on_the_one_that_waits_follows_it(waits, make_heart, sent_first):
    show_mine(waits)
    np.testing.assert_array_equal(waits.scene.kept[..., 1], make_heart(2))
    if sent_first:
        waits.server.fails.clear()
        waits.pass_time(31)
    waits.draw(1, make_heart(1))
    submit(waits)
    waits.server.fails.clear()
    waits.pass_time(31)
    assert waits.session.submitting.state.conflict is None
    assert len(waits.server.labels[IMAGE]) == 2
    np.testing.assert_array_equal(waits.server.newest(IMAGE), make_heart(1))


def test_a_label_drawn_on_an_earlier_one_does_not_go_over_a_later_one(bench, make_heart):
    bench.open_case()
    bench.server.fails["submit"] = answers.Busy("too much is going on")
    for frame in (2, 1):
        bench.draw(1, make_heart(frame))
        submit(bench)
    bench.open_case(1)
    show_mine(bench)
    bench.server.fails.clear()
    bench.pass_time(31)
    bench.draw(1, make_heart(0))
    submit(bench)
    assert bench.session.submitting.state.conflict.version == 2
    np.testing.assert_array_equal(bench.server.newest(IMAGE), make_heart(1))


def test_after_mine_went_over_theirs_my_next_label_follows(bench, make_heart):
    bench.open_case(1)
    bench.draw(1, make_heart(2))
    bench.server.label(IMAGE, make_heart(0), "Bo", "2030-05-06T07:10:00+00:00")
    submit(bench)
    submitting = bench.session.submitting
    submitting.open_theirs()
    bench.settle()
    submitting.submit_over()
    bench.settle()
    bench.draw(1, make_heart(1))
    submit(bench)
    assert submitting.state.conflict is None
    assert len(bench.server.labels[IMAGE]) == 3


def test_opening_a_study_tells_which_frame_waits(waits):
    assert "Frame 1 has a label waiting in the outbox" in waits.session.opening.state.sentence


def test_a_label_for_another_server_does_not_wait_for_this_study(waits):
    other = "http://127.0.0.1:8"
    waits.addresses[other] = type(waits.server)()
    waits.session.connection.connect(other)
    waits.settle()
    waits.open_case(1)
    assert "waiting" not in waits.session.opening.state.sentence
