"""Fusion of public sets for pre-training, after Table 1 of the robust segmentation of CMRxMotion.

The paper fuses labelled short-axis images "from both the training phase and testing phase" of five
sets and does not say how often each is drawn. Here every labelled stack is as likely as any other
(`pooled`), so that a set counts by its size; `root` and `equal` lift the small sets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from cinelabel.core.errors import InputError
from cinelabel.core.labels import STRUCTURES
from cinelabel.datasets.case import Case

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Source:
    """A row of the table: what a set gives to the fusion.

    Attributes:
        set: name of the data set.
        patients: how many the paper counts.
        images: labelled short-axis stacks a patient, one a cardiac phase.
        takes: which cases and labels, in words.
        only: the patients taken; None for all with a label.
        available: patients with labels in the files of the set, where that is another number.
    """

    set: str
    patients: int
    images: int
    takes: str
    only: frozenset[str] | None = None
    available: int | None = None

    @property
    def stacks(self) -> int:
        """Labelled stacks that a whole copy of the set gives."""
        return (self.available or self.patients) * self.images

    def select(self, cases: Sequence[Case]) -> list[Case]:
        """The cases taken: labelled in every structure, one phase each, of the patients named."""
        return [
            case
            for case in cases
            if case.set == self.set
            and case.label is not None
            and case.phase != "cine"
            and case.structures == STRUCTURES
            and (self.only is None or case.patient in self.only)
        ]


TABLE_1 = (
    Source(
        "acdc",
        100,
        2,
        "ED and ES of patient001 to patient100; 1 RV, 2 MYO, 3 LV",
        only=frozenset(f"patient{number:03d}" for number in range(1, 101)),
    ),
    Source(
        "mnms",
        344,
        2,
        "ED and ES of every labelled subject, training, validation and testing; 1 LV, 2 MYO, 3 RV",
        available=320,
    ),
    Source("mnms2", 360, 2, "ED and ES of the short axis, all subjects; 1 LV, 2 MYO, 3 RV"),
    Source("myops", 25, 1, "bSSFP of 101 to 125; 500 LV, 200, 1220 and 2221 MYO, 600 RV"),
    Source("mscmrseg", 45, 1, "bSSFP of patient1 to patient45; 500 LV, 200 MYO, 600 RV"),
)
"""Table 1. The files of M&Ms hold 320 labelled subjects (150, 34 and 136), not 344."""

ALL_LABELLED = (
    replace(TABLE_1[0], patients=150, only=None, takes="ED and ES of all; 1 RV, 2 MYO, 3 LV"),
    *TABLE_1[1:],
)
"""Table 1 with the 50 test patients of ACDC, whose labels were published later."""

TABLES: Mapping[str, tuple[Source, ...]] = MappingProxyType(
    {"paper": TABLE_1, "all-labelled": ALL_LABELLED}
)


class Balance(Enum):
    """How the share of draws of a set grows with the number n of its stacks."""

    POOLED = "pooled"  # as n: every stack is as likely as any other
    ROOT = "root"  # as the square root of n
    EQUAL = "equal"  # not at all

    def weigh(self, stacks: int) -> float:
        """Weight of a set before all are scaled to a sum of 1."""
        return {
            Balance.POOLED: float(stacks),
            Balance.ROOT: math.sqrt(stacks),
            Balance.EQUAL: 1.0,
        }[self]


@dataclass(frozen=True)
class Fusion:
    """Cases of several sets and how often each set is drawn.

    Attributes:
        cases: by set in the order of the table.
        weights: set -> share of the draws; they sum to 1.
        missing: what the table has and the folders have not, in sentences.
    """

    cases: tuple[Case, ...]
    weights: Mapping[str, float]
    missing: tuple[str, ...] = ()

    def probabilities(self) -> list[float]:
        """Probability that a draw is this case, for each; a set's stacks share its weight."""
        sizes = Counter(case.set for case in self.cases)
        return [self.weights[case.set] / sizes[case.set] for case in self.cases]

    def draw(self, generator: np.random.Generator, count: int) -> list[Case]:
        """`count` cases with replacement, each set as often as its weight says."""
        chosen = generator.choice(len(self.cases), count, p=self.probabilities())
        return [self.cases[index] for index in chosen]


def fuse(
    roots: Mapping[str, Path],
    table: Sequence[Source] = TABLE_1,
    *,
    balance: Balance = Balance.POOLED,
    partial: bool = False,
) -> Fusion:
    """The labelled cases that the table takes from the sets below `roots` (set -> folder).

    Raises InputError for a set that is not in the table, for a folder without a case the table
    takes, and, unless `partial`, where sets or cases of the table are missing.
    """
    from cinelabel.datasets import cases

    known = {source.set for source in table}
    for name in roots:
        if name not in known:
            raise InputError(
                f"the data set {name} has no place in the table",
                remedy=f"It has {', '.join(sorted(known))}",
            )
    taken: dict[str, list[Case]] = {}
    missing: list[str] = []
    for source in table:
        if source.set not in roots:
            missing.append(f"{source.set}: no folder was given")
            continue
        found = source.select(cases(source.set, roots[source.set]))
        if not found:
            raise InputError(
                f"no labelled case of {source.set} that the table takes is here",
                where=roots[source.set],
            )
        if len(found) < source.stacks:
            missing.append(f"{source.set}: {len(found)} of {source.stacks} labelled stacks")
        taken[source.set] = found
    if missing and not partial:
        raise InputError(
            f"the table is not complete; {'; '.join(missing)}",
            remedy="Complete the folders, or allow what is missing with 'partial: true'",
        )
    if not taken:
        raise InputError("no set was given", remedy=f"The table has {', '.join(sorted(known))}")
    weights = {name: balance.weigh(len(found)) for name, found in taken.items()}
    total = sum(weights.values())
    return Fusion(
        tuple(case for found in taken.values() for case in found),
        MappingProxyType({name: weight / total for name, weight in weights.items()}),
        tuple(missing),
    )
