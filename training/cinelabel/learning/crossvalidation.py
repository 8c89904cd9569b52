"""Cross-validation: one run a fold of patients, each holding its fold out (Gong et al. 2022, 3).

The folds are those of a file that `cinelabel data splits` writes. Fold 0 of the run NAME is the run
`NAME-fold0`, as resumable as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cinelabel.core.errors import RunError
from cinelabel.datasets import Case
from cinelabel.datasets.folds import read_folds
from cinelabel.learning.config import TrainConfig, parse
from cinelabel.learning.data import fused, hold_out
from cinelabel.learning.reporting import Reporter
from cinelabel.learning.supervised import TrainResult, train


def fold_configs(config: TrainConfig, folds: Path | None = None) -> list[TrainConfig]:
    """The configuration of each fold's run.

    Args:
        config: of a run on public sets.
        folds: file of the folds, instead of that of the configuration.

    Raises:
        RunError: for a run on phantoms, or without folds.
        InputError: for folds that share a patient or are of other patients than the data.
    """
    file = folds or config.data.folds
    if config.data.source != "sets" or file is None:
        raise RunError(
            "a cross-validation needs public sets and folds of their patients",
            where=config.name,
            remedy="Set data.source to 'sets', and data.folds or --folds to the file that "
            "'cinelabel data splits' writes",
        )
    dealt = read_folds(file)
    dealt.require_same(fused(config.data).cases)
    return [_of_fold(config, file, fold) for fold in range(len(dealt))]


def _of_fold(config: TrainConfig, folds: Path, fold: int) -> TrainConfig:
    values = config.model_dump(mode="json")
    values["name"] = f"{config.name}-fold{fold}"
    values["data"] |= {"folds": str(folds), "fold": fold}
    return parse(values, config.name)


def train_folds(
    configs: Sequence[TrainConfig], runs: Path, reporter: Reporter | None = None
) -> Iterator[TrainResult]:
    """Train each fold in `runs/NAME-foldK`, one after the other; finished ones are skipped.

    The last result is one that is not finished if an interruption was asked for. Raises as `train`.
    """
    for config in configs:
        result = train(config, runs / config.name, reporter=reporter)
        yield result
        if not result.finished:
            return


def held_out(config: TrainConfig) -> list[Case]:
    """The cases that the run of a fold has not learned from."""
    return hold_out(fused(config.data).cases, config.data)[1]
