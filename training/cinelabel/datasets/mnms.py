"""M&Ms (Campello et al., IEEE TMI 2021): 4D cine of several vendors, labels 1 LV, 2 MYO, 3 RV.

Layouts: the published one, `<code>/<code>_sa.nii.gz` with `<code>_sa_gt.nii.gz` (labels at ED and
ES alone) and a CSV whose columns ED and ES count frames from 0; and a flat one,
`<code>_sa_ED.nii.gz` with `<code>_sa_ED_gt.nii.gz`. Label files below `Unlabeled` are empty and
count as none.
"""

from __future__ import annotations

import csv
from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.datasets.case import Case, Published, existing, reject_twins, visible

NAME = "mnms"
LABEL_MAP = LabelMap("M&Ms", {1: LV.value, 2: MYO.value, 3: RV.value})
PUBLISHED = Published(345, 640)
CODE_COLUMN = "External code"
DETAIL_COLUMNS = ("VendorName", "Vendor", "Centre", "Age", "Pathology", "Sex", "Height", "Weight")


def cases(root: Path) -> list[Case]:
    """ED and ES of every subject below `root`, sorted by code. Raises InputError.

    A subject without frame numbers in the table is one case of phase "cine".
    """
    found: list[Case] = []
    cines = visible([path for path in root.rglob("*_sa.nii.gz") if path.is_file()])
    table = _read_table(root) if cines else {}
    for image in cines:
        found += _published(image, table, root)
    listed = {case.patient for case in found}
    for phase in ("ED", "ES"):
        suffix = f"_sa_{phase}.nii.gz"
        for image in visible(list(root.rglob(f"*{suffix}"))):
            code = image.name.removesuffix(suffix)
            if code not in listed:
                label = existing(image.with_name(f"{code}_sa_{phase}_gt.nii.gz"))
                found.append(_case(code, phase, image, label, None, {}))
    return reject_twins(sorted(found, key=lambda case: case.name), root)


def announced(root: Path) -> frozenset[str]:
    """Subjects that the information table lists; none without a table."""
    try:
        return frozenset(_read_table(root))
    except InputError:
        return frozenset()


def _published(image: Path, table: dict[str, dict[str, str]], root: Path) -> list[Case]:
    code = image.name.removesuffix("_sa.nii.gz")
    if code not in table:
        raise InputError(f"the subject {code} is not in the table of the data set", where=root)
    row = table[code]
    label = image.with_name(f"{code}_sa_gt.nii.gz")
    known = existing(label) if "unlabeled" not in str(image.parent).lower() else None
    details = {column: row[column] for column in DETAIL_COLUMNS if row.get(column)}
    numbers = [(phase, _frame(row.get(phase, ""))) for phase in ("ED", "ES")]
    if any(frame is None for _, frame in numbers):
        return [_case(code, "cine", image, known, None, details)]
    return [_case(code, phase, image, known, frame, details) for phase, frame in numbers]


def _frame(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number >= 0 and number == int(number) else None


def _read_table(root: Path) -> dict[str, dict[str, str]]:
    """Rows of the information table by subject code; columns are found by name."""
    for folder in (root, *root.parents[:2]):
        for path in visible(list(folder.glob("*.csv"))):
            with path.open(newline="", encoding="utf-8-sig") as stream:
                rows = list(csv.DictReader(stream))
            if rows and CODE_COLUMN in rows[0]:
                return {row[CODE_COLUMN].strip(): row for row in rows if row[CODE_COLUMN]}
    raise InputError(
        f"no CSV table with a column '{CODE_COLUMN}' is here",
        where=root,
        remedy="Put the information table of the data set there, saved as CSV",
    )


def _case(
    code: str,
    phase: str,
    image: Path,
    label: Path | None,
    frame: int | None,
    details: dict[str, str],
) -> Case:
    return Case(
        NAME,
        code,
        phase,
        image,
        label,
        LABEL_MAP,
        frame=frame,
        structures=STRUCTURES,
        details=details,
    )
