"""MS-CMRSeg 2019 (Zhuang et al., Medical Image Analysis 2022): one bSSFP volume a patient.

Labels are 500 LV, 200 MYO, 600 RV. Layout: `c0t2lge/patientN_C0.nii.gz`, N without zeros in front,
and labels `patientN_C0_manual.nii.gz` in two packages, `c0gt/` for 1 to 35 and `C0_manual_10/` for
the rest: both are looked for anywhere below the root and joined by N. Images may hold NaN. T2 and
late enhancement are not read.
"""

from __future__ import annotations

import re
from pathlib import Path

from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.datasets.case import Case, Published, only_one, reject_twins, visible

NAME = "mscmrseg"
LABEL_MAP = LabelMap("MS-CMRSeg", {500: LV.value, 200: MYO.value, 600: RV.value})
PUBLISHED = Published(45, 45, tuple(f"patient{number}" for number in range(1, 46)))

_IMAGE = re.compile(r"patient(\d+)_C0\.nii\.gz")
_LABEL = re.compile(r"patient(\d+)_C0_manual\.nii\.gz")


def cases(root: Path) -> list[Case]:
    """The bSSFP image of every patient below `root`, sorted by number. Raises InputError."""
    labels = only_one(root.rglob("patient*_C0_manual.nii.gz"), _LABEL)
    images = [
        (int(match[1]), path)
        for path in visible(list(root.rglob("patient*_C0.nii.gz")))
        if (match := _IMAGE.fullmatch(path.name))
    ]
    found = [
        Case(
            NAME,
            f"patient{number}",
            "single",
            image,
            labels.get(str(number)),
            LABEL_MAP,
            structures=STRUCTURES,
            mend=True,
        )
        for number, image in sorted(images)
    ]
    return reject_twins(found, root)
