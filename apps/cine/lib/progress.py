"""How far requests are, for clients that ask while they wait for the answer; and cancelling them.

The last finished requests are remembered, so that a client that asks late still learns the end.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from typing import Any, Literal

from cinelabel.core.errors import ConflictError, InputError
from cinelabel.core.files import check_identifier

from lib.queue import Ticket

State = Literal["queued", "running", "done", "failed", "cancelled"]
REMEMBERED = 256
LONGEST_ID = 128


class Tracker:
    """The state of one request; changed by its thread, read by any."""

    def __init__(self, request_id: str, who: str, ticket: Ticket) -> None:
        self.id = request_id
        self.who = who
        self.ticket = ticket
        self.state: State = "queued"
        self._error: str | None = None
        self._done, self._total = 0, 0
        self._started = self._latest = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed", "cancelled")

    def start(self) -> None:
        """The device is this request's; the rate counts from now."""
        self.state = "running"
        self._started = self._latest = time.monotonic()

    def step(self, done: int, total: int, member: str) -> None:
        """A phase of a member is done: the progress callback of `Segmenter.segment`.

        Raises:
            CancelledError: the request was cancelled.
        """
        self._done, self._total, self._latest = done, total, time.monotonic()
        self.ticket.check()

    def end(self, state: State, error: str | None = None) -> None:
        """The last state, and the sentence of a failure."""
        self._error = error
        self.state = state

    def as_dict(self) -> dict[str, Any]:
        """What clients are told; `rate` in phases a second over all members."""
        done, total = self._done, self._total
        seconds = self._latest - self._started
        rate = done / seconds if done and seconds > 0 else None
        return {
            "request_id": self.id,
            "state": self.state,
            "position": None if self.ended else self.ticket.position,
            "done": done,
            "total": total or None,
            "rate": None if rate is None else round(rate, 3),
            "seconds_left": None if rate is None else round((total - done) / rate, 1),
            "cancelling": self.ticket.cancelled and not self.ended,
            "error": self._error,
        }


class ProgressBoard:
    """The requests under way and the last ones that ended, by id; safe for many threads."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._lock = threading.Lock()
        self._trackers: OrderedDict[str, Tracker] = OrderedDict()

    def begin(self, request_id: str | None, who: str, ticket: Ticket) -> Tracker:
        """A new request under its client's id, or one made here when None.

        Raises:
            InputError: the id cannot be part of an address.
            ConflictError: a request under way has it.
        """
        request_id = secrets.token_hex(8) if request_id is None else check_request_id(request_id)
        with self._lock:
            known = self._trackers.get(request_id)
            if known is not None and not known.ended:
                raise ConflictError(
                    f"a request with the id '{request_id}' is under way",
                    remedy="Give each request an id of its own",
                )
            tracker = self._trackers[request_id] = Tracker(request_id, who, ticket)
            self._trackers.move_to_end(request_id)
            self._forget()
            return tracker

    def find(self, request_id: str) -> Tracker | None:
        """The request of that id, None for one that is unknown or forgotten."""
        with self._lock:
            return self._trackers.get(request_id)

    def under_way(self) -> list[Tracker]:
        """The requests that have not ended, in the order of their arrival."""
        with self._lock:
            return [tracker for tracker in self._trackers.values() if not tracker.ended]

    def _forget(self) -> None:
        """Drop the oldest that have ended; those under way stay."""
        ended = [key for key, tracker in self._trackers.items() if tracker.ended]
        for key in ended[: max(0, len(self._trackers) - self._remembered)]:
            del self._trackers[key]


def check_request_id(text: str) -> str:
    """The id if it can be part of an address. Raises InputError."""
    if len(text) > LONGEST_ID:
        raise InputError(f"the request id has {len(text)} characters, {LONGEST_ID} may be")
    return check_identifier(text, "request id")
