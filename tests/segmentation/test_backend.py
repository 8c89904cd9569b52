"""Loading and dropping networks leaves the process able to handle signals."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import gc, signal, sys
from cinelabel.models.store import ModelStore
from cinelabel.segmentation.backend import load_backend
version = ModelStore().load()
networks = [load_backend(version, member, "cpu") for member in version.card.members]
while networks:
    networks.pop(0)
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_process_that_loaded_and_dropped_networks_still_handles_signals() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, (signal.Signals(-done.returncode).name, done.stderr)
