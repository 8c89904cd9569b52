"""`cinelabel ensemble`: a model version, with its card, out of finished training runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cinelabel.models.store import ModelStore, ModelVersion


def ensemble(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished training runs.")],
    name: Annotated[str, typer.Option(metavar="VERSION", help="Name of the new version.")],
    locator: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|VERSION",
            help="Finds the heart (default: that of the bundled version, unless a RUN is one).",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="W1,W2,...",
            help="Weight of each RUN in the average, in their order (default: all alike).",
        ),
    ] = None,
    fast: Annotated[
        str | None,
        typer.Option(metavar="MEMBER", help="The one used by --fast (default: the first)."),
    ] = None,
    full_precision: Annotated[
        bool, typer.Option("--full-precision", help="Keep 32 bits a weight instead of 16.")
    ] = False,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "Apache-2.0",
    parent: Annotated[
        str | None, typer.Option(help="The version this one was trained on from.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Folder of the store (default: $CINELABEL_MODELS or the user's data)."),
    ] = None,
) -> None:
    """Make a model version out of finished runs, one member each, and write its card.

    Both forms of each network, for torch and for OpenVINO, are made and checked to agree.
    """
    from cinelabel.cli.train import require_training

    require_training()
    from cinelabel.learning.publication import publish_runs
    from cinelabel.models.store import ModelStore

    opened = ModelStore(store)
    made = publish_runs(
        opened,
        name,
        runs,
        locator=_locator(locator, runs, opened),
        weights=None if weights is None else _numbers(weights),
        fast=fast,
        licence=licence,
        parent=parent,
        half=not full_precision,
    )
    roles = [member.role for member in made.card.members]
    typer.echo(f"{made.path}: {len(roles)} members, {roles.count('segmenter')} of them segment")
    typer.echo(f"put it in use with: cinelabel models use {made.name}")


def _locator(text: str | None, runs: list[Path], store: ModelStore) -> Path | ModelVersion | None:
    """The run or version that gives the locator; None where one of the runs is it."""
    from cinelabel.core.errors import InputError
    from cinelabel.learning.run_folder import RunFolder
    from cinelabel.models.store import BUNDLED

    if text is None:
        is_there = any(RunFolder(run).config().data.task == "locator" for run in runs)
        return None if is_there else store.load(BUNDLED)
    if text in store.versions():
        return store.load(text)
    if Path(text).is_dir():
        return Path(text)
    known = ", ".join(store.versions())
    raise InputError(
        f"'{text}' is neither the folder of a run nor a model version",
        where="--locator",
        remedy=f"Known versions: {known}",
    )


def _numbers(text: str) -> list[float]:
    from cinelabel.core.errors import InputError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"'{text}' are no numbers", where="--weights", remedy="For example 1,1,0.5"
        ) from error
