"""The server: connecting, who we are there, which model answers; asked again while it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.states import ConnectionState

if TYPE_CHECKING:
    from CineLabelLib.client import Client


class Connection(UseCase[ConnectionState]):
    """Connects to a server and keeps telling how it stands."""

    def __init__(self, desk: Desk, client_factory: Callable[[str, str | None], Client]) -> None:
        super().__init__(desk, ConnectionState())

    @told
    def connect(self, address: str, token: str | None = None) -> None: ...

    @told
    def disconnect(self) -> None: ...
