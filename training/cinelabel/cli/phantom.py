"""`cinelabel phantom`: write simulated studies with their truth, and a sheet to look at them."""

from __future__ import annotations

import itertools
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cinelabel.datasets import Case
    from cinelabel.phantom.breathing import Manner as BreathingManner
    from cinelabel.phantom.gallery import Exhibit

REAL_ROWS = 12
"""Real cases on a sheet at most."""


class FileFormat(str, Enum):
    """File formats of a phantom study, or the layout of a public set."""

    nifti = "nifti"
    dicom = "dicom"
    both = "both"
    acdc = "acdc"
    mnms = "mnms"
    cmrxmotion = "cmrxmotion"


class Manner(str, Enum):
    """How the subject breathes during the scan."""

    full = "full"
    half = "half"
    free = "free"
    intensive = "intensive"
    mixed = "mixed"


def phantom(
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="Folder to write the studies to.", show_default=False),
    ] = None,
    studies: Annotated[int, typer.Option(help="How many studies.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same studies.", min=0)] = 0,
    file_format: Annotated[
        FileFormat,
        typer.Option("--format", help="File format, or the layout of a public data set."),
    ] = FileFormat.nifti,
    frames: Annotated[int, typer.Option(help="Cardiac phases a study.", min=1)] = 20,
    manner: Annotated[
        Manner,
        typer.Option(help="Breath-hold (full, half), breathing (free, intensive), or mixed."),
    ] = Manner.mixed,
    group: Annotated[
        str | None,
        typer.Option(help="Patients of one group, such as hypertrophic.", show_default=False),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw phantoms of every group and manner.", show_default=False
        ),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of public data sets whose cases the gallery shows beside the phantoms.",
            show_default=False,
        ),
    ] = None,
    contours: Annotated[
        bool, typer.Option("--contours", help="Draw the labels' borders in the gallery.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a list.")
    ] = False,
) -> None:
    """Simulate short-axis cine studies with their true labels, or draw a gallery of them.

    Truth is written beside each study. In the layout cmrxmotion a study is a volunteer who breathes
    in four manners.
    """
    _require_targets(out, gallery, real, contours)
    _require_group(group)
    beside = _real_exhibits(real) if real is not None else []
    how = _manner(manner)
    folders: list[Path] = []
    if out is not None:
        folders = _write_studies(out, studies, seed, file_format, frames, how, group)
    if gallery is not None:
        _draw_gallery(gallery, seed, how, group, beside, contours)
    _print_written(folders, gallery, json_output)


def _require_targets(
    out: Path | None, gallery: Path | None, real: Path | None, contours: bool
) -> None:
    """Raise unless there is something to write, it can be written, and the options fit it."""
    from cinelabel.cli import terminal

    if out is None and gallery is None:
        raise typer.BadParameter("Give a folder to write studies to, or --gallery FILE.png.")
    if gallery is None and (real is not None or contours):
        raise typer.BadParameter("--real and --contours belong to --gallery FILE.png.")
    if gallery is not None:
        terminal.require_suffix(gallery, (".png",), "a picture")
    terminal.require_writable(
        {"OUT": out / "cinelabel-phantom" if out else None, "--gallery": gallery}
    )


def _write_studies(
    out: Path,
    studies: int,
    seed: int,
    file_format: FileFormat,
    frames: int,
    manner: BreathingManner | None,
    group: str | None,
) -> list[Path]:
    """Simulate studies and write them; returns their folders."""
    from cinelabel.cli import terminal
    from cinelabel.phantom.layouts import write_cohort

    with terminal.progress_bar("simulating") as progress:
        return write_cohort(
            out,
            studies=studies,
            seed=seed,
            file_format=file_format.value,
            frames=frames,
            manner=manner,
            group=group,
            progress=progress,
        )


def _draw_gallery(
    picture: Path,
    seed: int,
    manner: BreathingManner | None,
    group: str | None,
    beside: list[Exhibit],
    contours: bool,
) -> None:
    """Draw phantoms, beside real cases where there are some."""
    from cinelabel.cli import terminal
    from cinelabel.phantom.gallery import draw_gallery, phantom_exhibits

    with terminal.progress_bar("simulating") as progress:
        exhibits = phantom_exhibits(seed, group=group, manner=manner, progress=progress)
    draw_gallery(picture, exhibits, beside, contours=contours)


def _print_written(folders: list[Path], gallery: Path | None, json_output: bool) -> None:
    from cinelabel.cli import terminal

    if json_output:
        drawn = {} if gallery is None else {"gallery": str(gallery)}
        terminal.print_json({"studies": [str(folder) for folder in folders], **drawn})
    else:
        for path in [*folders, *([] if gallery is None else [gallery])]:
            print(path)


def _require_group(group: str | None) -> None:
    from cinelabel.core.errors import InputError
    from cinelabel.phantom.anatomy import GROUPS

    if group is not None and group not in GROUPS:
        raise InputError(f"there is no group '{group}'", remedy=f"Known are {', '.join(GROUPS)}")


def _manner(manner: Manner) -> BreathingManner | None:
    from cinelabel.phantom.breathing import Manner as Breathing

    return {
        Manner.full: Breathing.FULL_HOLD,
        Manner.half: Breathing.HALF_HOLD,
        Manner.free: Breathing.FREE,
        Manner.intensive: Breathing.INTENSIVE,
    }.get(manner)


def _real_exhibits(folder: Path) -> list[Exhibit]:
    """ED and ES of the cases of every public set below a folder, a few of each set."""
    from cinelabel import datasets
    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError

    terminal.require_exists(folder)
    patients: dict[str, list[list[Case]]] = {}
    for name in datasets.REGISTRY:
        if name == "phantom":
            continue
        try:
            found = datasets.cases(name, folder)
        except InputError:
            continue  # not this set
        of_set: dict[str, list[Case]] = {}
        for case in found:
            of_set.setdefault(case.examination, []).append(case)
        patients[name] = [c for c in of_set.values() if [one.phase for one in c] == ["ED", "ES"]]
    rows = itertools.zip_longest(*patients.values())  # the first of each set, then the second, ...
    chosen = [phases for row in rows for phases in row if phases is not None]
    if not chosen:
        raise InputError(
            "no case with ED and ES of a public data set is here",
            where=folder,
            remedy="Give a folder with cases of a public set, such as ACDC or M&Ms",
        )
    return [_exhibit(phases) for phases in chosen[:REAL_ROWS]]


def _exhibit(phases: list[Case]) -> Exhibit:
    """ED and ES of one patient."""
    from cinelabel.datasets import load_case
    from cinelabel.phantom.gallery import Exhibit

    loaded = [load_case(case) for case in phases]
    along_x, along_y, _ = loaded[0][0].grid.spacing
    return Exhibit(
        f"{phases[0].set} {phases[0].examination}",
        tuple(study.frame(0) for study, _ in loaded),
        tuple(labels for _, labels in loaded),
        (along_x, along_y),
    )
