"""Real CineLabel servers for the tests of the whole way: started, killed and asked from here.

The outer test (tests/slicer/test_whole_way.py) prepares folders and settings, and names them in a
file; the server itself runs in the Python of the outer test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from CineLabelLib.client import Client
from requests.adapters import HTTPAdapter

NAMED_BY = "CINELABEL_WHOLE_WAY"
"""The environment variable with the path of the outer test's file."""
READY_S = 120.0
POLL_S = 0.02
MOMENTS = ("half of it is sent", "all of it is sent", "it is kept, and not answered")


@dataclass(frozen=True)
class House:
    """What the outer test prepared.

    Attributes:
        python: the Python with the server.
        url: of the server that runs.
        tokens: its tokens by name, and `tokens_file` where it keeps them.
        studies: the folder that it serves.
        settings: files of settings of servers that may be started here, by name.
        evidence: folder for submitted labels, which the outer test compares with the store.
    """

    python: str
    url: str
    tokens: dict[str, str]
    tokens_file: Path
    studies: Path
    settings: dict[str, Path]
    evidence: Path

    @classmethod
    def named(cls, path: Path) -> House:
        told = json.loads(path.read_text(encoding="utf-8"))
        paths = {name: Path(told[name]) for name in ("tokens_file", "studies", "evidence")}
        settings = {name: Path(each) for name, each in told["settings"].items()}
        return cls(**{**told, **paths, "settings": settings})

    def token(self, what: str, name: str, *options: str) -> str:
        """Add or remove a token with the command line; what it printed."""
        line = "from cinelabel.cli.main import main; main()"
        command = [self.python, "-c", line, "token", what, name, *options]
        command += ["--tokens", str(self.tokens_file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=READY_S, check=True)
        return done.stdout.strip()


@dataclass
class RealServer:
    """A server that a test may kill and start again; without tokens."""

    python: str
    settings: Path
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.settings.read_text(encoding="utf-8"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.told['port']}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self.python, "-m", "cinelabel.serving.start", str(self.settings)]
        log = Path(self.told["workspace"]) / "output.txt"
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*command, "--end-with-stdin"],
                env=os.environ | self.variables,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        end = time.monotonic() + READY_S
        while not self._answers():
            assert self.process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end, "the server does not start"
            time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL to the server and all its children."""
        process, self.process = self.process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Within the block it accepts connections, and answers nothing."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{self.url}/health/live", timeout=10).status_code < 500
            except requests.ConnectionError:
                return False


class Trap(HTTPAdapter):
    """Passes requests on; once armed, the next label that is handed in kills the server."""

    def __init__(self, kill: Callable[[], None]) -> None:
        super().__init__()
        self.moment: str | None = None
        self._kill = kill

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        if self.moment is None or request.method != "PUT":
            return super().send(request, *args, **options)
        moment, self.moment = self.moment, None
        if moment != MOMENTS[2]:
            request.body = self._cut(request.body, 2 if moment == MOMENTS[0] else 1)
            return super().send(request, *args, **options)
        answer = super().send(request, *args, **options)
        assert answer.status_code == 200, answer.text
        self._kill()
        raise requests.ConnectionError("the answer was lost")

    def _cut(self, body: bytes, parts: int) -> Iterator[bytes]:
        yield body[: len(body) // parts]
        self._kill()
        yield body[len(body) // parts :]


def client_of(url: str, token: str | None = None, name: str = "checker") -> Client:
    """A client beside the desk, with which a test looks for itself."""
    return Client(url, token, client_id=name)
