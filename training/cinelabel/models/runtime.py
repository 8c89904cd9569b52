"""The OpenVINO runtime of a process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


@lru_cache(maxsize=1)
def openvino_core() -> openvino.Core:
    """The one core of this process, kept to its end.

    Each core's CPU plugin gives the process an alternate signal stack, and on its end puts back
    the one it found. Of two cores that end in the order in which they came, the second puts back
    a stack that is gone: the next signal that Python handles (SIGTERM, Ctrl-C) ends the process
    by a segmentation fault (seen with OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()
