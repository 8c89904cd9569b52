"""The server: connecting, who we are there, which model answers; asked again while it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from CineLabelLib.answers import ServerGone
from CineLabelLib.core.errors import CineLabelError, InputError
from CineLabelLib.desk.base import Desk, Every, Lane, UseCase, told
from CineLabelLib.desk.states import ConnectionState, Link

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task

POLL_S = 5.0


class Connection(UseCase[ConnectionState]):
    """Connects to a server and keeps telling how it stands."""

    def __init__(self, desk: Desk, client_factory: Callable[[str, str | None], Client]) -> None:
        super().__init__(desk, ConnectionState())
        self._factory = client_factory
        self._poll = Every(desk.clock, POLL_S)
        self._task: Task[Any] | None = None

    @told
    def connect(self, address: str, token: str | None = None) -> None:
        """Connect to a server in place of the one before."""
        self.disconnect()
        address = address.strip()
        if not address:
            raise InputError("no address is given", remedy="Give one like http://127.0.0.1:8000")
        try:
            client = self._factory(address, token or None)
        except CineLabelError as error:
            self._set(link=Link.OFF, address=address, sentence=str(error))
            raise
        self._set(link=Link.CONNECTING, address=address, sentence=f"Connecting to {address}.")

        def connected(facts: dict[str, Any]) -> None:
            self.desk.client, self.desk.role = client, facts["role"]
            self._set(link=Link.CONNECTED, sentence=_sentence(facts), **facts)
            self.desk.client_changed.emit()
            self.desk.server_back.emit()

        def failed(error: CineLabelError) -> None:
            self._set(link=Link.OFF, sentence=str(error))
            self.desk.tell(error)

        self._ask(lambda task: _facts(client), connected, failed)

    @told
    def disconnect(self) -> None:
        """Work without a server; what waits to be sent stays in the outbox."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        left = self.desk.client
        if left is not None:
            self.desk.client = self.desk.role = None
            self.desk.client_changed.emit()
            # Behind what it is still to be told, such as that a case is given back.
            self.desk.ask(
                lambda task: left.close(), lambda _: None, lane=Lane.WATCH, of_study=False
            )
        self._state = ConnectionState()
        self._set()

    def tick(self) -> None:
        """Ask again how the server stands."""
        client = self.desk.client
        if client is None or self._task is not None or not self._poll.due():
            return

        def answered(facts: dict[str, Any]) -> None:
            was_lost = self.state.link is Link.LOST
            self._set(link=Link.CONNECTED, sentence=_sentence(facts), **facts)
            if was_lost:
                self.desk.server_back.emit()

        def failed(error: CineLabelError) -> None:
            if isinstance(error, ServerGone) or self.state.link is not Link.LOST:
                self._set(link=Link.LOST, sentence=str(error))

        self._ask(lambda task: _facts(client), answered, failed)

    def _ask(
        self,
        work: Callable[[Task[Any]], dict[str, Any]],
        done: Callable[[dict[str, Any]], None],
        failed: Callable[[CineLabelError], None],
    ) -> None:
        """One question at a time; an answer that is not wanted any more is dropped."""

        def ended(then: Callable[[Any], None]) -> Callable[[Any], None]:
            def deliver(value: Any) -> None:
                if self._task is task:
                    self._task = None
                    self._poll.restart()
                    then(value)

            return deliver

        task = self.desk.ask(work, ended(done), ended(failed), lane=Lane.WATCH, of_study=False)
        self._task = task


def _facts(client: Client) -> dict[str, Any]:
    """What the state tells of a server; in a thread."""
    identity, info = client.check_token(), client.info()
    models, queue = client.models(), client.queue()
    return {
        "who": identity.name,
        "role": identity.role,
        "model": models.served or None,
        "queue": queue.running + queue.waiting,
        "strategies": tuple(info.strategies),
        "open_cases": info.datastore.open,
        "labelled_cases": info.datastore.completed,
    }


def _sentence(facts: dict[str, Any]) -> str:
    model, queue = facts["model"], facts["queue"]
    answers = f"model {model} answers" if model else "no model is in use"
    waits = f", {queue} in the queue" if queue else ""
    return f"Connected as {facts['who']} ({facts['role']}): {answers}{waits}."
