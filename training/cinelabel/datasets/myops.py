"""MyoPS 2020 (Zhuang, IEEE TPAMI 2019): one bSSFP volume, labels 500 LV, 600 RV, three of MYO.

Normal myocardium is 200, oedema 1220, scar 2221; all three are MYO here. Layout:
`train25/myops_training_NNN_C0.nii.gz` with `train25_myops_gd/myops_training_NNN_gd.nii.gz`, one
label for the three sequences, and `test20/myops_test_NNN_C0.nii.gz` without labels; or all in one
folder. T2 and late enhancement are not read.
"""

from __future__ import annotations

import re
from pathlib import Path

from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.datasets.case import Case, Published, only_one, reject_twins, visible

NAME = "myops"
LABEL_MAP = LabelMap(
    "MyoPS",
    {500: LV.value, 200: MYO.value, 1220: MYO.value, 2221: MYO.value, 600: RV.value},
)
PUBLISHED = Published(45, 25, tuple(str(number) for number in (*range(101, 126), *range(201, 221))))

_IMAGE = re.compile(r"myops_(training|test)_(\d+)_C0\.nii\.gz")
_LABEL = re.compile(r"myops_training_(\d+)_gd\.nii\.gz")


def cases(root: Path) -> list[Case]:
    """The bSSFP image of every patient below `root`, sorted by number. Raises InputError."""
    labels = only_one(root.rglob("myops_training_*_gd.nii.gz"), _LABEL)
    found = []
    for image in visible(list(root.rglob("myops_*_C0.nii.gz"))):
        match = _IMAGE.fullmatch(image.name)
        if match is None:
            continue
        part, number = match.groups()
        found.append(
            Case(
                NAME,
                number,
                "single",
                image,
                labels.get(number) if part == "training" else None,
                LABEL_MAP,
                structures=STRUCTURES,
                details={"split": "train" if part == "training" else "test"},
                mend=True,
            )
        )
    return reject_twins(sorted(found, key=lambda case: case.name), root)
