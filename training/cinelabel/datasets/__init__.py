"""Public data sets on disk: a registry of loaders, label maps and patient-grouped splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cinelabel.core.errors import InputError
from cinelabel.core.labels import CANONICAL, LabelMap
from cinelabel.datasets import acdc, mnms, phantom, sunnybrook
from cinelabel.datasets.case import Case, load_case, split_by_patient


@dataclass(frozen=True)
class Dataset:
    """A data set's name, label convention and the function that lists its cases."""

    name: str
    label_map: LabelMap
    list_cases: Callable[[Path], list[Case]]


REGISTRY: Mapping[str, Dataset] = MappingProxyType(
    {
        module.NAME: Dataset(module.NAME, module.LABEL_MAP, module.cases)
        for module in (acdc, mnms, sunnybrook, phantom)
    }
)


def dataset(name: str) -> Dataset:
    """The registered set of that name. Raises InputError naming the known ones."""
    if name not in REGISTRY:
        raise InputError(
            f"there is no data set '{name}'", remedy=f"Known are {', '.join(REGISTRY)}"
        )
    return REGISTRY[name]


def label_map(name: str) -> LabelMap:
    """The label convention `canonical` or that of a registered set. Raises InputError."""
    return CANONICAL if name == "canonical" else dataset(name).label_map


def cases(name: str, root: str | Path) -> list[Case]:
    """The cases of a data set below a folder, sorted by patient and phase.

    Raises InputError for an unknown set, a folder that does not exist or holds none of its cases,
    and where files of the layout contradict each other.
    """
    entry, folder = dataset(name), Path(root)
    if not folder.is_dir():
        raise InputError("this folder does not exist", where=folder)
    found = entry.list_cases(folder)
    if not found:
        raise InputError(f"no case of the data set {name} is here", where=folder)
    return found


__all__ = [
    "REGISTRY",
    "Case",
    "Dataset",
    "cases",
    "dataset",
    "label_map",
    "load_case",
    "split_by_patient",
]
