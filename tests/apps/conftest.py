"""The client that MONAI Label's Slicer module uses, and applications served from this process."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel.serving import process

SLICER_CLIENT = "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"


@pytest.fixture(scope="session")
def slicer_module() -> ModuleType:
    """The file of MONAI Label's Slicer module that talks to the server, as it is installed."""
    path = Path(sys.prefix) / SLICER_CLIENT
    if not path.is_file():
        pytest.skip(f"MONAI Label came without its Slicer module ({SLICER_CLIENT})")
    spec = importlib.util.spec_from_file_location("slicer_monailabel_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(running: Any, slicer_module: ModuleType, tmp_path: Path) -> Any:
    return slicer_module.MONAILabelClient(running.url, tmpdir=str(tmp_path), client_id="reader")


@pytest.fixture
def listening() -> Any:
    """Serves an application from this process: `with listening(application) as port`."""
    return _listening


@contextmanager
def _listening(application: Any) -> Iterator[int]:
    import uvicorn

    port = process.free_port()
    config = uvicorn.Config(
        application, port=port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        yield port
    finally:
        server.should_exit = True
        thread.join()
