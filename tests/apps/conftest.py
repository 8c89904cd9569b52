"""The real server, started once on a tiny folder of studies, and the client that Slicer uses."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.phantom.cohort import PhantomStudy, make_study
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.serving.tokens import Role, Tokens
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.workspace import prepare

DEADLINE_S = 60
SLICER_CLIENT = "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"


@dataclass(frozen=True, eq=False)
class Running:
    """A running server, what it serves, and the folder of its temporary files."""

    server: process.Server
    url: str
    workspace: Catalogue
    studies: Path
    phantom: PhantomStudy
    temporary: Path


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, pair: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    phantom = make_study(3, frames=3)
    studies.save_image(folder / "studies" / "heart.nii.gz", phantom.study)
    (folder / "studies" / "broken.nii.gz").write_bytes(b"not an image")
    workspace = prepare(folder / "studies", folder / "workspace")
    settings = ServerSettings(
        studies=folder / "studies",
        workspace=workspace.path,
        port=process.free_port(),
        model="pair-1",
        fast=True,
        seed=5,
    )
    with at_home(folder, pair):
        server = process.Server(settings)
    with server:
        server.wait_until_ready()
        yield Running(
            server, settings.url, workspace, folder / "studies", phantom, folder / "tmpdir"
        )


@contextmanager
def at_home(folder: Path, models: Path) -> Iterator[None]:
    """Processes started here have their home and their temporary files in a folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CINELABEL_MODELS", str(models))
        for name in ("HOME", "TMPDIR"):
            (folder / name.lower()).mkdir()
            patched.setenv(name, str(folder / name.lower()))
        yield


@dataclass(frozen=True, eq=False)
class Guarded:
    """A running server with tokens, alone in a folder with its home and its temporary files."""

    url: str
    pid: int
    folder: Path
    workspace: Catalogue
    tokens: dict[str, str]
    phantom: PhantomStudy

    def client(self, role: str) -> httpx.Client:
        """Somebody with a token of a role."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def label(self, image: str) -> bytes:
        """A right label of an image."""
        path = self.folder / f"{image}-label.nii.gz"
        if not path.exists():
            truth = self.phantom.labels[..., int(image[-2:])]
            studies.save_label(path, truth, studies.load(self.workspace.image_path(image)))
        return path.read_bytes()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, pair: Path) -> Iterator[Guarded]:
    with _guarded(tmp_path_factory.mktemp("guarded"), pair) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_alone(tmp_path_factory: pytest.TempPathFactory, pair: Path) -> Iterator[Guarded]:
    """Another such server, for tests that change what is served."""
    with _guarded(tmp_path_factory.mktemp("guarded-alone"), pair) as server:
        yield server


@contextmanager
def _guarded(folder: Path, pair: Path) -> Iterator[Guarded]:
    phantom = make_study(4, frames=2)
    studies.save_image(folder / "studies" / "heart.nii.gz", phantom.study)
    workspace = prepare(folder / "studies", folder / "workspace")
    tokens = {
        role.value: Tokens(folder / "tokens.json").add(f"{role.value}-1", role) for role in Role
    }
    settings = ServerSettings(
        studies=folder / "studies",
        workspace=workspace.path,
        port=process.free_port(),
        tokens=folder / "tokens.json",
        upload_limit_mb=8,
        model="pair-1",
        fast=True,
    )
    with at_home(folder, pair):
        server = process.Server(settings)
    with server:
        server.wait_until_ready()
        yield Guarded(settings.url, server.pid, folder, workspace, tokens, phantom)


@pytest.fixture
def all_open(guarded: Guarded) -> None:
    """Nobody holds a case of the server with tokens, all are handed out, and no job is left."""
    for role in ("annotator", "admin"):
        with guarded.client(role) as client:
            for case in client.get("/cases/").json()["cases"]:
                path, lease = f"/cases/{case['image']}", case["lease"]
                if lease and lease["who"] == f"{role}-1":
                    client.delete(f"{path}/lease", params={"client_id": lease["client_id"]})
                if case["state"] != "open":
                    client.post(f"{path}/reopen", json={"reason": "For the next test."})
    with guarded.client("admin") as client:
        ended, deadline = False, time.monotonic() + DEADLINE_S
        while not ended:
            assert time.monotonic() < deadline, "a job does not end"
            gone = [client.delete(path).json() is None for path in ("/train/", "/batch/infer")]
            ended = all(gone)


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
def client(running: Running, slicer_module: ModuleType, tmp_path: Path) -> Any:
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
