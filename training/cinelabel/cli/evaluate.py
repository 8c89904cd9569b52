"""`cinelabel evaluate`: Dice, HD95 and ASSD of labels, of one or several methods, by group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinelabel.core.errors import InputError

if TYPE_CHECKING:
    from cinelabel.core.labels import Structure
    from cinelabel.evaluation.groups import Membership
    from cinelabel.evaluation.metrics import Score

Pair = tuple[str, Path, Path]
"""A case: its name, the prediction and the reference."""


def evaluate(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED", help="A label file, or a folder of them.")
    ],
    reference: Annotated[
        Path,
        typer.Argument(metavar="REF", help="The reference, or a folder with files of equal names."),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PRED",
            help="Labels of another method on the same cases; can be given several times.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the first method (default: that of PRED).")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Columns case, patient, and any others to break down by."
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Break down by phase or a column of --groups; several times if wanted."),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(help="LV, MYO or RV; can be given several times (default: all)."),
    ] = None,
    labelled_frames: Annotated[
        bool,
        typer.Option("--labelled-frames", help="Score only frames the reference labels (4D)."),
    ] = False,
    reference_labels: Annotated[
        str, typer.Option(help="Label values of the reference: canonical, acdc, mnms, ...")
    ] = "canonical",
    dice_only: Annotated[
        bool, typer.Option("--dice-only", help="Leave out the distances, which need MONAI.")
    ] = False,
    csv_output: Annotated[
        Path | None, typer.Option("--csv", help="Write one row a method, case and structure.")
    ] = None,
    summary_output: Annotated[
        Path | None,
        typer.Option("--summary", help="Write means and intervals as CSV, one figure a row."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw box plots as PNG, by the first --by if there is one."),
    ] = None,
    json_output: Annotated[
        Path | None,
        typer.Option("--json", help="Write cases and summary to this file; - for the terminal."),
    ] = None,
) -> None:
    """Compare labels with references: Dice, HD95 and average surface distance in mm.

    A row a method (and group) with mean, deviation and a 95 % bootstrap
    interval over patients; average surface distances are in the files alone.
    Names like P1_ED, P1_ES and P1__t03 are one patient, P1, unless --groups
    says otherwise.

    A structure that is empty on one or both sides is counted and left out
    of the mean; a second table scores it with Dice 0 and the image diagonal
    where exactly one side is empty.
    """
    from cinelabel.cli import terminal
    from cinelabel.evaluation import report
    from cinelabel.evaluation.summary import summarise

    to_terminal = json_output is not None and str(json_output) == "-"
    json_file = None if to_terminal else json_output
    pairs = {m: _pairs(path, reference) for m, path in _methods(name, prediction, against).items()}
    inputs = [path for cases in pairs.values() for _, *files in cases for path in files]
    outputs = {"--csv": csv_output, "--summary": summary_output, "--json": json_file}
    terminal.require_writable({**outputs, "--figure": figure}, (*inputs, *filter(None, [groups])))
    told = _memberships(
        list(dict.fromkeys(c for cases in pairs.values() for c, *_ in cases)), groups
    )
    _require_groupings(by or [], told)
    found = _score(pairs, _structures(structure), reference_labels, labelled_frames, not dice_only)
    if not found:
        raise InputError("no frame of the reference is labelled", where=reference)
    scores = [
        replace(score, patient=told[score.case].patient, groups=told[score.case].groups)
        for score in found
    ]
    summaries = summarise(scores, by or [])
    if csv_output is not None:
        report.write_scores_csv(csv_output, scores)
    if summary_output is not None:
        report.write_summary_csv(summary_output, summaries)
    if figure is not None:
        from cinelabel.evaluation.boxes import scores_figure

        scores_figure(figure, scores, by=by[0] if by else None, title=f"against {reference.name}")
    record = report.scores_as_dict(scores, summaries)
    if json_file is not None:
        from cinelabel.core.files import write_json

        write_json(json_file, record)
    if to_terminal:
        terminal.print_json(record)
    else:
        for table in report.score_tables(scores, summaries):
            terminal.print_table(table)


def _methods(name: str | None, prediction: Path, against: list[str] | None) -> dict[str, Path]:
    """The predictions by the name of their method."""
    from cinelabel.cli import terminal
    from cinelabel.evaluation.metrics import stem

    methods = {name or stem(prediction.resolve()): prediction}
    for pair in against or ():
        other, path = terminal.named_path(pair, "--against", "NAME=PRED")
        if other in methods:
            raise InputError(
                f"two methods are called '{other}'", remedy="Name them apart, the first by --name"
            )
        methods[other] = path
    return methods


def _score(
    pairs: dict[str, list[Pair]],
    structures: tuple[Structure, ...],
    reference_labels: str,
    labelled_frames: bool,
    distances: bool,
) -> list[Score]:
    from cinelabel.cli import terminal
    from cinelabel.datasets import label_map
    from cinelabel.evaluation.metrics import score_files

    convention = label_map(reference_labels)
    jobs = [(method, *pair) for method, cases in pairs.items() for pair in cases]
    scores: list[Score] = []
    with terminal.progress_bar("scoring") as progress:
        for number, (method, case, predicted, truth) in enumerate(jobs):
            found = score_files(
                predicted,
                truth,
                case=case,
                structures=structures,
                reference_map=convention,
                labelled_frames_only=labelled_frames,
                distances=distances,
            )
            scores += [replace(score, method=method) for score in found]
            if progress is not None:
                progress(number + 1, len(jobs), case)
    return scores


def _memberships(cases: list[str], table: Path | None) -> dict[str, Membership]:
    """Patient and groups of each case: of the table, or of the names where there is none."""
    from cinelabel.evaluation.groups import of_name, read_groups

    if table is None:
        return {case: of_name(case) for case in cases}
    known = read_groups(table)
    lacking = [case for case in cases if case not in known]
    if lacking:
        shown = ", ".join(lacking[:8]) + (" and more" if len(lacking) > 8 else "")
        raise InputError(f"has no row for {shown}", where=table)
    return known


def _require_groupings(by: list[str], told: dict[str, Membership]) -> None:
    there = list(dict.fromkeys(name for member in told.values() for name in member.groups))
    for name in by:
        if name not in there:
            remedy = f"Known are {', '.join(there)}" if there else "Give a table with --groups"
            raise InputError(f"no case has a '{name}' to break down by", remedy=remedy)


def _structures(names: list[str] | None) -> tuple[Structure, ...]:
    from cinelabel.core.labels import STRUCTURES

    if not names:
        return STRUCTURES
    known = {structure.name: structure for structure in STRUCTURES}
    for name in names:
        if name.upper() not in known:
            raise InputError(
                f"there is no structure '{name}'", remedy=f"Known are {', '.join(known)}"
            )
    wanted = {name.upper() for name in names}
    return tuple(structure for structure in STRUCTURES if structure.name in wanted)


def _pairs(prediction: Path, reference: Path) -> list[Pair]:
    from cinelabel.cli import terminal
    from cinelabel.evaluation import metrics

    for path in (prediction, reference):
        terminal.require_exists(path)
    if prediction.is_dir() != reference.is_dir():
        raise InputError(
            f"cannot be compared with {reference}: one is a folder, the other a file",
            where=prediction,
            remedy="Give two files or two folders",
        )
    if prediction.is_dir():
        return metrics.match_folders(prediction, reference)
    return [(metrics.stem(reference), prediction, reference)]
