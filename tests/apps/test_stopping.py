"""The server ends within 5 s of SIGTERM, whatever is under way, and a job goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.phantom.cohort import make_study
from cinelabel.serving.process import Server, free_port
from cinelabel.serving.settings import ServerSettings, find_app
from cinelabel.studies.workspace import prepare

DEADLINE_S = 120
STOP_S = 5.0
SLOW = """

import time
from cinelabel.segmentation import Segmenter
from pathlib import Path

def _slowly(*arguments, **named):
    Path(__file__).with_name("segmenting").touch()
    time.sleep(600)

Segmenter.segment = _slowly
"""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    """Of the app with a segmentation that takes ten minutes; its jobs are not so slow."""
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", make_study(3, frames=8).study)
    prepare(tmp_path / "studies", tmp_path / "workspace")
    shutil.copytree(find_app(), tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "app" / "main.py").open("a") as stream:
        stream.write(SLOW)
    return ServerSettings(
        studies=tmp_path / "studies",
        workspace=tmp_path / "workspace",
        app=tmp_path / "app",
        port=free_port(),
    )


def test_an_inference_and_a_job_under_way_do_not_keep_it(settings: ServerSettings) -> None:
    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        url = f"{settings.url}{path}"
        return httpx.request(method, url, timeout=DEADLINE_S, trust_env=False, **more)

    def infer() -> None:
        with contextlib.suppress(httpx.HTTPError):
            ask("POST", "/infer/cine", params={"image": "heart__t00"}, data={"params": "{}"})

    with Server(settings) as server:
        server.wait_until_ready()
        started = ask("POST", "/batch/infer/cine", params={"images": "all"}, json={})
        assert started.status_code == 200, started.text
        threading.Thread(target=infer, daemon=True).start()
        until((settings.app / "segmenting").exists)

        def job() -> dict[str, Any]:
            return dict(ask("GET", "/jobs/").json()[0])

        until(lambda: job()["state"] == "running")
        process = psutil.Process(server.pid)
        family = [process, *process.children(recursive=True)]
        assert len(family) > 1
        start = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: not any(alive(member) for member in family))
        seconds = time.monotonic() - start
    print(f"server and job ended {seconds:.1f} s after SIGTERM")
    assert seconds < STOP_S

    with Server(replace(settings, app=find_app())) as server:
        server.wait_until_ready()
        until(lambda: job()["state"] in ("running", "done"))


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
