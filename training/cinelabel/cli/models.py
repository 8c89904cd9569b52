"""`cinelabel models`: list, show, choose, roll back and score model versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cinelabel.datasets import Case
    from cinelabel.evaluation.metrics import Score
    from cinelabel.models.store import ModelStore

app = typer.Typer(
    help="List, show, choose, roll back and score model versions.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Why = Annotated[str, typer.Option("--why", help="For the history.")]
Store = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of the store (default: $CINELABEL_MODELS or the user's data)."
    ),
]


Data = Annotated[
    list[str],
    typer.Option("--data", metavar="SET=FOLDER", help="Labelled cases, e.g. acdc=/data/ACDC."),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        help="Break down by set, phase, vendor, pathology, manner or grade; several if wanted."
    ),
]
Hd95 = Annotated[bool, typer.Option("--hd95", help="Also HD95 and ASSD, which takes longer.")]
Fast = Annotated[bool, typer.Option("--fast", help="One member alone, without mirroring.")]
Csv = Annotated[
    Path | None, typer.Option("--csv", help="Write one row a method, case and structure.")
]
SummaryCsv = Annotated[
    Path | None,
    typer.Option("--summary", help="Write means and intervals as CSV, one figure a row."),
]
Figure = Annotated[
    Path | None, typer.Option(help="Draw box plots as PNG, by the first grouping if there is one.")
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

    table = Table("version", "in use", "from", "created", "members", "decision", "validation Dice")
    for row in rows:
        described = [f"{member['name']} ({member['role']})" for member in row["members"]]
        table.add_row(
            row["version"],
            "yes" if row["version"] == current else "",
            "package" if row["bundled"] else "store",
            row["created"][:10],
            row["problem"] or ", ".join(described),
            row["decision"] or "",
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
        "used by --fast": card.fast or "the first that segments",
        "validation Dice": _scores(card.metrics),
    }
    for key, value in facts.items():
        table.add_row(key, value)
    for member in card.members:
        table.add_row(
            member.name,
            f"{member.role}, {member.network['family']}, {member.parameters / 1e6:.2f} M "
            f"parameters, {_pixels(member.preprocessing)}, weight {member.weight:g}, label "
            f"agreement of OpenVINO with torch {member.agreement.label_agreement:.4%}",
        )
    terminal.print_table(table)


@app.command()
def use(
    version: Annotated[str, typer.Argument(help="Name of the version.")],
    why: Why = "",
    store: Store = None,
) -> None:
    """Put a version in use, after verifying its files; earlier versions stay."""
    chosen = _open(store).use(version, _who(), why)
    typer.echo(f"{chosen.name} is in use")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Name of a fine-tuned version.")],
    why: Why = "",
    force: Annotated[bool, typer.Option("--force", help="Even one that was rejected.")] = False,
    store: Store = None,
) -> None:
    """Put a fine-tuned candidate in use, after telling what was decided about it."""
    from cinelabel.core.errors import ModelError

    opened = _open(store)
    decision = opened.load(version).card.decision
    if decision is None:
        raise ModelError(
            "nothing was decided about it, it is no candidate",
            where=version,
            remedy=f"Choose it with: cinelabel models use {version}",
        )
    for reason in decision["reasons"]:
        typer.echo(reason)
    if decision["outcome"] == "reject" and not force:
        raise ModelError("was rejected", where=version, remedy="Give --force to use it anyway")
    opened.use(version, _who(), why)
    typer.echo(f"{version} is in use")


@app.command()
def rollback(why: Why = "", store: Store = None) -> None:
    """Put the version in use that was before the present one; again, and it goes further back."""
    typer.echo(f"{_open(store).roll_back(_who(), why).name} is in use")


@app.command()
def history(json_output: Json = False, store: Store = None) -> None:
    """List which versions were put in use, when, by whom and why; the newest last."""
    from dataclasses import asdict

    from cinelabel.cli import terminal

    uses = _open(store).history()
    if json_output:
        terminal.print_json([asdict(use) for use in uses])
        return
    from rich.table import Table

    table = Table("time", "version", "", "who", "why")
    for use in uses:
        table.add_row(
            use.time, use.version, "rolled back" if use.rolled_back else "", use.who, use.why
        )
    terminal.print_table(table)


@app.command()
def compare(
    versions: Annotated[list[str], typer.Argument(metavar="VERSION...", help="Their names.")],
    data: Data,
    by: By = None,
    hd95: Hd95 = False,
    fast: Fast = False,
    csv_output: Csv = None,
    summary_output: SummaryCsv = None,
    figure: Figure = None,
    store: Store = None,
) -> None:
    """Segment the same labelled cases with several versions and set their Dice side by side.

    A row a version (and group) with mean, deviation and a 95 % bootstrap
    interval over patients.
    """
    from cinelabel.cli import terminal
    from cinelabel.evaluation.runs import segment_cases
    from cinelabel.segmentation import Segmenter

    outputs = _Outputs(csv_output, summary_output, figure)
    outputs.require_writable()
    opened, found = _open(store), _labelled_cases(data, by)
    scores: list[Score] = []
    for version in dict.fromkeys(versions):
        segmenter = Segmenter(opened.load(version))
        with terminal.progress_bar(version) as progress:
            for result in segment_cases(
                segmenter, found, method=version, fast=fast, distances=hd95, progress=progress
            ):
                scores += result.scores
    outputs.show(scores, by or [], f"{', '.join(versions)}{' (fast)' * fast}")


@app.command()
def members(
    version: Annotated[str, typer.Argument(help="Name of the version.")],
    data: Data,
    by: By = None,
    hd95: Hd95 = False,
    fast: Fast = False,
    csv_output: Csv = None,
    summary_output: SummaryCsv = None,
    figure: Figure = None,
    store: Store = None,
) -> None:
    """Score each member of a version alone, their average, and it after post-processing.

    All labelled cases together, and by data set unless --by says otherwise.
    """
    from cinelabel.cli import terminal
    from cinelabel.evaluation.runs import segment_cases
    from cinelabel.segmentation import Segmenter

    outputs = _Outputs(csv_output, summary_output, figure)
    outputs.require_writable()
    chosen, found = _open(store).load(version), _labelled_cases(data, by)
    segmenter = Segmenter(chosen)
    scores: list[Score] = []
    with terminal.progress_bar(version) as progress:
        for result in segment_cases(
            segmenter, found, each_member=True, fast=fast, distances=hd95, progress=progress
        ):
            scores += result.scores
    several = len({case.set for case in found}) > 1
    outputs.show(scores, by or (["set"] if several else []), f"members of {chosen.name}")


@app.command()
def motion(
    figure: Annotated[Path, typer.Argument(metavar="FIGURE.png", help="Where to draw it.")],
    version: Annotated[
        str | None, typer.Option(help="Name of the version (default: the one in use).")
    ] = None,
    studies: Annotated[int, typer.Option(help="Phantom studies, each in four manners.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of the first study.", min=0)] = 900_000,
    fast: Fast = False,
    csv_output: Csv = None,
    summary_output: SummaryCsv = None,
    store: Store = None,
) -> None:
    """Show what motion costs a version: Dice of phantom slices by grade, each member and all.

    Rows are each member alone, their average, and it after post-processing,
    on the labelled slices at ED and ES; of each slice the structures it has.
    """
    from cinelabel.cli import terminal
    from cinelabel.evaluation.motion import grade_slices, motion_figure, motion_table, scores_of
    from cinelabel.segmentation import Segmenter

    outputs = _Outputs(csv_output, summary_output, None)
    outputs.require_writable({"FIGURE": figure})
    chosen = _open(store).load(version)
    with terminal.progress_bar("studies") as progress:
        slices = grade_slices(
            Segmenter(chosen), range(seed, seed + studies), fast=fast, progress=progress
        )
    title = f"{chosen.name} on {studies} phantom studies in four manners of breathing, ED and ES"
    motion_figure(figure, slices, title=title)
    terminal.print_table(motion_table(slices))
    outputs.show(scores_of(slices), ["grade"], title)


@dataclass(frozen=True)
class _Outputs:
    """Where scores go besides the terminal."""

    csv: Path | None
    summary: Path | None
    figure: Path | None

    def require_writable(self, others: Mapping[str, Path] | None = None) -> None:
        """Raise OutputError before long work whose result could not be kept."""
        from cinelabel.cli import terminal

        own = {"--csv": self.csv, "--summary": self.summary, "--figure": self.figure}
        terminal.require_writable({**own, **(others or {})})

    def show(self, scores: Sequence[Score], by: list[str], title: str) -> None:
        """Write what was asked for, and print the tables."""
        from cinelabel.cli import terminal
        from cinelabel.evaluation import report
        from cinelabel.evaluation.summary import summarise

        summaries = summarise(scores, by)
        if self.csv is not None:
            report.write_scores_csv(self.csv, scores)
        if self.summary is not None:
            report.write_summary_csv(self.summary, summaries)
        if self.figure is not None:
            from cinelabel.evaluation.boxes import scores_figure

            scores_figure(self.figure, scores, by=by[0] if by else None, title=title)
        for table in report.score_tables(scores, summaries):
            terminal.print_table(table)


def _labelled_cases(data: list[str], by: list[str] | None) -> list[Case]:
    """The labelled cases of `SET=FOLDER`s, which must have every grouping."""
    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError
    from cinelabel.datasets import cases
    from cinelabel.evaluation.groups import GROUPINGS, of_case

    pairs = [terminal.named_path(pair, "--data", "SET=FOLDER") for pair in data]
    found = [case for name, folder in pairs for case in cases(name, folder) if case.label]
    if not found:
        raise InputError("no labelled case is there", where=" ".join(data))
    names = [(case.set, case.name) for case in found]
    twice = next((case for case in found if names.count((case.set, case.name)) > 1), None)
    if twice is not None:
        raise InputError(f"{twice.set} has two cases {twice.name}", where=" ".join(data))
    for name in by or ():
        if name not in GROUPINGS:
            raise InputError(f"'{name}' is no grouping", remedy=f"Known are {', '.join(GROUPINGS)}")
        if not any(name in of_case(case).groups for case in found):
            raise InputError(f"no case of these data states its {name}", where=" ".join(data))
    return found


def _who() -> str:
    """The account of whoever runs the command; empty where the system cannot tell."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _pixels(preprocessing: Mapping[str, Any]) -> str:
    spacing = preprocessing.get("spacing_mm")
    return "the image's own pixels" if spacing is None else f"{spacing} mm pixels"


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
        empty: dict[str, Any] = {
            "created": "",
            "licence": "",
            "members": [],
            "metrics": {},
            "decision": None,
        }
        return row | empty | {"problem": str(error)}
    members = [{"name": m.name, "role": m.role, "parameters": m.parameters} for m in card.members]
    return row | {
        "created": card.created,
        "licence": card.licence,
        "members": members,
        "metrics": card.metrics,
        "decision": card.decision and card.decision["outcome"],
    }


def _scores(metrics: dict[str, Any]) -> str:
    """Validation Dice of each member in short, where the card has it."""
    lines = [
        " ".join(f"{name} {value:.3f}" for name, value in scores.get("dice", {}).items())
        for scores in metrics.get("validation", {}).values()
    ]
    return "; ".join(lines)
