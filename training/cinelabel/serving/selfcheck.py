"""What is looked at before a server starts: one sentence each, so that nothing fails later."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from cinelabel.core.errors import CineLabelError, InputError
from cinelabel.core.files import output_error
from cinelabel.models.store import ModelStore
from cinelabel.serving.process import INSTALL_LINE, require_free_port, require_server_packages
from cinelabel.serving.settings import ServerSettings, is_loopback
from cinelabel.serving.standins import MONAI_LABEL
from cinelabel.serving.tokens import Tokens, require_private
from cinelabel.studies.dicomweb_address import PASSWORD, TOKEN, check_url

Level = Literal["fine", "warning", "error"]

PYTHONS = ((3, 10), (3, 12))
TORCHVISION_BEHIND_TORCH = 15
"""torch 2.N and torchvision 0.(N + 15) are built for each other."""
FREE_WARN_BYTES = 5 * 1000**3
FREE_REFUSE_BYTES = 200 * 1000**2


@dataclass(frozen=True)
class Finding:
    """What one check found, as a sentence; a server does not start with an error."""

    level: Level
    sentence: str


def check(settings: ServerSettings) -> tuple[Finding, ...]:
    """Everything that can be known before the server starts. Leaves nothing behind."""
    return tuple(finding for look in CHECKS for finding in _findings(look, settings))


def _findings(look: Check, settings: ServerSettings) -> Iterator[Finding]:
    try:
        yield from look(settings)
    except CineLabelError as error:
        yield Finding("error", str(error))


def require_sound(findings: Sequence[Finding]) -> None:
    """Raise InputError with the sentences of all errors, if there are any."""
    errors = [finding.sentence for finding in findings if finding.level == "error"]
    if errors:
        raise InputError(" ".join(errors))


def packages(_: ServerSettings) -> Iterator[Finding]:
    """The server's packages, in versions that work together."""
    require_server_packages()
    yield from versions(metadata.version, sys.version_info[:2])


def versions(version: Callable[[str], str], python: tuple[int, int]) -> Iterator[Finding]:
    """What versions of packages break; `version` tells that of a package by its name.

    Raises InputError if one is not installed.
    """
    try:
        monailabel, pydicom, numpy = map(version, ("monailabel", "pydicom", "numpy"))
        torch, torchvision = version("torch"), version("torchvision")
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"the server needs {error.name}, which is not installed",
            remedy=f"Run {INSTALL_LINE}; the README names the lines that save a second torch",
        ) from error
    sound = True
    if monailabel != MONAI_LABEL:
        sound = False
        yield Finding(
            "warning",
            f"MONAI Label is {monailabel}; the server is written for and tested with "
            f"{MONAI_LABEL}. Run pip install monailabel=={MONAI_LABEL}.",
        )
    if not PYTHONS[0] <= python <= PYTHONS[1]:
        sound = False
        first, last = (".".join(map(str, each)) for each in PYTHONS)
        yield Finding(
            "error",
            f"Python is {python[0]}.{python[1]}; MONAI Label runs with {first} to {last}.",
        )
    if _numbers(numpy)[0] >= 2:
        sound = False
        yield Finding(
            "warning",
            f"numpy is {numpy}; the server is written for and tested with 1.26, and packages that "
            "MONAI Label needs ask for less than 2. Run pip install 'numpy<2'.",
        )
    if _numbers(pydicom)[0] >= 3:
        sound = False
        yield Finding(
            "error",
            f"pydicom is {pydicom}, with which MONAI Label cannot be imported. "
            "Run pip install 'pydicom<3'.",
        )
    if not _pair(torch, torchvision):
        sound = False
        yield Finding(
            "warning",
            f"torch {torch} and torchvision {torchvision} are not built for each other, so "
            "training will fail. Install both in one step from the same index.",
        )
    if sound:
        yield Finding("fine", f"MONAI Label {monailabel}, pydicom {pydicom}, torch {torch}.")


def _pair(torch: str, torchvision: str) -> bool:
    """Whether torch 2.N comes with torchvision 0.(N + 15), for the same kind of device."""
    first, second = _numbers(torch), _numbers(torchvision)
    numbers = first[0] == 2 and second == (0, first[1] + TORCHVISION_BEHIND_TORCH)
    return numbers and torch.partition("+")[2] == torchvision.partition("+")[2]


