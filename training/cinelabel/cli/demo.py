"""`cinelabel demo`: a phantom study, segmented through the real server, beside its truth."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from cinelabel.core.measures import Measures
    from cinelabel.phantom.cohort import PhantomStudy
    from cinelabel.studies.catalogue import Catalogue

REQUEST_TIMEOUT_S = 600.0
MARKER = ".cinelabel-demo"


@dataclass
class Steps:
    """Seconds spent a step, shown while it runs."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str, doing: str) -> Iterator[None]:
        """Time a step and say what is being done."""
        print(f"{doing} ...", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came back for the phantom, and how it compares with the truth."""

    answer: dict[str, Any]
    labels: np.ndarray
    found: Measures
    true: Measures
    dice: dict[str, dict[str, float | None]]


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the study and the results.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Which phantom.", min=0)] = 4,
    frames: Annotated[int, typer.Option(help="Cardiac phases of the phantom.", min=2)] = 20,
    fast: Annotated[
        bool, typer.Option("--fast", help="One member of the model, without mirroring.")
    ] = False,
) -> None:
    """Segment a simulated study through the server and compare with its truth.

    Makes a 4D cine with failed breath-holds in some slices, starts the MONAI Label server on
    loopback, asks it over HTTP for the labels, and ends it again.
    """
    from cinelabel.cli import terminal
    from cinelabel.serving import process

    process.require_server_packages()
    output = output.resolve()
    _require_ours(output)
    started = time.perf_counter()
    steps = Steps()
    with steps.step("phantom", "Simulating a cine study"):
        phantom = _make_phantom(output, seed, frames)
    with steps.step("frames", "Preparing its frames for the server"):
        from cinelabel.labelstore import LabelStore
        from cinelabel.studies.workspace import prepare

        labels = LabelStore(output / "server")
        workspace = prepare(output / "study", output / "server", on_change=labels.set_aside)
    answer, label_file = _ask_server(output, workspace, phantom, steps, fast)
    with steps.step("figures", "Measuring and drawing"):
        comparison = _compare(phantom, answer, label_file)
        _draw(output, phantom, comparison)
    steps.seconds["total"] = round(time.perf_counter() - started, 2)
    _write_record(output, phantom, comparison, steps)
    for table in (_measures_table(comparison), _dice_table(comparison), _time_table(steps, answer)):
        terminal.print_table(table)
    _say_what_next(output, phantom, comparison)


def _require_ours(output: Path) -> None:
    """Raise unless the folder is new, empty, or that of an earlier demo."""
    from cinelabel.core.errors import OutputError
    from cinelabel.core.files import output_error, write_text

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, output) from error
    if any(output.iterdir()) and not (output / MARKER).is_file():
        raise OutputError(
            "is not empty and not of an earlier demo",
            where=output,
            remedy="Choose another --output",
        )
    write_text(output / MARKER, "Made by `cinelabel demo`, which may replace what is here.\n")


def _make_phantom(output: Path, seed: int, frames: int) -> PhantomStudy:
    """Simulate the study and write it as NIfTI and DICOM, and its truth beside it."""
    from cinelabel import studies
    from cinelabel.cli import terminal
    from cinelabel.phantom.cohort import make_study
    from cinelabel.phantom.layouts import protocol_of
    from cinelabel.studies.dicom import write_cine

    with terminal.progress_bar("simulating") as progress:
        phantom = make_study(seed, frames=frames, progress=progress)
    folder = output / "study"
    shutil.rmtree(folder, ignore_errors=True)
    studies.save_image(folder / f"{phantom.study.name}.nii.gz", phantom.study)
    write_cine(folder / "dicom", phantom.study, protocol=protocol_of(phantom))
    studies.save_label(output / "truth.nii.gz", phantom.labels, phantom.study)
    return phantom


def _ask_server(
    output: Path, workspace: Catalogue, phantom: PhantomStudy, steps: Steps, fast: bool
) -> tuple[dict[str, Any], Path]:
    """Start the server, have the whole study segmented over HTTP, end the server."""
    from cinelabel.cli.serve import ended_by_signals, wait_with_progress
    from cinelabel.serving import process
    from cinelabel.serving.settings import ServerSettings

    settings = ServerSettings(
        studies=output / "study",
        workspace=workspace.path,
        port=process.free_port(),
        fast=fast,
    )
    served = next(study for study in workspace.studies if study.kind == "nifti")
    with (
        ended_by_signals(),
        process.exclusive(workspace.path),
        process.Server(settings) as server,
    ):
        with steps.step("server start", f"Starting the MONAI Label server at {settings.url}"):
            wait_with_progress(server)
        with steps.step("request", f"Asking it to segment {phantom.study.n_frames} frames"):
            answer, label = _segment_over_http(settings.url, served.image_id(0))
    return answer, _write_bytes(output / "labels.nii.gz", label)


def _segment_over_http(url: str, image: str) -> tuple[dict[str, Any], bytes]:
    """POST /infer for the whole study of an image: the JSON part and the label file.

    Raises:
        ServerError: the server did not answer with a label.
    """
    import httpx
    from requests_toolbelt import MultipartDecoder

    from cinelabel.serving.process import MODEL_NAME, ServerError

    try:
        with httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            response = client.post(
                f"/infer/{MODEL_NAME}",
                params={"image": image},
                data={"params": json.dumps({"scope": "study"})},
            )
    except httpx.HTTPError as error:
        raise ServerError(f"the request failed ({error})", where=url) from error
    kind = response.headers.get("content-type", "")
    if response.status_code != 200 or not kind.startswith("multipart/"):
        raise ServerError(f"answered {response.status_code}: {response.text[:300]}", where=url)
    parts = {
        _part_name(part.headers[b"Content-Disposition"]): part.content
        for part in MultipartDecoder(response.content, kind).parts
    }
    return json.loads(parts["params"]), parts["image"]


def _part_name(disposition: bytes) -> str:
    """The `name` of a Content-Disposition header."""
    fields = dict(
        piece.strip().split("=", 1) for piece in disposition.decode().split(";") if "=" in piece
    )
    return fields["name"].strip('"')


def _write_bytes(path: Path, content: bytes) -> Path:
    from cinelabel.core.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return path


def _compare(phantom: PhantomStudy, answer: dict[str, Any], label_file: Path) -> Comparison:
    """Measures of both and Dice at the true ED and ES. Raises GridError for a foreign grid."""
    from cinelabel.core.labels import STRUCTURES
    from cinelabel.core.measures import measure
    from cinelabel.evaluation.metrics import dice
    from cinelabel.studies import load_label

    study = phantom.study
    labels, grid = load_label(label_file)
    study.grid.require_equal(grid, "the label of the server")
    times = study.trigger_times_ms
    agreement = {
        phase: {s.name: dice(labels[..., t], phantom.labels[..., t], s) for s in STRUCTURES}
        for phase, t in _phases(phantom).items()
    }
    return Comparison(
        answer=answer,
        labels=labels,
        found=measure(labels, study.grid, answer["ed"], answer["es"], times),
        true=measure(phantom.labels, study.grid, study.ed, study.es, times),
        dice=agreement,
    )


def _phases(phantom: PhantomStudy) -> dict[str, int]:
    """The true ED and ES."""
    known = {"ED": phantom.study.ed, "ES": phantom.study.es}
    return {phase: frame for phase, frame in known.items() if frame is not None}


def _draw(output: Path, phantom: PhantomStudy, comparison: Comparison) -> None:
    from cinelabel.evaluation.report import curve_figure, overlay_figure

    overlay_figure(
        output / "overlay.png",
        phantom.study,
        comparison.labels,
        _phases(phantom),
        reference=phantom.labels,
        title=f"{phantom.study.name}: {comparison.answer['model']} (dotted: truth)",
    )
    curve_figure(output / "volume_curve.png", comparison.found, title=phantom.study.name)


def _write_record(
    output: Path, phantom: PhantomStudy, comparison: Comparison, steps: Steps
) -> None:
    from cinelabel.core.files import write_json

    write_json(
        output / "measures.json",
        {
            "study": phantom.study.name,
            "model": comparison.answer["model"],
            "device": comparison.answer["device"],
            "fast": comparison.answer["fast"],
            "members": comparison.answer["members"],
            "agreement": comparison.answer["agreement"],
            "reason": comparison.answer["reason"],
            "measures": comparison.found.as_dict(),
            "truth": comparison.true.as_dict(),
            "dice": comparison.dice,
            "phantom": phantom.truth,
            "timings_s": steps.seconds,
            "segmentation_s": comparison.answer["timings_s"],
        },
    )


def _measures_table(comparison: Comparison) -> Table:
    from cinelabel.evaluation.report import measures_table

    columns = {"segmented": comparison.found, "truth": comparison.true}
    return measures_table(columns, title="Measures of the phantom")


def _dice_table(comparison: Comparison) -> Table:
    from rich.table import Table

    names = list(next(iter(comparison.dice.values())))
    table = Table("Dice", *names, title="Agreement with the truth", title_justify="left")
    for phase, scores in comparison.dice.items():
        values = ["-" if score is None else f"{score:.3f}" for score in scores.values()]
        table.add_row(phase, *values)
    return table


def _time_table(steps: Steps, answer: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("Step", title="Seconds", title_justify="left")
    table.add_column("s", justify="right")
    for name, seconds in steps.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
        if name == "request":
            table.add_row("  of which networks", f"{answer['timings_s']['network']:.1f}")
    return table


def _say_what_next(output: Path, phantom: PhantomStudy, comparison: Comparison) -> None:
    if comparison.answer["reason"]:
        print(f"The server says: {comparison.answer['reason']}.")
    study = output / "study" / f"{phantom.study.name}.nii.gz"
    print(
        f"\nWritten to {output}: labels.nii.gz, truth.nii.gz, measures.json, overlay.png, "
        "volume_curve.png, study/ (NIfTI and DICOM).\n"
        "Agreement with a phantom says nothing about patients: the bundled weights have seen "
        "phantoms only.\n\n"
        "Try next:\n"
        f"  cinelabel segment {study} --output label.nii.gz\n"
        "  make serve STUDIES=folder   (or: cinelabel serve --studies folder), then in 3D Slicer\n"
        "                              the module MONAI Label with server http://127.0.0.1:8000\n"
        "  3D Slicer: load overlay images from study/ and labels.nii.gz as segmentation"
    )
