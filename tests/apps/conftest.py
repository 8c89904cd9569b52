"""The real server, started once on a tiny folder of studies, and the client that Slicer uses."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.phantom.cohort import PhantomStudy, make_study
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.workspace import Workspace, prepare

SLICER_CLIENT = "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"


@dataclass(frozen=True, eq=False)
class Running:
    """A running server and what it serves."""

    server: process.Server
    url: str
    workspace: Workspace
    studies: Path
    phantom: PhantomStudy


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
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CINELABEL_MODELS", str(pair))
        server = process.Server(settings)
    with server:
        server.wait_until_ready()
        yield Running(server, settings.url, workspace, folder / "studies", phantom)


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
