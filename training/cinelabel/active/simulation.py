"""An annotator who corrects what a strategy chooses, from known truth; what a version gains by it.

Every slice that a strategy chooses gets its true labels, as a careful reader would give them. A
version is tuned on the first slices chosen, always from the same weights, and scored as a user
would get it on patients of whom nothing was corrected. Slices are chosen by the scores of the
version before tuning; a server computes them anew for each new version.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from cinelabel.active.plan import (
    ALL,
    BEFORE,
    Cell,
    CohortConfig,
    Fold,
    SimulationConfig,
    all_cells,
    make_folds,
    require_same,
)
from cinelabel.active.scores import FrameScores, Scorer, read_scores, write_scores
from cinelabel.active.strategies import STRATEGIES, Candidate
from cinelabel.core.errors import InputError, RunError
from cinelabel.core.files import output_error, write_json, write_text
from cinelabel.datasets import Case, cases, load_case
from cinelabel.evaluation.runs import segment_cases
from cinelabel.learning.case_files import fingerprint
from cinelabel.learning.cases import PreparedCase, join, prepare_case, select
from cinelabel.learning.corrections import Examples
from cinelabel.learning.depth import require_frozen
from cinelabel.learning.finetune import State, Trained, tune
from cinelabel.learning.tuned import Tuned
from cinelabel.models.store import ModelStore, ModelVersion
from cinelabel.networks.weights import set_weights
from cinelabel.phantom.breathing import Manner
from cinelabel.phantom.layouts import write_cohort
from cinelabel.segmentation import Segmenter

Progress = Callable[[int, int, str], None]
"""Told done, total, and what is done."""
Slice = tuple[str, int]
"""Name of a case (`image_name`) and index along z."""
CONFIG_FILE, SPLIT_FILE, FINGERPRINT_FILE = "config.yaml", "split.json", "fingerprints.json"
MANNERS: Mapping[str, Manner | None] = {
    "full": Manner.FULL_HOLD,
    "half": Manner.HALF_HOLD,
    "free": Manner.FREE,
    "intensive": Manner.INTENSIVE,
    "mixed": None,
}


@dataclass(frozen=True)
class CaseScore:
    """Dice of a structure in a case that was scored; 0 where it was missed or made up."""

    patient: str
    case: str
    structure: str
    dice: float


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        cell: which.
        slices, patients: corrected, and of how many patients.
        steps, seconds: of tuning, all members together.
        took_s: the whole cell.
        scores: of the test cases.
        rates: first and last learning rate of each member's layer groups.
        chosen: the slices corrected, in their order.
    """

    cell: Cell
    slices: int
    patients: int
    steps: int
    seconds: float
    took_s: float
    scores: tuple[CaseScore, ...]
    rates: Mapping[str, Any]
    chosen: tuple[Slice, ...]

    @classmethod
    def read(cls, file: Path) -> Result:
        """A result as kept in a file. Raises InputError for one that is damaged."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            values["cell"] = Cell(**values["cell"])
            values["scores"] = tuple(CaseScore(**score) for score in values["scores"])
            values["chosen"] = tuple((image, z) for image, z in values["chosen"])
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "is not the result of a cell", where=file, remedy="Remove it, to have it made anew"
            ) from error


@dataclass(frozen=True)
class Outcome:
    """The results there are, in the order of the cells, and how many cells there are in all."""

    results: tuple[Result, ...]
    cells: int

    @property
    def finished(self) -> bool:
        """Whether no cell is missing."""
        return len(self.results) == self.cells


def simulate(
    config: SimulationConfig,
    folder: Path,
    roots: Mapping[str, Path] | None = None,
    *,
    cache: Path,
    store: ModelStore | None = None,
    progress: Progress | None = None,
    finished: Callable[[Result, int, int, float | None], None] | None = None,
) -> Outcome:
    """Run all cells, or go on with those that are missing in a folder.

    Ctrl-C, and while a network learns SIGTERM, end it: finished cells stay, and the one under way
    goes on from its last checkpoint when called again.

    Args:
        config: of the simulation; `model` names a version.
        folder: of what it makes: cohort, scores, one file in `cells/` for each finished cell.
        roots: labelled data sets, set -> folder.
        cache: folder of phantom slices for replay, which runs share.
        store: of the models.
        progress: told of whatever takes long.
        finished: told of each new result, the cells done, all cells, and the seconds left if known.

    Raises:
        InputError: cases that cannot be read, or too few patients.
        RunError: another configuration, other cases or other labels than the simulation was begun
            with, a member that cannot be tuned slice by slice or has not the layers that a method
            freezes, or another process in the folder.
        ModelError: for an unknown version or member.
    """
    store = store or ModelStore()
    version = store.load(config.model)
    members = _members(config, version)
    tell = progress or (lambda done, total, what: None)
    with _alone(folder):
        require_same(folder / CONFIG_FILE, config)
        write_text(folder / CONFIG_FILE, config.to_yaml())
        frames = _cases(config.cohort, folder / "cohort", roots or {}, tell)
        folds = make_folds(config, frames)
        _require_same_split(folder / SPLIT_FILE, folds)
        _require_same_files(folder / FINGERPRINT_FILE, frames, tell)
        bench = _Bench(config, folder, members, frames, cache, tell)
        wanted = list(all_cells(config, folds))
        files = {cell: bench.file(cell) for cell in wanted}
        found = {cell: Result.read(file) for cell, file in files.items() if file.exists()}
        by_name = {fold.name: fold for fold in folds}
        with contextlib.suppress(KeyboardInterrupt):
            for cell in [cell for cell in wanted if cell not in found]:
                found[cell] = bench.run(cell, by_name[cell.fold])
                if finished is not None:
                    took = [r.took_s for c, r in found.items() if c.strategy != BEFORE]
                    left = (len(wanted) - len(found)) * float(np.mean(took)) if took else None
                    finished(found[cell], len(found), len(wanted), left)
        return Outcome(tuple(found[cell] for cell in wanted if cell in found), len(wanted))


def with_version(config: SimulationConfig, store: ModelStore | None = None) -> SimulationConfig:
    """The same with the version in use where it names none. Raises ModelError."""
    return config.model_copy(update={"model": (store or ModelStore()).load(config.model).name})


def choose_slices(
    candidates: Sequence[Candidate], strategy: str, budget: int, seed: int
) -> list[Slice]:
    """The slices that an annotator corrects, in order, if always shown what the strategy chooses.

    Fewer than `budget` where there are no more.
    """
    waiting = list(candidates)
    labelled: list[Candidate] = []
    chosen: list[Slice] = []
    for step in range(min(budget, len(waiting))):
        choice = STRATEGIES[strategy](waiting, labelled, seed * 1_000_003 + step)
        at = next(
            index
            for index, candidate in enumerate(waiting)
            if choice and (candidate.image, candidate.slice) == (choice.image, choice.slice)
        )
        labelled.append(waiting.pop(at))
        chosen.append((labelled[-1].image, int(labelled[-1].slice or 0)))
    return chosen


def image_name(case: Case) -> str:
    """Unique over data sets."""
    return f"{case.set}-{case.name}"


class _Bench:
    """What cells share: prepared windows, scores and choices, each made when first needed."""

    def __init__(
        self,
        config: SimulationConfig,
        folder: Path,
        members: Sequence[Tuned],
        frames: Sequence[Case],
        cache: Path,
        tell: Progress,
    ) -> None:
        self._config, self._folder, self._version = config, folder, members[0].version
        self._cache, self._tell = cache, tell
        self._members = {member.card.name: member for member in members}
        self._images = [image_name(case) for case in frames]
        self._numbers = {p: n for n, p in enumerate(sorted({case.group for case in frames}))}
        self._windows: dict[tuple[str, str], PreparedCase] = {}
        self._scores: dict[str, FrameScores] = {}
        self._chosen: dict[tuple[str, str, int], list[Slice]] = {}

    def file(self, cell: Cell) -> Path:
        """Of a cell's result."""
        return self._folder / "cells" / f"{cell.name}.json"

    def run(self, cell: Cell, fold: Fold) -> Result:
        """Choose, tune, score, and keep the result. Raises KeyboardInterrupt when asked to stop."""
        start = time.perf_counter()
        work = self._folder / "work" / cell.name
        chosen = self._choose(cell, fold)
        trained = self._tune(cell, fold, chosen, work) if chosen else {}
        segmenter = Segmenter(self._version, "cpu")
        for name, made in trained.items():
            segmenter.member(name).answer_by(TunedNetwork(self._version, name, made.weights))
        scores = score_cases(
            segmenter,
            fold.test,
            self._config.fast,
            lambda done, total, what: self._tell(done, total, f"{cell.name}: scoring"),
        )
        patients = {image_name(case): case.group for case in fold.pool}
        result = Result(
            cell=cell,
            slices=len(chosen),
            patients=len({patients[image] for image, _ in chosen}),
            steps=sum(made.steps for made in trained.values()),
            seconds=round(sum(made.seconds for made in trained.values()), 1),
            took_s=round(time.perf_counter() - start, 1),
            scores=scores,
            rates={name: _rates(work / name / "metrics.csv") for name in trained},
            chosen=tuple(chosen),
        )
        write_json(self.file(cell), asdict(result))
        shutil.rmtree(work, ignore_errors=True)
        return result

    def _choose(self, cell: Cell, fold: Fold) -> list[Slice]:
        """The slices that are corrected, in order; each budget takes the first of one choice."""
        if cell.strategy == BEFORE:
            return []
        if cell.strategy == ALL:
            return [found for case in fold.pool for found in self._slices(case)]
        key = fold.name, cell.strategy, cell.seed
        if key not in self._chosen:
            candidates = [found for case in fold.pool for found in self._candidates(case)]
            most = max(self._config.budgets)
            self._chosen[key] = choose_slices(candidates, cell.strategy, most, cell.seed)
        return self._chosen[key][: cell.budget]

    def _tune(
        self, cell: Cell, fold: Fold, chosen: Sequence[Slice], work: Path
    ) -> dict[str, Trained]:
        """What tuning made of each member, one after another."""
        config = self._config.tuning(cell.method, cell.seed, cell.name)
        pool = {image_name(case): case for case in fold.pool}
        trained: dict[str, Trained] = {}

        def report(state: State) -> None:
            self._tell(state.done, state.total, f"{cell.name}: {state.stage}")

        for name, member in self._members.items():
            examples = join([self._example(pool[image], z, name) for image, z in chosen])
            made = tune(config, work / name, member, examples, cache=self._cache, report=report)
            if made is None:
                raise KeyboardInterrupt
            trained[name] = made
        return trained

    def _example(self, case: Case, z: int, member: str) -> Examples:
        prepared = self._prepared(case, member)
        return select(prepared.examples, np.flatnonzero(prepared.slices == z))

    def _slices(self, case: Case) -> list[Slice]:
        slices = self._prepared(case, next(iter(self._members))).slices
        return [(image_name(case), int(z)) for z in slices]

    def _prepared(self, case: Case, member: str) -> PreparedCase:
        key = image_name(case), member
        if key not in self._windows:
            number = self._numbers[case.group], self._images.index(key[0])
            self._windows[key] = prepare_case(case, self._members[member], *number)
        return self._windows[key]

    def _candidates(self, case: Case) -> list[Candidate]:
        """The slices of a case with what is known of them before anything is corrected."""
        image, taught = image_name(case), {z for _, z in self._slices(case)}
        scores = self._frame_scores(case)
        if scores.reason:
            return [Candidate(image, case.group, z) for z in sorted(taught)]
        return [found for found in scores.candidates(image) if found.slice in taught]

    def _frame_scores(self, case: Case) -> FrameScores:
        """Of the version before tuning, kept in a file."""
        image = image_name(case)
        if image not in self._scores:
            file = self._folder / "scores" / self._version.name / f"{image}.npz"
            stat = case.image.stat()
            stamp = stat.st_size, stat.st_mtime_ns
            if (kept := read_scores(file, stamp)) is None:
                self._tell(len(self._scores), len(self._images), f"scoring slices of {image}")
                kept = self._scorer.score(load_case(case)[0], patient=case.group)
                write_scores(file, kept, stamp)
            self._scores[image] = kept
        return self._scores[image]

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(Segmenter(self._version, "cpu"))


