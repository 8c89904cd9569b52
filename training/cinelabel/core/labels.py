"""The structures of the heart: canonical values, colours and SNOMED CT codes; label maps.

Colours are of the colour-blind-safe palette of Okabe and Ito (2008). Codes are SNOMED CT terms as
DICOM lists them for cardiac anatomy (PS3.16).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .errors import LabelError

BACKGROUND = 0


@dataclass(frozen=True)
class CodedConcept:
    """A term of a coding scheme, as DICOM writes one."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Structure:
    """A segmented part of the heart; `value` is its canonical label value."""

    name: str
    value: int
    title: str
    colour: tuple[int, int, int]
    code: CodedConcept


LV = Structure(
    "LV",
    1,
    "Left ventricular cavity",
    (213, 94, 0),
    CodedConcept("87878005", "SCT", "Left ventricle"),
)
MYO = Structure(
    "MYO",
    2,
    "Left ventricular myocardium",
    (0, 158, 115),
    CodedConcept("74281007", "SCT", "Myocardium"),
)
RV = Structure(
    "RV",
    3,
    "Right ventricular cavity",
    (86, 180, 233),
    CodedConcept("53085002", "SCT", "Right ventricle"),
)
STRUCTURES = (LV, MYO, RV)
LABEL_NAMES: Mapping[str, int] = MappingProxyType({s.name: s.value for s in STRUCTURES})


@dataclass(frozen=True)
class LabelMap:
    """The label values of a source and the canonical values they mean; 0 is always background."""

    name: str
    values: Mapping[int, int]

    def to_canonical(self, array: np.ndarray, where: object) -> np.ndarray:
        """Labels of any shape and real dtype as uint8 with canonical values.

        Args:
            array: label values of the source; floats pass when they are whole numbers.
            where: the file named in errors.

        Raises:
            LabelError: a value is none of the map's, NaN and fractions included.
        """
        labels = np.zeros(array.shape, np.uint8)
        known = array == BACKGROUND
        for source, canonical in self.values.items():
            if source == BACKGROUND:
                continue
            here = array == source
            labels[here] = canonical
            known |= here
        if not known.all():
            raise self._unknown_values(array[~known], where)
        return labels

    def _unknown_values(self, values: np.ndarray, where: object) -> LabelError:
        unique = [f"{value:g}" for value in np.unique(values)]
        shown = ", ".join(unique[:5]) + (", ..." if len(unique) > 5 else "")
        names = {s.value: s.name for s in STRUCTURES}
        expected = ["0 (background)"]
        expected += [f"{source} ({names[to]})" for source, to in self.values.items() if to in names]
        return LabelError(
            f"has label value {shown}, which is no structure of the {self.name} label map",
            where=where,
            remedy=f"Use {', '.join(expected)}",
        )


CANONICAL = LabelMap("canonical", MappingProxyType({s.value: s.value for s in STRUCTURES}))
