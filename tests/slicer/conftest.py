"""What the tests of the Slicer extension share: its library on the path, as in Slicer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

sys.path.insert(0, str(ROOT / "slicer_extension" / "CineLabel"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real examinations; tests that need it are skipped where it is absent."""
    if not (DATA / "sunnybrook").is_dir():
        pytest.skip("the examinations of ../shared/data are not here")
    return DATA
