"""Who may use the device: one request at a time, first come, first served.

A request joins with a ticket when it arrives. The few at the head may prepare (read their study);
whoever is prepared first in line gets the device when it is free, so that a study on a slow disk
holds nobody up. A ticket that is cancelled, or whose request failed, leaves no gap.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cinelabel.core.errors import CineLabelError

WAITING_LIMIT = 32
READ_AHEAD = 4
"""How many waiting requests may hold a study in memory."""
SMOOTHING = 0.3
"""Weight of the last run in the mean time that a run takes."""


class QueueFullError(CineLabelError):
    """As many requests wait as may; `retry_after_s` says when to come again."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(
            f"{waiting} requests are waiting for a segmentation, which is as many as may",
            remedy=f"Try again in {retry_after_s} s",
        )
        self.retry_after_s = retry_after_s


class CancelledError(CineLabelError):
    """The request was cancelled by its client, or its client went away."""

    def __init__(self) -> None:
        super().__init__("the request was cancelled")


@dataclass(frozen=True)
class Waited:
    """How a request fared in the queue: how many were before it, and the seconds it waited."""

    position_at_arrival: int
    waited_s: float


class DeviceQueue:
    """The requests that wait for a device and the one that has it; safe for many threads."""

    def __init__(
        self, device: str, limit: int = WAITING_LIMIT, read_ahead: int = READ_AHEAD
    ) -> None:
        """An empty queue; at most `limit` wait, the first `read_ahead` of them may prepare."""
        self.device = device
        self.limit = limit
        self._read_ahead = read_ahead
        self._changed = threading.Condition()
        self._line: list[Ticket] = []
        self._running: Ticket | None = None
        self._run_s = 1.0

    def join(self) -> Ticket:
        """A place at the end; `Ticket.leave` must follow. Raises QueueFullError."""
        with self._changed:
            if len(self._line) >= self.limit:
                raise QueueFullError(len(self._line), math.ceil(self._run_s))
            ticket = Ticket(self, self._before(len(self._line)))
            self._line.append(ticket)
            return ticket

    def position(self, ticket: Ticket) -> int | None:
        """How many have the device before a ticket does; 0 when it has it, None when it left."""
        with self._changed:
            if ticket is self._running:
                return 0
            return self._before(self._line.index(ticket)) if ticket in self._line else None

    def status(self) -> dict[str, Any]:
        """Numbers for clients, ready for JSON."""
        with self._changed:
            return {
                "device": self.device,
                "running": int(self._running is not None),
                "waiting": len(self._line),
                "limit": self.limit,
                "seconds_each": round(self._run_s, 3),
            }

    def _before(self, index: int) -> int:
        return index + (self._running is not None)

    def _may_prepare(self, ticket: Ticket) -> bool:
        return ticket in self._line[: self._read_ahead]

    def _may_run(self, ticket: Ticket) -> bool:
        ready = (other for other in self._line if other.prepared and not other.cancelled)
        return self._running is None and next(ready, None) is ticket


class Ticket:
    """One request's place in a queue. Used by one thread; `cancel` and `position` by any."""

    def __init__(self, queue: DeviceQueue, position: int) -> None:
        self.prepared = False
        self.cancelled = False
        self._queue = queue
        self._changed = queue._changed
        self._arrived = time.monotonic()
        self._position_at_arrival = position

    @property
    def position(self) -> int | None:
        """How many come before it; 0 when it has the device, None when it left."""
        return self._queue.position(self)

    def cancel(self) -> None:
        """Wake the request if it waits and make it raise CancelledError."""
        with self._changed:
            self.cancelled = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raise CancelledError if it was cancelled."""
        if self.cancelled:
            raise CancelledError

    def wait_to_prepare(self) -> None:
        """Wait until few enough are before it to read its study. Raises CancelledError."""
        with self._changed:
            self._changed.wait_for(lambda: self.cancelled or self._queue._may_prepare(self))
        self.check()

    @contextmanager
    def turn(self) -> Iterator[Waited]:
        """Wait for the device, have it, and give it back whatever happens inside.

        Raises:
            CancelledError: it was cancelled while it waited.
        """
        queue = self._queue
        with self._changed:
            self.prepared = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.cancelled or queue._may_run(self))
            self.check()
            queue._line.remove(self)
            queue._running = self
            self._changed.notify_all()
        start = time.monotonic()
        try:
            yield Waited(self._position_at_arrival, start - self._arrived)
        finally:
            with self._changed:
                took = time.monotonic() - start
                queue._run_s += SMOOTHING * (took - queue._run_s)
                queue._running = None
                self._changed.notify_all()

    def leave(self) -> None:
        """Give the place up if it is still held; may be called more than once."""
        with self._changed:
            if self in self._queue._line:
                self._queue._line.remove(self)
                self._changed.notify_all()
