"""The kind of job `train`: fine-tunes a member of a model on readers' labels, to a challenger.

Where that is decided (`learning.decision`), the challenger is put in use in place of its parent.
The run folder lies in the job's; a job that is started again goes on from its newest checkpoint,
and one whose run is finished already tells its result, whatever was labelled since.
Which patients are held out, and the phantom slices, are kept in `learning/` of the workspace.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel.core.errors import InputError, RunError
from cinelabel.core.files import check_identifier
from cinelabel.labelstore import LabelStore
from cinelabel.learning.config import FinetuneConfig, parse_finetuning
from cinelabel.learning.corrections import Correction, find_corrections, hold_out
from cinelabel.learning.decision import settle
from cinelabel.learning.table import whole_rows
from cinelabel.models.store import ModelStore
from cinelabel.serving.batch import folder_of
from cinelabel.serving.work import CONTINUES, Cancelled, Context
from cinelabel.studies.cases import Case
from cinelabel.studies.catalogue import Catalogue

if TYPE_CHECKING:
    from cinelabel.learning.finetune import State

MODEL = "cine"
WHO = "a training"
"""Who put a version in use, in the store's history."""
OPTIONS = frozenset(
    {"members", "method", "frozen", "reading", "block", "minutes", "steps", "batch_size", "lr"}
    | {"replay", "seed", "device", "decision"}
)
"""What a request may choose of `FinetuneConfig`; `version` beside them, the one that is tuned."""
RUN = "run"
FIGURES = "figures"
POINTS = 200
"""Steps of a training that a curve shows at most."""
LEARNING = "learning"
PATIENTS = "patients.json"
PHANTOMS = "phantoms"
PHASE = re.compile(r"[_-](ED|ES|frame\d+|t\d+)$", re.IGNORECASE)
"""At the end of a study's name: a file holds one phase of an examination."""


def read_request(request: Any, name: str = "training") -> FinetuneConfig:
    """The configuration of a run of that name. Raises InputError naming the field that is wrong."""
    given = dict(request) if isinstance(request, Mapping) else {"it": request}
    if (model := given.pop("model", MODEL)) != MODEL:
        raise InputError(f"there is no model '{str(model)[:40]}'; the model is '{MODEL}'")
    values: dict[str, Any] = {"name": name, "model": given.pop("version", None)}
    if unknown := sorted(map(str, set(given) - OPTIONS)):
        known = ", ".join(sorted(OPTIONS | {"version"}))
        raise InputError(
            f"the training is wrong: unknown option '{unknown[0][:40]}'", remedy=f"Known: {known}"
        )
    try:
        return parse_finetuning(values | given, "training")
    except RunError as error:
        raise InputError(f"the training is wrong: {error.problem}") from error


def run(request: Any, context: Context) -> dict[str, Any]:
    """Fine-tune as asked for, and put the challenger in use if that is decided.

    Returns:
        `version` of the challenger, the `decision` about it, and whether it is `in_use`; `steps`,
        `seconds`, what was learned from and held out, scores `before` and `after` and of
        `phantoms`, and `problems`, a sentence a label that was left out.

    Raises:
        InputError: the request is wrong, or the workspace has no index.
        RunError: too few labels, or a member that cannot be fine-tuned.
        ModelError: the model cannot be used.
        OutputError: a file cannot be written.
        Cancelled: the job was asked to stop; a checkpoint is there to go on from.
    """
    home = home_of(request, context.folder)
    if isinstance(request, Mapping):
        request = {key: value for key, value in request.items() if key != CONTINUES}
    config = read_request(request, home.name)
    problems: list[str] = []

    from cinelabel.learning.run_folder import RunFolder

    folder = RunFolder(home / RUN)
    if not folder.finished:
        _tune(config, folder.path, context, problems)
    summary = folder.summary()
    in_use = settle(ModelStore(), summary["version"], WHO)
    for _, part in _member_folders(home):  # the run is over, and nothing else is as large
        shutil.rmtree(part / "checkpoints", ignore_errors=True)
    return {**summary, "in_use": in_use, "problems": problems + summary["problems"]}


def _tune(config: FinetuneConfig, run: Path, context: Context, problems: list[str]) -> None:
    """Fine-tune to the end of the run, on the labels of the workspace. Raises as `run`."""
    from cinelabel.learning.finetune import finetune

    learning = context.workspace / LEARNING
    corrections = corrections_in(context.workspace, problems)
    patients = {correction.patient for correction in corrections}
    held_out = hold_out(learning / PATIENTS, patients) if patients else frozenset()

    def report(state: State) -> None:
        if state.stage != "learning" or not context.cancelled:  # else a checkpoint comes first
            context.progress(state.stage, state.done, state.total, **figures(state))

    result = finetune(
        config,
        run,
        corrections,
        held_out,
        cache=learning / PHANTOMS,
        report=report,
        stop=lambda: context.cancelled,
    )
    if result.version is None:
        raise Cancelled


