"""`cinelabel phantom`: write simulated studies with their truth."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class FileFormat(str, Enum):
    """File formats of a phantom study."""

    nifti = "nifti"
    dicom = "dicom"
    both = "both"


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the studies to.")],
    studies: Annotated[int, typer.Option(help="How many studies.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same studies.", min=0)] = 0,
    file_format: Annotated[
        FileFormat, typer.Option("--format", help="File format of the images.")
    ] = FileFormat.nifti,
    frames: Annotated[int, typer.Option(help="Cardiac phases a study.", min=1)] = 20,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a list.")
    ] = False,
) -> None:
    """Simulate short-axis cine studies with their true labels.

    Some slices have failed breath-holds. Truth is written beside each study.
    """
    from cinelabel.cli import terminal

    terminal.require_writable({"OUT": out / "cinelabel-phantom"})
    from cinelabel.phantom.layouts import write_cohort

    with terminal.progress_bar("simulating") as progress:
        folders = write_cohort(
            out,
            studies=studies,
            seed=seed,
            file_format=file_format.value,
            frames=frames,
            progress=progress,
        )
    if json_output:
        terminal.print_json({"studies": [str(folder) for folder in folders]})
    else:
        for folder in folders:
            print(folder)
