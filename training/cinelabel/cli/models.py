"""`cinelabel models`: list, show, choose and publish model versions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cinelabel.models.store import ModelStore

app = typer.Typer(help="List, show, choose and publish model versions.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Store = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of the store (default: $CINELABEL_MODELS or the user's data)."
    ),
]


def _open(folder: Path | None) -> ModelStore:
    from cinelabel.models.store import ModelStore

    return ModelStore(folder)


@app.command("list")
def list_versions(json_output: Json = False, store: Store = None) -> None:
    """List the versions; the one in use is marked."""
    from cinelabel.cli import terminal

    opened = _open(store)
    rows = [_row(opened, name) for name in opened.versions()]
    current = _current(opened)
    if json_output:
        listed = {"current": current, "store": str(opened.root), "versions": rows}
        terminal.print_json(listed)
        return
    from rich.table import Table

    table = Table("version", "in use", "from", "created", "members", "validation Dice")
    for row in rows:
        described = [f"{member['name']} ({member['role']})" for member in row["members"]]
        table.add_row(
            row["version"],
            "yes" if row["version"] == current else "",
            "package" if row["bundled"] else "store",
            row["created"][:10],
            row["problem"] or ", ".join(described),
            _scores(row["metrics"]),
        )
    terminal.print_table(table)


@app.command()
def show(
    version: Annotated[
        str | None, typer.Argument(help="Name of the version (default: the one in use).")
    ] = None,
    json_output: Json = False,
    store: Store = None,
) -> None:
    """Show the card of a version, after verifying the checksums of its files."""
    from cinelabel.cli import terminal

    opened = _open(store)
    found = opened.load(version)
    found.verify()
    if json_output:
        terminal.print_json(found.card.model_dump(mode="json"))
        return
    from rich.table import Table

    table = Table(title=f"{found.name}, checksums verified", show_header=False)
    card = found.card
    facts = {
        "created": card.created,
        "in use": "yes" if found.name == _current(opened) else "no",
        "folder": str(found.path),
        "licence": card.licence,
        "intended use": card.intended_use,
        "parent": card.parent or "none",
        "validation Dice": _scores(card.metrics),
    }
    for key, value in facts.items():
        table.add_row(key, value)
    for member in card.members:
        table.add_row(
            member.name,
            f"{member.role}, {member.network['family']}, {member.parameters / 1e6:.2f} M "
            f"parameters, {member.preprocessing.get('spacing_mm', '?')} mm pixels, label agreement "
            f"of OpenVINO with torch {member.agreement.label_agreement:.4%}",
        )
    terminal.print_table(table)


@app.command()
def use(
    version: Annotated[str, typer.Argument(help="Name of the version.")], store: Store = None
) -> None:
    """Put a version in use, after verifying its files; earlier versions stay."""
    chosen = _open(store).use(version)
    typer.echo(f"{chosen.name} is in use")


@app.command()
def publish(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished training runs.")],
    name: Annotated[str, typer.Option(help="Name of the new version.")],
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "Apache-2.0",
    parent: Annotated[
        str | None, typer.Option(help="The version this one was trained on from.")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half/--full", help="Round the weights to 16 bits.")
    ] = True,
    store: Store = None,
) -> None:
    """Publish runs as a new version: both forms of each network, checked to agree, and a card."""
    from cinelabel.cli.train import require_training

    require_training()
    from cinelabel.learning.publication import publish_runs

    made = publish_runs(_open(store), name, runs, licence=licence, parent=parent, half=half)
    typer.echo(f"{made.path}: {len(made.card.members)} members; put it in use with:")
    typer.echo(f"  cinelabel models use {made.name}")


@app.command()
def compare(
    versions: Annotated[list[str], typer.Argument(metavar="VERSION...", help="Their names.")],
    data: Annotated[
        list[str],
        typer.Option("--data", metavar="SET=FOLDER", help="Labelled cases, e.g. acdc=/data/ACDC."),
    ],
    csv_output: Annotated[
        Path | None, typer.Option("--csv", help="Write one row a version, case and structure.")
    ] = None,
    store: Store = None,
) -> None:
    """Segment the same labelled cases with several versions and set their Dice side by side."""
    from cinelabel.cli import terminal
    from cinelabel.datasets import cases
    from cinelabel.evaluation.metrics import Score
    from cinelabel.evaluation.report import comparison_table, write_scores_csv
    from cinelabel.evaluation.runs import segment_cases
    from cinelabel.segmentation import Segmenter

    terminal.require_writable({"--csv": csv_output})
    opened = _open(store)
    found = [case for pair in data for case in cases(*_set_and_folder(pair)) if case.label]
    compared: dict[str, list[Score]] = {}
    for version in dict.fromkeys(versions):
        segmenter = Segmenter(opened.load(version))
        with terminal.progress_bar(version) as progress:
            results = segment_cases(segmenter, found, distances=False, progress=progress)
        compared[version] = [score for result in results for score in result.scores]
    if csv_output is not None:
        rows = [
            replace(score, group=version)
            for version, scores in compared.items()
            for score in scores
        ]
        write_scores_csv(csv_output, rows)
    terminal.print_table(comparison_table(compared))


@app.command()
def motion(
    figure: Annotated[Path, typer.Argument(metavar="FIGURE.png", help="Where to draw it.")],
    version: Annotated[
        str | None, typer.Option(help="Name of the version (default: the one in use).")
    ] = None,
    studies: Annotated[int, typer.Option(help="Phantom studies, each in four manners.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of the first study.", min=0)] = 900_000,
    store: Store = None,
) -> None:
    """Show what motion costs a version: Dice and sharpness of phantom slices by grade."""
    from cinelabel.cli import terminal

    terminal.require_writable({"FIGURE": figure})
    from cinelabel.evaluation.motion import grade_slices, motion_figure, motion_table
    from cinelabel.segmentation import Segmenter

    chosen = _open(store).load(version)
    with terminal.progress_bar("studies") as progress:
        slices = grade_slices(
            Segmenter(chosen), range(seed, seed + studies), progress=progress
        )
    title = f"{chosen.name} on {studies} phantom studies in four manners of breathing, ED and ES"
    motion_figure(figure, slices, title=title)
    terminal.print_table(motion_table(slices))


def _set_and_folder(pair: str) -> tuple[str, Path]:
    from cinelabel.core.errors import InputError

    name, equals, folder = pair.partition("=")
    if not equals or not folder:
        raise InputError(
            f"'{pair}' is not SET=FOLDER", remedy="For example --data phantom=studies"
        )
    return name, Path(folder)


def _current(store: ModelStore) -> str | None:
    """The version in use; None, and a line for the reader, where it is gone."""
    from cinelabel.cli import terminal
    from cinelabel.core.errors import ModelError

    try:
        return store.current()
    except ModelError as error:
        terminal.note(str(error))
        return None


def _row(store: ModelStore, name: str) -> dict[str, Any]:
    """What a list says of a version; `problem` is None unless its card cannot be used."""
    from cinelabel.core.errors import ModelError

    row: dict[str, Any] = {"version": name, "bundled": store.is_bundled(name), "problem": None}
    try:
        card = store.load(name).card
    except ModelError as error:
        empty: dict[str, Any] = {"created": "", "licence": "", "members": [], "metrics": {}}
        return row | empty | {"problem": str(error)}
    members = [{"name": m.name, "role": m.role, "parameters": m.parameters} for m in card.members]
    return row | {
        "created": card.created,
        "licence": card.licence,
        "members": members,
        "metrics": card.metrics,
    }


def _scores(metrics: dict[str, Any]) -> str:
    """Validation Dice of each member in short, where the card has it."""
    lines = [
        " ".join(f"{name} {value:.3f}" for name, value in scores.get("dice", {}).items())
        for scores in metrics.get("validation", {}).values()
    ]
    return "; ".join(lines)
