"""Champion or challenger: may a fine-tuned version take the place of the one in use?

The two are compared on the same held-out patients, from whom neither learned. Differences of Dice
are paired by patient, and their mean is resampled over patients (percentile bootstrap, Efron and
Tibshirani 1993, section 13.3). Not being worse is shown, as in a trial of non-inferiority, when
the lower bound of the mean stays above a margin. A cohort of phantoms, the same for all versions,
tells what was forgotten. How the Dice came about does not matter here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.core.labels import STRUCTURES
from cinelabel.learning.config import DecisionRules
from cinelabel.models.store import ModelStore

Outcome = Literal["publish", "keep", "reject"]
DiceTable = Sequence[Mapping[str, float]]
"""Structure -> Dice of each patient, in one order for both versions; a structure that a patient's
labels do not tell is absent."""


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion in one structure: mean over the patients, and its lower bound.

    `lower`: bootstrap quantile `1 - level` of the mean, None for a single patient.
    """

    patients: int
    mean: float
    lower: float | None


@dataclass(frozen=True)
class Decision:
    """What becomes of a challenger.

    Attributes:
        outcome: "publish": it takes the champion's place. "keep": it is a candidate, and a person
            decides. "reject": it is worse.
        reasons: sentences, with the numbers that they rest on.
        rules: that were applied.
        patients: held out.
        differences: by structure, of the held-out patients.
        phantom: by structure, Dice on the phantom cohort, challenger minus champion.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    rules: DecisionRules
    patients: int
    differences: Mapping[str, Difference]
    phantom: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the card."""
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "rules": self.rules.model_dump(mode="json"),
            "patients": self.patients,
            "differences": {name: asdict(found) for name, found in self.differences.items()},
            "phantom": dict(self.phantom),
        }


def decide(
    champion: DiceTable,
    challenger: DiceTable,
    champion_phantom: Mapping[str, float],
    challenger_phantom: Mapping[str, float],
    rules: DecisionRules,
) -> Decision:
    """Compare two versions.

    It is rejected when it is worse than a margin allows in a structure, or not better on average,
    or lost too much on the phantoms; these hold whatever else is known. It is kept when too few
    patients are held out, or when they leave open whether a structure became worse. Otherwise it
    is published.

    Args:
        champion, challenger: Dice of the held-out patients, empty where there are none.
        champion_phantom, challenger_phantom: structure -> Dice of the phantom cohort.
        rules: margins and numbers.

    Raises:
        RunError: the tables are not of the same patients and structures.
    """
    differences = compare(champion, challenger, rules)
    phantom = {
        name: round(challenger_phantom[name] - dice, 5) for name, dice in champion_phantom.items()
    }
    worse = _forgotten(phantom, rules)
    unsure: list[str] = []
    if len(champion) < rules.least_patients:
        unsure.append(
            f"{_count(len(champion))} held out, and a decision needs {rules.least_patients}: "
            "a person decides."
        )
    else:
        worse += _worse(differences, rules) + _not_better(champion, challenger)
        unsure += _open(differences, rules)
    outcome: Outcome = "reject" if worse else "keep" if unsure else "publish"
    reasons = (*worse, *unsure) or (_better(champion, challenger, differences, phantom, rules),)
    return Decision(outcome, tuple(reasons), rules, len(champion), differences, phantom)


def settle(store: ModelStore, version: str, who: str = "") -> bool:
    """Put a fine-tuned version in use if that was decided; whether it is in use now.

    It takes the place of its parent alone, and once: `ModelStore.promote`. After a kill it may be
    called again.

    Raises:
        ModelError, OutputError: as `ModelStore.promote`.
    """
    decision = store.load(version).card.decision
    if decision is not None and decision["outcome"] == "publish":
        store.promote(version, who, " ".join(decision["reasons"]))
    return store.current() == version


def compare(
    champion: DiceTable, challenger: DiceTable, rules: DecisionRules
) -> dict[str, Difference]:
    """Paired differences of each structure that some patient has. Raises RunError."""
    if [set(table) for table in champion] != [set(table) for table in challenger]:
        raise RunError("two versions are compared that were not scored on the same patients")
    found = {}
    for structure in STRUCTURES:
        name = structure.name
        pairs = [(o[name], n[name]) for o, n in zip(champion, challenger, strict=True) if name in o]
        if pairs:
            gains = np.array([new - old for old, new in pairs])
            lower = lower_bound(gains, rules)
            lower = None if lower is None else round(lower, 5)
            found[name] = Difference(len(gains), round(float(gains.mean()), 5), lower)
    return found


def lower_bound(gains: np.ndarray, rules: DecisionRules) -> float | None:
    """One-sided lower bound, at `rules.level`, of the mean of (patients,); None for one patient."""
    if len(gains) < 2:
        return None
    generator = np.random.default_rng(rules.seed)
    drawn = generator.integers(len(gains), size=(rules.resamples, len(gains)))
    return float(np.quantile(gains[drawn].mean(1), 1 - rules.level))


def mean_gain(champion: DiceTable, challenger: DiceTable) -> float:
    """Mean over patients of the mean difference over each one's structures."""
    pairs = zip(champion, challenger, strict=True)
    gains = [np.mean([new[name] - old[name] for name in old]) for old, new in pairs if old]
    return float(np.mean(gains)) if gains else 0.0


def _forgotten(phantom: Mapping[str, float], rules: DecisionRules) -> list[str]:
    return [
        f"It lost {-change:.3f} Dice of {name} on the phantom cohort, more than "
        f"{rules.phantom_margin:g}."
        for name, change in phantom.items()
        if change < -rules.phantom_margin
    ]


def _worse(differences: Mapping[str, Difference], rules: DecisionRules) -> list[str]:
    return [
        f"{name} became worse by {-found.mean:.3f} Dice on average of {_count(found.patients)}, "
        f"more than {rules.margin:g}."
        for name, found in differences.items()
        if found.mean < -rules.margin
    ]


def _not_better(champion: DiceTable, challenger: DiceTable) -> list[str]:
    gain = mean_gain(champion, challenger)
    if gain > 0:
        return []
    return [f"It is not better on average: {gain:+.3f} Dice over {_count(len(champion))}."]


def _open(differences: Mapping[str, Difference], rules: DecisionRules) -> list[str]:
    """Structures of which the patients do not tell enough."""
    sentences = []
    for name in (structure.name for structure in STRUCTURES):
        found = differences.get(name)
        patients = _count(found.patients if found else 0)
        if found is None or found.lower is None or found.patients < rules.least_patients:
            sentences.append(f"Of {name} only {patients} can tell: a person decides.")
        elif found.lower < -rules.margin <= found.mean:
            sentences.append(
                f"{name} changed by {found.mean:+.3f} Dice on average of {patients}, but may have "
                f"lost {-found.lower:.3f}, more than {rules.margin:g}: a person decides."
            )
    return sentences


def _better(
    champion: DiceTable,
    challenger: DiceTable,
    differences: Mapping[str, Difference],
    phantom: Mapping[str, float],
    rules: DecisionRules,
) -> str:
    each = ", ".join(f"{name} {found.mean:+.3f}" for name, found in differences.items())
    forgotten = f"; on the phantom cohort it lost at most {rules.phantom_margin:g}" * bool(phantom)
    return (
        f"It is better by {mean_gain(champion, challenger):.3f} Dice on average of "
        f"{_count(len(champion))} held out ({each}), and no structure lost more than "
        f"{rules.margin:g} at {rules.level:.0%} confidence{forgotten}."
    )


def _count(patients: int) -> str:
    return f"{patients} patient{'s' * (patients != 1)}"
