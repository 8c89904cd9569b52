"""`cinelabel measure`: volumes, ejection fractions and mass from label files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinelabel.core.errors import GridError, InputError

if TYPE_CHECKING:
    import numpy as np

    from cinelabel.core.grid import Grid
    from cinelabel.core.measures import Measures

_PHASE = re.compile(r"(?:^|(?<=[_.\- ]))(ED|ES)(?=$|[_.\- ])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class _Label:
    path: Path
    values: np.ndarray
    grid: Grid

    @property
    def phase(self) -> str | None:
        """ED or ES where the name says so."""
        found = _PHASE.search(_stem(self.path))
        return found.group(1).upper() if found else None

    @property
    def study(self) -> str:
        """The name without its phase."""
        return re.sub(r"[_.\- ]{2,}", "_", _PHASE.sub("", _stem(self.path))).strip("_.- ")


def measure(
    label: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABEL...",
            help="4D label files, or pairs of 3D ones whose names say ED and ES. "
            "Two 3D files without a phase in their names are ED and ES in this order.",
        ),
    ],
    ed: Annotated[
        int | None, typer.Option(help="Frame of end-diastole, counted from 0 (default: found).")
    ] = None,
    es: Annotated[
        int | None, typer.Option(help="Frame of end-systole, counted from 0 (default: found).")
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Label values in the files: canonical, acdc, mnms, ...")
    ] = "canonical",
    csv_output: Annotated[
        Path | None, typer.Option("--csv", help="Write one row a study to this file.")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Measure labels: EDV, ESV, SV, EF and mass of the LV, volumes and EF of the RV.

    Papillary muscles and trabeculae count to the cavity; mass is 1.05 g/ml
    of myocardium at ED.
    """
    from cinelabel import studies
    from cinelabel.cli import terminal
    from cinelabel.datasets import label_map
    from cinelabel.evaluation.report import measures_table, write_measures_csv

    terminal.require_writable({"--csv": csv_output}, tuple(label))
    convention = label_map(labels)
    read = [_Label(path, *studies.load_label(path, convention)) for path in label]
    found = _measure_all(read, ed, es)
    if csv_output is not None:
        write_measures_csv(csv_output, found)
    if json_output:
        terminal.print_json({name: value.as_dict() for name, value in found.items()})
    else:
        terminal.print_table(measures_table(found))


def _measure_all(labels: list[_Label], ed: int | None, es: int | None) -> dict[str, Measures]:
    """Measures by study name. Raises InputError where it is not clear what belongs together."""
    from cinelabel.core.measures import measure as measure_labels

    found: dict[str, Measures] = {}

    def add(name: str, values: np.ndarray, grid: Grid, ed: int | None, es: int | None) -> None:
        if name in found:
            raise InputError(
                f"two labels would both be the study '{name}'", remedy="Measure them one by one"
            )
        found[name] = measure_labels(values, grid, ed=ed, es=es)

    for item in labels:
        if item.values.ndim == 4:
            add(_stem(item.path), item.values, item.grid, ed, es)
    for name, phases in _pairs([item for item in labels if item.values.ndim == 3]).items():
        if "one" in phases:
            add(name, phases["one"].values, phases["one"].grid, ed, es)
            continue
        if ed is not None or es is not None:
            raise InputError(
                "--ed and --es choose frames of a 4D label, and the names of these say the phase",
                where=next(iter(phases.values())).path,
            )
        values, first = _stack(phases)
        position = {phase: index for index, phase in enumerate(phases)}
        add(name, values, first.grid, position.get("ED"), position.get("ES"))
    return found


def _pairs(labels: list[_Label]) -> dict[str, dict[str, _Label]]:
    """3D labels by study: the phases ED and ES, or "one" for a single label of no known phase."""
    unnamed = [item for item in labels if item.phase is None]
    if len(unnamed) > 2 or (len(unnamed) == 2 and len(labels) > 2):
        raise InputError(
            f"{len(unnamed)} labels hold one phase each and their names say neither ED nor ES",
            where=unnamed[0].path,
            remedy="Name them ..._ED and ..._ES, or measure two at a time",
        )
    if len(unnamed) == 2:
        return {_stem(unnamed[0].path): dict(zip(("ED", "ES"), unnamed, strict=True))}
    pairs: dict[str, dict[str, _Label]] = {_stem(i.path): {"one": i} for i in unnamed}
    folders: dict[str, Path] = {}
    for item in labels:
        if item.phase is not None:
            name = item.study or "study"
            if folders.setdefault(name, item.path.parent) != item.path.parent:
                name = f"{item.path.parent.name}/{name}"
            phases = pairs.setdefault(name, {})
            if item.phase in phases:
                raise InputError(
                    f"two labels are the {item.phase} of '{name}'",
                    where=item.path,
                    remedy="Measure them one by one",
                )
            phases[item.phase] = item
    return pairs


def _stack(phases: dict[str, _Label]) -> tuple[np.ndarray, _Label]:
    """The phases of a study as one array (x, y, z, t). Raises GridError."""
    import numpy as np

    items = list(phases.values())
    for item in items[1:]:
        difference = items[0].grid.difference(item.grid)
        if difference is not None:
            raise GridError(
                f"is not on the grid of {items[0].path.name}, {difference}", where=item.path
            )
    return np.stack([item.values for item in items], axis=3), items[0]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
