"""Fine-tuning as a job: what may be asked for, whose labels count, what it tells, how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.errors import InputError, RunError
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.learning.finetune import State
from cinelabel.models.store import ModelStore
from cinelabel.serving import train
from cinelabel.serving.jobs import JobRunner, Limits
from cinelabel.serving.work import Cancelled, Context
from cinelabel.studies.cases import Case
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.study import Study

DEADLINE_S = 240
LENIENT = {"phantoms": 4, "phantom_margin": 1}
QUICK = {
    "version": "tiny-1",
    "method": "all",
    "steps": 4,
    "batch_size": 4,
    "replay": 0,
    "lr": 0.01,
    "device": "cpu",
    "decision": LENIENT,
}


@dataclass(frozen=True)
class Clinic:
    """A workspace of six patients, one frame each, the first five of them labelled."""

    workspace: Path

    def run(self, **request: Any) -> dict[str, Any]:
        """A training in this process."""
        return train.run(request, self.context())

    def context(self) -> Context:
        folder = self.workspace / "jobs" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        return Context(folder)

    def sides(self) -> dict[str, list[str]]:
        kept = json.loads((self.workspace / "learning" / "patients.json").read_text())
        return {side: sorted(kept[side]) for side in ("training", "held_out")}


@pytest.fixture
def clinic(tmp_path: Path, models: ModelStore, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """The model store holds `tiny-1`."""
    shutil.copytree(models.root, tmp_path / "models")
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "models"))
    labels = np.zeros((24, 30, 4), np.uint8)
    labels[9:14, 10:15], labels[10:13, 11:14], labels[14:17, 10:14] = 2, 1, 3
    grid = Grid(labels.shape, np.diag([2.0, 1.5, 8.0, 1.0]))
    noise = np.random.default_rng(1)
    for number in range(6):
        voxels = (60.0 * labels + noise.uniform(0, 30, labels.shape)).astype(np.float32)
        study = Study(f"p{number}", voxels[..., None], grid, is_cine=False)
        studies.save_image(tmp_path / "studies" / f"p{number}.nii.gz", study)
    catalogue = Catalogue(tmp_path / "studies", tmp_path / "workspace", settle_s=0.0)
    for _ in range(2):
        catalogue.refresh()
    store = LabelStore(tmp_path / "workspace")
    for case in catalogue.cases()[:5]:
        image = studies.load(catalogue.image_path(case.image_id))
        studies.save_label(tmp_path / "label.nii.gz", labels, image)
        submission = Submission(case.image_id, "anna", "", "2026-01-01T00:00:00Z", model="tiny-1")
        store.submit(case.image_id, image.grid, tmp_path / "label.nii.gz", submission)
    return Clinic(tmp_path / "workspace")


@pytest.fixture
def runner(clinic: Clinic) -> Iterator[JobRunner]:
    made = JobRunner(clinic.workspace / "jobs", Limits(poll_s=0.02))
    yield made
    made.close()


def publish_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cinelabel.learning.finetune.publish_candidate", lambda *given: "one")
    monkeypatch.setattr(train, "settle", lambda *given: False)


def ended(runner: JobRunner, job_id: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not runner.job(job_id).has_ended:
        assert time.monotonic() < deadline, runner.log(job_id)
        time.sleep(0.05)
    return runner.job(job_id)


def test_a_training_job_makes_a_candidate_and_tells_how_far_it_is(clinic, runner):
    job = ended(runner, runner.start("train", {"model": "cine", **QUICK}, "anna").id)
    assert job.state == "done", runner.log(job.id)
    assert job.result["version"] == "tiny-1-tuned-1"
    assert job.result["learned_from"] == {"patients": 4, "frames": 4, "slices": 16}
    assert job.result["held_out"] == {"patients": 1, "frames": 1}
    assert set(job.result["after"]["dice"]) == {"LV", "MYO", "RV"}
    assert job.result["decision"]["outcome"] == "keep"
    assert "1 patient held out" in job.result["decision"]["reasons"][-1]
    assert not job.result["in_use"]
    store = ModelStore()
    store.load("tiny-1-tuned-1").verify()
    assert not (store.root / "current").exists()
    assert [len(patients) for patients in clinic.sides().values()] == [4, 1]
    folder = clinic.workspace / "jobs" / job.id / "run"
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 4
    assert not (folder / "checkpoints").exists(), "it is over"


def test_a_job_that_is_cancelled_has_a_checkpoint_and_goes_on_from_it(clinic, monkeypatch):
    context, seen = clinic.context(), []

    def progress(stage, done, total, **figures):
        seen.append((stage, done))
        context.cancelled = (stage, done) == ("learning", 2)

    monkeypatch.setattr(context, "progress", progress)
    with pytest.raises(Cancelled):
        train.run(QUICK, context)
    assert seen[-1] == ("learning", 2)
    assert ModelStore().versions().count("tiny-1-tuned-1") == 0
    context.cancelled = False
    publish_nothing(monkeypatch)
    assert train.run(QUICK, context)["steps"] == 4
    assert ("learning", 1) not in seen[seen.index(("learning", 2)) + 1 :]


def test_a_job_whose_run_is_finished_tells_its_result_whatever_was_labelled_since(
    clinic, monkeypatch
):
    publish_nothing(monkeypatch)
    first = clinic.run(**QUICK)
    LabelStore(clinic.workspace).set_aside("p0__t00", "the image changed")
    assert clinic.run(**QUICK) == first


def test_a_job_that_continues_another_goes_on_with_its_run(clinic, monkeypatch):
    context = clinic.context()
    monkeypatch.setattr(context, "progress", lambda stage, *_, **__: end_if_learning(stage))

    def end_if_learning(stage):
        context.cancelled = context.cancelled or stage == "learning"

    with pytest.raises(Cancelled):
        train.run(QUICK, context)
    publish_nothing(monkeypatch)
    two = context.folder.with_name("two")
    two.mkdir()
    assert train.run(QUICK | {"continues": "one"}, Context(two))["steps"] == 4
    assert train.curves(context.folder)["second"]["step"] == [1, 2, 3, 4]
    assert train.home_of({"continues": "one"}, two) == context.folder
    assert not (two / "run").exists()


def planned(job: Path, *members: str) -> Path:
    (job / "run").mkdir()
    (job / "run" / "finetuning.json").write_text(json.dumps({"members": members}))
    return job / "run"


def test_a_curve_shows_steps_evenly_and_no_row_that_is_half_written(tmp_path):
    assert train.curves(tmp_path) == {}
    table = planned(tmp_path, "one") / "metrics.csv"
    rows = [f"{step},{step / 2},nan" for step in range(1, 1001)]
    table.write_text("step,loss,rate_stem\n" + "\n".join(rows) + "\n1001,5")
    found = train.curves(tmp_path)["one"]
    assert list(found) == ["step", "loss", "rate_stem"]
    assert len(found["step"]) == train.POINTS
    assert (found["step"][0], found["step"][-1]) == (1, 1000)
    assert max(np.diff(found["step"])) <= 6
    assert found["loss"] == [step / 2 for step in found["step"]]
    assert set(found["rate_stem"]) == {None}
    table.write_text("step,loss\n")
    assert train.curves(tmp_path) == {}


def test_curves_and_figures_of_several_members_are_told_apart(tmp_path):
    run = planned(tmp_path, "one", "two")
    for name in ("one", "two"):
        (run / name / "figures").mkdir(parents=True)
        (run / name / "metrics.csv").write_text("step,loss\n1,0.5\n")
        (run / name / "figures" / "rates.png").write_bytes(b"")
    assert train.curves(tmp_path) == dict.fromkeys(("one", "two"), {"step": [1.0], "loss": [0.5]})
    assert train.drawn(tmp_path) == {
        f"{name}-rates.png": run / name / "figures" / "rates.png" for name in ("one", "two")
    }


def test_progress_is_told_in_the_words_of_monai_labels_clients():
    told = train.figures(
        State("learning", 3, 10, 0.5, {"stem": 0.1}, 6.0, 14.0, {"LV": 0.9, "MYO": 0.8, "RV": 0.7})
    )
    assert (told["epoch"], told["total_epochs"]) == (3, 10)
    assert told["best_metric"] == pytest.approx(0.8)
    assert (told["loss"], told["rates"], told["seconds_left"]) == (0.5, {"stem": 0.1}, 14.0)
    assert json.loads(json.dumps(told)) == told
    assert "best_metric" not in train.figures(State("reading labels"))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"steps": "many"}, "'steps': "),
        ({"steps": 0}, "'steps': "),
        ({"minutes": 10_000}, "'minutes': "),
        ({"method": "magic"}, "'method': "),
        ({"name": "../../etc"}, "unknown option 'name'"),
        ({"threads": 99}, "unknown option 'threads'"),
        ({"continues": "another"}, "unknown option 'continues'"),
        ({"decision": {"margin": -1}}, "'decision.margin': "),
        ({"model": "other"}, "there is no model 'other'"),
        ([1], "unknown option 'it'"),
        (None, "unknown option 'it'"),
    ],
)
def test_a_wrong_request_is_refused_naming_what_is_wrong(request_, sentence):
    with pytest.raises(InputError, match=sentence):
        train.read_request(request_)


def test_checking_a_request_needs_no_torch():
    script = (
        "import sys; from cinelabel.serving.train import read_request; read_request({})\n"
        "sys.exit('torch' in sys.modules or 'openvino' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


def test_a_request_without_options_is_the_default_configuration():
    config = train.read_request({"model": "cine", "version": "v-1"}, "job-1")
    assert (config.name, config.model, config.members, config.steps) == ("job-1", "v-1", (), 300)


def test_without_labels_the_job_says_what_to_do(clinic):
    store = LabelStore(clinic.workspace)
    for image in store.states():
        store.set_aside(image, "the image changed")
    with pytest.raises(RunError, match="too few to learn from.*Submit labels"):
        clinic.run(**QUICK)


def test_the_held_out_patients_stay_when_more_labels_come(clinic, monkeypatch):
    publish_nothing(monkeypatch)
    first = clinic.run(**QUICK, seed=1)
    before = clinic.sides()
    shutil.rmtree(clinic.workspace / "jobs")
    LabelStore(clinic.workspace).set_aside(f"{before['training'][0]}__t00", "the image changed")
    second = clinic.run(**QUICK, seed=1)
    assert clinic.sides() == before
    assert second["learned_from"]["patients"] == first["learned_from"]["patients"] - 1


def case_of(study: str, kind: str = "nifti", source: Path = Path("x")) -> Case:
    return Case(study, study, 0, 1, None, kind, source, None, None, None, ())


@pytest.mark.parametrize(
    ("study", "patient"),
    [
        ("p1", "p1"),
        ("patient001_frame01", "patient001"),
        ("A1-ES", "A1"),
        ("A1_sa_ED", "A1_sa"),
        ("grades", "grades"),
    ],
)
def test_phases_of_one_patient_in_files_of_their_own_are_one_patient(study, patient):
    assert train.patient_of(case_of(study)) == patient


def test_two_examinations_of_a_dicom_patient_are_one_patient_without_the_name(
    tmp_path, monkeypatch
):
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    found = []
    for number, patient in enumerate(("ID-7", "ID-7", "ID-8")):
        folder = tmp_path / f"examination{number}"
        folder.mkdir()
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = f"1.2.{number + 1}"
        header = pydicom.dataset.FileDataset(
            str(folder / "a.dcm"), {}, file_meta=meta, preamble=b"\0" * 128
        )
        header.is_little_endian, header.is_implicit_VR = True, False
        header.PatientID = patient
        header.save_as(folder / "a.dcm")
        found.append(train.patient_of(case_of(f"study{number}", "dicom", folder)))
    assert found[0] == found[1] != found[2]
    assert not any("ID-7" in patient for patient in found)


def test_labels_of_a_patient_who_is_not_known_are_left_out_with_a_sentence(clinic, monkeypatch):
    known = train.patient_of

    def patient_of(case):
        if case.study == "p0":
            raise InputError("is damaged", where="a.dcm")
        return known(case)

    monkeypatch.setattr(train, "patient_of", patient_of)
    problems: list[str] = []
    found = train.corrections_in(clinic.workspace, problems)
    assert [correction.patient for correction in found] == ["p1", "p2", "p3", "p4"]
    assert problems == ["p0__t00 is left out: a.dcm: is damaged."]
