"""ACDC (Bernard et al., IEEE TMI 2018): ED and ES volumes, labels 1 RV, 2 MYO, 3 LV.

Layouts: the published one, `patientNNN/Info.cfg` with `patientNNN_frameMM.nii.gz` and
`..._frameMM_gt.nii.gz`, where ED and ES count frames from 1; and a flat one,
`patientNNN_ED.nii.gz` with `patientNNN_ED_gt.nii.gz`.
"""

from __future__ import annotations

import re
from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.datasets.case import Case, Published, existing, reject_twins, visible

NAME = "acdc"
LABEL_MAP = LabelMap("ACDC", {3: LV.value, 2: MYO.value, 1: RV.value})
PUBLISHED = Published(150, 300, tuple(f"patient{number:03d}" for number in range(1, 151)))
GROUPS = {"ARV": "RV"}

_PATIENT = re.compile(r"patient\d{3}")


def cases(root: Path) -> list[Case]:
    """ED and ES of every patient below `root`, sorted by patient. Raises InputError."""
    found: list[Case] = []
    for info in visible(list(root.rglob("Info.cfg"))):
        found += _published(info)
    listed = {case.patient for case in found}
    for phase in ("ED", "ES"):
        for image in visible(list(root.rglob(f"patient*_{phase}.nii.gz"))):
            patient = image.name.removesuffix(f"_{phase}.nii.gz")
            if patient not in listed:
                label = image.with_name(f"{patient}_{phase}_gt.nii.gz")
                found.append(_case(patient, phase, image, label, {}))
    return reject_twins(sorted(found, key=lambda case: case.name), root)


def _published(info: Path) -> list[Case]:
    patient = info.parent.name
    if not _PATIENT.fullmatch(patient):
        raise InputError("its folder is not named patientNNN", where=info)
    values = _read_info(info)
    details = {"group": GROUPS.get(values.get("Group", ""), values.get("Group", ""))}
    found = []
    for phase in ("ED", "ES"):
        try:
            number = int(values[phase])
        except (KeyError, ValueError):
            raise InputError(f"does not give a frame number for {phase}", where=info) from None
        image = info.with_name(f"{patient}_frame{number:02d}.nii.gz")
        if not image.is_file():
            raise InputError(f"the image of {phase} named by Info.cfg is missing", where=image)
        label = info.with_name(f"{patient}_frame{number:02d}_gt.nii.gz")
        found.append(_case(patient, phase, image, label, details))
    return found


def _read_info(path: Path) -> dict[str, str]:
    pairs = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()]
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _case(patient: str, phase: str, image: Path, label: Path, details: dict[str, str]) -> Case:
    return Case(
        NAME,
        patient,
        phase,
        image,
        existing(label),
        LABEL_MAP,
        structures=STRUCTURES,
        details=details,
    )
