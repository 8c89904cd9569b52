"""Batches: which cases are segmented, what is kept of them, what a second batch leaves alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.errors import InputError, ModelError, OutputError
from cinelabel.core.grid import Grid
from cinelabel.core.measures import measure
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.phantom.cohort import make_study
from cinelabel.quality.coverage import coverage_sentences
from cinelabel.segmentation import Segmentation, Segmenter
from cinelabel.serving import batch
from cinelabel.serving.jobs import JobRunner, Limits
from cinelabel.serving.work import Cancelled, Context
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.study import Study

DEADLINE_S = 120
CINE = ["beat__t00", "beat__t01"]
WHO = {"who": "anna", "client_id": "", "time": "2026-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Place:
    """A workspace with a study of two frames and one of a single frame."""

    studies: Path
    workspace: Path

    def run(self, **request: Any) -> dict[str, Any]:
        """A batch in this process, with one member of the model unless it says otherwise."""
        folder = self.workspace / "jobs" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        return batch.run({"fast": True, **request}, Context(folder))

    def store(self) -> LabelStore:
        return LabelStore(self.workspace)


class Drawing:
    """In place of the networks: the bright half of the image is LV, and two members agree."""

    def __init__(self, version: str) -> None:
        self.version = SimpleNamespace(name=version)

    def segment(self, study: Study, frames: list[int], fast: bool, **options: Any) -> Any:
        labels = np.zeros(study.frames.shape, np.uint8)
        for number, t in enumerate(frames):
            labels[..., t] = study.frames[..., t] > 0.5
            options["progress"](number + 1, len(frames), "one")
        members = ("one",) if fast else ("one", "two")
        each = {name: labels for name in members} if options["keep_members"] else None
        return Segmentation(
            labels=labels,
            heart=None,
            reason=None,
            ed=None,
            es=None,
            measures=measure(labels, study.grid),
            timings_s={},
            model=self.version.name,
            device="cpu",
            fast=fast,
            members=members,
            member_labels=each,
        )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        batch, "Segmenter", SimpleNamespace(load=lambda model, device: Drawing(model or "pair-1"))
    )


def make_place(folder: Path, beat: Study, still: Study) -> Place:
    studies.save_image(folder / "studies" / "beat.nii.gz", beat)
    studies.save_image(folder / "studies" / "still.nii.gz", still)
    place = Place(folder / "studies", folder / "workspace")
    catalogue = Catalogue(place.studies, place.workspace, settle_s=0.0)
    for _ in range(2):
        catalogue.refresh()
    return place


@pytest.fixture
def place(tmp_path: Path, drawn: None) -> Place:
    """A workspace of small images, segmented by a rule."""
    noise = np.random.default_rng(5).random((16, 16, 4, 2), np.float32)
    grid = Grid(noise.shape[:3], np.diag([1.5, 1.5, 8.0, 1.0]))
    still = Study("still", noise[..., :1], grid, is_cine=False)
    return make_place(tmp_path, Study("beat", noise, grid, is_cine=True), still)


@pytest.fixture
def hearts(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A workspace of phantoms; the model in use is `pair-1`."""
    models = tmp_path / "models"
    shutil.copytree(pair, models)
    (models / "current").write_text("pair-1\n")
    monkeypatch.setenv("CINELABEL_MODELS", str(models))
    return make_place(tmp_path, make_study(3, frames=2).study, make_study(4, frames=1).study)


@pytest.fixture
def runner(hearts: Place) -> Iterator[JobRunner]:
    made = JobRunner(hearts.workspace / "jobs", Limits(poll_s=0.02))
    yield made
    made.close()


def submit(store: LabelStore, place: Place, image: str) -> None:
    file = place.workspace / "store" / f"{image}.nii.gz"
    study = studies.load(file)
    labels = np.zeros(study.grid.shape, np.uint8)
    labels[4:9, 4:9, 2] = 1
    studies.save_label(place.workspace / "label.nii.gz", labels, study)
    submission = Submission(image=image, **WHO)
    store.submit(image, study.grid, place.workspace / "label.nii.gz", submission)


def test_a_batch_of_all_cases_keeps_a_prediction_of_each(place: Place) -> None:
    result = place.run()
    assert {**result, "problems": []} == result
    assert (result["model"], result["segmented"], result["kept"]) == ("pair-1", 3, 0)
    predictions = place.store().predictions()
    assert sorted(predictions) == [*CINE, "still__t00"]
    assert {prediction.model for prediction in predictions.values()} == {"pair-1"}


def test_what_the_members_disagree_on_is_kept_a_frame(place: Place) -> None:
    place.run(images=CINE, fast=False)
    for image in CINE:
        prediction = place.store().prediction(image)
        assert prediction is not None
        assert prediction.info is not None
        assert prediction.info["members"] == ["one", "two"]
        assert prediction.info["coverage"] == coverage_sentences(
            studies.load_label(prediction.path)[0]
        )
        told = prediction.info["disagreement"]
        assert told["mean"]["LV"] == 0.0
        assert {each["frame"] for each in told["slices"]} == {0}


