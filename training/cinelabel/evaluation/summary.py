"""Summaries of scores: mean, spread, and bootstrap intervals over patients.

The interval is the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, section 13.3) of the mean over cases. Patients are resampled, and all cases of a patient come
along, since ED and ES of one heart are no two independent observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinelabel.core.labels import STRUCTURES
from cinelabel.evaluation.metrics import Score

FIGURES = ("dice", "hd95_mm", "assd_mm", "penalised_dice", "penalised_hd95_mm")
"""What is summarised of scores: names of attributes of `Score` and `Summary`."""
NOT_STATED = "not stated"
"""The group of cases of which a grouping is not known."""


@dataclass(frozen=True)
class Bootstrap:
    """Numbers of the interval: how much it covers, how many resamples, and their seed."""

    level: float = 0.95
    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Statistics:
    """Mean, sample standard deviation (None for a single value), median and count of values.

    `patients` is how many patients they are of, and `interval` the bootstrap interval of the mean
    over them, None for a single patient.
    """

    mean: float
    sd: float | None
    median: float
    n: int
    patients: int
    interval: tuple[float, float] | None

    @classmethod
    def of(
        cls,
        values: Sequence[float | None],
        patients: Sequence[str] | None = None,
        bootstrap: Bootstrap | None = None,
    ) -> Statistics | None:
        """Statistics of the values that exist; None where there is none.

        patients: whose each value is; None: each is a patient of its own. bootstrap: its numbers.
        """
        whose = [str(number) for number in range(len(values))] if patients is None else patients
        pairs = [(v, who) for v, who in zip(values, whose, strict=True) if v is not None]
        if not pairs:
            return None
        present = np.array([value for value, _ in pairs], dtype=np.float64)
        kept = [who for _, who in pairs]
        return cls(
            mean=float(present.mean()),
            sd=float(present.std(ddof=1)) if present.size > 1 else None,
            median=float(np.median(present)),
            n=int(present.size),
            patients=len(set(kept)),
            interval=patient_interval(present, kept, bootstrap or Bootstrap()),
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "mean": self.mean,
            "sd": self.sd,
            "median": self.median,
            "n": self.n,
            "patients": self.patients,
            "interval": None if self.interval is None else list(self.interval),
        }


def patient_interval(
    values: np.ndarray, patients: Sequence[str], bootstrap: Bootstrap
) -> tuple[float, float] | None:
    """Percentile interval of the mean of values (n,) when patients are drawn with replacement.

    patients: whose each value is. Returns None for fewer than two patients.
    """
    from scipy import stats

    names, index = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2:
        return None
    sums, counts = np.bincount(index, weights=values), np.bincount(index).astype(np.float64)
    found = stats.bootstrap(
        (sums, counts),
        lambda total, number, axis: total.sum(axis) / number.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=bootstrap.resamples,
        confidence_level=bootstrap.level,
        method="percentile",
        random_state=np.random.default_rng(bootstrap.seed),
    ).confidence_interval
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Summary:
    """All scores of one structure by one method in one group; figures without empties, and with.

    `by` and `group` are both None for all cases together.
    """

    structure: str
    method: str
    by: str | None
    group: str | None
    n_empty_prediction: int
    n_empty_reference: int
    n_empty_both: int
    dice: Statistics | None
    hd95_mm: Statistics | None
    assd_mm: Statistics | None
    penalised_dice: Statistics | None
    penalised_hd95_mm: Statistics | None

    @property
    def n_empty(self) -> int:
        """How many scores were left out of the mean."""
        return self.n_empty_prediction + self.n_empty_reference + self.n_empty_both

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        row: dict[str, Any] = {
            "method": self.method,
            "by": self.by,
            "group": self.group,
            "structure": self.structure,
            "n_empty": self.n_empty,
            "n_empty_prediction": self.n_empty_prediction,
            "n_empty_reference": self.n_empty_reference,
            "n_empty_both": self.n_empty_both,
        }
        for name in FIGURES:
            statistics: Statistics | None = getattr(self, name)
            row[name] = statistics.as_dict() if statistics is not None else None
        return row


def summarise(
    scores: Sequence[Score], by: Sequence[str] = (), bootstrap: Bootstrap | None = None
) -> list[Summary]:
    """One summary a method and structure: of all cases, then of each group of each grouping.

    by: groupings to break down by, keys of `Score.groups`; cases without one are `NOT_STATED`.
    bootstrap: numbers of the intervals.
    Methods come in the order in which they first occur; so do groups, except that those which begin
    with a number come first, in its order.
    """
    numbers = bootstrap or Bootstrap()
    found = _sections(None, None, scores, numbers)
    for name in by:
        for group, members in split_by(scores, name).items():
            found += _sections(name, group, members, numbers)
    return found


def structure_names(found: Sequence[Score | Summary]) -> list[str]:
    """The structures that scores or summaries are of, in their order."""
    there = {entry.structure for entry in found}
    return [structure.name for structure in STRUCTURES if structure.name in there]


def split_by(scores: Sequence[Score], by: str) -> dict[str, list[Score]]:
    """The scores of each group of a grouping, in the order `summarise` describes."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.groups.get(by, NOT_STATED), []).append(score)
    return {name: groups[name] for name in sorted(groups, key=_place)}


def _place(group: str) -> float:
    first = group.partition(" ")[0]
    if group == NOT_STATED:
        return float("inf")
    return int(first) if first.isdecimal() else 1e9


def _sections(
    by: str | None, group: str | None, scores: Sequence[Score], bootstrap: Bootstrap
) -> list[Summary]:
    buckets: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        buckets.setdefault((score.method, score.structure), []).append(score)
    methods = dict.fromkeys(method for method, _ in buckets)
    return [
        _summary(by, group, method, structure, buckets[method, structure], bootstrap)
        for method in methods
        for structure in structure_names(scores)
        if (method, structure) in buckets
    ]


def _summary(
    by: str | None,
    group: str | None,
    method: str,
    structure: str,
    scores: Sequence[Score],
    bootstrap: Bootstrap,
) -> Summary:
    patients = [score.patient or score.case for score in scores]
    empties = [score.empty for score in scores]

    def figure(name: str) -> Statistics | None:
        return Statistics.of([getattr(score, name) for score in scores], patients, bootstrap)

    return Summary(
        structure=structure,
        method=method,
        by=by,
        group=group,
        n_empty_prediction=empties.count("prediction"),
        n_empty_reference=empties.count("reference"),
        n_empty_both=empties.count("both"),
        dice=figure("dice"),
        hd95_mm=figure("hd95_mm"),
        assd_mm=figure("assd_mm"),
        penalised_dice=figure("penalised_dice"),
        penalised_hd95_mm=figure("penalised_hd95_mm"),
    )
