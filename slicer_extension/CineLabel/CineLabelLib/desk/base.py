"""What the use cases share: the study, the server, the threads, and how problems are told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from CineLabelLib.core.errors import CineLabelError, InputError
from CineLabelLib.desk.ports import Clock, Scene
from CineLabelLib.signals import Signal
from CineLabelLib.study import CineStudy
from CineLabelLib.work import Cancelled

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task, Workers

T = TypeVar("T")
State = TypeVar("State")
P = ParamSpec("P")


class Lane(Enum):
    """Which thread does it: long requests, short ones, or what is saved on this machine."""

    WORK = "work"
    WATCH = "watch"
    FILES = "files"


class Desk:
    """One study, one server and the threads between them.

    Attributes:
        client: of the server; None while none is connected.
        role: of the reader at that server; None where nothing is known.
        study: on screen; None while none is open.
        home: the server that the study is a case of; None for one of this machine.
        ed, es: its phases; None while not known.
        bases: the server's version that the labels on screen began from, by image; 0 for none.
        study_changed: () another study, or none, is on screen with its first labels.
        phases_changed: () ED or ES became another frame.
        client_changed: () another server, or none, is connected.
        server_back: () a server is connected, or answers again.
        leaving: () another study is being opened.
        labels_changed: (frame) labels of a frame were edited, segmented, restored or opened.
    """

    def __init__(
        self, scene: Scene, workers: Workers, folder: Path, clock: Clock, reader: str
    ) -> None:
        self.scene, self.workers, self.folder = scene, workers, folder
        self.clock, self.reader = clock, reader
        self.client: Client | None = None
        self.role: str | None = None
        self.study: CineStudy | None = None
        self.home: Client | None = None
        self.bases: dict[str, int] = {}
        self.ed: int | None = None
        self.es: int | None = None
        self.study_changed, self.phases_changed = Signal(), Signal()
        self.client_changed, self.labels_changed = Signal(), Signal()
        self.server_back, self.leaving = Signal(), Signal()
        self.problem, self.told = Signal(), Signal()

    def ask(
        self,
        work: Callable[[Task[T]], T],
        done: Callable[[T], None],
        failed: Callable[[CineLabelError], None] | None = None,
        *,
        lane: Lane = Lane.WORK,
        of_study: bool = True,
        progress: Callable[[float | None, str], None] | None = None,
    ) -> Task[T]:
        """Do work in a thread; `done` or `failed` are called on the main thread.

        Args:
            work: what may take long; it touches neither the scene nor a state.
            failed: gets the error, Cancelled after `Task.cancel`; None tells it through `problem`.
            of_study: drop the answer when another study is on screen by then.
        """
        study = self.study
        lanes = {Lane.WORK: self.workers.work, Lane.WATCH: self.workers.watch}
        return lanes.get(lane, self.workers.files).submit(
            work,
            done,
            failed or self.tell,
            progress,
            (lambda: self.study is study) if of_study else None,
        )

    def tell(self, error: CineLabelError) -> None:
        """Tell a problem, unless it is that something was cancelled."""
        if not isinstance(error, Cancelled):
            self.problem.emit(str(error))

    def connected(self) -> Client:
        """The server. Raises InputError where none is connected."""
        if self.client is None:
            raise InputError("no server is connected", remedy="Connect to one in the section Study")
        return self.client

    def at_home(self) -> Client | None:
        """The server that is connected, if the study is a case of it."""
        same = self.client and self.home and self.client.address == self.home.address
        return self.client if same else None

    def opened(self) -> CineStudy:
        """The study on screen. Raises InputError where none is."""
        if self.study is None:
            raise InputError("no study is open", remedy="Open one first")
        return self.study


class UseCase(Generic[State]):
    """A part of the desk: a state that the panel shows, and `changed` (state)."""

    def __init__(self, desk: Desk, state: State) -> None:
        self.desk, self.changed = desk, Signal()
        self._state = state

    @property
    def state(self) -> State:
        return self._state

    def tick(self) -> None:
        """Do what is due; called every 50 ms."""

    def _set(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[type-var]
        self.changed.emit(self._state)


def told(method: Callable[P, None]) -> Callable[P, None]:
    """Tell the reader the sentence of a CineLabelError through `problem` instead of raising it."""

    @functools.wraps(method)
    def safe(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except CineLabelError as error:
            args[0].desk.problem.emit(str(error))  # type: ignore[attr-defined]

    return safe


class Every:
    """Says when it is time again.

    Args:
        seconds: between two times; the first is after them, too.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self.seconds = clock, seconds
        self._last = clock.seconds()

    def due(self) -> bool:
        """Whether the seconds are over; if so they begin anew."""
        if self._clock.seconds() - self._last < self.seconds:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Begin the seconds anew."""
        self._last = self._clock.seconds()
