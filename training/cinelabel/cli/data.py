"""`cinelabel data`: check, split, fuse and export the public data sets on disk."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from cinelabel.datasets import Case
    from cinelabel.datasets.check import Report
    from cinelabel.evaluation.sheet import Row
    from cinelabel.studies.study import Study

app = typer.Typer(
    help="Check, split, fuse and export the public data sets on disk.", no_args_is_help=True
)

SETS = "acdc, mnms, mnms2, myops, mscmrseg, cmrxmotion, sunnybrook, phantom"
SHEET_ROWS = 12
"""Cases on a sheet, spread evenly over the set."""

Sets = Annotated[
    list[str],
    typer.Option("--set", metavar="SET=ROOT", help=f"A set and its folder; sets: {SETS}."),
]
Seed = Annotated[int, typer.Option(help="Decides who is held out when.")]
FoldNumber = Annotated[int, typer.Option("--folds", min=2, help="Number of folds.")]


class Balance(str, Enum):
    """How the share of draws of a set grows with its size."""

    pooled = "pooled"
    root = "root"
    equal = "equal"


class WhichTable(str, Enum):
    """Which cases of the sets are fused."""

    paper = "paper"
    all_labelled = "all-labelled"


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="SET", help=f"One of {SETS}.")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the unpacked set.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Draw overlays of some cases to this PNG.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="List the files without opening them.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table.")
    ] = False,
) -> None:
    """Tell what a folder holds of a data set, what is missing and what cannot be used.

    Every image and label is opened. Exit code 2 if a case cannot be used;
    what is merely missing is no error.
    """
    from cinelabel import datasets
    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError
    from cinelabel.datasets.check import check as look

    if sheet is not None:
        terminal.require_suffix(sheet, (".png",), "a picture")
        if quick:
            raise InputError("a sheet needs the files opened", remedy="Leave out --quick")
    terminal.require_writable({"--sheet": sheet})
    wanted = _spread(datasets.cases(name, root)) if sheet is not None else set()
    rows: list[Row] = []

    def visit(case: Case, study: Study, labels: np.ndarray | None) -> None:
        if case.name in wanted:
            from cinelabel.evaluation.sheet import sheet_row

            rows.append(sheet_row(case.name, study, labels))

    with terminal.progress_bar("opening") as progress:
        report = look(name, root, open_files=not quick, progress=progress, visit=visit)
    if sheet is not None and rows:
        from cinelabel.evaluation.sheet import sheet_figure

        sheet_figure(sheet, rows, title=f"{datasets.label_map(name).name}, {len(rows)} cases")
    if json_output:
        terminal.print_json(report.as_dict())
    else:
        terminal.print_table(_report_table(report))
    if report.problems:
        raise InputError(
            f"{len(report.problems)} of {len(report.cases)} cases cannot be used",
            where=root,
            remedy="Copy or unpack these files again",
        )


@app.command()
def splits(
    output: Annotated[Path, typer.Argument(metavar="FILE.json", help="File of the folds.")],
    sets: Sets,
    folds: FoldNumber = 5,
    seed: Seed = 12345,
) -> None:
    """Deal the labelled patients of sets to folds and keep them in a file that runs read.

    A file that is there is not replaced: it must hold these very folds.
    """
    from rich.table import Table

    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError, OutputError
    from cinelabel.datasets.folds import make_folds, read_folds, write_folds

    terminal.require_suffix(output, (".json",), "a file of folds")
    terminal.require_writable({"FILE": output})
    found = [case for case in _cases(sets) if case.label is not None]
    if not found:
        raise InputError("no case has a label")
    dealt = make_folds(found, folds, seed)
    if output.exists():
        there = read_folds(output)
        there.require_same(found)
        if (there.patients, there.seed) != (dealt.patients, dealt.seed):
            raise OutputError(
                f"holds other folds ({len(there)}, seed {there.seed})",
                where=output,
                remedy="Name another file",
            )
    else:
        write_folds(output, dealt)
    names = sorted({case.set for case in found})
    table = Table("fold", *(f"{name}: patients, cases" for name in names), title=str(output))
    for number in range(folds):
        _, held_out = dealt.split(found, number)
        patients = Counter(group.partition("/")[0] for group in {case.group for case in held_out})
        cases = Counter(case.set for case in held_out)
        table.add_row(str(number), *(f"{patients[name]}, {cases[name]}" for name in names))
    terminal.print_table(table)


@app.command()
def fusion(
    sets: Sets,
    which: Annotated[
        WhichTable, typer.Option("--table", help="Table 1 as printed, or all of ACDC with it.")
    ] = WhichTable.paper,
    balance: Annotated[
        Balance, typer.Option(help="Share of draws of a set: by its size, its root, or equal.")
    ] = Balance.pooled,
    partial: Annotated[
        bool, typer.Option("--partial", help="Allow missing sets and cases.")
    ] = False,
) -> None:
    """Show what pre-training takes from which set, and how often each is drawn."""
    from rich.table import Table

    from cinelabel.cli import terminal
    from cinelabel.datasets.fusion import TABLES, fuse
    from cinelabel.datasets.fusion import Balance as Weighing

    declared = TABLES[which.value]
    fused = fuse(
        dict(_set_and_root(pair) for pair in sets),
        declared,
        balance=Weighing(balance.value),
        partial=partial,
    )
    counts = Counter(case.set for case in fused.cases)
    table = Table("set", "stacks", "of", "share of draws", "takes")
    for source in declared:
        share = f"{fused.weights[source.set]:.3f}" if source.set in fused.weights else "-"
        stacks = str(counts[source.set])
        table.add_row(source.set, stacks, str(source.stacks), share, source.takes)
    terminal.print_table(table)
    for sentence in fused.missing:
        terminal.note(f"missing, {sentence}")


@app.command()
def export(
    nnunet: Annotated[
        Path,
        typer.Option("--nnunet", metavar="OUT", help="New folder, named DatasetNNN_Name."),
    ],
    sets: Sets,
    folds: FoldNumber = 5,
    seed: Seed = 12345,
) -> None:
    """Write sets in the raw format of nnU-Net v2, with folds by patient.

    Labels are 1 LV, 2 MYO, 3 RV; images without a label go to imagesTs. An
    export that was interrupted goes on.
    """
    from cinelabel.cli import terminal
    from cinelabel.datasets.nnunet import export as write

    found = _cases(sets)
    with terminal.progress_bar("writing") as progress:
        done = write(nnunet, found, folds=folds, seed=seed, progress=progress)
    typer.echo(f"{done.folder}: {len(done.training)} labelled cases, {len(done.test)} images only")
    if done.left_out:
        terminal.note(f"{len(done.left_out)} cines without known ED and ES were left out")


def _set_and_root(pair: str) -> tuple[str, Path]:
    from cinelabel.core.errors import InputError

    name, equals, folder = pair.partition("=")
    if not equals or not folder:
        raise InputError(f"'{pair}' is not SET=ROOT", remedy="For example --set acdc=database")
    return name, Path(folder)


def _cases(pairs: list[str]) -> list[Case]:
    """The cases of all sets; a set that is given twice is an error."""
    from cinelabel import datasets
    from cinelabel.core.errors import InputError

    roots = [_set_and_root(pair) for pair in pairs]
    for name, times in Counter(name for name, _ in roots).items():
        if times > 1:
            raise InputError(
                f"the set {name} is given {times} times",
                remedy="Give the one folder that holds all of it",
            )
    return [case for name, root in roots for case in datasets.cases(name, root)]


def _spread(cases: list[Case]) -> set[str]:
    """Names of cases spread evenly over the set, labelled ones where there are any."""
    names = [case.name for case in cases if case.label is not None]
    names = names or [case.name for case in cases]
    step = max(1.0, len(names) / SHEET_ROWS)
    return {names[int(k * step)] for k in range(min(SHEET_ROWS, len(names)))}


def _report_table(report: Report) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{report.set} in {escape(str(report.root))}", show_header=False)
    phases = Counter(case.phase for case in report.cases)
    table.add_row("patients", str(report.patients))
    table.add_row("cases", f"{len(report.cases)} ({_counted(phases)})")
    table.add_row("with a label", str(report.labelled))
    if report.findings:
        for axis, what in ((0, "pixel in mm"), (2, "slice step in mm")):
            values = [finding.spacing[axis] for finding in report.findings]
            table.add_row(what, f"{min(values):.2f} to {max(values):.2f}")
        slices = [finding.shape[2] for finding in report.findings]
        table.add_row("slices", f"{min(slices)} to {max(slices)}")
    for key, counts in report.details().items():
        table.add_row(escape(key), escape(_counted(counts)))
    for sentence in report.remarks:
        table.add_row("note", escape(sentence))
    for sentence in report.missing:
        table.add_row("missing", escape(sentence))
    for case, problem in report.problems.items():
        table.add_row("cannot be used", escape(f"{case}: {problem}"))
    if not report.missing and not report.problems:
        table.add_row("missing", "nothing that is known of")
    return table


def _counted(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{count} {value}" for value, count in counts.items())
