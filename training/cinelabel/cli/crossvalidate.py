"""`cinelabel crossvalidate`: a run for each fold of patients, and Dice on those it held out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinelabel.cli.train import (
    EXIT_INTERRUPTED,
    Data,
    Threads,
    is_first_process,
    require_training,
    roots_of,
)

if TYPE_CHECKING:
    from cinelabel.evaluation.metrics import Score
    from cinelabel.learning.config import TrainConfig


def crossvalidate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the training.")],
    data: Data = None,
    folds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of the folds (default: data.folds of CONFIG)."),
    ] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Only this fold, counted from 0; several if wanted."),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs.")] = Path("runs"),
    locator: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Model version that finds the heart in the held-out."),
    ] = None,
    hd95: Annotated[
        bool, typer.Option("--hd95", help="Also HD95 and ASSD, which takes longer.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Train one run a fold and score each on the whole studies of the patients it held out.

    The runs are DIR/NAME-fold0 and so on; a stopped one goes on, finished ones
    are skipped. For the scores each run is used as it would be if published:
    the locator finds the heart, predictions are mirrored, averaged and
    post-processed. They go to DIR/NAME-crossvalidation.csv and .json, too; those of
    single folds to DIR/NAME-fold0-crossvalidation.csv and so on.
    """
    require_training()
    from cinelabel.learning import config as configuration
    from cinelabel.learning.crossvalidation import fold_configs, train_folds

    settings = configuration.load(config, roots=roots_of(data), threads=threads)
    configs = _chosen(fold_configs(settings, folds), fold)
    for result in train_folds(configs, runs):
        if not result.finished:
            raise typer.Exit(EXIT_INTERRUPTED)
    if is_first_process() and settings.data.task == "segmenter":
        scores = _held_out_scores(configs, runs, locator, hd95)
        part = f"-fold{'-'.join(str(c.data.fold) for c in configs)}" if fold else ""
        _report(scores, runs / f"{settings.name}{part}-crossvalidation")


def _chosen(configs: list[TrainConfig], numbers: list[int] | None) -> list[TrainConfig]:
    from cinelabel.core.errors import InputError

    wanted = sorted(set(numbers or range(len(configs))))
    if wanted[-1] >= len(configs):
        raise InputError(
            f"there is no fold {wanted[-1]}, they count from 0 to {len(configs) - 1}",
            where="--fold",
        )
    return [configs[number] for number in wanted]


def _held_out_scores(
    configs: Sequence[TrainConfig], runs: Path, locator: str | None, distances: bool
) -> list[Score]:
    """Scores of the cases that each fold held out, the fold being one of their groups."""
    from cinelabel.cli import terminal
    from cinelabel.evaluation.runs import segment_cases
    from cinelabel.learning.crossvalidation import held_out
    from cinelabel.learning.publication import publish_runs
    from cinelabel.models.store import BUNDLED, ModelStore
    from cinelabel.segmentation import Segmenter

    finder = ModelStore().load(locator or BUNDLED)
    scores: list[Score] = []
    with tempfile.TemporaryDirectory() as folder, terminal.progress_bar("scoring") as progress:
        store = ModelStore(Path(folder))
        for config in configs:
            version = publish_runs(store, config.name, [runs / config.name], locator=finder)
            cases = held_out(config)
            for found in segment_cases(
                Segmenter(version), cases, distances=distances, progress=progress
            ):
                scores += [
                    replace(score, groups={**score.groups, "fold": str(config.data.fold)})
                    for score in found.scores
                ]
    return scores


def _report(scores: Sequence[Score], target: Path) -> None:
    from cinelabel.cli import terminal
    from cinelabel.core.files import write_json
    from cinelabel.evaluation import report
    from cinelabel.evaluation.summary import summarise

    summaries = summarise(scores, ["fold"])
    report.write_scores_csv(target.with_name(f"{target.name}.csv"), scores)
    write_json(target.with_name(f"{target.name}.json"), report.scores_as_dict(scores, summaries))
    terminal.print_table(report.summary_table(summaries))
    terminal.print_table(report.summary_table(summaries, penalised=True))
    typer.echo(f"every case is in {target}.csv, every figure in {target}.json")
