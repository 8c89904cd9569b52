"""Cases and labels in the form that MONAI Label and its clients know."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.core.errors import ConflictError, GridError, InputError
from cinelabel.core.grid import Grid
from cinelabel.core.labels import LABEL_NAMES
from cinelabel.core.review import MotionGrade, ReviewRecord
from cinelabel.labelstore import LabelStore
from cinelabel.studies import Study
from cinelabel.studies.cases import Entry, ServedStudy, write_index
from cinelabel.studies.catalogue import Catalogue
from lib.datastore import CineDatastore
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelException,
)

GRID = Grid((8, 7, 4), np.diag([1.5, 1.5, 8.0, 1.0]))
BAD_NAMES = ["", "..", "../heart__t00", "heart__t00.nii.gz", "/etc/passwd", "a\0b", "heart"]


def make_study(frames: int = 3, seed: int = 0) -> Study:
    values = np.random.default_rng(seed).integers(0, 200, (*GRID.shape, frames))
    return Study("heart", values.astype(np.float32), GRID, frames > 1)


@pytest.fixture
def store(tmp_path: Path) -> CineDatastore:
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", make_study())
    labels = LabelStore(tmp_path / "workspace")
    catalogue = Catalogue(
        tmp_path / "studies", tmp_path / "workspace", labels.set_aside, settle_s=0
    )
    catalogue.refresh()
    catalogue.refresh()
    return CineDatastore(catalogue, labels)


@pytest.fixture
def label(tmp_path: Path) -> Path:
    voxels = np.zeros(GRID.shape, np.uint8)
    voxels[2:6, 2:6, 1:3] = 2
    voxels[3:5, 3:5, 1:3] = 1
    studies.save_label(tmp_path / "label.nii.gz", voxels, make_study(1))
    return tmp_path / "label.nii.gz"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_image_tells_its_case_and_no_path_of_this_machine(
    store: CineDatastore, tmp_path: Path
) -> None:
    store.catalogue.mark_phases("heart__t00", ed=0, es=1)
    info = store.get_image_info("heart__t01")
    known = {key: info[key] for key in ("name", "study", "frame", "n_frames", "phase", "kind")}
    assert known == {
        "name": "heart__t01.nii.gz",
        "study": "heart",
        "frame": 1,
        "n_frames": 3,
        "phase": "ES",
        "kind": "nifti",
    }
    assert (info["state"], info["version"], info["lease"]) == ("open", 0, None)
    assert info["quality"]["shape"] == GRID.shape
    assert str(tmp_path) not in str(info)
    assert Path(store.get_image_uri("heart__t01")) == store.catalogue.image_path("heart__t01")


def test_a_label_goes_through_its_states(store: CineDatastore, label: Path) -> None:
    assert store.status()["completed"] == 0
    assert store.get_unlabeled_images() == ["heart__t00", "heart__t01", "heart__t02"]
    assert store.save_label("heart__t01", str(label), "final", {"user": "ann"}) == "heart__t01"
    store.labels.skip("heart__t02", "ann", "no heart")
    store.labels.lease("heart__t00", "bob", "slicer")
    assert store.get_labeled_images() == ["heart__t01"]
    assert store.get_unlabeled_images() == ["heart__t00"]
    status = store.status()
    assert (status["total"], status["completed"], status["skipped"]) == (3, 1, 1)
    assert status["label_tags"] == {"final": 1, "original": 0}
    assert store.get_image_info("heart__t00")["lease"]["who"] == "bob"
    info = store.get_label_info("heart__t01", "final")
    assert (info["version"], info["who"], info["kind"]) == (1, "ann", "submitted")
    assert (
        store.get_label("heart__t01", "final").read()
        == Path(store.get_label_uri("heart__t01", "final")).read_bytes()
    )
    assert store.datalist() == [
        {
            "image": store.get_image_uri("heart__t01"),
            "label": store.get_label_uri("heart__t01", "final"),
        }
    ]


def test_the_whole_store_is_told_in_the_form_of_monai_label(
    store: CineDatastore, label: Path
) -> None:
    store.save_label("heart__t00", str(label), "final", {})
    store.save_label("heart__t00", str(label), "original", {"model": "pair-1", "params": {"a": 1}})
    objects = store.json()["objects"]
    assert list(objects) == store.list_images()
    assert objects["heart__t01"]["labels"] == {}
    assert objects["heart__t01"]["image"]["ext"] == ".nii.gz"
    assert objects["heart__t01"]["image"]["info"]["frame"] == 1
    labels = objects["heart__t00"]["labels"]
    assert labels["final"]["info"]["version"] == 1
    assert labels["original"]["info"]["model"] == "pair-1"
    assert labels["original"]["info"]["params"] == {"label_names": LABEL_NAMES, "a": 1}
    assert labels["original"] == {
        "ext": ".nii.gz",
        "info": store.get_label_info("heart__t00", "original"),
    }


def test_an_image_that_changed_has_neither_label_nor_prediction(
    store: CineDatastore, label: Path, tmp_path: Path
) -> None:
    for tag in ("original", "final"):
        store.save_label("heart__t00", str(label), tag, {})
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", make_study(seed=1))
    store.catalogue.refresh()
    store.catalogue.refresh()
    assert store.get_labels_by_image_id("heart__t00") == {}
    assert store.json()["objects"]["heart__t00"]["labels"] == {}
    assert [event.kind for event in store.labels.history("heart__t00")] == [
        "submitted",
        "set_aside",
    ]


def test_a_prediction_that_was_kept_after_its_image_had_changed_is_not_of_it(
    store: CineDatastore, label: Path, tmp_path: Path
) -> None:
    """As a batch in another process keeps it, which began with the old image."""
    before = store.catalogue.image_state("heart__t00")
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", make_study(seed=1))
    store.catalogue.refresh()
    store.catalogue.refresh()
    store.labels.save_prediction("heart__t00", label, "pair-1", {"image": before})
    assert store.get_labels_by_image_id("heart__t00") == {}
    now = store.catalogue.image_state("heart__t00")
    store.labels.save_prediction("heart__t00", label, "pair-1", {"image": now})
    assert list(store.get_labels_by_image_id("heart__t00")) == ["original"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_image_is_not_found(store: CineDatastore, label: Path, name: str) -> None:
    before = files(store.catalogue.path)
    for call in (
        store.get_image_uri,
        store.get_image,
        store.get_image_info,
        store.get_labels_by_image_id,
        lambda image: store.save_label(image, str(label), "final", {}),
        lambda image: store.save_label(image, str(label), "original", {}),
    ):
        with pytest.raises(ImageNotFoundException):
            call(name)
    for tag in ("final", "original"):
        with pytest.raises(LabelNotFoundException):
            store.get_label_uri(name, tag)
    assert files(store.catalogue.path) == before


@pytest.mark.parametrize("tag", ["final", "original"])
def test_a_label_on_another_grid_is_refused(
    store: CineDatastore, label: Path, tmp_path: Path, tag: str
) -> None:
    labels, grid = studies.load_label(label)
    shifted = Grid(grid.shape, grid.affine + np.eye(4, k=3))
    frames = np.zeros((*grid.shape, 1), np.float32)
    studies.save_label(tmp_path / "other.nii.gz", labels, Study("x", frames, shifted, False))
    with pytest.raises(GridError):
        store.save_label("heart__t00", str(tmp_path / "other.nii.gz"), tag, {})
    assert store.get_labels_by_image_id("heart__t00") == {}


@pytest.mark.parametrize("tag", ["", "../x", "superseded", "final/../..", "FINAL"])
def test_a_label_of_another_tag_is_refused(store: CineDatastore, label: Path, tag: str) -> None:
    before = files(store.catalogue.path)
    with pytest.raises(MONAILabelException):
        store.save_label("heart__t00", str(label), tag, {})
    with pytest.raises(LabelNotFoundException):
        store.get_label_uri("heart__t00", tag)
    assert files(store.catalogue.path) == before


def test_nothing_is_removed_or_changed_in_place(store: CineDatastore, label: Path) -> None:
    store.save_label("heart__t00", str(label), "final", {})
    before = files(store.catalogue.path)
    calls: list[Any] = [
        lambda: store.remove_image("heart__t00"),
        lambda: store.remove_label("heart__t00", "final"),
        lambda: store.update_label_info("heart__t00", "final", {"who": "eve"}),
        lambda: store.update_image_info("heart__t00", {"study": "other"}),
        lambda: store.update_image_info("heart__t00", {"grade": 1}),
        lambda: store.get_dataset_archive(None),
        lambda: store.set_name("other"),
    ]
    for call in calls:
        with pytest.raises(MONAILabelException) as raised:
            call()
        assert raised.value.msg.endswith(".")
    with pytest.raises(ConflictError):
        store.add_image("heart__t00", store.get_image_uri("heart__t01"))
    with pytest.raises(InputError):
        store.add_image("../heart", store.get_image_uri("heart__t01"))
    assert files(store.catalogue.path) == before


def test_an_image_tells_the_grade_of_its_study_and_the_coverage_of_its_prediction(
    store: CineDatastore, label: Path
) -> None:
    def quality(image: str) -> list[Any]:
        told = store.get_image_info(image)["quality"]
        assert told == store.json()["objects"][image]["image"]["info"]["quality"]
        return [told["grade"], told["coverage"]]

    assert quality("heart__t00") == [None, None]
    store.labels.save_review("heart", ReviewRecord("heart", grade=MotionGrade(3)), "ann")
    params = {"coverage": ["No slice lies beyond the apex."]}
    store.save_label("heart__t00", str(label), "original", {"params": params})
    assert quality("heart__t00") == [3, ["No slice lies beyond the apex."]]
    assert quality("heart__t01") == [3, None]


def test_the_status_counts_studies_whose_phases_are_known(store: CineDatastore) -> None:
    assert store.status()["phases"] == {"ED": 0, "ES": 0}
    store.catalogue.mark_phases("heart__t00", ed=0, es=1)
    status = store.status()
    assert (status["studies"], status["phases"]) == (1, {"ED": 1, "ES": 1})


def test_an_image_that_goes_while_it_is_asked_for_is_not_found(
    store: CineDatastore, label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "case", lambda image: None)  # it was there a moment ago
    for tag in ("final", "original"):
        with pytest.raises(ImageNotFoundException):
            store.save_label("gone__t00", str(label), tag, {})


def test_3000_cases_are_told_of_without_looking_at_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "studies").mkdir()
    labels = LabelStore(tmp_path / "workspace")
    entries = {}
    for number in range(100):
        source = tmp_path / "studies" / f"p{number:03d}.nii.gz"
        study = ServedStudy(f"p{number:03d}", source, None, "nifti", 30, 0, 11)
        entries[source.name] = Entry("made of", (study,))
    write_index(tmp_path / "workspace", tmp_path / "studies", entries)
    store = CineDatastore(Catalogue(tmp_path / "studies", tmp_path / "workspace"), labels)
    assert store.status()["total"] == len(store.json()["objects"]) == 3000
    figures = {}
    for what, call in (
        ("status", store.status),
        ("all", store.json),
        ("unlabelled", store.get_unlabeled_images),
        ("info", lambda: store.get_image_info("p050__t07")),
    ):
        figures[what] = median(_timed(call) for _ in range(9))
    with capsys.disabled():
        told = ", ".join(f"{what} {1000 * seconds:.1f} ms" for what, seconds in figures.items())
        print(f"\n3000 cases: {told}")
    assert figures["info"] < figures["all"]


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
