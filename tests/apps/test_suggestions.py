"""Which case comes next and which of its slices, over HTTP and with scores made by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.active.scores import FrameScores, write_scores
from cinelabel.core.grid import Grid
from cinelabel.core.review import Action, Decision, MotionGrade, ReviewRecord, SliceReview
from cinelabel.labelstore import LabelStore
from cinelabel.models.store import BUNDLED
from cinelabel.phantom.cohort import make_study
from cinelabel.serving import process
from cinelabel.serving.scores import Scores
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.study import Study
from cinelabel.studies.workspace import prepare
from lib.candidates import Candidates
from lib.strategy import strategies

DEADLINE_S = 120
STANDING = "They are being computed."
NOW = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, eq=False)
class Scored:
    """A server of two hearts with one frame each, and what it said before it had scores."""

    http: httpx.Client
    early_suggestions: dict[str, Any]
    early_choice: dict[str, Any]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scored]:
    folder = tmp_path_factory.mktemp("suggesting")
    for name, seed in (("anna", 3), ("bert", 8)):
        study = make_study(seed, frames=1).study
        studies.save_image(folder / "studies" / f"{name}.nii.gz", study)
    prepare(folder / "studies", folder / "workspace")
    settings = ServerSettings(
        studies=folder / "studies",
        workspace=folder / "workspace",
        port=process.free_port(),
        model=BUNDLED,
        device="cpu",
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CINELABEL_MODELS", str(folder / "models"))
        server = process.Server(settings)
    with server, httpx.Client(base_url=settings.url, timeout=60, trust_env=False) as http:
        server.wait_until_ready()
        early = http.get("/cases/bert__t00/suggestions").json()
        choice = ask(http, "suggested", "early")
        deadline = time.monotonic() + DEADLINE_S
        while not all(job["ended"] for job in http.get("/jobs/").json()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        http.delete(f"/cases/{choice['id']}/lease", params={"client_id": "early"})
        yield Scored(http, early, choice)


def ask(http: httpx.Client, strategy: str, client_id: str) -> dict[str, Any]:
    """The next case of a client, which then holds it."""
    response = http.post(f"/activelearning/{strategy}", json={"client_id": client_id})
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.fixture
def free(scored: Scored) -> Iterator[None]:
    """What a test holds is let go at its end."""
    yield
    for case in scored.http.get("/cases/").json()["cases"]:
        if case["lease"]:
            holder = {"client_id": case["lease"]["client_id"]}
            scored.http.delete(f"/cases/{case['image']}/lease", params=holder)


def test_before_there_are_scores_both_answers_say_so(scored: Scored) -> None:
    early = scored.early_suggestions
    assert (early["model"], early["slices"]) == (BUNDLED, [])
    assert early["reason"] == f"There are no scores by {BUNDLED} yet. {STANDING}"
    assert scored.early_choice["slice"] is None
    assert scored.early_choice["reason"].endswith(
        f"2 images are without scores by {BUNDLED}. {STANDING}"
    )


def test_all_are_scored_by_one_job(scored: Scored) -> None:
    (job,) = scored.http.get("/jobs/").json()
    assert (job["kind"], job["state"], job["error"]) == ("scores", "done", None)
    assert job["result"] == {"model": BUNDLED, "scored": 2, "left": 0}


def test_slices_are_suggested_worst_first_each_with_a_reason(scored: Scored) -> None:
    for image in ("anna__t00", "bert__t00"):
        found = scored.http.get(f"/cases/{image}/suggestions").json()
        assert found["reason"] == ""
        values = [each["disputed_cm2"] for each in found["slices"]]
        assert values == sorted(values, reverse=True)
        assert values[-1] >= 1.0
        worst = found["slices"][0]
        assert worst["reason"] == (
            f"In slice {worst['slice']} two answers of the model differ on "
            f"{worst['disputed_cm2']:.1f} of {worst['heart_cm2']:.1f} cm2 of heart."
        )


@pytest.mark.usefixtures("free")
def test_disagreement_hands_out_the_case_of_the_worst_slice(scored: Scored) -> None:
    worst = {
        image: scored.http.get(f"/cases/{image}/suggestions").json()["slices"][0]
        for image in ("anna__t00", "bert__t00")
    }
    image = max(worst, key=lambda name: worst[name]["disputed_cm2"])
    found = ask(scored.http, "disagreement", "one")
    assert (found["id"], found["slice"]) == (image, worst[image]["slice"])
    assert found["reason"].startswith(worst[image]["reason"].rstrip("."))


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("strategy", ["suggested", "foreground", "disagreement", "diversity"])
def test_what_another_client_holds_is_not_handed_out(scored: Scored, strategy: str) -> None:
    first, second, third = (ask(scored.http, strategy, name) for name in ("one", "two", "three"))
    assert {first["id"], second["id"]} == {"anna__t00", "bert__t00"}
    assert isinstance(first["slice"], int)
    assert third == {}


@pytest.mark.usefixtures("free")
def test_what_is_skipped_is_not_suggested(scored: Scored) -> None:
    scored.http.post("/cases/anna__t00/skip", json={"reason": "A test."})
    assert ask(scored.http, "suggested", "one")["id"] == "bert__t00"
    scored.http.post("/cases/anna__t00/reopen", json={"reason": "A test."})


def test_suggestions_for_an_unknown_image_are_404(scored: Scored) -> None:
    assert scored.http.get("/cases/nobody/suggestions").status_code == 404


# In this process, with scores made by hand


@dataclass(frozen=True, eq=False)
class Place:
    """Three studies of two frames and four slices, all scored; the worst slice is 2 of each.

    `c` is disputed most, then `b`, then `a`.
    """

    catalogue: Catalogue
    labels: LabelStore
    scores: Scores
    started: list[Any]

    def choose(self, strategy: str = "suggested", images: Any = None) -> dict[str, Any] | None:
        candidates = Candidates(self.catalogue, self.labels, self.scores, BUNDLED)
        served = [case.image_id for case in self.catalogue.cases()]
        wanted = {"candidates": served if images is None else images}
        return strategies(candidates, 0)[strategy](wanted, SimpleNamespace())

    def review(self, study: str, **found: Any) -> None:
        record = ReviewRecord(study, **found)
        base = self.labels.review(study)
        self.labels.save_review(study, record, "anna", base.version if base else None)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    grid = Grid((8, 8, 4), np.diag([1.5, 1.5, 8.0, 1.0]))
    noise = np.random.default_rng(0).random((8, 8, 4, 2), np.float32)
    for name in "abc":
        study = Study(name, noise, grid, is_cine=True)
        studies.save_image(tmp_path / "studies" / f"{name}.nii.gz", study)
    catalogue = prepare(tmp_path / "studies", tmp_path / "workspace")
    for number, case in enumerate(catalogue.cases()):
        disputed = np.array([0, 1, 100 + number, 2], np.float32)
        scores = FrameScores(
            disputed > 0, np.full(4, 1000, np.float32), disputed, np.eye(4), case.study
        )
        save(catalogue, case.image_id, scores)
    started: list[Any] = []
    runner = SimpleNamespace(jobs=list, start=lambda *job: started.append(job))
    return Place(
        catalogue, LabelStore(tmp_path / "workspace"), Scores(catalogue.path, runner), started
    )


def save(catalogue: Catalogue, image: str, scores: FrameScores) -> None:
    found = catalogue.image_path(image).stat()
    file = catalogue.path / "scores" / BUNDLED / f"{image}.npz"
    write_scores(file, scores, (found.st_size, found.st_mtime_ns))


def decision(action: Action) -> Decision:
    return Decision(action, "", "anna", NOW)


def test_the_worst_slice_is_chosen_and_nothing_is_computed_again(place: Place) -> None:
    found = place.choose("disagreement")
    assert (found["id"], found["slice"]) == ("c__t01", 2)
    assert place.started == []


@pytest.mark.parametrize(
    ("review", "why"),
    [
        ({"grade": MotionGrade.SEVERE}, "graded non-diagnostic"),
        ({"decision": decision(Action.EXCLUDE)}, "excluded"),
        ({"decision": decision(Action.REPEAT)}, "to be repeated"),
    ],
)
def test_a_study_that_is_unfit_is_passed_over_and_told_of(
    place: Place, review: dict[str, Any], why: str
) -> None:
    place.review("c", **review)
    found = place.choose()
    assert found["id"] == "b__t01"
    assert found["reason"].endswith(f" 2 images are left out, being {why}.")


def test_a_slice_that_is_excluded_is_passed_over(place: Place) -> None:
    place.review("c", slices=(SliceReview(2, decision=decision(Action.EXCLUDE)),))
    assert place.choose("disagreement")["id"] == "b__t01"


def test_first_and_random_hand_out_what_is_unfit_too(place: Place) -> None:
    for study in "abc":
        place.review(study, grade=MotionGrade.SEVERE)
    assert place.choose() is None
    assert place.choose("first")["id"] == "a__t00"
    assert place.choose("random") is not None


def test_a_damaged_review_keeps_nobody_from_the_next_case(place: Place) -> None:
    place.review("c", grade=MotionGrade.SEVERE)
    (kept,) = (place.catalogue.path).rglob("v0001.json")
    kept.write_text("{")
    assert place.choose("disagreement")["id"] == "c__t01"


def test_an_image_without_scores_waits_until_it_has_some(place: Place) -> None:
    (place.catalogue.path / "scores" / BUNDLED / "c__t01.npz").unlink()
    found = place.choose("disagreement")
    assert found["id"] == "c__t00"
    assert f"1 image is without scores by {BUNDLED}. {STANDING}" in found["reason"]
    assert [job[0] for job in place.started] == ["scores"]


def test_phases_in_files_of_their_own_are_one_patient_also_without_scores(tmp_path: Path) -> None:
    grid = Grid((8, 8, 4), np.diag([1.5, 1.5, 8.0, 1.0]))
    for name in ("p1_ED", "p1_ES", "p2_ED"):
        noise = np.random.default_rng(0).random((8, 8, 4, 1), np.float32)
        file = tmp_path / "studies" / f"{name}.nii.gz"
        studies.save_image(file, Study(name, noise, grid, is_cine=False))
    catalogue = prepare(tmp_path / "studies", tmp_path / "workspace")
    runner = SimpleNamespace(jobs=list, start=lambda *job: None)
    scores = Scores(catalogue.path, runner)
    found = Candidates(catalogue, LabelStore(tmp_path / "workspace"), scores, BUNDLED)
    served = [case.image_id for case in catalogue.cases()]
    assert [candidate.patient for candidate in found.pool(served).waiting] == ["p1", "p1", "p2"]


def test_an_image_without_a_heart_is_handed_out_last(place: Place) -> None:
    save(
        place.catalogue, "c__t01", FrameScores.none(4, "There are no scores: no heart found.", "c")
    )
    assert place.choose("disagreement")["id"] == "c__t00"
    assert place.choose("disagreement", ["c__t01"])["id"] == "c__t01"
    assert place.started == []


def test_without_a_model_cases_are_handed_out_all_the_same(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "current").write_text("gone\n")
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "models"))
    candidates = Candidates(place.catalogue, place.labels, place.scores, None)
    found = strategies(candidates, 0)["suggested"]({"candidates": ["b__t00"]}, SimpleNamespace())
    assert found["id"] == "b__t00"
    assert "the model in use, 'gone', is not in the store" in found["reason"]
    assert str(tmp_path) not in found["reason"]
