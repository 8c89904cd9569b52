"""Kernels compiled by numba, kept on disk where a folder for that can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def kernel(**options: Any) -> Callable[[F], F]:
    """Compile a function at its first call, with relaxed float arithmetic and without the GIL.

    Args:
        options: of `numba.njit`, over these defaults.

    The machine code is kept beside the source or in the user's cache folder. Where neither can be
    written (a read-only container) it is compiled anew in each process, some seconds in all.
    """
    chosen = {"fastmath": True, "nogil": True, **options}

    def decorate(function: F) -> F:
        try:
            return njit(cache=True, **chosen)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # numba found no folder that it can write
            return njit(**chosen)(function)  # type: ignore[no-any-return]

    return decorate
