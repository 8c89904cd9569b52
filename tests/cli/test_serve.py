"""`cinelabel serve`: what it refuses, what it says, and how it ends."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from cinelabel import studies
from cinelabel.cli import main as frame
from cinelabel.core.errors import InputError
from cinelabel.phantom.cohort import make_study
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings, find_app

DEADLINE_S = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    phantom = make_study(3, frames=1)
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", phantom.study)
    return tmp_path / "studies"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        frame.main(["serve", *arguments])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in refused(["--studies", str(tmp_path / "nowhere")], capsys)


def test_an_empty_folder_is_noted_and_may_be_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("monailabel", reason="the [server] extra is not installed")
    (tmp_path / "empty").mkdir()
    options = ["--studies", str(tmp_path / "empty"), "--workspace", str(tmp_path / "w"), "--check"]
    with pytest.raises(SystemExit) as end:
        frame.main(["serve", *options, "--port", str(process.free_port())])
    assert end.value.code == 0
    assert "is empty so far" in capsys.readouterr().err


def test_an_unknown_model_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no-such-model" in refused(
        ["--studies", str(folder), "--model", "no-such-model"], capsys
    )


def test_nothing_to_serve_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--dicomweb" in refused([], capsys)
    for address in ("pacs.example", "ftp://pacs.example", "http://", "http://["):
        assert "http" in refused(["--dicomweb", address], capsys)


def test_a_password_in_an_address_is_refused_and_not_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = refused(["--dicomweb", "https://me:secret@pacs.example/dicom-web"], capsys)
    assert "CINELABEL_DICOMWEB_PASSWORD" in error
    assert "secret" not in error


def test_other_machines_are_let_in_with_tls_and_tokens_only(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "config"))
    options = ["--studies", str(folder), "--workspace", str(tmp_path / "w")]
    options += ["--port", str(process.free_port())]
    error = refused([*options, "--host", "0.0.0.0"], capsys)
    assert "--tls-cert" in error
    assert "cinelabel token add" in error
    assert "cinelabel token add" in refused([*options, "--behind-proxy"], capsys)
    assert not (tmp_path / "w").exists()


def test_a_check_says_what_it_found_and_starts_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("monailabel", reason="the [server] extra is not installed")
    options = ["--studies", str(folder), "--workspace", str(tmp_path / "w"), "--check"]
    options += ["--port", str(process.free_port())]
    for more, code, word in (([], 0, "fine: Model"), (["--model", "none"], 2, "error: ")):
        with pytest.raises(SystemExit) as end:
            frame.main(["serve", *options, *more])
        assert end.value.code == code
        assert word in capsys.readouterr().out
    assert not (tmp_path / "w").exists()


def test_a_taken_port_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        error = refused(["--studies", str(folder), "--port", port], capsys)
    assert f"port {port}" in error
    assert "--port" in error


def test_without_the_server_packages_the_line_to_type_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'cinelabel\[server\]'"):
        process.require_server_packages()


def test_a_workspace_serves_once_at_a_time(tmp_path: Path) -> None:
    with (
        process.exclusive(tmp_path),
        pytest.raises(InputError, match="already being served"),
        process.exclusive(tmp_path),
    ):
        pass
    with process.exclusive(tmp_path):
        pass


class Serving:
    """`cinelabel serve` as a user starts it, its lines as they come."""

    def __init__(self, folder: Path, workspace: Path) -> None:
        self.port = process.free_port()
        code = "from cinelabel.cli.main import main; main()"
        options = ["--studies", str(folder), "--workspace", str(workspace)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", *options, "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def line(self) -> str:
        return self.lines.get(timeout=DEADLINE_S)

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


def test_a_study_that_is_put_into_an_empty_folder_is_served_and_the_app_is_not_written_to(
    tmp_path: Path,
) -> None:
    pytest.importorskip("monailabel", reason="the [server] extra is not installed")
    (tmp_path / "studies").mkdir()
    (tmp_path / "workspace").mkdir()
    app = shutil.copytree(find_app(), tmp_path / "app")
    before = set(app.rglob("*"))
    settings = ServerSettings(
        studies=tmp_path / "studies",
        workspace=tmp_path / "workspace",
        app=app,
        port=process.free_port(),
        scan_interval_s=0.2,
        settle_s=0.2,
    )

    def total() -> int:
        answer = httpx.get(f"{settings.url}/info/", trust_env=False)
        return int(answer.json()["datastore"]["total"])

    with process.Server(settings) as server:
        server.wait_until_ready()
        assert total() == 0
        studies.save_image(tmp_path / "studies" / "heart.nii.gz", make_study(3, frames=2).study)
        deadline = time.monotonic() + DEADLINE_S
        while total() < 2:
            assert time.monotonic() < deadline
            threading.Event().wait(0.1)
        assert total() == 2
    written = set(app.rglob("*")) - before
    assert {path.name for path in written if path.suffix != ".pyc"} <= {"__pycache__"}


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_says_where_it_listens_and_ends_with_its_server(
    folder: Path, tmp_path: Path, end: signal.Signals
) -> None:
    pytest.importorskip("monailabel", reason="the [server] extra is not installed")
    serving = Serving(folder, tmp_path / "workspace")
    try:
        said = serving.line()
        url = f"http://127.0.0.1:{serving.port}"
        assert url in said
        assert "MONAI Label" in said
        assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200
        family = serving.family()
        assert len(family) > 1
        os.kill(serving.process.pid, end)
        code = serving.process.wait(DEADLINE_S)
        assert code == (-9 if end == signal.SIGKILL else 0)
        _, alive = psutil.wait_procs(family, DEADLINE_S)
        assert alive == []
    finally:
        serving.process.kill()