def _numbers(version: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    found = re.match(r"(\d+)(?:\.(\d+))?", version)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def workspace(settings: ServerSettings) -> Iterator[Finding]:
    """The workspace is apart from the studies, can be written, and there is room."""
    folder = settings.workspace
    if settings.studies is not None and folder.is_relative_to(settings.studies):
        raise InputError(
            "the workspace lies inside the folder of studies, which is never written to",
            where=folder,
            remedy="Choose another --workspace",
        )
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".cinelabel-") as stream:
            stream.write(b"x")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise output_error(error, settings.workspace) from error
    free = shutil.disk_usage(folder).free
    room = f"{free / 1000**3:.1f} GB are free"
    if free < FREE_REFUSE_BYTES:
        raise InputError(
            f"only {free / 1000**2:.0f} MB are free, and labels could not be kept",
            where=folder,
            remedy="Make room, or choose another --workspace",
        )
    if free < FREE_WARN_BYTES:
        yield Finding("warning", f"{folder}: {room}, which is little for images and labels.")
    else:
        yield Finding("fine", f"{folder}: can be written, {room}.")


def model(settings: ServerSettings) -> Iterator[Finding]:
    """The model version is there and whole."""
    version = ModelStore().load(settings.model)
    version.verify()
    yield Finding("fine", f"Model {version.name}: all files are whole.")


def port(settings: ServerSettings) -> Iterator[Finding]:
    """Somebody can listen at the address."""
    require_free_port(settings.host, settings.port)
    yield Finding("fine", f"Port {settings.port} on {settings.host} is free.")


def certificate(settings: ServerSettings) -> Iterator[Finding]:
    """Certificate and key are readable and belong together; without them nobody else listens."""
    if (settings.certificate is None) != (settings.key is None):
        raise InputError("a certificate and its key are given together: --tls-cert and --tls-key")
    if settings.certificate is not None and settings.key is not None:
        _require_certificate(settings.certificate, settings.key)
        yield Finding("fine", f"{settings.certificate}: certificate and key belong together.")
        if os.name == "posix" and stat.S_IMODE(settings.key.stat().st_mode) & 0o077:
            yield Finding(
                "warning",
                f"{settings.key}: others may read the key. Run chmod 600 {settings.key}.",
            )
    elif not settings.on_loopback and not settings.behind_proxy:
        raise InputError(
            f"on {settings.host} images and tokens would cross the network unencrypted",
            remedy="Give --tls-cert and --tls-key, or --behind-proxy if a reverse proxy does TLS",
        )


def _require_certificate(certificate: Path, key: Path) -> None:
    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"cannot be read, {reason}", where=path) from error
    try:
        # An encrypted key would ask for its password, and nobody sits beside a server.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise InputError(
            f"is no certificate in PEM form, or {key} is not its unencrypted key",
            where=certificate,
        ) from error


def tokens(settings: ServerSettings) -> Iterator[Finding]:
    """Where other machines get through there is a token, in a file of the owner's alone."""
    if settings.tokens is None:
        if settings.needs_tokens:
            raise InputError("a server that others can reach needs --tokens", where=settings.host)
        yield Finding("fine", "No log-in: only programs of this machine are let in.")
        return
    require_private(settings.tokens)
    valid = [record for record in Tokens(settings.tokens).records() if not record.expired]
    if not valid:
        raise InputError(
            "holds no token that is still valid, so nobody could log in",
            where=settings.tokens,
            remedy="Make one with `cinelabel token add NAME --role annotator`",
        )
    names = ", ".join(f"{record.name} ({record.role.value})" for record in valid)
    yield Finding("fine", f"{settings.tokens}: {names}.")


def dicomweb(settings: ServerSettings) -> Iterator[Finding]:
    """The address of the DICOMweb server is one, and a log-in does not cross a network as text."""
    if settings.dicomweb is None:
        return
    address = urlsplit(check_url(settings.dicomweb))
    with_log_in = bool(os.environ.get(PASSWORD) or os.environ.get(TOKEN))
    if address.scheme == "http" and with_log_in and not is_loopback(address.hostname or ""):
        yield Finding(
            "warning",
            f"{settings.dicomweb}: log-in and images cross the network unencrypted. "
            "Give its https address.",
        )


def ask_dicomweb(settings: ServerSettings) -> Iterator[Finding]:
    """Whether the DICOMweb server answers; a server that is away keeps none from starting."""
    if settings.dicomweb is None:
        return
    try:
        from cinelabel.studies.pacs import Credentials, Limits, Pacs

        limits = Limits(connect_s=5.0, read_s=10.0, answer_s=15.0)
        Pacs(settings.dicomweb, Credentials.from_environment(), limits).greet()
        yield Finding("fine", f"DICOMweb server {settings.dicomweb}: answers.")
    except (CineLabelError, ImportError) as error:
        yield Finding("warning", str(error))


Check = Callable[[ServerSettings], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (packages, workspace, model, port, certificate, tokens, dicomweb)
