"""One image of a public data set with its label, and the splits that keep patients together."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cinelabel.core.errors import InputError
from cinelabel.core.labels import LabelMap, Structure

if TYPE_CHECKING:
    import numpy as np

    from cinelabel.core.grid import Grid
    from cinelabel.studies.study import Study


@dataclass(frozen=True)
class Case:
    """A cardiac phase (or a whole cine) of one patient.

    Attributes:
        set: name of the data set; `patient` is unique within it and is the group of every split.
        phase: "ED", "ES", "cine" for all frames of a 4D file, or "single" where the set holds one
            phase and does not say which.
        image, label: NIfTI files, or DICOM and contours in a folder each; `label` is None for an
            image without a label, which is normal.
        label_map: from the values in the file to the canonical ones.
        frame: index from 0 of the phase in 4D files, None where the files hold just this phase.
        structures: what the set annotates.
        scored_slices: structure name -> slices (from 0) that were annotated; None for all.
        details: what else the set says about the patient (vendor, pathology, ...), as text.
        scan: tells examinations of one patient apart; empty where there is one.
        mend: whether images of the set may hold NaN; such voxels get the image's lowest value.
        draw: makes canonical labels (x, y, z) of the case on a grid where `label` is no NIfTI file.
    """

    set: str
    patient: str
    phase: str
    image: Path
    label: Path | None
    label_map: LabelMap
    frame: int | None = None
    structures: tuple[Structure, ...] = ()
    scored_slices: Mapping[str, tuple[int, ...]] | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    scan: str = ""
    mend: bool = False
    draw: Callable[[Case, Grid], np.ndarray] | None = None

    @property
    def examination(self) -> str:
        """`patient`, or `patient-scan` where a patient was examined more than once."""
        return f"{self.patient}-{self.scan}" if self.scan else self.patient

    @property
    def name(self) -> str:
        """`examination_phase`, unique within the set."""
        return f"{self.examination}_{self.phase}"

    @property
    def group(self) -> str:
        """Key of patient-grouped splits, unique over sets."""
        return f"{self.set}/{self.patient}"


@dataclass(frozen=True)
class Published:
    """How much a whole set holds, as published; None where that is not known.

    Attributes:
        patients: with at least one image.
        labelled: images (one phase each) with a label.
        names: of all patients, where they are numbered without gaps.
    """

    patients: int | None = None
    labelled: int | None = None
    names: tuple[str, ...] = ()


def load_case(case: Case) -> tuple[Study, np.ndarray | None]:
    """The study of a case (one frame unless the case is a cine) and its canonical labels.

    Labels are uint8 (x, y, z) for a phase, (x, y, z, t) for a cine, None where there are none.
    Raises InputError for unreadable files or a frame that does not exist, LabelError (naming the
    file) for a value outside the map, GridError where image and label do not share a grid.
    """
    from cinelabel.studies import load, load_label

    study = load(case.image, mend=case.mend)
    if case.frame is not None:
        study = _one_frame(study, case.frame, case.image)
    if case.label is None:
        return study, None
    if case.draw is not None:
        return study, case.draw(case, study.grid)
    labels, grid = load_label(case.label, case.label_map)
    study.grid.require_equal(grid, str(case.label))
    if labels.ndim == 4 and case.phase != "cine":
        frame = 0 if labels.shape[3] == 1 else case.frame
        if frame is None or frame >= labels.shape[3]:
            raise InputError(
                f"holds {labels.shape[3]} frames, and the phase {case.phase} is none of them",
                where=case.label,
            )
        labels = labels[..., frame]
    return study, labels


def split_by_patient(
    cases: Sequence[Case], folds: int, seed: int
) -> list[tuple[list[Case], list[Case]]]:
    """(training, held-out) cases of each fold; all cases of a patient are on the same side.

    Patients are dealt as by `deal_patients`, which also says what is raised.
    """
    fold_of = deal_patients(cases, folds, seed)
    return [
        (
            [case for case in cases if fold_of[case.group] != fold],
            [case for case in cases if fold_of[case.group] == fold],
        )
        for fold in range(folds)
    ]


def deal_patients(cases: Sequence[Case], folds: int, seed: int) -> dict[str, int]:
    """The fold, from 0, of every patient (`Case.group`) of the cases.

    Patients are shuffled by `seed` and dealt to the folds in turn, one set after the other, so that
    folds differ by at most one patient, and by at most one of any set. The order of `cases` does
    not matter. Raises InputError for fewer than two folds or fewer patients than folds.
    """
    sets = {case.group: case.set for case in cases}
    patients = sorted(sets)
    if folds < 2 or len(patients) < folds:
        raise InputError(
            f"{len(patients)} patient(s) cannot be split into {folds} folds",
            remedy="Use at least two folds and at least as many patients",
        )
    random.Random(seed).shuffle(patients)
    patients.sort(key=sets.__getitem__)
    return {patient: index % folds for index, patient in enumerate(patients)}


def visible(paths: Sequence[Path]) -> list[Path]:
    """Sorted paths without the `._name` and `__MACOSX` copies that some archives carry."""
    return sorted(
        path for path in paths if not path.name.startswith(".") and "__MACOSX" not in path.parts
    )


def reject_twins(cases: Sequence[Case], root: Path) -> list[Case]:
    """The cases, unless two of them have the same patient and phase (InputError)."""
    seen: dict[str, Case] = {}
    for case in cases:
        if case.name in seen:
            raise InputError(
                f"{case.name} is there twice, as {seen[case.name].image} and {case.image}",
                where=root,
                remedy="Keep one copy of each patient",
            )
        seen[case.name] = case
    return list(cases)


def only_one(paths: Iterable[Path], pattern: re.Pattern[str]) -> dict[str, Path]:
    """Files by the number in their name (the pattern's first group), without zeros in front.

    Raises InputError where two files have one number.
    """
    found: dict[str, Path] = {}
    for path in visible(list(paths)):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        number = str(int(match[1]))
        if number in found:
            raise InputError(
                f"is there twice, also as {found[number]}", where=path, remedy="Keep one of them"
            )
        found[number] = path
    return found


def existing(path: Path) -> Path | None:
    """The path if it is a file."""
    return path if path.is_file() else None


def _one_frame(study: Study, frame: int, where: Path) -> Study:
    from dataclasses import replace

    if frame >= study.n_frames:
        raise InputError(
            f"has {study.n_frames} frames, and the phase is number {frame} counted from 0",
            where=where,
        )
    return replace(
        study,
        frames=study.frames[..., frame : frame + 1],
        is_cine=False,
        trigger_times_ms=None,
        ed=None,
        es=None,
    )
