"""`cinelabel segment`: a study in, labels, measures and a picture out."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cinelabel.segmentation import Segmentation
    from cinelabel.studies.study import Study


class Device(str, Enum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Vote(str, Enum):
    """How the members of an ensemble come to one label."""

    average = "average"
    hard = "hard"


def segment(
    study: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A NIfTI file, or a folder of DICOM files.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Label file to write, .nii.gz or .nii.")
    ],
    measures: Annotated[
        Path | None, typer.Option(help="Write the measures to this JSON file.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Write a picture of all slices at ED and ES (PNG).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model version; see `cinelabel models list`.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the networks run.")] = Device.auto,
    fast: Annotated[
        bool, typer.Option("--fast", help="One member of the model, without mirroring.")
    ] = False,
    turns: Annotated[
        bool, typer.Option("--turns", help="Average over quarter turns instead of mirrorings.")
    ] = False,
    vote: Annotated[
        Vote, typer.Option(help="Average the members' probabilities, or count their labels.")
    ] = Vote.average,
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="Write the entropy of the average here, nats a voxel, .nii.gz or .nii."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Series UID, for a folder with several series.")
    ] = None,
    ed: Annotated[
        int | None, typer.Option(help="Frame of end-diastole, counted from 0 (default: found).")
    ] = None,
    es: Annotated[
        int | None, typer.Option(help="Frame of end-systole, counted from 0 (default: found).")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Segment LV, MYO and RV of a short-axis study.

    A 4D input gives a 4D label, on the grid of the input. Label values are
    1 LV cavity (papillary muscles included), 2 myocardium, 3 RV cavity.
    """
    from cinelabel import studies
    from cinelabel.cli import terminal
    from cinelabel.core.errors import InputError

    terminal.require_exists(study)
    terminal.require_suffix(output, (".nii.gz", ".nii"), "a label file")
    if overlay is not None:
        terminal.require_suffix(overlay, (".png",), "a picture")
    if uncertainty is not None:
        terminal.require_suffix(uncertainty, (".nii.gz", ".nii"), "an image file")
    if fast and turns:
        raise InputError("--fast makes one pass, so --turns has nothing to average over")
    outputs = {
        "--output": output,
        "--measures": measures,
        "--overlay": overlay,
        "--uncertainty": uncertainty,
    }
    terminal.require_writable(outputs, (study,))
    loaded = _with_phases(studies.load(study, series=series), ed, es)
    for remark in loaded.notes:
        terminal.note(remark)

    from cinelabel.segmentation import Segmenter

    segmenter = Segmenter.load(model, device=device.value)
    with terminal.progress_bar("segmenting") as progress:
        result = segmenter.segment(
            loaded,
            fast=fast,
            turns=turns,
            vote=vote.value,
            uncertainty=uncertainty is not None,
            progress=progress,
        )
    studies.save_label(output, result.labels, loaded)
    if uncertainty is not None and result.entropy is not None:
        studies.save_image(uncertainty, replace(loaded, frames=result.entropy.astype("float32")))
    record = _record(loaded, output, result)
    if measures is not None:
        from cinelabel.core.files import write_json

        write_json(measures, record)
    if overlay is not None:
        _draw(overlay, loaded, result)
    if json_output:
        terminal.print_json(record)
    else:
        _report(loaded, output, result)


def _with_phases(study: Study, ed: int | None, es: int | None) -> Study:
    """The study with the phases that were named; InputError for a frame it does not have."""
    if ed is None and es is None:
        return study
    return replace(study, ed=study.ed if ed is None else ed, es=study.es if es is None else es)


def _record(study: Study, output: Path, result: Segmentation) -> dict[str, Any]:
    return {
        "study": study.name,
        "label": str(output),
        "heart_found": result.reason is None,
        "reason": result.reason,
        "measures": result.measures.as_dict(),
        "model": result.model,
        "device": result.device,
        "fast": result.fast,
        "members": {
            name: {"seconds": round(cost.seconds, 4), "peak_bytes": cost.peak_bytes}
            for name, cost in result.member_costs.items()
        },
        "agreement": None if result.agreement is None else result.agreement.as_dict(),
        "timings_s": {name: round(seconds, 4) for name, seconds in result.timings_s.items()},
    }


def _draw(path: Path, study: Study, result: Segmentation) -> None:
    from cinelabel.evaluation.report import overlay_figure

    known = {"ED": result.ed, "ES": result.es}
    phases = {name: frame for name, frame in known.items() if frame is not None}
    title = study.name if result.reason is None else f"{study.name}: {result.reason}"
    overlay_figure(path, study, result.labels, phases, title=title)


def _report(study: Study, output: Path, result: Segmentation) -> None:
    from cinelabel.cli import terminal
    from cinelabel.evaluation.report import measures_table

    if result.reason is not None:
        print(f"{study.name}: {result.reason}; an empty label is written")
    else:
        terminal.print_table(measures_table({study.name: result.measures}))
    frames = f"{study.n_frames} frame(s) of {study.grid.shape[2]} slices"
    seconds = result.timings_s.get("total")
    took = "" if seconds is None else f" in {seconds:.1f} s"
    fast = ", fast" if result.fast else ""
    print(f"{output}: {frames}{took}, model {result.model}{fast} on {result.device}")
    if result.agreement is not None:
        means = [f"{name} {_figure(dice)}" for name, dice in result.agreement.mean().items()]
        print(f"Dice between the {len(result.members)} members: {', '.join(means)}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