def test_a_second_batch_leaves_alone_what_the_model_has_segmented(place: Place) -> None:
    place.run(images=CINE)
    before = {image: place.store().prediction(image).time for image in CINE}
    result = place.run()
    assert (result["segmented"], result["kept"]) == (1, 2)
    assert {image: place.store().prediction(image).time for image in CINE} == before
    assert place.run(images=CINE, again=True)["segmented"] == 2


def test_another_model_version_or_way_segments_again(place: Place) -> None:
    place.run(images=CINE[:1])
    assert place.run(images=CINE[:1], model="phantom-2")["segmented"] == 1
    assert place.run(images=CINE[:1])["segmented"] == 1
    assert place.run(images=CINE[:1], fast=False)["segmented"] == 1


def test_an_image_that_changed_is_segmented_again(place: Place) -> None:
    place.run(images=CINE)
    file = place.workspace / "store" / f"{CINE[1]}.nii.gz"
    study = studies.load(file)
    study.frames[0, 0, 0, 0] += 1
    studies.save_image(file, study)
    assert place.run(images=CINE)["segmented"] == 1


def test_open_and_labelled_cases_are_told_apart(place: Place) -> None:
    store = place.store()
    submit(store, place, CINE[0])
    store.skip(CINE[1], "anna", "moved")
    assert place.run(cases="labelled")["cases"] == 1
    assert place.run(cases="open")["cases"] == 1
    assert sorted(store.predictions())[0] == CINE[0]
    newest = store.newest(CINE[0])
    assert newest is not None
    assert newest.version == 1


def test_an_image_that_cannot_be_read_does_not_keep_the_others_from_it(place: Place) -> None:
    (place.workspace / "store" / f"{CINE[1]}.nii.gz").write_bytes(b"torn")
    result = place.run()
    assert (result["cases"], result["segmented"], result["n_problems"]) == (3, 1, 1)
    assert "beat" in result["problems"][0]


def test_an_image_that_is_gone_does_not_keep_the_others_from_it(place: Place) -> None:
    place.run(images=CINE)
    (place.workspace / "store" / f"{CINE[1]}.nii.gz").unlink()
    result = place.run()
    assert (result["cases"], result["segmented"], result["n_problems"]) == (3, 1, 1)
    assert CINE[1] in result["problems"][0]


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"cases": "some"}, "cases"),
        ({"images": "beat"}, "images"),
        ({"images": [7]}, "images"),
        ({"images": ["no-such"]}, "no-such"),
        ({"fast": "yes"}, "fast"),
        ({"device": "tpu"}, "device"),
        ({"model": 3}, "model"),
        ({"path": "/etc"}, "path"),
        (["all"], "it"),
    ],
)
def test_a_wrong_request_is_refused_by_name(place: Place, request_: Any, named: str) -> None:
    context = Context(place.workspace / "jobs" / "one")
    with pytest.raises(InputError, match=named):
        batch.run(request_, context)


def test_an_unknown_model_ends_the_batch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "Segmenter", Segmenter)
    with pytest.raises(ModelError, match="no-such-model"):
        place.run(model="no-such-model")


def test_a_folder_that_was_never_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no cases"):
        batch.run({}, Context(tmp_path / "jobs" / "one"))


def test_a_full_disk_ends_the_batch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("cannot be written, the disk is full", where="labels")

    monkeypatch.setattr(LabelStore, "save_prediction", full)
    with pytest.raises(OutputError, match="disk is full"):
        place.run()


def test_a_batch_that_is_cancelled_keeps_what_it_has(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(place.workspace / "jobs" / "one")
    context.folder.mkdir(parents=True)
    save = LabelStore.save_prediction

    def save_and_cancel(*arguments: Any) -> None:
        save(*arguments)
        context.cancelled = len(place.store().predictions()) == 2

    monkeypatch.setattr(LabelStore, "save_prediction", save_and_cancel)
    with pytest.raises(Cancelled):
        batch.run({"fast": True}, context)
    assert sorted(place.store().predictions()) == CINE
    assert place.run()["kept"] == 2


def test_a_batch_runs_as_a_job_and_labels_as_the_whole_study_would_be(
    hearts: Place, runner: JobRunner
) -> None:
    watching = Catalogue(hearts.studies, hearts.workspace)
    assert [watching.find(image).phase for image in CINE] == [None, None]
    job = runner.start("batch", {"fast": True}, "anna")
    end = time.monotonic() + DEADLINE_S
    while not runner.job(job.id).has_ended:
        assert time.monotonic() < end
        time.sleep(0.02)
    job = runner.job(job.id)
    assert job.state == "done", runner.log(job.id)
    assert job.result is not None
    assert job.result["segmented"] == 3
    assert job.progress is not None
    assert (job.progress["done"], job.progress["total"]) == (3, 3)
    assert not list((runner.folder / job.id).glob("*.nii.gz"))
    study = studies.load(hearts.studies / "beat.nii.gz")
    found = Segmenter.load().segment(replace(study, ed=None, es=None), fast=True)
    expected = found.labels
    assert expected.any()
    watching.refresh()
    assert [watching.find(CINE[t]).phase for t in (found.ed, found.es)] == ["ED", "ES"]
    for t, image in enumerate(CINE):
        prediction = hearts.store().prediction(image)
        assert prediction is not None
        kept, _ = studies.load_label(prediction.path)
        np.testing.assert_array_equal(np.squeeze(kept), expected[..., t])
