"""`cinelabel labels`: readers' labels out and in, their history, and whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cinelabel.labelstore import LabelStore
    from cinelabel.labelstore.exchange import Exchanged

app = typer.Typer(
    help="Export, import, follow and check the labels of readers.", no_args_is_help=True
)

OF_WORKSPACE = ("labels.sqlite", "labels.lock", "studies.json", "store/datastore_v2.json")
"""Files of which a workspace has one; in other folders, unless they are empty, nothing is made."""

Workspace = Annotated[
    Path | None, typer.Option("--workspace", help="Folder that `cinelabel serve` keeps labels in.")
]
Studies = Annotated[
    Path | None,
    typer.Option("--studies", help="Folder of studies; means its workspace in the user's data."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("export")
def export_labels(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    workspace: Workspace = None,
    studies: Studies = None,
) -> None:
    """Write every version, with its image, as NIfTI, and every event as a line of labels.jsonl."""
    from cinelabel.core.errors import OutputError
    from cinelabel.labelstore.exchange import export_to

    store, images = _open(workspace, studies)
    if out.exists():
        raise OutputError("the folder exists already", where=out, remedy="Name a new one")
    _tell(export_to(out, store, images))


@app.command("import")
def import_labels(
    folder: Annotated[
        Path, typer.Argument(help="What `export` wrote, or a folder of <image>.nii.gz.")
    ],
    workspace: Workspace = None,
    studies: Studies = None,
    who: Annotated[
        str | None, typer.Option(help="Reader named for labels of a plain folder (default: you).")
    ] = None,
) -> None:
    """Bring labels in: a whole history as it was, or plain files as first versions.

    What does not fit the workspace is left, with a sentence each; then the exit code is 2.
    """
    import getpass

    from cinelabel.core.errors import InputError
    from cinelabel.labelstore.exchange import import_from

    store, images = _open(workspace, studies)
    done = import_from(folder, store, images, who or getpass.getuser())
    _tell(done)
    if done.problems:
        raise InputError(f"{len(done.problems)} of the labels were left", where=folder)


@app.command()
def history(
    image: Annotated[str, typer.Argument(help="Name of the image, <study>__t<NN>.")],
    workspace: Workspace = None,
    studies: Studies = None,
    json_output: Json = False,
) -> None:
    """Show what happened to a case: who submitted, skipped, reopened, and when."""
    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError

    events = _open(workspace, studies)[0].history(image)
    if not events:
        raise InputError("nothing has happened to it", where=image)
    if json_output:
        terminal.print_json([event.model_dump(mode="json") for event in events])
        return
    from rich.table import Table

    table = Table("", "time", "event", "version", "by", "from", "model", "remarks")
    for event in events:
        table.add_row(
            str(event.sequence),
            event.time[:19],
            event.kind.replace("_", " "),
            "" if event.version is None else str(event.version),
            event.who,
            "" if event.base_version is None else str(event.base_version),
            event.model or "",
            " ".join(filter(None, [event.text, *event.warnings])),
        )
    terminal.print_table(table)


@app.command()
def check(workspace: Workspace = None, studies: Studies = None) -> None:
    """Read every label and compare it with its checksum; exit code 2 if something is off."""
    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError

    store, _ = _open(workspace, studies)
    problems = [*store.problems, *store.check()]
    for problem in problems:
        terminal.note(problem)
    counts = store.counts()
    print(
        f"{counts['versions']} versions; {counts['labelled']} cases labelled, "
        f"{counts['skipped']} skipped"
    )
    if problems:
        raise InputError(f"{len(problems)} problems were found", where=store.folder)


def _open(workspace: Path | None, studies: Path | None) -> tuple[LabelStore, Path]:
    """The label store of an existing workspace, and the folder of its images."""
    from cinelabel.core.errors import InputError
    from cinelabel.labelstore import LabelStore
    from cinelabel.studies.catalogue import IMAGES
    from cinelabel.studies.workspace import default_workspace

    if (workspace is None) == (studies is None):
        raise InputError("give one of --workspace and --studies")
    folder = default_workspace(studies) if workspace is None and studies else workspace
    if folder is None or not folder.is_dir():
        problem = "there is no such workspace"
    elif any(folder.iterdir()) and not any((folder / name).is_file() for name in OF_WORKSPACE):
        problem = "is no workspace"
    else:
        return LabelStore(folder), folder / IMAGES
    raise InputError(
        problem,
        where=folder,
        remedy="Serve the studies once, or name the folder given to `serve --workspace`",
    )


def _tell(done: Exchanged) -> None:
    from cinelabel.cli import terminal

    for problem in done.problems:
        terminal.note(problem)
    images = f"{done.images} images, " if done.images else ""
    print(f"{done.versions} versions, {done.events} events, {images}{done.reviews} reviews")
