"""The queue of a device: fair, exact when requests are cancelled or fail, and visible."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from cinelabel.core.errors import ConflictError, InputError
from lib.progress import ProgressBoard
from lib.queue import CancelledError, DeviceQueue, QueueFullError, Ticket

DEADLINE_S = 20


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as opened:
        yield opened


def use(ticket: Ticket, work: Callable[[], None] = lambda: None) -> None:
    """What a request does: prepare, have the device, leave."""
    try:
        ticket.wait_to_prepare()
        with ticket.turn():
            work()
    finally:
        ticket.leave()


@contextmanager
def busy(queue: DeviceQueue, pool: ThreadPoolExecutor) -> Iterator[None]:
    """The device in use by somebody until the end of the block."""
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(DEADLINE_S)

    first = pool.submit(use, queue.join(), work)
    assert begun.wait(DEADLINE_S)
    try:
        yield
    finally:
        go.set()
        first.result(DEADLINE_S)


def test_requests_have_the_device_in_the_order_of_their_arrival(pool: ThreadPoolExecutor) -> None:
    queue, order = DeviceQueue("cpu", read_ahead=64), list[int]()
    tickets = []
    with busy(queue, pool):
        tickets = [queue.join() for _ in range(20)]
        shuffled = list(enumerate(tickets))
        random.Random(1).shuffle(shuffled)
        futures = [
            pool.submit(use, ticket, lambda number=number: order.append(number))  # type: ignore[misc]
            for number, ticket in shuffled
        ]
        wait_until(lambda: all(ticket.prepared for ticket in tickets))
    for future in futures:
        future.result(DEADLINE_S)
    assert order == list(range(20))


def test_a_position_counts_those_before(pool: ThreadPoolExecutor) -> None:
    queue = DeviceQueue("cpu")
    with busy(queue, pool):
        tickets = [queue.join() for _ in range(3)]
        assert [ticket.position for ticket in tickets] == [1, 2, 3]
        tickets[0].leave()
        assert [ticket.position for ticket in tickets] == [None, 1, 2]
        assert queue.status()["waiting"] == 2
        for ticket in tickets:
            ticket.leave()


def test_the_wait_and_the_position_at_arrival_are_told(pool: ThreadPoolExecutor) -> None:
    queue = DeviceQueue("cpu")
    with busy(queue, pool):
        ticket = queue.join()

    def told() -> object:
        with ticket.turn() as waited:
            return waited

    waited = pool.submit(told).result(DEADLINE_S)
    assert waited.position_at_arrival == 1
    assert waited.waited_s > 0


def test_a_cancelled_request_leaves_no_gap(pool: ThreadPoolExecutor) -> None:
    queue, done = DeviceQueue("cpu"), list[str]()
    with busy(queue, pool):
        first, second = queue.join(), queue.join()
        cancelled = pool.submit(use, first, lambda: done.append("first"))
        other = pool.submit(use, second, lambda: done.append("second"))
        first.cancel()
        with pytest.raises(CancelledError):
            cancelled.result(DEADLINE_S)
    other.result(DEADLINE_S)
    assert done == ["second"]
    assert queue.status()["waiting"] == 0


def test_a_failure_gives_the_device_to_the_next(pool: ThreadPoolExecutor) -> None:
    queue, done = DeviceQueue("cpu"), list[str]()

    def fail() -> None:
        raise RuntimeError("broken")

    with busy(queue, pool):
        failing = pool.submit(use, queue.join(), fail)
        other = pool.submit(use, queue.join(), lambda: done.append("second"))
    with pytest.raises(RuntimeError, match="broken"):
        failing.result(DEADLINE_S)
    other.result(DEADLINE_S)
    assert done == ["second"]


def test_a_request_that_still_reads_its_study_holds_nobody_up(pool: ThreadPoolExecutor) -> None:
    queue = DeviceQueue("cpu")
    slow, quick = queue.join(), queue.join()
    pool.submit(use, quick).result(DEADLINE_S)
    pool.submit(use, slow).result(DEADLINE_S)


def test_only_the_head_of_the_line_reads_ahead(pool: ThreadPoolExecutor) -> None:
    queue = DeviceQueue("cpu", read_ahead=2)
    with busy(queue, pool):
        tickets = [queue.join() for _ in range(3)]
        reading = [pool.submit(ticket.wait_to_prepare) for ticket in tickets]
        for future in reading[:2]:
            future.result(DEADLINE_S)
        assert not reading[2].done()
        tickets[0].leave()
        reading[2].result(DEADLINE_S)
        for ticket in tickets:
            ticket.leave()


def test_no_more_wait_than_may(pool: ThreadPoolExecutor) -> None:
    queue = DeviceQueue("cpu", limit=3)
    with busy(queue, pool):
        tickets = [queue.join() for _ in range(3)]
        with pytest.raises(QueueFullError, match="3 requests are waiting") as caught:
            queue.join()
        assert caught.value.retry_after_s >= 1
        tickets[1].leave()
        tickets.append(queue.join())
        for ticket in tickets:
            ticket.leave()


@pytest.mark.parametrize("seed", range(5))
def test_no_ticket_is_lost_however_requests_end(pool: ThreadPoolExecutor, seed: int) -> None:
    queue, draw = DeviceQueue("cpu", limit=200, read_ahead=3), random.Random(seed)
    inside, most, done = [0], [0], set[int]()

    def work(number: int, fails: bool) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            if fails:
                raise RuntimeError("broken")
            done.add(number)
        finally:
            inside[0] -= 1

    tickets = [queue.join() for _ in range(60)]
    failing = {number for number in range(60) if draw.random() < 0.2}
    cancelled = {number for number in range(60) if draw.random() < 0.3}
    futures: dict[int, Future[None]] = {}
    for number in draw.sample(range(60), 60):
        futures[number] = pool.submit(
            use, tickets[number], lambda number=number: work(number, number in failing)
        )
        for other in draw.sample(sorted(cancelled), min(2, len(cancelled))):
            tickets[other].cancel()
    ends = {number: future.exception(DEADLINE_S) for number, future in futures.items()}
    assert most[0] == 1
    assert queue.status()["waiting"] == queue.status()["running"] == 0
    assert done == {number for number, error in ends.items() if error is None}
    for number, error in ends.items():
        if number not in cancelled:
            assert isinstance(error, RuntimeError) == (number in failing)


def test_progress_tells_the_state_the_rate_and_what_is_left() -> None:
    queue, board = DeviceQueue("cpu"), ProgressBoard()
    ticket = queue.join()
    tracker = board.begin("mine", "reader", ticket)
    assert tracker.as_dict()["state"] == "queued"
    assert tracker.as_dict()["position"] == 0
    with ticket.turn():
        tracker.start()
        tracker.step(1, 4, "one")
        seen = tracker.as_dict()
        assert (seen["state"], seen["done"], seen["total"]) == ("running", 1, 4)
        assert seen["rate"] > 0
        assert seen["seconds_left"] >= 0
    tracker.end("done")
    seen = tracker.as_dict()
    assert (seen["state"], seen["position"]) == ("done", None)


def test_a_cancelled_request_stops_between_phases() -> None:
    queue, board = DeviceQueue("cpu"), ProgressBoard()
    ticket = queue.join()
    tracker = board.begin(None, "reader", ticket)
    with ticket.turn():
        tracker.start()
        tracker.step(1, 4, "one")
        ticket.cancel()
        assert tracker.as_dict()["cancelling"] is True
        with pytest.raises(CancelledError):
            tracker.step(2, 4, "one")
    assert queue.status()["running"] == 0


def test_an_id_is_used_by_one_request_at_a_time() -> None:
    queue, board = DeviceQueue("cpu"), ProgressBoard()
    first = board.begin("mine", "reader", queue.join())
    with pytest.raises(ConflictError, match="under way"):
        board.begin("mine", "reader", queue.join())
    first.end("failed", "no study.")
    assert first.as_dict()["error"] == "no study."
    assert board.begin("mine", "reader", queue.join()) is board.find("mine")


@pytest.mark.parametrize("text", ["", "..", "a/b", "x" * 129])
def test_an_id_that_cannot_be_in_an_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="request id"):
        ProgressBoard().begin(text, "reader", DeviceQueue("cpu").join())


def test_old_requests_are_forgotten_and_those_under_way_are_not() -> None:
    queue, board = DeviceQueue("cpu"), ProgressBoard(remembered=3)
    waiting = board.begin("waiting", "reader", queue.join())
    for number in range(10):
        board.begin(f"r{number}", "reader", queue.join()).end("done")
    assert board.find("waiting") is waiting
    assert board.find("r1") is None
    assert board.find("r9") is not None
    assert board.under_way() == [waiting]


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll until something holds; TimeoutError at the deadline."""
    pause = threading.Event()
    for _ in range(DEADLINE_S * 100):
        if holds():
            return
        pause.wait(0.01)
    raise TimeoutError
