"""M&Ms-2 (Martín-Isla et al., IEEE JBHI 2023): ED and ES volumes, labels 1 LV, 2 MYO, 3 RV.

Layout: `NNN/NNN_SA_ED.nii.gz` with `NNN_SA_ED_gt.nii.gz`, the same for ES, nested by subject or all
in one folder, and `dataset_information.csv`, which may be absent. Long axes and the cine are not
read.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.datasets.case import Case, Published, existing, reject_twins, visible

NAME = "mnms2"
LABEL_MAP = LabelMap("M&Ms-2", {1: LV.value, 2: MYO.value, 3: RV.value})
PUBLISHED = Published(360, 720, tuple(f"{number:03d}" for number in range(1, 361)))
TABLE = "dataset_information.csv"
CODE_COLUMN = "SUBJECT_CODE"
DETAIL_COLUMNS = ("DISEASE", "VENDOR", "SCANNER", "FIELD")
LAST_OF_SPLIT = {"train": 160, "validation": 200, "test": 360}
"""The official split is by number: up to 160, up to 200, up to 360."""

_IMAGE = re.compile(r"(\d+)_SA_(ED|ES)\.nii\.gz")


def cases(root: Path) -> list[Case]:
    """ED and ES of every subject below `root`, sorted by number. Raises InputError."""
    images = [
        (path, match)
        for path in visible(list(root.rglob("*_SA_E[DS].nii.gz")))
        if (match := _IMAGE.fullmatch(path.name))
    ]
    table = _read_table(root) if images else {}
    found = [_case(path, match[1], match[2], table) for path, match in images]
    return reject_twins(sorted(found, key=lambda case: case.name), root)


def announced(root: Path) -> frozenset[str]:
    """Subjects that the information table lists; none without a table."""
    return frozenset(_read_table(root))


def _case(image: Path, number: str, phase: str, table: dict[str, dict[str, str]]) -> Case:
    code = f"{int(number):03d}"
    details = {
        column.lower(): row[column].strip()
        for row in (table.get(code, {}),)
        for column in DETAIL_COLUMNS
        if (row.get(column) or "").strip()
    }
    part = next((name for name, last in LAST_OF_SPLIT.items() if int(number) <= last), None)
    return Case(
        NAME,
        code,
        phase,
        image,
        existing(image.with_name(f"{number}_SA_{phase}_gt.nii.gz")),
        LABEL_MAP,
        structures=STRUCTURES,
        details=details if part is None else {**details, "split": part},
    )


def _read_table(root: Path) -> dict[str, dict[str, str]]:
    """Rows of the information table by subject; blank ones at its end are left out."""
    nearby = [folder / TABLE for folder in (root, *root.parents[:2])]
    for path in (*nearby, *visible(list(root.glob(f"*/{TABLE}")))):
        if path.is_file():
            with path.open(newline="", encoding="utf-8-sig") as stream:
                reader = csv.DictReader(stream)
                if CODE_COLUMN not in (reader.fieldnames or ()):
                    raise InputError(f"has no column '{CODE_COLUMN}'", where=path)
                rows = [row for row in reader if (row[CODE_COLUMN] or "").strip()]
            return {_code(row[CODE_COLUMN], path): row for row in rows}
    return {}


def _code(text: str, where: Path) -> str:
    """The subject's number with three digits, as in the names of the files."""
    try:
        return f"{int(float(text)):03d}"
    except ValueError:
        raise InputError(f"has the subject '{text}', which is no number", where=where) from None
