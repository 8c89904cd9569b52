"""What a folder holds of a data set, what it lacks, and which of its cases cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cinelabel.core.errors import CineLabelError
from cinelabel.datasets.case import Case, load_case

if TYPE_CHECKING:
    import numpy as np

    from cinelabel.studies.study import Study

Progress = Callable[[int, int, str], None]
MOST_VALUES = 8
"""A detail with more values than this, such as an age, is not counted value by value."""


@dataclass(frozen=True)
class Finding:
    """A labelled or unlabelled case that was opened: size, spacing in mm, labelled voxels."""

    case: Case
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    frames: int
    voxels: Mapping[str, int] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
        set, root: what was looked for, and where.
        cases: listed, whether they can be used or not.
        findings: of the cases that were opened and can be used.
        problems: case name -> why it cannot be used.
        missing: what a whole set would have and this folder has not, in sentences.
        remarks: what is there and worth knowing, in sentences.
    """

    set: str
    root: Path
    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    problems: Mapping[str, str]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def patients(self) -> int:
        """Number of patients with at least one case."""
        return len({case.patient for case in self.cases})

    @property
    def labelled(self) -> int:
        """Number of cases with a label."""
        return sum(case.label is not None for case in self.cases)

    def details(self) -> dict[str, dict[str, int]]:
        """For each detail that the set tells, how many patients have which value.

        Left out are details with more than `MOST_VALUES` values. A patient counts for each value
        that one of its cases has.
        """
        pairs = {
            (key, value, case.patient) for case in self.cases for key, value in case.details.items()
        }
        counts: dict[str, Counter[str]] = {}
        for key, value, _ in sorted(pairs):
            counts.setdefault(key, Counter())[value] += 1
        return {key: dict(of) for key, of in counts.items() if len(of) <= MOST_VALUES}

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "set": self.set,
            "root": str(self.root),
            "patients": self.patients,
            "cases": len(self.cases),
            "labelled": self.labelled,
            "phases": dict(Counter(case.phase for case in self.cases)),
            "details": self.details(),
            "opened": len(self.findings) + len(self.problems),
            "problems": dict(self.problems),
            "missing": list(self.missing),
            "remarks": list(self.remarks),
        }


def check(
    name: str,
    root: Path,
    *,
    open_files: bool = True,
    progress: Progress | None = None,
    visit: Callable[[Case, Study, np.ndarray | None], None] | None = None,
) -> Report:
    """Look through a data set below a folder.

    Args:
        name: of the data set.
        root: folder.
        open_files: whether every image and label is read, which finds damaged files, foreign label
            values and labels on another grid; else the files are listed alone.
        progress: called with cases done, cases in all, and the case's name.
        visit: called with each case that can be used, its study and its canonical labels.

    Raises InputError as `datasets.cases` does; what is wrong with single cases is in the report.
    """
    from cinelabel.datasets import cases

    found = cases(name, root)
    findings: list[Finding] = []
    problems: dict[str, str] = {}
    for number, case in enumerate(found if open_files else ()):
        try:
            study, labels = load_case(case)
        except CineLabelError as error:
            problems[case.name] = str(error)
        else:
            findings.append(_finding(case, study, labels))
            if visit is not None:
                visit(case, study, labels)
        if progress is not None:
            progress(number + 1, len(found), case.name)
    return Report(
        name,
        root,
        tuple(found),
        tuple(findings),
        problems,
        tuple(_missing(name, root, found)),
        tuple(_remarks(found, findings)),
    )


def _finding(case: Case, study: Study, labels: np.ndarray | None) -> Finding:
    voxels = None
    if labels is not None:
        voxels = {s.name: int((labels == s.value).sum()) for s in case.structures}
    grid = study.grid
    return Finding(case, grid.shape, grid.spacing, study.n_frames, voxels, study.notes)


def _missing(name: str, root: Path, found: Sequence[Case]) -> Iterable[str]:
    from cinelabel.datasets import dataset

    entry = dataset(name)
    whole = entry.published
    here = {case.patient for case in found}
    announced = entry.list_announced(root)
    if absent := sorted(announced - here):
        yield f"{len(absent)} patients of the set's own table: {shortened(absent)}"
    if absent := [patient for patient in whole.names if patient not in here | announced]:
        yield f"{len(absent)} of the {len(whole.names)} patients of the set: {shortened(absent)}"
    elif not whole.names and whole.patients is not None and len(here) < whole.patients:
        yield f"{whole.patients - len(here)} of the {whole.patients} patients of the set"
    phases: dict[str, set[str]] = {}
    for case in found:
        phases.setdefault(case.examination, set()).add(case.phase)
    for phase, other in (("ED", "ES"), ("ES", "ED")):
        alone = sorted(one for one, has in phases.items() if other in has and phase not in has)
        if alone:
            yield f"{phase} of {len(alone)} examinations that have {other}: {shortened(alone)}"
    labelled = sum(case.label is not None for case in found)
    if whole.labelled is not None and labelled < whole.labelled:
        yield f"{whole.labelled - labelled} of the {whole.labelled} labels of the set"


def _remarks(found: Sequence[Case], findings: Sequence[Finding]) -> Iterable[str]:
    if bare := [case.name for case in found if case.label is None]:
        yield f"{len(bare)} cases have no label and count as images only: {shortened(bare)}"
    for structure in ("LV", "MYO", "RV"):
        empty = [f.case.name for f in findings if f.voxels and f.voxels.get(structure) == 0]
        if empty:
            yield f"{structure} is labelled nowhere in {len(empty)} cases: {shortened(empty)}"
    if noted := [f"{f.case.name}: {note}" for f in findings for note in f.notes]:
        yield f"{len(noted)} images were mended: {shortened(noted, 3)}"


def shortened(names: Sequence[str], most: int = 6) -> str:
    """The names in one line; of many the first ones and the last."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 2])}, ... {names[-1]}"
