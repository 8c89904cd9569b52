"""Export of labelled cases in the raw format of nnU-Net v2 (Isensee et al. 2021).

`DatasetNNN_Name/` with `imagesTr/<case>_0000.nii.gz`, `labelsTr/<case>.nii.gz`, `imagesTs/` for
images without a label, and `dataset.json`; beside them `splits_final.json`, folds by patient, which
nnU-Net's planner takes over: its own split is by case. Checked with `verify_dataset_integrity` of
nnunetv2 2.8.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.files import write_json
from cinelabel.core.labels import LABEL_NAMES, STRUCTURES
from cinelabel.datasets.case import Case, load_case
from cinelabel.datasets.folds import FOLDS, SEED, make_folds

if TYPE_CHECKING:
    from cinelabel.core.grid import Grid

Progress = Callable[[int, int, str], None]
FILE_ENDING = ".nii.gz"
CHANNEL = "cine MRI"
"""Any name but those of nnU-Net's other schemes (CT, noNorm, ...) means z-scores."""

_FOLDER = re.compile(r"Dataset\d{3}_[A-Za-z0-9._-]+")
_ORDER = "cinelabel-export.json"


@dataclass(frozen=True)
class Export:
    """What an export wrote: names in `labelsTr`, names in `imagesTs`, and cases left out."""

    folder: Path
    training: tuple[str, ...]
    test: tuple[str, ...]
    left_out: tuple[str, ...]


def export(
    folder: Path,
    cases: Sequence[Case],
    *,
    folds: int = FOLDS,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Export:
    """Write the cases to `folder`, whose name is that of the data set in nnU-Net.

    Labels have canonical values. Axes that are not orthogonal, which ITK refuses, are turned to the
    nearest ones that are, in image and label alike; spacing is kept. Cines without known phases are
    left out. An export that was interrupted goes on when it is asked for with the same cases;
    `dataset.json` is written last.

    Args:
        folder: `DatasetNNN_Name`; new, or that of the interrupted export.
        cases: with or without labels; their names are `<set>_<name>`.
        folds, seed: of `splits_final.json`; left out where there are fewer patients than folds.
        progress: called with cases done, cases in all, and the case's name.

    Raises:
        InputError: for another name of the folder, no labelled case, or a labelled case of a set
            that does not annotate every structure; and as `load_case` does.
        OutputError: the folder holds something else, or cannot be written.
    """
    if not _FOLDER.fullmatch(folder.name):
        raise InputError(
            "is no name of a data set in nnU-Net",
            where=folder.name,
            remedy="Name the folder DatasetNNN_Name, for example Dataset501_Cine",
        )
    taken = [case for case in cases if case.phase != "cine"]
    training = [case for case in taken if case.label is not None]
    test = [case for case in taken if case.label is None]
    _require_all_structures(training, folder)
    _begin(folder, [_name(case) for case in taken])
    for number, case in enumerate([*training, *test]):
        _write(folder, case)
        if progress is not None:
            progress(number + 1, len(taken), _name(case))
    if len({case.group for case in training}) >= folds:
        write_json(folder / "splits_final.json", _splits(training, folds, seed))
    write_json(folder / "dataset.json", _description(folder, training))
    return Export(
        folder,
        tuple(_name(case) for case in training),
        tuple(_name(case) for case in test),
        tuple(_name(case) for case in cases if case.phase == "cine"),
    )


def _name(case: Case) -> str:
    return f"{case.set}_{case.name}"


def _require_all_structures(training: Sequence[Case], folder: Path) -> None:
    if not training:
        raise InputError("no case has a label, and nnU-Net trains on labels", where=folder)
    for case in training:
        if set(case.structures) != set(STRUCTURES) or case.scored_slices is not None:
            raise InputError(
                f"{case.set} does not annotate LV, MYO and RV on every slice, and nnU-Net would "
                "take the rest for background",
                where=case.label,
                remedy=f"Leave {case.set} out",
            )


def _begin(folder: Path, names: Sequence[str]) -> None:
    """Note what a new folder will hold; one that was begun must have the same note."""
    note, order = folder / _ORDER, {"cases": sorted(names)}
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        write_json(note, order)
        return
    finished = (folder / "dataset.json").exists()
    if finished or not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != order:
        raise OutputError(
            "holds another export" if note.is_file() else "is not empty",
            where=folder,
            remedy="Name a folder that does not exist",
        )


def _write(folder: Path, case: Case) -> None:
    """Image and label of a case, unless an interrupted export left them whole."""
    from cinelabel.studies import save_image, save_label

    name = _name(case)
    images = folder / ("imagesTs" if case.label is None else "imagesTr")
    image = images / f"{name}_0000{FILE_ENDING}"
    label = folder / "labelsTr" / f"{name}{FILE_ENDING}"
    if image.is_file() and (case.label is None or label.is_file()):
        return
    study, labels = load_case(case)
    study = replace(study, grid=_orthogonal(study.grid), header=None, is_cine=False)
    save_image(image, study)
    if labels is not None:
        save_label(label, labels, study)


def _orthogonal(grid: Grid) -> Grid:
    """The grid with the nearest orthogonal axes (the polar factor), its spacing and its origin."""
    import numpy as np

    from cinelabel.core.grid import Grid

    left, _, right = np.linalg.svd(grid.columns)
    affine = grid.affine.copy()
    affine[:3, :3] = (left @ right) * np.array(grid.spacing)
    return Grid(grid.shape, affine)


def _splits(training: Sequence[Case], folds: int, seed: int) -> list[dict[str, list[str]]]:
    dealt = make_folds(training, folds, seed)
    pairs = [dealt.split(training, number) for number in range(folds)]
    return [
        {"train": [_name(c) for c in rest], "val": [_name(c) for c in held_out]}
        for rest, held_out in pairs
    ]


def _description(folder: Path, training: Sequence[Case]) -> dict[str, object]:
    sets = sorted({case.set for case in training})
    return {
        "name": folder.name,
        "description": f"Short-axis cine MRI of {', '.join(sets)}, one cardiac phase a case",
        "channel_names": {"0": CHANNEL},
        "labels": {"background": 0, **LABEL_NAMES},
        "numTraining": len(training),
        "file_ending": FILE_ENDING,
        "licence": "that of each data set",
        "converted_by": "cinelabel data export",
    }
