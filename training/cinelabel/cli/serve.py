"""`cinelabel serve`: a folder of studies for 3D Slicer's MONAI Label module."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from types import FrameType

    from cinelabel.serving.process import Server
    from cinelabel.serving.settings import ServerSettings


class ServeDevice(str, Enum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def serve(
    studies: Annotated[
        Path | None,
        typer.Option(help="Folder with NIfTI studies (3D, 4D) and DICOM folders; only read."),
    ] = None,
    dicomweb: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="DICOMweb server whose cine MR is served; its user and password, or token, are in "
            "CINELABEL_DICOMWEB_USER and _PASSWORD, or _TOKEN.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="File of log-in tokens (default beyond this machine: that of `cinelabel token`)."
        ),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for TLS, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM, not encrypted.")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A reverse proxy does TLS; log-in is needed.")
    ] = False,
    upload_limit_mb: Annotated[
        int, typer.Option(help="Largest upload, in MiB.", min=1, max=65536)
    ] = 256,
    workspace: Annotated[
        Path | None,
        typer.Option(help="Folder for images and labels (default: in the user's data folder)."),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Let another server use the same workspace.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Model version; see `cinelabel models list`.")
    ] = None,
    device: Annotated[ServeDevice, typer.Option(help="Where the networks run.")] = (
        ServeDevice.auto
    ),
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="One member of the model, without mirroring, unless a request says else."
        ),
    ] = False,
    app_dir: Annotated[
        Path | None, typer.Option(help="Another MONAI Label app folder, for developers.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the strategy `random`.", min=0)] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether the server would start.")
    ] = False,
) -> None:
    """Serve studies to 3D Slicer until Ctrl-C.

    Every study becomes one image a frame; studies that are added are served when they are whole.
    In Slicer: module MONAI Label, the address below as server, then the refresh button. Only
    programs of this machine are let in, unless --host names another address; that takes TLS and
    tokens, see `cinelabel token`.
    """
    from cinelabel.cli import terminal
    from cinelabel.serving import process, selfcheck
    from cinelabel.serving.settings import ServerSettings, find_app, workspace_of

    _require_source(studies, dicomweb)
    settings = ServerSettings(
        studies=None if studies is None else studies.resolve(),
        workspace=(workspace or workspace_of(studies, dicomweb)).resolve(),
        app=(app_dir or find_app()).resolve(),
        dicomweb=dicomweb,
        host=host,
        port=port,
        tokens=_resolved(tokens),
        certificate=_resolved(tls_cert),
        key=_resolved(tls_key),
        behind_proxy=behind_proxy,
        upload_limit_mb=upload_limit_mb,
        model=model,
        device=device.value,
        fast=fast,
        seed=seed,
    )
    settings = _with_default_tokens(settings)
    findings = selfcheck.check(settings)
    if check:
        for finding in (*findings, *selfcheck.ask_dicomweb(settings)):
            print(f"{finding.level}: {finding.sentence}")
        raise typer.Exit(2 if any(finding.level == "error" for finding in findings) else 0)
    selfcheck.require_sound(findings)
    for finding in findings:
        if finding.level == "warning":
            terminal.note(f"Warning: {finding.sentence}")
    kept = contextlib.nullcontext() if share else process.exclusive(settings.workspace)
    with kept, ended_by_signals():
        try:
            _run(settings)
        except KeyboardInterrupt:
            print("Stopped.", flush=True)


def _run(settings: ServerSettings) -> None:
    """Serve until an interruption. Raises ServerError if the server ends by itself."""
    from cinelabel.cli import terminal
    from cinelabel.serving.process import Server

    with Server(settings) as server:
        wait_with_progress(server)
        print(
            f"Serving {settings.studies or settings.dicomweb} at {settings.url} - in 3D Slicer "
            "open the module MONAI Label and type this address as server; Ctrl-C ends.",
            flush=True,
        )
        terminal.note(f"Labels: {settings.workspace}  Log: {settings.log}")
        terminal.note(f"What is left out, and why: {settings.url}/cases/left-out")
        server.wait()


def _require_source(studies: Path | None, dicomweb: str | None) -> None:
    """Raise InputError unless there is one thing that can be served; note an empty folder."""
    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError
    from cinelabel.studies.dicomweb_address import check_url
    from cinelabel.studies.sources import require_folder

    if (studies is None) == (dicomweb is None):
        raise InputError("what is served is one of the two: --studies DIR or --dicomweb URL")
    if studies is not None:
        require_folder(studies)
        try:
            empty = not any(studies.iterdir())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"cannot be read, {reason}", where=studies) from error
        if empty:
            terminal.note(f"{studies} is empty so far; studies that are put there will be served.")
    if dicomweb is not None:
        check_url(dicomweb)


def _resolved(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def _with_default_tokens(settings: ServerSettings) -> ServerSettings:
    """The user's own tokens where log-in is needed and no other file was named."""
    from dataclasses import replace

    from cinelabel.serving.tokens import default_tokens

    if settings.tokens is None and settings.needs_tokens:
        return replace(settings, tokens=default_tokens())
    return settings


def wait_with_progress(server: Server) -> None:
    """Wait until the server answers, showing the seconds on a terminal."""
    import sys

    from rich.console import Console

    if not sys.stderr.isatty():
        server.wait_until_ready()
        return
    with Console(stderr=True).status("starting the server") as status:
        server.wait_until_ready(
            lambda seconds: status.update(
                f"starting the server, {seconds:.0f} s (imports take some seconds)"
            )
        )


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
