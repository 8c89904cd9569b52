"""Long work off the main thread: lanes of one thread each, whose results the main thread collects.

Nothing that a caller hands in besides the work itself ever runs in a thread of a lane.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from CineLabelLib.core.errors import CineLabelError

T = TypeVar("T")

logger = logging.getLogger(__name__)
YIELD_S = 0.002
"""How long `drain` leaves the interpreter to the threads: Slicer's main thread keeps it otherwise
while it waits for events."""
PARTING_S = 2.0
SLOW, LONG_S = 0.1, 90.0
"""Steps a second below which they are told a minute; seconds from which minutes are told."""


class Cancelled(CineLabelError):
    """The work was given up, as somebody wished."""

    def __init__(self, problem: str = "it was cancelled") -> None:
        super().__init__(problem)


class Follower(Protocol):
    """Who waits for long work: learns how far it is, and may want it to end."""

    @property
    def cancelled(self) -> bool: ...

    def report(self, fraction: float | None, sentence: str) -> None: ...


class Task(Generic[T]):
    """Work on its way. `cancel` is for the main thread, the rest for the work itself."""

    def __init__(
        self,
        work: Callable[[Task[T]], T],
        done: Callable[[T], None],
        failed: Callable[[CineLabelError], None],
        progress: Callable[[float | None, str], None] | None,
        guard: Callable[[], bool] | None,
    ) -> None:
        self._work, self._done, self._failed = work, done, failed
        self._progress, self._guard = progress, guard
        self._cancelled = threading.Event()
        self._told: tuple[float | None, str] | None = None
        self._outcome: tuple[Callable[[Any], None], Any] | None = None
        self._ended = False

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called; long work looks here now and then."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Give it up: `failed` gets Cancelled at the next `drain`, a result is dropped."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise Cancelled if it was cancelled."""
        if self.cancelled:
            raise Cancelled

    def report(self, fraction: float | None, sentence: str) -> None:
        """Tell how far it is, 0 to 1 or None; the newest report alone is delivered."""
        self._told = (fraction, sentence)

    def run(self) -> None:
        """Do the work and keep what came of it; in the thread of a lane."""
        try:
            self.check()
            self._outcome = (self._done, self._work(self))
        except CineLabelError as error:
            self._outcome = (self._failed, error)
        except Exception as error:  # a mistake in the program must reach the reader, too
            logger.exception("Work that failed unforeseen")
            self._outcome = (self._failed, _unforeseen(error))

    @property
    def ended(self) -> bool:
        """Whether nothing of it will be delivered any more."""
        return self._ended

    def deliver(self) -> None:
        """Call what is to be called now; on the main thread."""
        told, self._told = self._told, None
        outcome = (self._failed, Cancelled()) if self.cancelled else self._outcome
        self._ended = outcome is not None  # first: a callback may drain again, or raise
        if self._guard is not None and not self._guard():
            return
        if outcome is not None:
            tell, value = outcome
            tell(value)
        elif told is not None and self._progress is not None:
            self._progress(*told)


class Worker:
    """A lane: one thread that does one piece of work after another.

    `submit`, `drain` and `close` belong to the main thread. Each task ends in exactly one call of
    `done` or `failed`, from within `drain`, unless its guard says that nobody wants it any more.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._waiting: deque[Task[Any]] = deque()
        self._open: list[Task[Any]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(
        self,
        work: Callable[[Task[T]], T],
        done: Callable[[T], None],
        failed: Callable[[CineLabelError], None],
        progress: Callable[[float | None, str], None] | None = None,
        guard: Callable[[], bool] | None = None,
    ) -> Task[T]:
        """Do work behind what waits already.

        Args:
            work: done in the thread; gets its task, to report to and to check.
            done: gets the result.
            failed: gets the error, Cancelled after `Task.cancel`.
            progress: gets fraction and sentence of the newest report.
            guard: asked at each delivery; False: nothing is delivered.

        Raises:
            CineLabelError: the lane is closed.
        """
        task: Task[T] = Task(work, done, failed, progress, guard)
        with self._changed:
            if self._closed:
                raise CineLabelError("nothing is begun any more, since the desk is being closed")
            self._waiting.append(task)
            self._open.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return task

    @property
    def busy(self) -> bool:
        """Whether something is still to be done or delivered."""
        return bool(self._open)

    def drain(self) -> None:
        """Deliver what is new, oldest task first.

        An error that a callback raises is raised here once all others were called.
        """
        first: Exception | None = None
        for task in tuple(self._open):
            try:
                if not task.ended:
                    task.deliver()
            except Exception as error:
                first = first or error
            if task.ended and task in self._open:
                self._open.remove(task)
        if first is not None:
            raise first

    def give_up(self) -> None:
        """Cancel what is under way and what waits."""
        for task in self._open:
            task.cancel()

    def close(self, timeout_s: float = 2.0, finish: bool = False) -> bool:
        """End the thread; nothing is delivered any more.

        Args:
            timeout_s: how long to wait for the thread.
            finish: do what waits; otherwise all is cancelled.

        Returns:
            Whether the thread ended in time; if not, it ends once its work does.
        """
        with self._changed:
            self._closed = True
            if not finish:
                self._waiting.clear()
                self.give_up()
            self._open.clear()
            self._changed.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if not self._waiting:
                    return
                task = self._waiting.popleft()
            task.run()


@dataclass(frozen=True)
class Workers:
    """Three lanes: long requests in `work`; in `watch` what must not wait for them, such as asking
    how far they are; in `files` what is saved on this machine and must not wait for a server."""

    work: Worker = field(default_factory=lambda: Worker("CineLabel work"))
    watch: Worker = field(default_factory=lambda: Worker("CineLabel watch"))
    files: Worker = field(default_factory=lambda: Worker("CineLabel files"))

    def drain(self) -> None:
        """Deliver what the lanes have; called every 50 ms on the main thread."""
        if self.work.busy or self.watch.busy or self.files.busy:
            time.sleep(YIELD_S)
        try:
            self.watch.drain()
        finally:
            try:
                self.files.drain()
            finally:
                self.work.drain()

    def close(self, timeout_s: float = 2.0) -> bool:
        """Save what waits to be saved, give the rest up; whether all lanes ended in time.

        What waits in `watch`, such as giving a case back, has `PARTING_S` to be said.
        """
        self.work.close(0.0)
        self.watch.close(0.0, finish=True)
        ended = [self.files.close(timeout_s, finish=True), self.work.close(timeout_s)]
        return all([*ended, self.watch.close(min(timeout_s, PARTING_S), finish=True)])


def pace(rate: float | None, seconds_left: float | None) -> str:
    """How fast long work goes and what is left of it, as the end of a sentence; '' if unknown.

    Args:
        rate: steps a second.
    """
    parts = []
    if rate:
        slow = rate < SLOW
        parts.append(f"{60 * rate:.1f} a minute" if slow else f"{rate:.1f} a second")
    if seconds_left is not None:
        long = seconds_left >= LONG_S
        number, unit = (seconds_left / 60, "min") if long else (max(1, seconds_left), "s")
        parts.append(f"about {number:.0f} {unit} left")
    return "".join(f", {part}" for part in parts)


def _unforeseen(error: Exception) -> CineLabelError:
    return CineLabelError(
        f"something happened that was not foreseen ({type(error).__name__})",
        remedy="Save your work; Slicer's log says more",
    )
