"""Cohorts of phantom studies as `cinelabel phantom` writes them, with canonical labels.

Layout: `<name>/<name>.nii.gz` or `<name>/dicom/`, `<name>/<name>_gt.nii.gz` (4D, every frame
labelled) and `<name>/truth.json`, whose `ed` and `es` count frames from 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cinelabel.core.errors import InputError
from cinelabel.core.labels import CANONICAL, STRUCTURES
from cinelabel.datasets.case import Case, existing, reject_twins, visible

NAME = "phantom"
LABEL_MAP = CANONICAL
MANNERS: Mapping[str, str] = MappingProxyType(
    {"full_hold": "full breath-hold", "half_hold": "half breath-hold"}
)
"""Manners of breathing in the words of CMRxMotion, where a phantom's truth has others."""


def cases(root: Path) -> list[Case]:
    """ED and ES of every phantom below `root`, sorted by name. Raises InputError."""
    found: list[Case] = []
    for path in visible(list(root.rglob("truth.json"))):
        found += _study(path)
    return reject_twins(sorted(found, key=lambda case: case.name), root)


def _study(path: Path) -> list[Case]:
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
        phases = {"ED": int(truth["ed"]), "ES": int(truth["es"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("is not a phantom's truth with 'ed' and 'es'", where=path) from error
    name = path.parent.name
    image = existing(path.with_name(f"{name}.nii.gz")) or path.with_name("dicom")
    if not image.exists():
        raise InputError(f"neither {name}.nii.gz nor dicom/ is here", where=path.parent)
    if phases["ED"] == phases["ES"]:
        del phases["ES"]
    label = existing(path.with_name(f"{name}_gt.nii.gz"))
    details = {key: str(truth[key]) for key in ("group", "manner", "grade") if key in truth}
    if "manner" in details:
        details["manner"] = MANNERS.get(details["manner"], details["manner"])
    return [
        Case(
            NAME,
            name,
            phase,
            image,
            label,
            LABEL_MAP,
            frame=frame,
            structures=STRUCTURES,
            details=details,
        )
        for phase, frame in phases.items()
    ]
