"""Seconds from start to the first answer of `/info/`, and idle memory, beside MONAI Label's own.

Three processes on the same frames in turn: MONAI Label's command with an app that adds nothing,
our server's process, and `cinelabel serve` whole (its checks, and the server as its child).
`pytest -m slow -s tests/benchmarks/test_server_start.py` prints the table.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.phantom.cohort import make_study
from cinelabel.serving.process import command, free_port
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.workspace import prepare

ROUNDS = 3
DEADLINE_S = 300
STOCK_APP = """
from monailabel.interfaces.app import MONAILabelApp

class Stock(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir=app_dir, studies=studies, conf=conf, name="Stock")
"""


@contextlib.contextmanager
def running(line: list[str], folder: Path) -> Iterator[psutil.Process]:
    """A server, ended with all its children."""
    process = psutil.Popen(
        line,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "MONAI_LABEL_TRACKING_ENABLED": "false"},
    )
    try:
        yield process
    finally:
        family = process.children(recursive=True)
        os.killpg(process.pid, signal.SIGTERM)
        psutil.wait_procs([process, *family], DEADLINE_S)


def measure(line: Callable[[int], list[str]], folder: Path) -> tuple[float, float]:
    """Seconds to the first answer of `/info/`, and MB of the process and its children then.

    Memory is the resident set, with shared libraries counted in each process.
    """
    port = free_port()
    start = time.perf_counter()
    with running(line(port), folder) as process:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"http://127.0.0.1:{port}/info/", trust_env=False)
                break
            assert process.is_running()
            assert time.perf_counter() - start < DEADLINE_S
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        assert answer.status_code == 200
        family = [process, *process.children(recursive=True)]
        return seconds, sum(member.memory_info().rss for member in family) / 1e6


@pytest.mark.slow
def test_seconds_from_start_to_the_first_answer(tmp_path: Path) -> None:
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock" / "main.py").write_text(STOCK_APP)
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", make_study(3, frames=3).study)
    workspace = prepare(tmp_path / "studies", tmp_path / "workspace")

    def stock(port: int) -> list[str]:
        line = [sys.executable, "-m", "monailabel.main", "start_server", "--port", str(port)]
        app = ["--app", str(tmp_path / "stock"), "--studies", str(tmp_path / "images")]
        return [*line, "--host", "127.0.0.1", *app]

    def ours(port: int) -> list[str]:
        return command(ServerSettings(tmp_path / "studies", workspace.path, port=port))

    def whole(port: int) -> list[str]:
        code = "from cinelabel.cli.main import main; main()"
        options = ["--studies", str(tmp_path / "studies"), "--workspace", str(workspace.path)]
        return [sys.executable, "-c", code, "serve", *options, "--port", str(port)]

    (tmp_path / "images").mkdir()
    for image in workspace.images.glob("*.nii.gz"):
        (tmp_path / "images" / image.name).write_bytes(image.read_bytes())
    servers = {"MONAI Label's command": stock, "our process": ours, "cinelabel serve": whole}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, line in servers.items():
            found[name].append(measure(line, tmp_path))
    print(f"\nmedian (least) of {ROUNDS}\n{'':24}{'seconds to /info/':>20}{'MB idle':>10}")
    middle = {}
    for name, rounds in found.items():
        seconds = [s for s, _ in rounds]
        middle[name] = median(seconds)
        text = f"{middle[name]:.1f} ({min(seconds):.1f})"
        print(f"{name:24}{text:>20}{median(mb for _, mb in rounds):10.0f}")
    assert middle["cinelabel serve"] < middle["MONAI Label's command"] / 2
