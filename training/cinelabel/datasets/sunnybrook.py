"""Sunnybrook (Radau et al., MIDAS 2009): DICOM cine with contours of LV and MYO, no RV.

Layouts, one folder a patient: `dicom/` and `contours/`, files `IM-0001-NNNN-icontour-manual.txt` of
the endocardium and `...-ocontour-...` of the epicardium, x and y in pixels, for the image whose
instance number is NNNN; or NIfTI made from them, `case.json` with `<scd>_ED.nii.gz` and
`<scd>_ED_gt.nii.gz` (1 LV, 2 MYO), the same for ES. Slices without a contour were never annotated
and are not scored.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, LabelMap
from cinelabel.datasets.case import Case, existing, reject_twins, visible

if TYPE_CHECKING:
    import numpy as np

    from cinelabel.core.grid import Grid

NAME = "sunnybrook"
LABEL_MAP = LabelMap("Sunnybrook", {1: LV.value, 2: MYO.value})
STRUCTURES = (LV, MYO)
DETAIL_KEYS = ("scd", "manufacturer", "model", "tesla")

_CONTOUR = re.compile(r"IM-\d+-(\d+)-([io])contour-manual\.txt")
Contours = dict[tuple[int, int], Path]
"""Files by (slice, phase), from 0."""


def cases(root: Path) -> list[Case]:
    """ED and ES of every patient below `root`, sorted by patient. Raises InputError."""
    found: list[Case] = []
    for path in visible(list(root.rglob("case.json"))):
        found += _patient(path)
    for folder in visible([path for path in root.rglob("dicom") if path.is_dir()]):
        if not (folder.parent / "case.json").exists():
            found += _contoured(folder)
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


def _contoured(dicom: Path) -> list[Case]:
    """ED and ES of a patient with contours; ED is the phase of the larger cavity.

    Contours of other phases than the two that have most are counted in the details.
    """
    inner, outer = _contours(dicom)
    if not inner:
        return []
    counts = Counter(phase for _, phase in inner)
    phases = sorted(phase for phase, _ in counts.most_common(2))
    areas = {phase: _mean_area(inner, phase, phases) for phase in phases}
    names = ("ED", "ES")[: len(phases)]
    strays = sum(phase not in phases for _, phase in (*inner, *outer))
    found = []
    for name, phase in zip(names, sorted(phases, key=lambda one: -areas[one]), strict=True):
        cavity = {k for k, of in inner if of == phase}
        slices = {
            LV.name: tuple(sorted(cavity)),
            MYO.name: tuple(sorted(k for k, of in outer if of == phase and k in cavity)),
        }
        found.append(
            Case(
                NAME,
                dicom.parent.name,
                name,
                dicom,
                dicom.parent / "contours",
                LABEL_MAP,
                frame=phase,
                structures=tuple(s for s in STRUCTURES if slices[s.name]),
                scored_slices=slices,
                details={"contours of other phases": str(strays)} if strays else {},
                draw=draw_contours,
            )
        )
    return found


def draw_contours(case: Case, grid: Grid) -> np.ndarray:
    """Labels uint8 (x, y, z) of a contoured case: pixels whose centres lie inside a contour."""
    import numpy as np
    from matplotlib.path import Path as Polygon

    inner, outer = _contours(case.image)
    centres = np.stack(np.meshgrid(*map(np.arange, grid.shape[:2]), indexing="ij"), -1)
    labels = np.zeros(grid.shape, np.uint8)
    for value, contours in ((MYO.value, outer), (LV.value, inner)):
        for (k, phase), path in contours.items():
            if phase == case.frame and (k, phase) in inner:
                inside = Polygon(_points(path)).contains_points(centres.reshape(-1, 2))
                labels[..., k][inside.reshape(grid.shape[:2])] = value
    return labels


def _contours(dicom: Path) -> tuple[Contours, Contours]:
    """Files of the endocardium and of the epicardium."""
    files = visible(list((dicom.parent / "contours").rglob("*contour-manual.txt")))
    matches = [(path, match) for path in files if (match := _CONTOUR.fullmatch(path.name))]
    if not matches:
        return {}, {}
    from cinelabel.studies.dicom import instance_places

    places = instance_places(dicom)
    found: dict[str, Contours] = {"i": {}, "o": {}}
    for path, match in matches:
        number = int(match[1])
        if number not in places:
            raise InputError(f"there is no image of the number {number} for it", where=path)
        twin = found[match[2]].setdefault(places[number], path)
        if twin != path:
            raise InputError(f"is there twice, also as {twin}", where=path, remedy="Keep one")
    return found["i"], found["o"]


def _mean_area(contours: Contours, phase: int, phases: list[int]) -> float:
    """Mean area in pixels at a phase, of slices contoured at all phases where there are such."""
    import numpy as np

    shared = set.intersection(*({k for k, of in contours if of == one} for one in phases))
    areas = []
    for (k, of), path in contours.items():
        if of == phase and (not shared or k in shared):
            x, y = _points(path).T
            areas.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
    return float(np.mean(areas))


def _points(path: Path) -> np.ndarray:
    """(n, 2) float64 x and y in pixels. Raises InputError for another content."""
    import numpy as np

    try:
        points = [[float(text) for text in line.split()] for line in path.open() if line.strip()]
        array = np.array(points, np.float64)
    except ValueError as error:
        raise InputError("is not a list of x and y", where=path) from error
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < 3 or not np.isfinite(array).all():
        raise InputError("is not a contour of at least three points x and y", where=path)
    return array