def figures(state: State) -> dict[str, Any]:
    """How far a run is, in the words of MONAI Label's clients and in ours; ready for JSON.

    An epoch is a step; `best_metric` the mean Dice of held-out patients.
    """
    told: dict[str, Any] = {"seconds": round(state.seconds, 1)}
    if state.stage == "learning":
        told |= {"epoch": state.done, "total_epochs": state.total}
    if state.loss is not None:
        told |= {"loss": round(state.loss, 5), "rates": dict(state.rates or {})}
    if state.member is not None:
        told["member"] = state.member
    if state.seconds_left is not None:
        told["seconds_left"] = round(state.seconds_left, 1)
    if state.dice:
        told |= {"dice": dict(state.dice), "best_metric": float(np.mean([*state.dice.values()]))}
    return told


def home_of(request: Any, folder: Path) -> Path:
    """The folder of the job in which the run of a job lies: its own, or that which it continues."""
    first = request.get(CONTINUES, folder.name) if isinstance(request, Mapping) else folder.name
    return folder.with_name(check_identifier(str(first), "name of a job"))


def curves(job: Path) -> dict[str, dict[str, list[float | None]]]:
    """Loss, seconds and rates over the steps of a training, at most `POINTS` of them.

    Args:
        job: folder of the job; a row that is just being written is left out.

    Returns:
        member -> column of `metrics.csv` -> values, None for what is no number; only members
        that have begun.
    """
    found = {name: _curve(folder / "metrics.csv") for name, folder in _member_folders(job)}
    return {name: curve for name, curve in found.items() if curve}


def drawn(job: Path) -> dict[str, Path]:
    """The figures of a training by name: of the file, and of the member where there are several."""
    return {
        path.name if folder == job / RUN else f"{name}-{path.name}": path
        for name, folder in _member_folders(job)
        for path in sorted((folder / FIGURES).glob("*.png"))
    }


def _member_folders(job: Path) -> list[tuple[str, Path]]:
    """Each member and where its run lies: in the run itself, or below it if there are several."""
    try:
        plan = json.loads((job / RUN / "finetuning.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    names = plan["members"]
    return [(name, job / RUN / name if len(names) > 1 else job / RUN) for name in names]


def _curve(table: Path) -> dict[str, list[float | None]]:
    try:
        rows = whole_rows(table)
    except InputError:
        return {}
    if not rows:
        return {}
    shown = np.unique(np.linspace(0, len(rows) - 1, POINTS).astype(int))
    return {name: [_number(rows[i][name]) for i in shown] for name in rows[0]}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def patient_of(case: Case) -> str:
    """Whose heart a case shows: of DICOM a hash of the patient's ID, else the name of the study.

    Where files hold one phase each, what their names end with (`_ED`, `_frame01`) does not count.

    Raises:
        InputError: the DICOM files cannot be read.
    """
    if case.kind != "dicom":
        return PHASE.sub("", case.study)
    from cinelabel.dicom.headers import patient_id

    patient = patient_id(case.source)
    return f"dicom-{hashlib.sha256(patient.encode()).hexdigest()[:16]}" if patient else case.study


def corrections_in(workspace: Path, problems: list[str]) -> list[Correction]:
    """The corrections of a workspace: of images that are served and whose patient is known.

    `problems` gets a sentence for each that is left out. Raises InputError without an index, and
    for a damaged review.
    """
    catalogue = Catalogue(folder_of(workspace), workspace)
    store = LabelStore(workspace)
    labelled = [image for image, case in store.states().items() if case.state == "labelled"]
    patients: dict[str, str] = {}
    cases = {case.image_id: case for case in filter(None, map(catalogue.find, labelled))}
    for case in cases.values():
        try:
            patients[case.image_id] = patient_of(case)
        except InputError as error:
            problems.append(f"{case.image_id} is left out: {error}")

    def image_file(image: str) -> Path | None:
        return catalogue.image_path(image) if image in patients else None

    return find_corrections(
        store,
        image_file,
        patients.__getitem__,
        study=lambda image: cases[image].study,
        phase=lambda image: cases[image].phase,
    )
