"""Scores of the cases of a workspace: what is scored, by a job that is light and alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.active.scores import FrameScores
from cinelabel.core.errors import InputError, ModelError
from cinelabel.core.grid import Grid
from cinelabel.models.store import BUNDLED
from cinelabel.serving import scores
from cinelabel.serving.jobs import JobRunner, Limits
from cinelabel.serving.scores import Scores, to_score
from cinelabel.serving.work import Cancelled, Context, Kind
from cinelabel.studies.cases import ServedStudy
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.study import Study


class Reckoning:
    """In place of the networks: the brightness of each slice."""

    def __init__(self, segmenter: Any) -> None:
        self.scored: list[str] = []

    def score(self, study: Study, patient: str = "") -> FrameScores:
        self.scored.append(study.name)
        if study.frames.max() > 5:
            raise ZeroDivisionError
        bright = study.frames.mean((0, 1, 3))
        return FrameScores(bright > 0, 1000 * bright, 100 * bright, bright[:, None], patient)


@dataclass(frozen=True)
class Place:
    """A workspace with a study `beat` of six frames and one, `still`, of a single frame."""

    workspace: Path
    catalogue: Catalogue
    runner: JobRunner

    def run(self, **request: Any) -> dict[str, Any]:
        """The job in this process."""
        folder = self.workspace / "jobs" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        return scores.run({"version": BUNDLED, **request}, Context(folder))

    def known(self, version: str = BUNDLED) -> list[str]:
        """The images that have scores."""
        kept = Scores(self.workspace, self.runner)
        images = [case.image_id for case in self.catalogue.cases()]
        path = self.catalogue.image_path
        return [image for image in images if kept.find(version, image, path(image)) is not None]


def make_place(folder: Path, *served: Study) -> Place:
    for study in served:
        studies.save_image(folder / "studies" / f"{study.name}.nii.gz", study)
    catalogue = Catalogue(folder / "studies", folder / "workspace", settle_s=0.0)
    for _ in range(2):
        catalogue.refresh()
    kinds = {name: Kind("job_kinds:echo") for name in ("scores", "train")}
    return Place(
        folder / "workspace",
        catalogue,
        JobRunner(folder / "workspace" / "jobs", Limits(poll_s=0.02), kinds),
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(scores, "Scorer", Reckoning)
    noise = np.random.default_rng(5).random((16, 16, 4, 6), np.float32)
    grid = Grid(noise.shape[:3], np.diag([1.5, 1.5, 8.0, 1.0]))
    still = Study("still", noise[..., :1], grid, is_cine=False)
    return make_place(tmp_path, Study("beat", noise, grid, is_cine=True), still)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are queued and wait."""
    monkeypatch.setattr(JobRunner, "_run_thread", lambda runner: None)


def served(name: str, frames: int, ed: int | None = None, es: int | None = None) -> list[Any]:
    return list(ServedStudy(name, Path(name), None, "nifti", frames, ed, es).cases())


def test_a_frame_of_each_study_comes_before_a_second_one_of_any() -> None:
    cases = [*served("a", 30, ed=2, es=11), *served("b", 2), *served("c", 8)]
    assert [case.image_id for case in to_score(cases, [])] == [
        *("a__t02", "b__t00", "c__t00"),
        *("a__t11", "b__t01", "c__t02"),
        *("a__t00", "c__t04"),
        *("a__t07", "c__t06"),
    ]


def test_what_is_asked_for_and_what_is_labelled_is_scored_first() -> None:
    cases = [*served("a", 2), *served("b", 30)]
    found = [case.image_id for case in to_score(cases, {"a__t01", "b__t05"}, {"b__t29"})]
    assert found[:4] == ["b__t29", "a__t01", "b__t05", "a__t00"]
    assert len(found) == len(set(found))


def test_scores_are_computed_once(place: Place) -> None:
    assert place.run() == {"model": BUNDLED, "scored": 5, "left": 0}
    assert place.known() == ["beat__t00", "beat__t01", "beat__t03", "beat__t04", "still__t00"]
    assert place.run() == {"model": BUNDLED, "scored": 0, "left": 0}


def test_scores_are_those_of_the_image_and_tell_the_patient(place: Place) -> None:
    place.run()
    path = place.catalogue.image_path("beat__t03")
    found = Scores(place.workspace, place.runner).find(BUNDLED, "beat__t03", path)
    bright = studies.load(path).frames.mean((0, 1, 3))
    assert found.heart_mm2 == pytest.approx(1000 * bright)
    assert found.patient == "beat"


