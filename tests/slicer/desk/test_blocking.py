"""No call of the panel waits for a server: with one that sleeps, each returns within 100 ms."""

from __future__ import annotations

import threading
import time

import pytest
from CineLabelLib.core.review import Action
from CineLabelLib.desk.states import Scope

LONGEST_S = 0.1
ENOUGH_TICKS = 20

CALLS = {
    "connect": lambda s: s.connection.connect("http://127.0.0.1:9"),
    "disconnect": lambda s: s.connection.disconnect(),
    "list cases": lambda s: s.opening.list_cases("open"),
    "open case": lambda s: s.opening.open_case("heart__t01"),
    "next case": lambda s: s.opening.next_case(),
    "close study": lambda s: s.opening.close_study(),
    "decide": lambda s: s.review.decide(0, Action.ACCEPT),
    "segment": lambda s: s.segmentation.run(Scope.ALL),
    "cancel": lambda s: (s.segmentation.run(Scope.FRAME), s.segmentation.cancel()),
    "save": lambda s: s.editing.save(),
    "submit frame": lambda s: s.submitting.submit_frame(),
    "submit edited": lambda s: s.submitting.submit_edited(),
    "send waiting": lambda s: s.submitting.send_waiting(),
    "skip": lambda s: s.submitting.skip("no heart"),
    "start training": lambda s: s.training.start(),
    "use": lambda s: s.training.use("v2", "better"),
    "refresh": lambda s: s.training.refresh(),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_waits_for_a_server_that_sleeps(bench, name):
    bench.open_case()
    bench.draw(1)
    bench.server.hangs = threading.Event()
    bench.clock.passed += 60
    times = []
    for step in (lambda: CALLS[name](bench.session), *[bench.session.tick] * ENOUGH_TICKS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
        bench.clock.passed += 0.3
    assert max(times) < LONGEST_S


def test_many_frames_at_once_are_measured_in_small_steps(bench):
    bench.open_case()
    bench.session.segmentation.run(Scope.ALL)
    longest = 0.0
    while bench.workers.work.busy or bench.workers.watch.busy:
        start = time.perf_counter()
        bench.session.tick()
        longest = max(longest, time.perf_counter() - start)
    assert longest < LONGEST_S
