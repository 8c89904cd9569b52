"""What the tests inside a slicer-core environment share: a scene, and the real examinations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from CineLabelLib.mrml.scene import MrmlScene
from reader_at_desk import Reader
from real_server import NAMED_BY, House, RealServer

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


@pytest.fixture(scope="session")
def house() -> House:
    """What the outer test tests/slicer/test_whole_way.py prepared, a running server with it."""
    if NAMED_BY not in os.environ:
        pytest.skip("no server runs: tests/slicer/test_whole_way.py starts one and runs this")
    return House.named(Path(os.environ[NAMED_BY]))


@pytest.fixture
def sit_down(tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    """Makes readers, each with a folder of her own name; they leave after the test."""
    readers: list[Reader] = []

    def make(name: str = "anna", **options: Any) -> Reader:
        readers.append(Reader(tmp_path / name, name, **options))
        return readers[-1]

    yield make
    for reader in readers:
        reader.leave()


@pytest.fixture
def reader(house: House, sit_down: Callable[..., Reader]) -> Reader:
    """A reader who is connected to the server."""
    reader = sit_down()
    reader.connect(house.url, house.tokens["anna"])
    return reader


@pytest.fixture(scope="session")
def _alone(house: House) -> Iterator[RealServer]:
    server = RealServer(house.python, house.settings["alone"])
    yield server
    server.kill()


@pytest.fixture
def alone(_alone: RealServer) -> RealServer:
    """A server without tokens that a test may kill and start again; it runs."""
    if _alone.process is None:
        _alone.start()
    return _alone
