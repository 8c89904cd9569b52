"""The MONAI Label server as a child process: started with our settings, and ended whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
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

from cinelabel.core.errors import CineLabelError, InputError, OutputError
from cinelabel.core.files import output_error

EXIT_WITH_STDIN = "CINELABEL_EXIT_WITH_STDIN"
LOOPBACK = "127.0.0.1"
MODEL_NAME = "cine"
INSTALL_LINE = "pip install 'cinelabel[server]'"


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for a server that starts (mostly imports) and for one that ends."""

    start_s: float = 300.0
    poll_s: float = 0.2
    stop_s: float = 10.0


PATIENCE = Patience()


class ServerError(CineLabelError):
    """The server does not start or ended by itself."""


@dataclass(frozen=True)
class ServerSettings:
    """What a server is started with.

    Attributes:
        studies: the folder of studies.
        workspace: prepared images, labels, sessions, logs.
        app: folder with the `main.py` that MONAI Label loads.
        host, port: where it listens.
        model: model version, the current one if None.
        device: "auto", "cpu" or "cuda".
        fast: one member of the model, without mirroring, unless a request says otherwise.
        seed: of the random strategy.
    """

    studies: Path
    workspace: Path
    app: Path
    host: str = LOOPBACK
    port: int = 8000
    model: str | None = None
    device: str = "auto"
    fast: bool = False
    seed: int = 0

    @property
    def url(self) -> str:
        """Address for clients on this machine."""
        host = LOOPBACK if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def log(self) -> Path:
        """Everything that the server prints."""
        return self.workspace / "logs" / "server.log"


def require_server_packages() -> None:
    """Raise InputError with the line to type if MONAI Label is not installed."""
    if find_spec("monailabel") is None or find_spec("torch") is None:
        raise InputError(
            "the server needs MONAI Label, which is not installed",
            remedy=f"Run {INSTALL_LINE}; the README names the lines that save a second torch",
        )


def find_app() -> Path:
    """The folder of the MONAI Label app: in the wheel, or in the source tree beside `training`."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "apps" / "cine", package.parents[1] / "apps" / "cine"):
        if (folder / "main.py").is_file():
            return folder
    raise InputError("the MONAI Label app is not where it belongs", where=package)


def lay_out_app(source: Path, workspace: Path) -> Path:
    """Copy the app to the workspace, since MONAI Label writes into an app's folder.

    Raises:
        InputError: the source has no main.py.
        OutputError: the workspace cannot be written.
    """
    if not (source / "main.py").is_file():
        raise InputError("holds no MONAI Label app (main.py)", where=source)
    target = workspace / "app"
    ignored = shutil.ignore_patterns("__pycache__", "logs", "model", "bin")
    try:
        shutil.rmtree(target / "lib", ignore_errors=True)
        shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
    except OSError as error:
        raise output_error(error, target) from error
    return target


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
    """Keep a workspace for one server; two of them would lose each other's labels.

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
    """The command that starts the server."""
    conf = {
        "workspace": str(settings.workspace),
        "device": settings.device,
        "fast": str(settings.fast).lower(),
        "seed": str(settings.seed),
    }
    if settings.model is not None:
        conf["model"] = settings.model
    line = [sys.executable, "-m", "monailabel.main", "start_server"]
    line += ["--app", str(settings.app), "--studies", str(settings.studies)]
    line += ["--host", settings.host, "--port", str(settings.port)]
    line += ["--uvicorn_app", "lib.server:app"]
    for key, value in conf.items():
        line += ["--conf", key, value]
    return line


def environment(settings: ServerSettings) -> dict[str, str]:
    """The environment of the server: the caller's, with what MONAI Label would set otherwise."""
    paths = [str(settings.app), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        EXIT_WITH_STDIN: "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "MONAI_LABEL_API_STR": "",
        "MONAI_LABEL_AUTH_ENABLE": "false",
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        "MONAI_LABEL_RELOAD_APP_LIB": "false",
        "MONAI_LABEL_DATASTORE_AUTO_RELOAD": "false",
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(["*.nii.gz"]),
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": "MR"}),
        "MONAI_LABEL_SESSION_PATH": str(settings.workspace / "sessions"),
    }


class Server:
    """A running server; leaving the `with` block ends it and all its children."""

    def __init__(self, settings: ServerSettings) -> None:
        """Start the process. Raises OutputError if its log cannot be written."""
        self.settings = settings
        try:
            settings.log.parent.mkdir(parents=True, exist_ok=True)
            stream = settings.log.open("wb")
        except OSError as error:
            raise output_error(error, settings.log) from error
        with stream:
            self._process = subprocess.Popen(
                command(settings),
                env=environment(settings),
                cwd=settings.app,
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
            if _answers(f"{self.settings.url}/info/"):
                return
            if waiting is not None:
                waiting(seconds)
            time.sleep(PATIENCE.poll_s)
        raise ServerError(
            f"the server did not answer within {PATIENCE.start_s:.0f} s",
            remedy=f"Its output is in {self.settings.log}",
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
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(PATIENCE.stop_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal_group(process, _FORCE)
            process.wait()

    def _ended(self) -> ServerError:
        text = self.settings.log.read_text(encoding="utf-8", errors="replace")
        return ServerError(
            f"the server ended with code {self._process.poll()}: {_why(text)}",
            remedy=f"Its output is in {self.settings.log}",
        )


def _why(log: str) -> str:
    """The last exception in a log, or its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised or lines or ["it printed nothing"])[-1][:300]


_RAISED = re.compile(r"[\w.]+(Error|Exception)\b")
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


def _answers(address: str) -> bool:
    """Whether a GET is answered with 200, without any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def require_folder_for(path: Path) -> None:
    """Make a folder for results. Raises OutputError if that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, path) from error
    if not os.access(path, os.W_OK):
        raise OutputError("cannot be written", where=path, remedy="Choose another folder")
