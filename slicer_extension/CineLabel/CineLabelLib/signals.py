"""Signals in plain Python: what happened is told to whoever connected, without Qt."""

from __future__ import annotations

from collections.abc import Callable


class Signal:
    """Calls its slots in the order in which they were connected."""

    def __init__(self) -> None:
        self._slots: list[Callable[..., object]] = []

    def connect(self, slot: Callable[..., object]) -> None:
        """Call `slot` at every `emit`; a slot that is connected already is not called twice."""
        if slot not in self._slots:
            self._slots.append(slot)

    def disconnect(self, slot: Callable[..., object]) -> None:
        """Do not call `slot` any more; one that is not connected is passed over."""
        if slot in self._slots:
            self._slots.remove(slot)

    def emit(self, *args: object) -> None:
        """Call every slot; after the last one, raise the first error that any of them raised."""
        first: Exception | None = None
        for slot in tuple(self._slots):
            try:
                slot(*args)
            except Exception as error:
                first = first or error
        if first is not None:
            raise first
