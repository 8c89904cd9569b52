"""`cinelabel evaluate`: Dice and HD95 of labels against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinelabel.core.errors import InputError

if TYPE_CHECKING:
    from cinelabel.core.labels import Structure
    from cinelabel.evaluation.metrics import Score


def evaluate(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED", help="A label file, or a folder of them.")
    ],
    reference: Annotated[
        Path,
        typer.Argument(metavar="REF", help="The reference, or a folder with files of equal names."),
    ],
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
        Path | None, typer.Option("--csv", help="Write one row a case and structure.")
    ] = None,
    json_output: Annotated[
        Path | None,
        typer.Option("--json", help="Write cases and summary to this file; - for the terminal."),
    ] = None,
) -> None:
    """Compare labels with references: Dice, HD95 and average surface distance in mm.

    A structure that is empty on one or both sides is counted and left out
    of the mean; a second, penalised figure scores it with Dice 0 and the
    image diagonal where exactly one side is empty.
    """
    from cinelabel.cli import terminal
    from cinelabel.evaluation import metrics, report

    to_terminal = json_output is not None and str(json_output) == "-"
    json_file = None if to_terminal else json_output
    structures = _structures(structure)
    pairs = _pairs(prediction, reference)
    terminal.require_writable(
        {"--csv": csv_output, "--json": json_file},
        tuple(path for _, *files in pairs for path in files),
    )
    from cinelabel.datasets import label_map

    scores: list[Score] = []
    convention = label_map(reference_labels)
    with terminal.progress_bar("scoring") as progress:
        for number, (case, predicted, truth) in enumerate(pairs):
            scores += metrics.score_files(
                predicted,
                truth,
                case=case,
                structures=structures,
                reference_map=convention,
                labelled_frames_only=labelled_frames,
                distances=not dice_only,
            )
            if progress is not None:
                progress(number + 1, len(pairs), case)
    if not scores:
        raise InputError("no frame of the reference is labelled", where=reference)
    if csv_output is not None:
        report.write_scores_csv(csv_output, scores)
    if json_file is not None:
        from cinelabel.core.files import write_json

        write_json(json_file, report.scores_as_dict(scores))
    if to_terminal:
        terminal.print_json(report.scores_as_dict(scores))
    else:
        terminal.print_table(report.cases_table(scores))
        terminal.print_table(report.summary_table(metrics.summarise(scores)))


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


def _pairs(prediction: Path, reference: Path) -> list[tuple[str, Path, Path]]:
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
    return [(metrics.stem(prediction), prediction, reference)]
