"""Lanes of work: nothing blocks the main thread, callbacks run there alone, each task ends once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from CineLabelLib.core.errors import CineLabelError
from CineLabelLib.work import Cancelled, Task, Worker, Workers, pace

SOON_S = 10.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    lane = Worker("test")
    yield lane
    lane.close(SOON_S)


class Heard:
    """What was called, and in which thread."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[CineLabelError] = []
        self.progress: list[tuple[float | None, str]] = []
        self.threads: set[threading.Thread] = set()

    def done(self, result: Any) -> None:
        self.threads.add(threading.current_thread())
        self.results.append(result)

    def failed(self, error: CineLabelError) -> None:
        self.threads.add(threading.current_thread())
        self.errors.append(error)

    def told(self, fraction: float | None, sentence: str) -> None:
        self.threads.add(threading.current_thread())
        self.progress.append((fraction, sentence))


@pytest.fixture
def heard() -> Heard:
    return Heard()


def drain_until(lane: Worker | Workers, condition: Callable[[], object]) -> None:
    end, pause = time.monotonic() + SOON_S, threading.Event()
    while not condition():
        assert time.monotonic() < end, "it never happens"
        lane.drain()
        pause.wait(0.002)


def test_work_is_done_elsewhere_and_told_on_the_thread_that_drains(
    worker: Worker, heard: Heard
) -> None:
    def work(task: Task[threading.Thread]) -> threading.Thread:
        task.report(0.5, "Half.")
        return threading.current_thread()

    worker.submit(work, heard.done, heard.failed, heard.told)
    drain_until(worker, lambda: heard.results)
    assert heard.results[0] is not threading.current_thread()
    assert heard.threads == {threading.current_thread()}
    assert not worker.busy


def test_nothing_is_told_before_somebody_drains(worker: Worker, heard: Heard) -> None:
    over = threading.Event()
    worker.submit(lambda task: "first", heard.done, heard.failed)
    worker.submit(lambda task: over.set(), heard.done, heard.failed)
    assert over.wait(SOON_S)
    assert heard.results == []
    drain_until(worker, lambda: len(heard.results) == 2)


def test_the_main_thread_never_waits_for_work(heard: Heard) -> None:
    over, workers = threading.Event(), Workers()
    longest = 0.0
    for lane in (workers.work, workers.watch, workers.files):
        lane.submit(lambda task: over.wait(60), heard.done, heard.failed)
    for _ in range(20):
        start = time.monotonic()
        workers.drain()
        longest = max(longest, time.monotonic() - start)
    start = time.monotonic()
    workers.close(0.05)
    assert time.monotonic() - start < SOON_S
    over.set()
    assert longest < 1.0
    assert heard.results == []


def test_work_comes_in_order_and_a_lane_does_not_wait_for_the_other(heard: Heard) -> None:
    over, workers = threading.Event(), Workers()
    workers.work.submit(lambda task: over.wait(SOON_S) and "long", heard.done, heard.failed)
    workers.work.submit(lambda task: "behind", heard.done, heard.failed)
    workers.watch.submit(lambda task: "beside", heard.done, heard.failed)
    drain_until(workers, lambda: heard.results)
    over.set()
    drain_until(workers, lambda: len(heard.results) == 3)
    assert heard.results == ["beside", "long", "behind"]
    assert workers.close(SOON_S)


def test_the_newest_report_alone_is_told(worker: Worker, heard: Heard) -> None:
    reported, over = threading.Event(), threading.Event()

    def work(task: Task[None]) -> None:
        for step in range(100):
            task.report(step / 100, f"Step {step}.")
        reported.set()
        over.wait(SOON_S)

    worker.submit(work, heard.done, heard.failed, heard.told)
    assert reported.wait(SOON_S)
    worker.drain()
    worker.drain()
    assert heard.progress == [(0.99, "Step 99.")]
    over.set()


@pytest.mark.parametrize(
    ("rate", "left", "told"),
    [
        (None, None, ""),
        (3.14, 5.7, ", 3.1 a second, about 6 s left"),
        (0.1, 89.0, ", 0.1 a second, about 89 s left"),
        (0.05, 90.0, ", 3.0 a minute, about 2 min left"),
        (None, 300.0, ", about 5 min left"),
        (2.0, 0.2, ", 2.0 a second, about 1 s left"),
        (0.0, None, ""),
    ],
)
def test_a_pace_is_told_as_far_as_it_is_known(
    rate: float | None, left: float | None, told: str
) -> None:
    assert pace(rate, left) == told


