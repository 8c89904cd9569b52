"""Whose a case is, and which groups it belongs to: told by its data set, its name or a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from cinelabel.core.errors import InputError
from cinelabel.datasets import Case

GRADES: Mapping[str, str] = MappingProxyType(
    {"1": "1 mild", "2": "2 intermediate", "3": "3 severe"}
)
"""Motion grades of CMRxMotion (Wang et al. 2022) as groups."""
GROUPINGS = ("set", "phase", "vendor", "pathology", "manner", "grade")
"""What the cases of data sets can be grouped by."""
VENDORS = ("Siemens", "Philips", "GE", "Canon")
_DETAILS = {
    "vendor": ("VendorName", "vendor", "Vendor"),
    "pathology": ("group", "Pathology", "disease"),
    "manner": ("manner",),
    "grade": ("grade",),
}
"""Where in `Case.details` the sets tell it; the first that is there counts."""
_PHASE = re.compile(r"(.+?)(?:_(ED|ES)|__t\d+)")
_TAKEN = frozenset(
    {"method", "frame", "structure", "dice", "hd95_mm", "assd_mm", "empty", "all"}
    | {"penalised_dice", "penalised_hd95_mm", "ppv", "sensitivity"}
)


@dataclass(frozen=True)
class Membership:
    """The patient of a case, and its groups: name of the grouping -> group."""

    patient: str
    groups: Mapping[str, str] = field(default_factory=dict)


def of_case(case: Case) -> Membership:
    """What a data set tells of a case: of `GROUPINGS` those that it states."""
    groups = {"set": case.set, "phase": case.phase}
    for name, keys in _DETAILS.items():
        told = next((case.details[key] for key in keys if case.details.get(key)), None)
        if told is not None:
            groups[name] = told
    if "vendor" in groups:
        groups["vendor"] = _vendor(groups["vendor"])
    if "grade" in groups:
        groups["grade"] = GRADES.get(groups["grade"], groups["grade"])
    return Membership(case.group, groups)


def of_name(case: str) -> Membership:
    """What the name of a file tells: `<patient>_ED`, `<patient>_ES` or `<patient>__t<NN>`.

    Any other name is a patient of its own.
    """
    match = _PHASE.fullmatch(case)
    if match is None:
        return Membership(case)
    return Membership(match[1], {"phase": match[2]} if match[2] else {})


def read_groups(path: Path) -> dict[str, Membership]:
    """Patient and groups by case, from a CSV file with the column `case`.

    A column `patient` says whose a case is (without it the case's name, see `of_name`); every
    other column is a grouping, and blank cells leave a case out of it.

    Raises:
        InputError: for a file that cannot be read, lacks the column, names a case twice, or has a
            grouping whose name is that of a score.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [name.strip() for name in reader.fieldnames or () if name]
            rows = [{(k or "").strip(): (v or "").strip() for k, v in _cells(r)} for r in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("cannot be read as CSV", where=path) from error
    if "case" not in columns:
        raise InputError("has no column 'case'", where=path, remedy="Name the first column 'case'")
    taken = sorted(_TAKEN & set(columns))
    if taken:
        raise InputError(f"'{taken[0]}' cannot be a grouping", where=path, remedy="Rename it")
    found: dict[str, Membership] = {}
    for row in rows:
        case = row["case"]
        if not case:
            continue
        if case in found:
            raise InputError(f"names the case {case} twice", where=path)
        groups = {name: row[name] for name in columns if row[name]}
        groups.pop("case")
        by_name = of_name(case)
        patient = groups.pop("patient", by_name.patient)
        found[case] = Membership(patient, {**by_name.groups, **groups})
    return found


def _cells(row: Mapping[str | None, object]) -> list[tuple[str | None, str | None]]:
    """The cells of a row that have a column; short rows are filled, long ones are cut."""
    return [(key, None if value is None else str(value)) for key, value in row.items() if key]


def _vendor(told: str) -> str:
    """One spelling a vendor: the sets write SIEMENS, Philips Medical Systems, and so on."""
    lowered = told.lower()
    return next((name for name in VENDORS if lowered.split()[0] == name.lower()), told)
