"""Public data sets on disk: a registry of loaders, label maps and patient-grouped splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cinelabel.core.errors import InputError
from cinelabel.core.labels import CANONICAL, LabelMap
from cinelabel.datasets import (
    acdc,
    cmrxmotion,
    mnms,
    mnms2,
    mscmrseg,
    myops,
    phantom,
    sunnybrook,
)
from cinelabel.datasets.case import Case, Published, load_case, split_by_patient


@dataclass(frozen=True)
class Dataset:
    """A data set's name, label convention and the functions that look into a folder.

    Attributes:
        name: in commands and files.
        label_map: from the values in its files to the canonical ones.
        list_cases: the cases below a folder.
        published: how much the whole set holds.
        list_announced: patients that the set's own tables in a folder name, found or not.
    """

    name: str
    label_map: LabelMap
    list_cases: Callable[[Path], list[Case]]
    published: Published = Published()
    list_announced: Callable[[Path], frozenset[str]] = lambda root: frozenset()


REGISTRY: Mapping[str, Dataset] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Dataset(acdc.NAME, acdc.LABEL_MAP, acdc.cases, acdc.PUBLISHED),
            Dataset(mnms.NAME, mnms.LABEL_MAP, mnms.cases, mnms.PUBLISHED, mnms.announced),
            Dataset(mnms2.NAME, mnms2.LABEL_MAP, mnms2.cases, mnms2.PUBLISHED, mnms2.announced),
            Dataset(myops.NAME, myops.LABEL_MAP, myops.cases, myops.PUBLISHED),
            Dataset(mscmrseg.NAME, mscmrseg.LABEL_MAP, mscmrseg.cases, mscmrseg.PUBLISHED),
            Dataset(
                cmrxmotion.NAME,
                cmrxmotion.LABEL_MAP,
                cmrxmotion.cases,
                cmrxmotion.PUBLISHED,
                cmrxmotion.announced,
            ),
            Dataset(sunnybrook.NAME, sunnybrook.LABEL_MAP, sunnybrook.cases),
            Dataset(phantom.NAME, phantom.LABEL_MAP, phantom.cases),
        )
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
    "Published",
    "cases",
    "dataset",
    "label_map",
    "load_case",
    "split_by_patient",
]
