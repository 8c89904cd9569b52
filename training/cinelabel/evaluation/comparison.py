"""Methods of fine-tuning compared on whole studies of test patients (Chen et al. 2022, MetaLR).

Every run of a `learning.comparison` is trained and then segments whole studies as a user would get
them: its member with the locator and post-processing. Which layers a searched row keeps is chosen
by the mean Dice of the validation patients; the test patients are scored once that is done.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.core.files import write_json
from cinelabel.evaluation.metrics import Score
from cinelabel.evaluation.runs import segment_case
from cinelabel.evaluation.summary import structure_names
from cinelabel.learning.comparison import TEST, VALIDATION, Comparison, Layers
from cinelabel.learning.config import FinetuneConfig
from cinelabel.learning.finetune import State, Trained
from cinelabel.learning.publication import publish_alone
from cinelabel.models.store import ModelStore
from cinelabel.segmentation import Segmenter

BEFORE = "before"
"""The row of the member as it was."""
FIGURES: Mapping[str, str] = {
    "Dice": "penalised_dice",
    "PPV": "penalised_ppv",
    "sensitivity": "penalised_sensitivity",
}
"""What is compared: attributes of `Score`; a structure that one side alone has counts as 0."""
Progress = Callable[[float, int, str], None]
"""Told runs done, runs in all, and what is done now."""


class Stopped(Exception):
    """Asked to stop; finished runs and checkpoints are kept."""


@dataclass(frozen=True)
class Outcome:
    """A row with one seed: the layers it keeps, what training took, and its scores.

    `run` is None for the member as it was.
    """

    row: str
    seed: int | None
    frozen: Layers | None
    steps: int
    seconds: float
    scores: tuple[Score, ...]
    run: Path | None

    def figure(self, name: str, structure: str | None = None) -> float | None:
        """Mean of one of `FIGURES` over the cases: of a structure, or of the means of all."""
        if structure is None:
            means = [self.figure(name, other) for other in structure_names(self.scores)]
            found = [mean for mean in means if mean is not None]
        else:
            own = [s for s in self.scores if s.structure == structure]
            found = [v for s in own if (v := getattr(s, FIGURES[name])) is not None]
        return float(np.mean(found)) if found else None


@dataclass(frozen=True)
class Search:
    """The search of a row: layers that may stay -> mean Dice of the validation patients."""

    row: str
    depth: int
    dice: Mapping[Layers, float]

    @property
    def chosen(self) -> Layers:
        """The layers with the highest; of equals the fewest."""
        return max(self.dice, key=lambda kept: (self.dice[kept], kept[0] - kept[1]))


@dataclass(frozen=True)
class Result:
    """All outcomes, the rows in their order after `BEFORE`, and the searches."""

    outcomes: Sequence[Outcome]
    searches: Sequence[Search]

    def of(self, row: str) -> list[Outcome]:
        """A row's outcomes, a seed each."""
        return [outcome for outcome in self.outcomes if outcome.row == row]


def compare(
    comparison: Comparison,
    *,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train and score all there is to; what is finished is read.

    Args:
        comparison: that has begun.
        progress: told how far it is.
        stop: asked after every step and case.

    Raises:
        Stopped: asked to stop.
        RunError, ModelError, InputError, OutputError: as of training and segmenting.
    """
    work = _Work(comparison, progress or (lambda done, total, what: None), stop)
    config = comparison.config
    searches = [work.search(row) for row in config.methods if config.searches(row)]
    chosen = {search.row: search.chosen for search in searches}
    outcomes = [work.before()]
    for row in config.methods:
        outcomes += [work.outcome(row, seed, chosen.get(row)) for seed in config.seeds]
    return Result(outcomes, searches)


class _Work:
    """Runs and scores one after another, and how many of them are done."""

    def __init__(
        self, comparison: Comparison, progress: Progress, stop: Callable[[], bool]
    ) -> None:
        self._comparison, self._progress, self._stop = comparison, progress, stop
        config = comparison.config
        tries = [len(comparison.settings(row)) for row in config.methods if config.searches(row)]
        self._total = 1 + sum(tries) + len(config.methods) * len(config.seeds)
        self._done = 0

    def search(self, row: str) -> Search:
        """Try every choice of layers with the first seed."""
        comparison, config = self._comparison, self._comparison.config
        dice: dict[Layers, float] = {}
        for kept in comparison.settings(row):
            run = config.run(row, config.seeds[0], kept, config.search_steps)
            tried = self._finished(row, run, VALIDATION)
            dice[kept] = tried.figure("Dice") or 0.0
        return Search(row, comparison.depth(run), dice)

    def outcome(self, row: str, seed: int, kept: Layers | None) -> Outcome:
        """Train a row with a seed and score the test patients."""
        return self._finished(row, self._comparison.config.run(row, seed, kept), TEST)

    def before(self) -> Outcome:
        """Score the member as it is."""
        file = self._comparison.folder / f"before-{self._how}"
        scores = self._scores(file, TEST, BEFORE, None)
        self._done += 1
        return Outcome(BEFORE, None, None, 0, 0.0, scores, None)

    def _finished(self, row: str, run: FinetuneConfig, side: str) -> Outcome:
        what = f"{row}, seed {run.seed}"
        if run.frozen:
            what += f", layers {run.frozen[0]} to {run.frozen[1]} stay"

        def report(state: State) -> None:
            share = max(state.done / run.steps, state.seconds / (60 * run.minutes))
            learning = state.stage == "learning"
            self._progress(self._done + min(share, 1.0) * learning, self._total, what)

        self._progress(self._done, self._total, what)
        trained = self._comparison.train(run, report, self._stop)
        if trained is None:
            raise Stopped
        path = self._comparison.path(run)
        scores = self._scores(path / f"{side}-{self._how}", side, row, trained)
        self._done += 1
        self._progress(self._done, self._total, what)
        taken = trained.steps, round(trained.seconds, 1)
        return Outcome(row, run.seed, run.frozen, *taken, scores, path)

    @property
    def _how(self) -> str:
        """The end of the names of files of scores."""
        return "fast.json" if self._comparison.config.fast else "scores.json"

    def _scores(
        self, file: Path, side: str, row: str, trained: Trained | None
    ) -> tuple[Score, ...]:
        """Scores of a side's cases: those in the file, or made now and kept there."""
        if not file.exists():
            with self._segmenter(trained) as segmenter:
                write_json(file, [asdict(score) for score in self._segment(segmenter, side)])
        return tuple(Score(**{**values, "method": row}) for values in _read(file))

    @contextmanager
    def _segmenter(self, trained: Trained | None) -> Iterator[Segmenter]:
        """The tuned member, or the member as it is, as users would get it."""
        member = self._comparison.member
        with tempfile.TemporaryDirectory(prefix="cinelabel-") as folder:
            store = ModelStore(Path(folder), bundled=Path(folder) / "none")
            weights = trained.weights if trained else None
            yield Segmenter(
                publish_alone(store, "tuned", member.version, member.card.name, weights)
            )

    def _segment(self, segmenter: Segmenter, side: str) -> list[Score]:
        found: list[Score] = []
        for case in self._comparison.sides[side]:
            if self._stop():
                raise Stopped
            fast = self._comparison.config.fast
            found += segment_case(segmenter, case, fast=fast, distances=False).scores
        return found


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RunError(
            "the scores cannot be read", where=file, remedy="Delete the file; it is made again"
        ) from error
