"""CMRxMotion (Wang et al., MICCAI challenge 2022): volunteers in four manners of breathing.

Labels are 1 LV, 2 MYO, 3 RV, and absent where motion spoils the scan. Layout:
`data/Pnnn-m/Pnnn-m-ED.nii.gz` with `Pnnn-m-ED-label.nii.gz`, the same for ES, nested by scan or all
in one folder; images have a fourth axis of length 1. `IQA.csv` grades the motion of each image: 1
mild, 2 intermediate, 3 severe; it may be absent. A patient here is the volunteer `Pnnn`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.datasets.case import Case, Published, existing, reject_twins, visible

NAME = "cmrxmotion"
LABEL_MAP = LabelMap("CMRxMotion", {1: LV.value, 2: MYO.value, 3: RV.value})
PUBLISHED = Published(25, 139)
MANNERS: Mapping[str, str] = MappingProxyType(
    {"1": "full breath-hold", "2": "half breath-hold", "3": "free", "4": "intensive"}
)
"""What the number after the volunteer's means; `Case.details["manner"]` holds these words."""
GRADE_OF_SCORE = MappingProxyType({1: 3, 2: 3, 3: 2, 4: 1, 5: 1})
"""Motion grade of a radiologist's score (5 best), for tables that hold scores."""

_NAME = re.compile(r"(P\d+)-(\d+)-(ED|ES)")


def cases(root: Path) -> list[Case]:
    """ED and ES of every scan below `root`, sorted by volunteer and manner. Raises InputError.

    Details are the manner of breathing and, where a table gives it, the motion grade.
    """
    images = [
        (path, match)
        for path in visible(list(root.rglob("P*-E[DS].nii.gz")))
        if (match := _NAME.fullmatch(path.name.removesuffix(".nii.gz")))
    ]
    grades = _read_grades(root) if images else {}
    found = [_case(path, match, grades) for path, match in images]
    return reject_twins(sorted(found, key=lambda case: case.name), root)


def announced(root: Path) -> frozenset[str]:
    """Volunteers that the tables of grades list; none without a table."""
    return frozenset(name.partition("-")[0] for name in _read_grades(root))


def _case(image: Path, match: re.Match[str], grades: Mapping[str, int]) -> Case:
    name, (volunteer, manner, phase) = match[0], match.groups()
    details = {"manner": MANNERS.get(manner, manner)}
    if name in grades:
        details["grade"] = str(grades[name])
    return Case(
        NAME,
        volunteer,
        phase,
        image,
        existing(image.with_name(f"{name}-label.nii.gz")),
        LABEL_MAP,
        structures=STRUCTURES,
        details=details,
        scan=manner,
    )


def _read_grades(root: Path) -> dict[str, int]:
    """Motion grade by `Pnnn-m-ED`, of every table of grades below `root` and beside it."""
    tables = [*root.rglob("*.csv"), *(path for up in root.parents[:1] for path in up.glob("*.csv"))]
    grades: dict[str, int] = {}
    for path in visible(list(tables)):
        if path.stem.lower() != "iqa":
            continue
        values = dict(_rows(path))
        scored = any(value > 3 for value in values.values())
        for name, value in values.items():
            if value not in (GRADE_OF_SCORE if scored else (1, 2, 3)):
                raise InputError(
                    f"gives {name} the grade {value}",
                    where=path,
                    remedy="Grades are 1 mild, 2 intermediate, 3 severe",
                )
            grade = GRADE_OF_SCORE[value] if scored else value
            if grades.setdefault(name, grade) != grade:
                raise InputError(f"contradicts another table on {name}", where=path)
    return grades


def _rows(path: Path) -> Iterator[tuple[str, int]]:
    """Names and whole numbers of a table: in each row the cell after the first that is a name.

    Columns are found by position alone; the header and blank rows have no name and are left out.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        for row in csv.reader(stream):
            cells = [cell.strip().removesuffix(".nii.gz") for cell in row]
            places = [place for place, cell in enumerate(cells) if _NAME.fullmatch(cell)]
            if not places:
                continue
            name, after = cells[places[0]], "".join(cells[places[0] + 1 : places[0] + 2])
            try:
                yield name, int(after.removesuffix(".0"))
            except ValueError:
                raise InputError(f"gives {name} the grade '{after}'", where=path) from None
