"""What every test needs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from cinelabel import studies
from cinelabel.core.files import write_json
from cinelabel.models.card import Role
from cinelabel.models.store import BUNDLED, Draft, ModelStore
from cinelabel.networks import NetworkSpec, build
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.serving.tokens import Role as TokenRole
from cinelabel.serving.tokens import Tokens
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.workspace import prepare
from cinelabel.transforms.preparation import Preparation

if TYPE_CHECKING:
    from cinelabel.phantom.cohort import PhantomStudy


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> Iterator[None]:
    """Let tests interrupt programs also where a shell started pytest in the background.

    Such a shell has SIGINT ignored, and whoever is started from there inherits that.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `pair-1`: twice the first bundled segmenter, as an ensemble of one mind.

    Its members are `one` and `two`, and `two` is the fast one.
    """
    root = tmp_path_factory.mktemp("pair")
    base = ModelStore(root).load(BUNDLED)
    segmenter = next(member for member in base.card.members if member.role == "segmenter")
    locator = next(member for member in base.card.members if member.role == "locator")
    (root / "pair-1").mkdir()
    members = []
    for name, member in (("one", segmenter), ("two", segmenter), ("where", locator)):
        files, checksums = {}, {}
        for kind, file in member.files.items():
            files[kind] = f"{name}{Path(file).suffix}"
            checksums[files[kind]] = member.sha256[file]
            shutil.copyfile(base.path / file, root / "pair-1" / files[kind])
        members.append(
            member.model_copy(update={"name": name, "files": files, "sha256": checksums})
        )
    changes = {"version": "pair-1", "members": members, "fast": "two"}
    write_json(
        root / "pair-1" / "card.json", base.card.model_copy(update=changes).model_dump(mode="json")
    )
    return root


ORTHANC = Path("/usr/sbin/Orthanc")
ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: its own address, that of its DICOMweb services, and its log-in."""

    url: str
    pid: int
    user: str = "reader"
    password: str = "secret"

    @property
    def dicomweb(self) -> str:
        return f"{self.url}/dicom-web"

    def rest(self, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
        """The answer of Orthanc's own interface."""
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self.url, self.user, self.password)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
        )
        request = urllib.request.Request(f"{self.url}{path}", data, method=method)
        with opener.open(request, timeout=60) as answer:
            return answer.read()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Within the block it accepts connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def upload(self, files: list[Path]) -> None:
        for file in files:
            self.rest("/instances", file.read_bytes())


@pytest.fixture(scope="session")
def start_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., object]:
    """Start an Orthanc with DICOMweb on a free port, as a context; skipped where it is absent.

    Where CINELABEL_REQUIRE_ORTHANC is set nothing is skipped: there it has been installed.
    """
    if not (ORTHANC.is_file() and ORTHANC_DICOMWEB.is_file()):
        missing = "Orthanc is not installed (apt install orthanc orthanc-dicomweb)"
        if os.environ.get("CINELABEL_REQUIRE_ORTHANC"):
            pytest.fail(missing)
        pytest.skip(missing)

    @contextmanager
    def start(port: int | None = None) -> Iterator[Orthanc]:
        folder = tmp_path_factory.mktemp("orthanc")
        port = port or find_free_port()
        settings = {
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "HttpPort": port,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {Orthanc.user: Orthanc.password},
            "Plugins": [str(ORTHANC_DICOMWEB)],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "log").open("wb") as log:
            command = [str(ORTHANC), str(folder / "orthanc.json")]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        running = Orthanc(f"http://127.0.0.1:{port}", process.pid)
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    running.rest("/system")
                    break
                except (urllib.error.URLError, OSError):
                    said = (folder / "log").read_text()
                    assert process.poll() is None, said
                    assert time.monotonic() < deadline, said
                    time.sleep(0.05)
            yield running
        finally:
            process.kill()  # its data are of this run alone, and a clean end takes seconds
            process.wait(30)

    return start


@pytest.fixture
def orthanc(start_orthanc: Callable[..., object]) -> Iterator[Orthanc]:
    """An empty Orthanc of this test's own."""
    with start_orthanc() as running:
        yield running


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nobody listens on."""
    return find_free_port()


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store with `tiny-1`, untrained: two segmenters, of which `second` is the fast one.

    It outweighs `first` by far.
    """
    import torch
    from cinelabel.networks.weights import get_weights

    torch.manual_seed(0)
    store = ModelStore(tmp_path_factory.mktemp("models"))
    drafts = []
    for name, classes in (("first", 4), ("second", 4), ("where", 2)):
        spec = NetworkSpec.from_dict({"features": [6, 10], "classes": classes})
        seen = Preparation(spacing_mm=2.0, size=16).to_dict()
        role: Role = "segmenter" if classes == 4 else "locator"
        weight = 0.01 if name == "first" else 1.0
        drafts.append(Draft(name, role, spec, get_weights(build(spec)), seen, weight))
    origin = {"config": {"data": {"seed": 5}, "augmentation": None}}
    store.publish(
        "tiny-1",
        drafts,
        provenance={"runs": {name: origin for name in ("first", "second", "where")}},
        metrics={"validation": {"first": {"dice": {"LV": 0.5}}, "second": {"dice": {"LV": 0.4}}}},
        fast="second",
    )
    return store


ENDING_S = 60


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
    """The real server, started once on a tiny folder of studies, without tokens."""
    pytest.importorskip("monailabel", reason="the [server] extra is not installed")
    from cinelabel.phantom.cohort import make_study

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
    """The real server, started once on a study of two frames, with a token for each role."""
    with _guarded(tmp_path_factory.mktemp("guarded"), pair) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_alone(tmp_path_factory: pytest.TempPathFactory, pair: Path) -> Iterator[Guarded]:
    """Another such server, for tests that change what is served."""
    with _guarded(tmp_path_factory.mktemp("guarded-alone"), pair) as server:
        yield server


@contextmanager
def _guarded(folder: Path, pair: Path) -> Iterator[Guarded]:
    pytest.importorskip("monailabel", reason="the [server] extra is not installed")
    from cinelabel.phantom.cohort import make_study

    phantom = make_study(4, frames=2)
    studies.save_image(folder / "studies" / "heart.nii.gz", phantom.study)
    workspace = prepare(folder / "studies", folder / "workspace")
    tokens = {
        role.value: Tokens(folder / "tokens.json").add(f"{role.value}-1", role)
        for role in TokenRole
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
        ended, deadline = False, time.monotonic() + ENDING_S
        while not ended:
            assert time.monotonic() < deadline, "a job does not end"
            gone = [client.delete(path).json() is None for path in ("/train/", "/batch/infer")]
            ended = all(gone)
