"""Folds of patients in a file, which every run of a cross-validation reads.

Five folds by patient as in the robust segmentation of CMRxMotion (five folds of four volunteers,
section 3); the default seed is nnU-Net's (Isensee et al. 2021), whose own split is by case and
would put one volunteer on both sides. The file is JSON: `schema_version`, `seed`, and `folds`, a
list of lists of patients as `set/patient`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.core.files import write_json
from cinelabel.datasets.case import Case, deal_patients

SCHEMA_VERSION = 1
FOLDS = 5
SEED = 12345


@dataclass(frozen=True)
class Folds:
    """Who is held out when; checked on construction (InputError).

    Attributes:
        patients: for each fold the groups (`set/patient`) it holds out.
        seed: that dealt them.
        source: file they were read from, named in errors.
    """

    patients: tuple[tuple[str, ...], ...]
    seed: int
    source: Path | None = None

    def __post_init__(self) -> None:
        where = self.source
        if len(self.patients) < 2:
            raise InputError("at least two folds are needed", where=where)
        for number, fold in enumerate(self.patients):
            if not fold:
                raise InputError(f"fold {number} (from 0) is empty", where=where)
        counts = Counter(patient for fold in self.patients for patient in fold)
        for patient, times in counts.items():
            if times > 1:
                inside = [k for k, fold in enumerate(self.patients) if patient in fold]
                raise InputError(
                    f"the patient {patient} is there {times} times, in fold "
                    f"{' and '.join(map(str, inside))} (from 0)",
                    where=where,
                    remedy="Keep each patient in one fold; make the file again with "
                    "'cinelabel data splits'",
                )

    def __len__(self) -> int:
        return len(self.patients)

    def held_out(self, fold: int) -> frozenset[str]:
        """The patients of a fold, counted from 0; InputError for a fold that does not exist."""
        if not 0 <= fold < len(self):
            raise InputError(
                f"there is no fold {fold}, they count from 0 to {len(self) - 1}", where=self.source
            )
        return frozenset(self.patients[fold])

    def split(self, cases: Sequence[Case], fold: int) -> tuple[list[Case], list[Case]]:
        """(training, held-out) cases of a fold, counted from 0, in the order of `cases`.

        Raises InputError for a fold that does not exist, as `require_same` does, and where a side
        would have no case.
        """
        held_out = self.held_out(fold)
        self.require_same(cases)
        return (
            [case for case in cases if case.group not in held_out],
            [case for case in cases if case.group in held_out],
        )

    def require_same(self, cases: Sequence[Case]) -> None:
        """Raise InputError unless the cases are of exactly the patients of the folds."""
        here = {case.group for case in cases}
        known = {patient for fold in self.patients for patient in fold}
        for patients, problem, remedy in (
            (known - here, "of its patients have no case in the data", "Complete the data"),
            (here - known, "patients of the data are in none of its folds", "Leave them out"),
        ):
            if patients:
                raise InputError(
                    f"{len(patients)} {problem}, the first is {min(patients)}",
                    where=self.source,
                    remedy=f"{remedy}, or make another file with 'cinelabel data splits'",
                )


def make_folds(cases: Sequence[Case], folds: int = FOLDS, seed: int = SEED) -> Folds:
    """Deal the patients of the cases to folds; all cases of a patient stay together.

    Folds differ by at most one patient, and so do their patients of any one set. Raises InputError
    for fewer than two folds or fewer patients than folds.
    """
    dealt = deal_patients(cases, folds, seed)
    return Folds(
        tuple(tuple(sorted(p for p, k in dealt.items() if k == fold)) for fold in range(folds)),
        seed,
    )


def write_folds(path: Path, folds: Folds) -> None:
    """Write the file whole or not at all. Raises OutputError."""
    write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "seed": folds.seed,
            "folds": [list(fold) for fold in folds.patients],
        },
    )


def read_folds(path: Path) -> Folds:
    """The folds of a file. Raises InputError for one that is missing, damaged or not sound.

    Not sound is a patient in two folds or twice in one, an empty fold, and fewer than two folds.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"the folds cannot be read, {reason}", where=path) from error
    except ValueError as error:
        raise InputError("is not a JSON file", where=path) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"is not a file of folds of version {SCHEMA_VERSION}",
            where=path,
            remedy="Make one with 'cinelabel data splits'",
        )
    seed, folds = content.get("seed"), content.get("folds")
    if not isinstance(seed, int) or not _are_lists_of_names(folds):
        raise InputError("has no 'seed' or no 'folds' that are lists of patients", where=path)
    return Folds(tuple(tuple(fold) for fold in folds), seed, path)


def _are_lists_of_names(folds: object) -> bool:
    return isinstance(folds, list) and all(
        isinstance(fold, list) and all(isinstance(patient, str) for patient in fold)
        for fold in folds
    )
