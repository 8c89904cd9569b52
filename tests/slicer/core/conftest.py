"""What the tests inside a slicer-core environment share: a scene, and the real examinations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from CineLabelLib.mrml.scene import MrmlScene

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture
def scene() -> Iterator[MrmlScene]:
    """A headless scene, cleared after the test."""
    scene = MrmlScene()
    yield scene
    scene.clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real examinations; tests that need it are skipped where it is absent."""
    if not (DATA / "sunnybrook").is_dir():
        pytest.skip("the examinations of ../shared/data are not here")
    return DATA
