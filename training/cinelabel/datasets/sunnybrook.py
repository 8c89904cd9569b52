"""Sunnybrook (Radau et al., MIDAS 2009) as NIfTI made from its contours: 1 LV, 2 MYO, no RV.

Layout: one folder a patient with `case.json` and `<scd>_ED.nii.gz`, `<scd>_ED_gt.nii.gz`, the same
for ES. `case.json` lists the contoured slices of each structure and phase; others were never
annotated and are not scored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, LabelMap
from cinelabel.datasets.case import Case, existing, reject_twins, visible

NAME = "sunnybrook"
LABEL_MAP = LabelMap("Sunnybrook", {1: LV.value, 2: MYO.value})
STRUCTURES = (LV, MYO)
DETAIL_KEYS = ("scd", "manufacturer", "model", "tesla")


def cases(root: Path) -> list[Case]:
    """ED and ES of every patient below `root`, sorted by patient. Raises InputError."""
    found: list[Case] = []
    for path in visible(list(root.rglob("case.json"))):
        found += _patient(path)
    return reject_twins(sorted(found, key=lambda case: case.name), root)


def _patient(path: Path) -> list[Case]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        patient, scd = str(facts["case"]), str(facts["scd"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("is not a case description with 'case' and 'scd'", where=path) from error
    details = {key: str(facts[key]) for key in DETAIL_KEYS if key in facts}
    found = []
    for phase in ("ED", "ES"):
        image = path.with_name(f"{scd}_{phase}.nii.gz")
        if not image.is_file():
            continue
        slices = {
            structure.name: tuple(int(k) for k in facts.get(f"slices_{structure.name}_{phase}", ()))
            for structure in STRUCTURES
        }
        found.append(
            Case(
                NAME,
                patient,
                phase,
                image,
                existing(path.with_name(f"{scd}_{phase}_gt.nii.gz")),
                LABEL_MAP,
                structures=tuple(s for s in STRUCTURES if slices[s.name]),
                scored_slices=slices,
                details=details,
            )
        )
    return found
