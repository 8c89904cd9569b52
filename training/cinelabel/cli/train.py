"""`cinelabel train`: run, or go on with, a training that a YAML file describes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from cinelabel.core.errors import RunError

EXIT_INTERRUPTED = 130
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SET=DIR", help="Folder of a data set that CONFIG learns from; several if wanted."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Torch threads (default: all cores).")]
NEEDED = ("torch", "lightning_fabric", "dynamic_network_architectures", "tensorboard")


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the training.")],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/ and the run's name).")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps, instead of those of the configuration.")
    ] = None,
    data: Data = None,
    threads: Threads = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try two steps on few examples and keep nothing.")
    ] = False,
) -> None:
    """Train a network; a run that was stopped goes on from its last checkpoint.

    Ctrl-C saves a checkpoint and ends with code 130. Several GPUs: start it
    with torchrun --no-python.
    """
    require_training()
    from cinelabel.learning import config as configuration
    from cinelabel.learning.supervised import train as train_run

    settings = configuration.load(config, roots=roots_of(data), steps=steps, threads=threads)
    if dry_run:
        from cinelabel.learning.dry_run import dry_run as try_out

        done = try_out(settings)
        if done is None:
            raise typer.Exit(EXIT_INTERRUPTED)
        typer.echo("\n".join(done))
        return
    folder = run or Path("runs") / settings.name
    result = train_run(settings, folder)
    if not result.finished:
        raise typer.Exit(EXIT_INTERRUPTED)
    if is_first_process():
        scores = ", ".join(f"{name} {value:.3f}" for name, value in result.dice.items())
        typer.echo(f"{folder}: {result.step} steps, validation Dice {scores}")


def roots_of(data: list[str] | None) -> dict[str, Path]:
    """Data set -> its folder, of `--data SET=DIR`; InputError for another form."""
    from cinelabel.cli.terminal import named_path

    return dict(named_path(text, "--data", "SET=DIR") for text in data or ())


def is_first_process() -> bool:
    """Whether this process is alone, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def require_training() -> None:
    """Raise RunError unless the packages that training needs are installed."""
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            raise RunError(
                f"the package '{package}' is not installed",
                remedy="Install CineLabel with its [train] extra",
            )
