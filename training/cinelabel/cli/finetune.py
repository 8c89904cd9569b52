"""`cinelabel finetune`: tune a model on labels, or compare the methods of doing so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinelabel.cli.train import EXIT_INTERRUPTED, Data, Threads, require_training, roots_of

if TYPE_CHECKING:
    from cinelabel.learning.comparison import ComparisonConfig
    from cinelabel.learning.corrections import Correction
    from cinelabel.learning.finetune import FinetuneResult

app = typer.Typer(
    help="Tune a model on labels, or compare the methods of doing so.", no_args_is_help=True
)

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.")]
Workspace = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that `cinelabel serve` keeps readers' labels in."),
]
Runs = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs.")]
PHANTOMS, CASES = "phantoms", "cases"
"""Beside the runs: phantom slices, and what was made of the cases of data sets."""


@app.command()
def run(
    config: Config,
    data: Data = None,
    workspace: Workspace = None,
    runs: Runs = Path("runs"),
    threads: Threads = None,
) -> None:
    """Fine-tune on readers' labels, or on data sets, and publish a candidate.

    A fifth of the patients is held out and tells how good the model is before
    and after: of a workspace, or of all data sets in the folder of the runs,
    the same for good. A stopped run goes on with the same command.
    """
    require_training()
    from cinelabel.learning import config as configuration
    from cinelabel.learning.comparison import of_sets
    from cinelabel.learning.corrections import hold_out
    from cinelabel.learning.finetune import State, finetune
    from cinelabel.learning.reporting import Reporter
    from cinelabel.learning.sides import hold_out_of_all
    from cinelabel.serving.train import LEARNING, PATIENTS

    values = configuration.read_yaml(config) | ({"threads": threads} if threads else {})
    settings = configuration.parse_finetuning(values, config)
    folder = runs / settings.name
    with Reporter() as reporter:

        def report(state: State) -> None:
            if state.total:
                reporter.progress(state.done, state.total, state.stage)

        _require_one(data, workspace)
        if workspace is None:
            source = of_sets(roots_of(data), runs / CASES)
            corrections = source.corrections(source.cases, reporter.progress)
        else:
            corrections = _readers_labels(workspace, reporter.note)
        patients = {correction.patient for correction in corrections}
        if workspace is None:
            held_out = hold_out_of_all(runs / PATIENTS, folder, patients)
        else:
            held_out = hold_out(workspace / LEARNING / PATIENTS, patients)
        done = finetune(
            settings, folder, corrections, held_out, cache=runs / PHANTOMS, report=report
        )
    if done.version is None:
        raise typer.Exit(EXIT_INTERRUPTED)
    _tell(done)


@app.command()
def compare(
    config: Config,
    data: Data = None,
    workspace: Workspace = None,
    runs: Runs = Path("runs"),
    threads: Threads = None,
) -> None:
    """Compare methods of fine-tuning over seeds, on whole studies of test patients.

    Prints Dice, PPV and sensitivity, the median of the seeds; DIR/NAME gets
    every seed and case as CSV, and figures. A stopped comparison goes on with
    the same command; what is finished is not run again.
    """
    require_training()
    from cinelabel.cli import terminal
    from cinelabel.evaluation.comparison import Stopped
    from cinelabel.evaluation.comparison import compare as compare_methods
    from cinelabel.evaluation.comparison_report import comparison_table, write_report
    from cinelabel.learning.comparison import begin, load, of_labels, of_sets
    from cinelabel.learning.loop import Interruption
    from cinelabel.learning.reporting import Reporter

    settings = _with_threads(load(config), threads)
    folder, interruption = runs / settings.name, Interruption()
    told: list[str] = []
    with Reporter() as reporter, interruption.watched():

        def progress(done: float, total: int, what: str) -> None:
            if what not in told:
                told.append(what)
                reporter.note(what)
            reporter.progress(round(100 * done), 100 * total, "runs in hundredths")

        _require_one(data, workspace)
        if workspace is None:
            source = of_sets(roots_of(data), runs / CASES)
        else:
            source = of_labels(_readers_labels(workspace, reporter.note))
        begun = begin(settings, folder, source, cache=runs / PHANTOMS, progress=reporter.progress)
        for problem in begun.problems:
            reporter.note(problem)
        try:
            result = compare_methods(begun, progress=progress, stop=lambda: interruption.requested)
        except Stopped:
            raise typer.Exit(EXIT_INTERRUPTED) from None
    written = write_report(folder, begun, result)
    terminal.print_table(comparison_table(begun, result))
    typer.echo(f"written to {folder}: {', '.join(path.name for path in written)}")


def _require_one(data: list[str] | None, workspace: Path | None) -> None:
    from cinelabel.core.errors import InputError

    if (workspace is None) == (not data):
        raise InputError("give either --data SET=DIR or --workspace DIR")


def _readers_labels(workspace: Path, note: Callable[[str], None]) -> list[Correction]:
    """Those of a workspace; `note` is told what is left out."""
    from cinelabel.core.errors import InputError
    from cinelabel.serving.train import corrections_in

    problems: list[str] = []
    corrections = corrections_in(workspace, problems)
    for problem in problems:
        note(problem)
    if not corrections:
        raise InputError("readers have submitted no label yet", where=workspace)
    return corrections


def _with_threads(config: ComparisonConfig, threads: int | None) -> ComparisonConfig:
    shared = config.shared | ({"threads": threads} if threads else {})
    return config.model_copy(update={"shared": shared})


def _tell(done: FinetuneResult) -> None:
    for name, scores in (("before", done.before), ("after", done.after)):
        if scores:
            dice = ", ".join(f"{structure} {value:.3f}" for structure, value in scores.items())
            typer.echo(f"held-out Dice {name}: {dice}")
    typer.echo(f"{done.version}: {done.step} steps; the run is in {done.run}")
    typer.echo(f"by the rules of the server: {done.outcome}. {' '.join(done.reasons)}")
    if done.outcome != "reject":
        typer.echo(f"put it in use with: cinelabel models use {done.version}")