def test_a_cancelled_task_fails_once_at_the_next_drain_and_its_result_is_dropped(
    worker: Worker, heard: Heard
) -> None:
    begun, over = threading.Event(), threading.Event()

    def work(task: Task[str]) -> str:
        begun.set()
        over.wait(SOON_S)
        return "too late"

    task = worker.submit(work, heard.done, heard.failed, heard.told)
    assert begun.wait(SOON_S)
    task.cancel()
    worker.drain()
    assert [type(error) for error in heard.errors] == [Cancelled]
    over.set()
    worker.submit(lambda task: "next", heard.done, heard.failed)
    drain_until(worker, lambda: heard.results)
    assert heard.results == ["next"]
    assert len(heard.errors) == 1


def test_work_that_was_cancelled_before_it_began_is_never_done(
    worker: Worker, heard: Heard
) -> None:
    over, did = threading.Event(), []
    worker.submit(lambda task: over.wait(SOON_S), heard.done, heard.failed)
    task = worker.submit(lambda task: did.append(1), heard.done, heard.failed)
    task.cancel()
    over.set()
    worker.submit(lambda task: "last", heard.done, heard.failed)
    drain_until(worker, lambda: "last" in heard.results)
    assert did == []


def test_work_that_looks_is_ended_by_a_cancel(worker: Worker, heard: Heard) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(task: Task[None]) -> None:
        begun.set()
        try:
            while True:
                task.check()
        finally:
            ended.set()

    task = worker.submit(work, heard.done, heard.failed)
    assert begun.wait(SOON_S)
    task.cancel()
    assert ended.wait(SOON_S)
    drain_until(worker, lambda: heard.errors)
    assert isinstance(heard.errors[0], Cancelled)


def test_nothing_is_told_once_the_guard_says_no(worker: Worker, heard: Heard) -> None:
    wanted = [True]
    worker.submit(lambda task: "old", heard.done, heard.failed, heard.told, guard=lambda: wanted[0])
    wanted[0] = False
    drain_until(worker, lambda: not worker.busy)
    task = worker.submit(
        lambda task: "older", heard.done, heard.failed, heard.told, guard=lambda: wanted[0]
    )
    task.cancel()
    drain_until(worker, lambda: not worker.busy)
    assert (heard.results, heard.errors) == ([], [])


def test_errors_arrive_as_they_are_and_mistakes_as_a_sentence(
    worker: Worker, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    error = CineLabelError("the study is gone")

    def known(task: Task[None]) -> None:
        raise error

    def mistake(task: Task[None]) -> None:
        raise KeyError("secret detail")

    for work in (known, mistake):
        worker.submit(work, heard.done, heard.failed)
    with caplog.at_level(logging.ERROR):
        drain_until(worker, lambda: len(heard.errors) == 2)
    assert heard.errors[0] is error
    assert "not foreseen (KeyError)" in str(heard.errors[1])
    assert "secret detail" not in str(heard.errors[1])
    assert "secret detail" in caplog.text


def test_a_callback_that_raises_keeps_no_other_from_being_called(
    worker: Worker, heard: Heard
) -> None:
    def wrong(result: object) -> None:
        raise ValueError("in the panel")

    worker.submit(lambda task: 1, wrong, heard.failed)
    task = worker.submit(lambda task: 2, heard.done, heard.failed)
    end = time.monotonic() + SOON_S
    while task._outcome is None:
        assert time.monotonic() < end
    with pytest.raises(ValueError, match="in the panel"):
        worker.drain()
    assert heard.results == [2]
    worker.drain()
    assert not worker.busy


def test_a_callback_may_drain_again_and_submit_more(worker: Worker, heard: Heard) -> None:
    """As a dialog does that runs the event loop, and so the timer."""

    def done(result: int) -> None:
        heard.done(result)
        worker.drain()
        if result < 3:
            worker.submit(lambda task: result + 1, done, heard.failed)

    worker.submit(lambda task: 1, done, heard.failed)
    drain_until(worker, lambda: len(heard.results) == 3)
    assert heard.results == [1, 2, 3]


def test_closing_gives_requests_up_but_saves_what_waits_to_be_saved(heard: Heard) -> None:
    workers, saved, begun = Workers(), [], threading.Event()

    def request(task: Task[None]) -> None:
        begun.set()
        while True:
            task.check()

    workers.work.submit(request, heard.done, heard.failed)
    assert begun.wait(SOON_S)
    for number in range(5):
        workers.files.submit(lambda task, n=number: saved.append(n), heard.done, heard.failed)
    assert workers.close(SOON_S)
    assert saved == [0, 1, 2, 3, 4]
    workers.drain()
    assert (heard.results, heard.errors) == ([], [])
    with pytest.raises(CineLabelError, match="being closed"):
        workers.work.submit(lambda task: 1, heard.done, heard.failed)
