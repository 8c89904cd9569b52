"""The MONAI Label server as a child process: started with our settings, and ended whole."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cinelabel.core.errors import CineLabelError, InputError
from cinelabel.core.files import output_error
from cinelabel.serving.settings import LOOPBACK, ServerSettings

MODEL_NAME = "cine"
OUTPUT_BYTES = 10 * 1024**2
"""What the output of a server may hold when the next one starts; a larger one is put aside."""
INSTALL_LINE = "pip install 'cinelabel[server]'"


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for a server that starts (mostly imports) and for one that ends."""

    start_s: float = 300.0
    poll_s: float = 0.05
    stop_s: float = 4.8


PATIENCE = Patience()


class ServerError(CineLabelError):
    """The server does not start or ended by itself."""


def require_server_packages() -> None:
    """Raise InputError with the line to type if MONAI Label is not installed."""
    if find_spec("monailabel") is None or find_spec("torch") is None:
        raise InputError(
            "the server needs MONAI Label, which is not installed",
            remedy=f"Run {INSTALL_LINE}; the README names the lines that save a second torch",
        )


def require_free_port(host: str, port: int) -> None:
    """Raise InputError if nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(
                f"port {port} on {host} cannot be used ({reason})", remedy="Choose another --port"
            ) from error


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def exclusive(workspace: Path) -> Iterator[None]:
    """Keep a workspace for one server.

    Raises:
        InputError: another server has it.
        OutputError: the workspace cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        workspace.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workspace / ".server.lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            "these studies are already being served",
            where=workspace,
            remedy="Stop the other server, or choose another --workspace",
        ) from error
    except OSError as error:
        raise output_error(error, workspace) from error
    try:
        yield
    finally:
        lock.release()


def command(settings: ServerSettings) -> list[str]:
    """The command that starts the server, with the settings in a file of the workspace.

    Raises OutputError if that file cannot be written.
    """
    path = settings.workspace / f"settings-{settings.port}.json"
    settings.write(path)
    return [sys.executable, "-m", "cinelabel.serving.start", str(path), "--end-with-stdin"]


class Server:
    """A running server; leaving the `with` block ends it and all its children."""

    def __init__(self, settings: ServerSettings) -> None:
        """Start the process. Raises OutputError if its log cannot be written."""
        self.settings = settings
        try:
            settings.output.parent.mkdir(parents=True, exist_ok=True)
            _put_aside_if_large(settings.output)
            stream = settings.output.open("ab")
            self._output_start = stream.tell()
        except OSError as error:
            raise output_error(error, settings.output) from error
        with stream:
            self._process = subprocess.Popen(
                command(settings),
                cwd=settings.workspace,
                stdin=subprocess.PIPE,  # closed when this process dies, however it dies
                stdout=stream,
                stderr=subprocess.STDOUT,
                **_OWN_GROUP,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id, on POSIX also that of the process group."""
        return self._process.pid

    def wait_until_ready(self, waiting: Callable[[float], None] | None = None) -> None:
        """Return when the server answers; `waiting` is called with the seconds so far.

        Raises:
            ServerError: it ended, or did not answer in time.
        """
        start = time.monotonic()
        while (seconds := time.monotonic() - start) < PATIENCE.start_s:
            if self._process.poll() is not None:
                raise self._ended()
            if _answers(self.settings.url):
                return
            if waiting is not None:
                waiting(seconds)
            time.sleep(PATIENCE.poll_s)
        raise ServerError(
            f"the server did not answer within {PATIENCE.start_s:.0f} s",
            remedy=f"Its output is in {self.settings.output}",
        )

    def wait(self) -> None:
        """Return never but by an exception: ServerError when the server ended by itself."""
        self._process.wait()
        raise self._ended()

    def stop(self) -> None:
        """End the server and its children: politely, after a while by force."""
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        if (
            os.name == "posix"
        ):  # elsewhere the closed pipe asks, and every signal is an end by force
            _signal_group(process, signal.SIGTERM)
        try:
            process.wait(PATIENCE.stop_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal_group(process, _FORCE)
            process.wait()

    def _ended(self) -> ServerError:
        with self.settings.output.open("rb") as stream:
            stream.seek(self._output_start)
            text = stream.read().decode("utf-8", errors="replace")
        return ServerError(
            f"the server ended with code {self._process.poll()}: {_why(text)}",
            remedy=f"Its output is in {self.settings.output}",
        )


def _put_aside_if_large(output: Path) -> None:
    """Let a new file begin; the one before stays as `<name>.1`, older ones go."""
    with contextlib.suppress(FileNotFoundError):
        if output.stat().st_size > OUTPUT_BYTES:
            os.replace(output, output.with_name(f"{output.name}.1"))


def _why(log: str) -> str:
    """The last exception in a log, or its last line; of our own errors the sentence alone."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    last = (raised or lines or ["it printed nothing"])[-1]
    return _OURS.sub("", last)[:300]


_RAISED = re.compile(r"[\w.]+(Error|Exception)\b")
_OURS = re.compile(r"^cinelabel\.[\w.]+: ")
_FORCE = getattr(signal, "SIGKILL", signal.SIGTERM)
_OWN_GROUP: dict[str, Any] = (
    {"start_new_session": True}
    if os.name == "posix"
    else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal the process and its children; nothing happens where none is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.terminate()


def _answers(url: str) -> bool:
    """Whether a server answers there, with whatever; without any proxy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # our own child, which is told nothing
    context.verify_mode = ssl.CERT_NONE
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(f"{url}/health/live", timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, OSError, ValueError):
        return False
