"""What the server is started with, as one value and one JSON file."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cinelabel.core.errors import InputError
from cinelabel.core.files import write_text

LOOPBACK = "127.0.0.1"
SETTINGS_KEY = "settings"
"""The only key of MONAI Label's `conf` that the app reads: the path of a settings file."""


def find_app() -> Path:
    """The folder of the MONAI Label app: in the wheel, or in the source tree beside `training`."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "apps" / "cine", package.parents[1] / "apps" / "cine"):
        if (folder / "main.py").is_file():
            return folder
    raise InputError("the MONAI Label app is not where it belongs", where=package)


@dataclass(frozen=True)
class ServerSettings:
    """What a server is started with.

    Attributes:
        studies: the folder of studies, which is only read; None with `dicomweb` alone.
        workspace: images, labels, jobs, sessions, logs.
        app: folder with the `main.py` that MONAI Label loads.
        dicomweb: address of a DICOMweb server whose MR series are served.
        host, port: where it listens.
        tokens: file of log-in tokens; None: no log-in, and only this machine is let in.
        certificate, key: PEM files for TLS; None: plain HTTP.
        behind_proxy: a reverse proxy does TLS and tells the client's address.
        upload_limit_mb: the largest body of a request, in MiB.
        scan_interval_s: seconds between two looks at `studies`.
        settle_s: seconds that a new file must stay unchanged before it is served.
        dicomweb_interval_s: seconds between two looks at the DICOMweb server.
        model: model version, the current one if None.
        device: where the networks run.
        fast: one member of the model, without mirroring, unless a request says otherwise.
        seed: of the random strategy.
        log_level: of the server's own messages.
    """

    studies: Path | None
    workspace: Path
    app: Path = field(default_factory=find_app)
    dicomweb: str | None = None
    host: str = LOOPBACK
    port: int = 8000
    tokens: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False
    upload_limit_mb: int = 256
    scan_interval_s: float = 5.0
    settle_s: float = 3.0
    dicomweb_interval_s: float = 60.0
    model: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fast: bool = False
    seed: int = 0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def on_loopback(self) -> bool:
        """Whether only programs of this machine can reach it."""
        return is_loopback(self.host)

    @property
    def needs_tokens(self) -> bool:
        """Whether others than this machine's programs can reach it, also through a proxy."""
        return self.behind_proxy or not self.on_loopback

    @property
    def url(self) -> str:
        """Address for clients on this machine."""
        host = LOOPBACK if self.host in ("0.0.0.0", "::", "") else self.host
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log, a JSON object a line; older parts are `<name>.1` and so on."""
        return self.workspace / "logs" / f"server-{self.port}.log"

    @property
    def output(self) -> Path:
        """What the server prints besides: errors in plain text; an older part is `<name>.1`."""
        return self.workspace / "logs" / f"server-{self.port}.out"

    def write(self, path: Path) -> None:
        """Write as JSON. Raises OutputError."""
        write_text(path, _adapter().dump_json(self, indent=2).decode() + "\n")

    @classmethod
    def read(cls, path: Path) -> ServerSettings:
        """Read what `write` wrote. Raises InputError if it is missing, no JSON, or holds else."""
        try:
            return _adapter().validate_json(path.read_bytes())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"the settings cannot be read, {reason}", where=path) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field_name = ".".join(str(part) for part in first["loc"]) or "the whole file"
            raise InputError(
                f"the settings are wrong: {field_name}: {first['msg'].lower()}", where=path
            ) from error


def workspace_of(studies: Path | None, dicomweb: str | None) -> Path:
    """The workspace in the user's data folder for a folder of studies or a DICOMweb server."""
    from cinelabel.studies.workspace import default_workspace

    if studies is not None:
        return default_workspace(studies)
    address = urlsplit(dicomweb or "")
    name = f"{address.hostname or ''}-{address.port or ''}{address.path}".rstrip("/")
    return default_workspace(Path("/dicomweb", name.replace("/", "-")))


def is_loopback(host: str) -> bool:
    """Whether an address or `localhost` names this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _adapter() -> TypeAdapter[ServerSettings]:
    return TypeAdapter(ServerSettings)
