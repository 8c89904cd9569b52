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
    from cinelabel.studies.workspace import Workspace


class ServeDevice(str, Enum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def serve(
    studies: Annotated[
        Path,
        typer.Option(help="Folder with NIfTI studies (3D, 4D) and DICOM folders; only read."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    workspace: Annotated[
        Path | None,
        typer.Option(help="Folder for frames and labels (default: in the user's data folder)."),
    ] = None,
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
) -> None:
    """Serve studies to 3D Slicer until Ctrl-C.

    Every study becomes one image a frame. In Slicer: module MONAI Label, the address below as
    server, then the refresh button.
    """
    from cinelabel.cli import terminal
    from cinelabel.serving import process
    from cinelabel.serving.settings import ServerSettings, find_app
    from cinelabel.studies.workspace import default_workspace, find_sources

    process.require_server_packages()
    find_sources(studies)
    _require_model(model)
    process.require_free_port(host, port)
    workspace = (workspace or default_workspace(studies)).resolve()
    with process.exclusive(workspace), ended_by_signals():
        prepared = prepare_with_progress(studies, workspace)
        settings = ServerSettings(
            studies=studies.resolve(),
            workspace=workspace,
            app=(app_dir or find_app()).resolve(),
            host=host,
            port=port,
            model=model,
            device=device.value,
            fast=fast,
            seed=seed,
        )
        try:
            with process.Server(settings) as server:
                wait_with_progress(server)
                if host not in ("127.0.0.1", "localhost", "::1"):
                    terminal.note(f"Anybody who reaches {host} can read and label the studies.")
                frames = sum(study.n_frames for study in prepared.studies)
                print(
                    f"Serving {len(prepared.studies)} studies ({frames} frames) at {settings.url} "
                    "- in 3D Slicer open the module MONAI Label and type this address as server; "
                    "Ctrl-C ends.",
                    flush=True,
                )
                terminal.note(f"Labels: {prepared.images / 'labels'}  Log: {settings.log}")
                server.wait()
        except KeyboardInterrupt:
            print("Stopped.", flush=True)


def prepare_with_progress(studies: Path, workspace: Path) -> Workspace:
    """`workspace.prepare` with a bar, and its problems as one line each on standard error."""
    from cinelabel.cli import terminal
    from cinelabel.studies.workspace import prepare

    with terminal.progress_bar("reading studies") as progress:
        prepared = prepare(studies, workspace, progress)
    for problem in prepared.problems:
        terminal.note(f"Left out: {problem}")
    return prepared


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
                f"starting the server, {seconds:.0f} s (imports take about 10 s)"
            )
        )


def _require_model(model: str | None) -> None:
    """Raise ModelError now rather than at the first request."""
    from cinelabel.models.store import ModelStore

    ModelStore().load(model)


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