def test_another_version_has_scores_of_its_own(place: Place) -> None:
    place.run()
    assert place.known("phantom-1") == []


def test_an_image_that_changed_is_scored_again(place: Place) -> None:
    place.run()
    os.utime(place.catalogue.image_path("beat__t01"))
    assert "beat__t01" not in place.known()
    assert place.run()["scored"] == 1
    assert "beat__t01" in place.known()


def test_new_studies_are_scored_and_nothing_else(place: Place, tmp_path: Path) -> None:
    place.run()
    study = studies.load(tmp_path / "studies" / "still.nii.gz")
    studies.save_image(tmp_path / "studies" / "newcomer.nii.gz", study)
    for _ in range(2):
        place.catalogue.refresh()
    assert place.run()["scored"] == 1
    assert "newcomer__t00" in place.known()


def test_a_damaged_file_of_scores_is_made_again(place: Place) -> None:
    place.run()
    (place.workspace / "scores" / BUNDLED / "beat__t01.npz").write_bytes(b"PK\x03\x04 half")
    assert "beat__t01" not in place.known()
    assert place.run()["scored"] == 1


def test_a_job_that_stops_goes_on_where_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Context.progress

    def stop_at_three(context: Context, stage: str, done: int, total: int, **figures: Any) -> None:
        context.cancelled = done == 3
        told(context, stage, done, total, **figures)

    with monkeypatch.context() as patched:
        patched.setattr(Context, "progress", stop_at_three)
        with pytest.raises(Cancelled):
            place.run()
    assert len(place.known()) == 3
    assert place.run()["scored"] == 2


@pytest.mark.usefixtures("idle")
def test_the_job_gives_way_to_another_that_waits(place: Place) -> None:
    place.runner.start("train", {}, "anna")
    assert place.run() == {"model": BUNDLED, "scored": 0, "left": 5}


def test_a_strange_image_is_told_of_and_does_not_stop_the_others(place: Place) -> None:
    path = place.catalogue.image_path("beat__t00")
    study = studies.load(path)
    studies.save_image(path, replace(study, frames=study.frames * 100))
    assert place.run()["scored"] == 5
    found = Scores(place.workspace, place.runner).find(BUNDLED, "beat__t00", path)
    assert found.reason == "There are no scores: it cannot be scored (ZeroDivisionError)."
    assert place.run()["scored"] == 0


@pytest.mark.parametrize("request_", [{}, [], None, {"version": "../up"}, {"version": 3}])
def test_a_wrong_request_is_refused(place: Place, request_: Any) -> None:
    with pytest.raises(InputError):
        scores.run(request_, Context(place.workspace / "jobs" / "one"))


def test_an_unknown_version_fails(place: Place) -> None:
    with pytest.raises(ModelError, match="unknown model version"):
        place.run(version="nobody")


@pytest.mark.usefixtures("idle")
def test_the_job_is_queued_once_however_often_it_is_required(place: Place) -> None:
    kept = Scores(place.workspace, place.runner)
    for _ in range(5):
        assert kept.require(BUNDLED, place.catalogue, []) == "They are being computed."
    (job,) = place.runner.jobs()
    assert (job.kind, job.request) == ("scores", {"version": BUNDLED, "images": []})


@pytest.mark.usefixtures("idle")
def test_nothing_is_queued_when_nothing_is_missing(place: Place) -> None:
    place.run()
    kept = Scores(place.workspace, place.runner)
    assert kept.require(BUNDLED, place.catalogue, []) == ""
    assert place.runner.jobs() == []
    assert kept.require(BUNDLED, place.catalogue, [], {"beat__t05"}) == "They are being computed."
    assert place.runner.jobs()[0].request["images"] == ["beat__t05"]


@pytest.mark.usefixtures("idle")
def test_a_job_that_was_ended_is_not_started_again_at_once(place: Place) -> None:
    kept = Scores(place.workspace, place.runner)
    kept.require(BUNDLED, place.catalogue, [])
    place.runner.cancel(place.runner.jobs()[0].id, "anna")
    told = kept.require(BUNDLED, place.catalogue, [])
    assert told == "They could not be computed: Cancelled by anna."
    assert len(place.runner.jobs()) == 1
    assert kept.require("phantom-1", place.catalogue, []) == "They are being computed."


@pytest.mark.usefixtures("idle")
def test_a_full_queue_is_told_and_is_no_error(place: Place) -> None:
    for _ in range(Limits().waiting):
        place.runner.start("train", {}, "anna")
    told = Scores(place.workspace, place.runner).require(BUNDLED, place.catalogue, [])
    assert told.startswith("They cannot be computed now: 16 jobs wait already")
