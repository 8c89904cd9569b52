"""The OpenVINO runtime of a process."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import ModuleType
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
    return import_openvino().Core()


def import_openvino() -> ModuleType:
    """The package, imported so that it reports to nobody.

    OpenVINO sends statistics of its use over the internet whenever it is imported and whenever it
    converts, and notes an identifier in the user's home. Where the package that sends them is not
    installed it does without, and so it does here.
    """
    hidden = "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # not to be found
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules["openvino_telemetry"]
    return openvino