class TunedNetwork:
    """A member's network with other weights, on the CPU in float32: a `backend.Backend`."""

    def __init__(
        self, version: ModelVersion, member: str, weights: Mapping[str, torch.Tensor]
    ) -> None:
        self._network = version.network(member)
        set_weights(self._network, weights)
        self._network.eval()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 of images float32 (n, 1, h, w)."""
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(np.ascontiguousarray(images)))
        return np.asarray(logits.float().numpy())

    def release(self) -> None:
        """Nothing is kept between calls."""


def score_cases(
    segmenter: Segmenter, test: Sequence[Case], fast: bool, progress: Progress | None = None
) -> tuple[CaseScore, ...]:
    """Dice of each structure in each case, segmented as a user would; `fast` as in `segment`."""
    results = segment_cases(segmenter, test, fast=fast, distances=False, progress=progress)
    return tuple(
        CaseScore(result.case.group, image_name(result.case), score.structure, round(dice, 5))
        for result in results
        for score in result.scores
        if (dice := score.penalised_dice) is not None
    )


def _cases(
    cohort: CohortConfig | None, folder: Path, roots: Mapping[str, Path], tell: Progress
) -> list[Case]:
    """Every labelled frame; the phantoms are made first. Raises InputError where there are none."""
    found = [case for name, root in sorted(roots.items()) for case in cases(name, root)]
    if cohort is not None:
        _make_cohort(cohort, folder, tell)
        found += cases("phantom", folder)
    usable = [case for case in found if case.label is not None and case.phase != "cine"]
    if not usable:
        raise InputError(
            "there are no labelled cases to simulate on",
            remedy="Give --data SET=DIR, or a cohort in the configuration",
        )
    return usable


def _make_cohort(cohort: CohortConfig, folder: Path, tell: Progress) -> None:
    """The phantoms that are not there yet; the truth of one is written last."""
    groups = cohort.groups or (None,)
    for number in range(cohort.studies):
        seed = cohort.seed + number
        tell(number, cohort.studies, "making phantoms")
        if (folder / f"phantom-{seed:04d}" / "truth.json").exists():
            continue
        write_cohort(
            folder,
            studies=1,
            seed=seed,
            frames=cohort.frames,
            manner=MANNERS[cohort.manner],
            group=groups[number % len(groups)],
            settings=cohort.settings,
            protocol=cohort.protocol,
        )


def _members(config: SimulationConfig, version: ModelVersion) -> list[Tuned]:
    """What is tuned, one after another. Raises RunError for what a method cannot tune."""
    segmenters = [member.name for member in version.card.members if member.role == "segmenter"]
    names = config.members or (version.card.fast or segmenters[0],)
    members = [Tuned(version, version.member(name)) for name in names]
    for member in members:
        _require_slices(member)
        network = member.network()
        for method in config.methods:
            tuning = config.tuning(method, config.seeds[0], config.name)
            require_frozen(network, tuning, f"methods, {method}")
    return members


def _require_slices(member: Tuned) -> None:
    if member.card.spec.dimensions != 2:
        raise RunError(
            f"the member '{member.card.name}' learns from stacks, and single slices are corrected",
            where=member.version.name,
            remedy="Choose a 2D member",
        )


def _require_same_split(file: Path, folds: Sequence[Fold]) -> None:
    """Keep who is scored; RunError where a simulation was begun with other cases."""
    split = {
        fold.name: {side: sorted(map(image_name, getattr(fold, side))) for side in ("pool", "test")}
        for fold in folds
    }
    if _kept(file, split) != split:
        raise RunError(
            "the simulation was begun with other cases",
            where=file,
            remedy="Give the same data sets, or use another folder",
        )


def _require_same_files(file: Path, frames: Sequence[Case], tell: Progress) -> None:
    """Keep the fingerprint of each case; RunError where its image or label was another.

    A simulation that keeps none goes on with the files as they are.
    """
    found: dict[str, str] = {}
    for done, case in enumerate(frames):
        tell(done, len(frames), "reading cases")
        found[image_name(case)] = fingerprint(case)
    kept = _kept(file, found)
    if (name := next((name for name in found if kept.get(name) != found[name]), None)) is not None:
        raise RunError(
            f"the simulation was begun with another image or label of {name}",
            where=file,
            remedy="Give the files it was begun with, or use another folder",
        )


def _kept(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What a JSON file holds; these values, which are written, where there is none."""
    if not file.exists():
        write_json(file, values)
        return values
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _rates(metrics: Path) -> dict[str, dict[str, float]]:
    """First and last learning rate of each layer group."""
    with metrics.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {
        when: {
            key.removeprefix("rate_"): float(value)
            for key, value in row.items()
            if key.startswith("rate_")
        }
        for when, row in (("first", rows[0]), ("last", rows[-1]))
    }


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from simulating in this folder. Raises RunError, OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise RunError("another process is simulating in this folder", where=folder) from error
    except OSError as error:
        raise output_error(error, folder) from error
    with lock:
        yield
