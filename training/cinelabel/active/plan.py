"""What a simulation is asked to do: which cases, strategies, methods, seeds and budgets; its cells.

A cell is one network tuned on one choice of slices. Cells do not depend on each other, so a
simulation is as many files as it has finished cells.
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from cinelabel.active.strategies import STRATEGIES
from cinelabel.core.errors import InputError, RunError
from cinelabel.core.files import check_identifier
from cinelabel.datasets import Case
from cinelabel.learning import config as configuration
from cinelabel.learning.config import (
    FinetuneConfig,
    Members,
    Phantom,
    Section,
    Seeds,
    each_once,
)
from cinelabel.phantom.settings import PhantomSettings

BEFORE = "before"
"""In place of strategy and method: the version as it is, tuned on nothing."""
ALL = "all"
"""In place of a strategy: every slice of the pool is corrected."""
GROWING: dict[str, Any] = {"strategies": (), "methods": {}, "seeds": (), "budgets": ()}
"""Keys whose values may come and go when a simulation goes on: they add cells and change none."""
LEAST_SLICES = 2
MOST_STEPS = 100_000
"""As many as `FinetuneConfig` allows: time ends the run."""


def _known_strategy(name: str) -> str:
    if name not in STRATEGIES:
        raise ValueError(f"there is no strategy {name!r}; known are {', '.join(STRATEGIES)}")
    return name


Name = Annotated[str, AfterValidator(lambda value: check_identifier(value, "name"))]
Strategy = Annotated[str, AfterValidator(_known_strategy)]
Strategies = Annotated[tuple[Strategy, ...], Field(min_length=1), AfterValidator(each_once)]
Budget = Annotated[int, Field(ge=LEAST_SLICES)]
Budgets = Annotated[tuple[Budget, ...], Field(min_length=1), AfterValidator(each_once)]
Manner = Literal["full", "half", "free", "intensive", "mixed"]


class CohortConfig(Section):
    """Phantom studies of `frames` phases, made once; ED and ES are learned from and scored.

    groups: of the population, in turn; sampled where there are none.
    manner: how all breathe; `mixed` as in a clinic.
    settings: shares and switches of the phantom.
    protocol: attributes of `phantom.acquisition.Scanner` that replace those drawn.
    """

    studies: int = Field(ge=2, le=1000)
    seed: int = Field(ge=0)
    frames: int = Field(default=3, ge=2)
    groups: tuple[str, ...] = ()
    manner: Manner = "mixed"
    settings: Phantom = PhantomSettings()
    protocol: dict[str, Any] = {}


class SimulationConfig(Section):
    """A simulation: an annotator corrects what strategies choose, a version is tuned on it, scored.

    about: what the cases are and what the version has seen of their like; told below each figure.
    model, members: what is tuned; the version in use, and its fast member where none are named.
    fast: whether the fast member alone is scored, without mirroring, or the whole version.
    cohort: phantoms to simulate on; None where data sets are given.
    leave_one_out: each patient in turn is scored, the others are corrected; otherwise
        `test_patients`, drawn by `seed`, are scored and never corrected.
    strategies, methods, seeds, budgets: each with each; budgets are slices corrected. A method has
        a name and keys of `FinetuneConfig` of its own; without `method`, it is the one so named.
    shared: such keys of all methods; `minutes` are those of all members together.
    """

    name: Name
    about: str
    model: str | None = None
    members: Members = ()
    fast: bool = True
    cohort: CohortConfig | None = None
    leave_one_out: bool = False
    test_patients: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)
    strategies: Strategies = tuple(STRATEGIES)
    methods: dict[Name, dict[str, Any] | None] = Field(min_length=1)
    seeds: Seeds = (1, 2, 3)
    budgets: Budgets
    shared: dict[str, Any] = {}

    @model_validator(mode="after")
    def _can_be_tuned(self) -> SimulationConfig:
        if reserved := {"name", "seed", "model", "members"} & set(self.shared):
            raise ValueError(f"{sorted(reserved)[0]!r} does not belong into shared")
        for method in self.methods:
            self.tuning(method, self.seeds[0], self.name)
        return self

    def tuning(self, method: str, seed: int, name: str) -> FinetuneConfig:
        """How a member is tuned by a method. Raises RunError naming the first wrong key."""
        own = {"method": method, **(self.methods[method] or {}), "name": name, "seed": seed}
        config = configuration.parse_finetuning({**self.shared, **own}, f"methods, {method}")
        return config.model_copy(update={"minutes": config.minutes / max(len(self.members), 1)})


@dataclass(frozen=True)
class Fold:
    """Cases that may be corrected, and cases that are scored; no patient has both."""

    name: str
    pool: tuple[Case, ...]
    test: tuple[Case, ...]


@dataclass(frozen=True)
class Cell:
    """One tuning and its scores.

    Attributes:
        fold: whose test cases are scored.
        strategy: by which slices were chosen; `ALL`, or `BEFORE` without any.
        method: by its name in the configuration; `BEFORE` without any.
        seed: of choice and tuning.
        budget: slices corrected; None for all there are.
    """

    fold: str
    strategy: str = BEFORE
    method: str = BEFORE
    seed: int = 0
    budget: int | None = 0

    @property
    def name(self) -> str:
        """Of its file."""
        if self.strategy == BEFORE:
            return f"{self.fold}_{BEFORE}"
        slices = ALL if self.budget is None else self.budget
        return f"{self.fold}_{self.strategy}_{self.method}_seed{self.seed}_{slices}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def load(path: Path, minutes: float | None = None, **overrides: object) -> SimulationConfig:
    """The configuration of a YAML file; overrides that are not None replace top-level keys.

    minutes: of tuning, for every method alike, whatever steps and minutes the file gives.

    Raises:
        RunError: the file is missing, is not YAML, or a key is wrong.
    """
    values = configuration.read_yaml(path)
    values.update({key: value for key, value in overrides.items() if value is not None})
    if minutes is not None:
        values = _by_the_clock(values, minutes)
    return configuration.parsed(SimulationConfig, values, path)


def _by_the_clock(values: dict[str, Any], minutes: float) -> dict[str, Any]:
    """The same with this time for every method; what is no table is left for `parsed` to name."""
    equal = {"minutes": minutes, "steps": MOST_STEPS}
    timed = dict(values)
    if isinstance(shared := values.get("shared") or {}, dict):
        timed["shared"] = {**shared, **equal}
    if isinstance(methods := values.get("methods"), dict):
        timed["methods"] = {name: _without(own, equal) for name, own in methods.items()}
    return timed


def _without(table: object, keys: Container[str]) -> object:
    if not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if key not in keys}


def all_cells(config: SimulationConfig, folds: Sequence[Fold]) -> Iterator[Cell]:
    """All cells, seed by seed; where patients are not left out, those with the whole pool too."""
    for fold in folds:
        yield Cell(fold.name)
    for seed, fold, method in product(config.seeds, folds, config.methods):
        if not config.leave_one_out:
            yield Cell(fold.name, ALL, method, seed, None)
        for strategy, budget in product(config.strategies, sorted(config.budgets)):
            yield Cell(fold.name, strategy, method, seed, budget)


def make_folds(config: SimulationConfig, cases: Sequence[Case]) -> list[Fold]:
    """Who is scored and who may be corrected.

    Raises:
        InputError: too few patients.
    """
    patients = sorted({case.group for case in cases})
    tested = {patient.replace("/", "-"): {patient} for patient in patients}
    if not config.leave_one_out:
        drawn = list(patients)
        random.Random(config.seed).shuffle(drawn)
        tested = {"test": set(drawn[: config.test_patients])}
    if len(patients) < 2 or any(len(group) >= len(patients) for group in tested.values()):
        raise InputError(
            f"{len(patients)} patient(s) are too few to correct some and score others",
            remedy="Give more labelled patients, or lower test_patients",
        )
    return [
        Fold(
            name,
            tuple(case for case in cases if case.group not in group),
            tuple(case for case in cases if case.group in group),
        )
        for name, group in tested.items()
    ]


def require_same(file: Path, config: SimulationConfig) -> None:
    """Raise RunError where a simulation was begun with another configuration; see `GROWING`."""
    if not file.exists():
        return
    before = configuration.parsed(SimulationConfig, configuration.read_yaml(file), file)
    kept, now = (c.model_copy(update=GROWING) for c in (before, config))
    if difference := configuration.first_difference(kept, now):
        key, old, new = difference
        raise RunError(
            f"the simulation was begun with {key} = {old}, not {new}",
            where=file.parent,
            remedy="Use another folder, or the configuration in its config.yaml",
        )
    for name in before.methods.keys() & config.methods.keys():
        if before.methods[name] != config.methods[name]:
            raise RunError(
                f"the simulation was begun with another method '{name}'",
                where=file.parent,
                remedy="Use another folder, or give the method another name",
            )
