"""Locks between programs that share a folder, as two Slicers do.

They are the operating system's: when a program ends or is killed, its locks are gone, and nobody
has to guess whether a file that was left behind is still meant.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from CineLabelLib.core.errors import BusyError
from CineLabelLib.core.files import output_error

_ASK_EVERY_S = 0.02


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of a file, made if absent; False where another program or thread has it.

    Raises:
        OutputError: the file cannot be made.
    """
    descriptor = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        held = _lock(descriptor)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise output_error(error, path) from error
    try:
        yield held
    finally:
        os.close(descriptor)  # which lets the lock go


@contextmanager
def lock(path: Path, wait_s: float = 10.0) -> Iterator[None]:
    """Hold the lock of a file, waiting for others that have it.

    Raises:
        BusyError: they have it for longer than `wait_s`.
        OutputError: the file cannot be made.
    """
    until = time.monotonic() + wait_s
    while True:
        with try_lock(path) as held:
            if held:
                yield
                return
        if time.monotonic() > until:
            raise BusyError(
                "is being changed by another program", where=path.parent, remedy="Try again"
            )
        time.sleep(_ASK_EVERY_S)


def _lock(descriptor: int) -> bool:
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
