"""The whole history goes out and comes in as it was; earlier workspaces are taken over once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.files import sha256
from cinelabel.core.grid import Grid
from cinelabel.core.review import MotionGrade, ReviewRecord
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.labelstore.exchange import export_to, import_from
from cinelabel.studies import nifti

By = Callable[..., Submission]
Write = Callable[..., Path]


@pytest.fixture
def images(store: LabelStore, write: Write, heart: np.ndarray) -> Path:
    """Images of two cases, in the workspace."""
    folder = store.folder / "store"
    folder.mkdir()
    for name in ("p1__t00", "p2__t00"):
        shutil.copy(write((heart * 100).astype(np.int16)), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def filled(store: LabelStore, images: Path, label: Path, grid: Grid, by: By) -> LabelStore:
    """Two versions and a skip of one case, a label set aside of another, a skip, and reviews."""
    store.submit("p1__t00", grid, label, by(comment="Übung"))
    store.submit("p1__t00", grid, label, by(who="bob", base_version=1), ["LV", "MYO", "RV"])
    store.skip("p1__t00", "anna", "blurred")
    store.submit("p2__t00", grid, label, by("p2__t00"))
    store.set_aside("p2__t00", "its image changed on disk")
    store.skip("p3__t00", "anna", "no heart")
    store.save_review("p1", ReviewRecord("p1", grade=MotionGrade.MILD), "anna")
    store.save_review("p1", ReviewRecord("p1", grade=MotionGrade.SEVERE), "bob", 1)
    return store


def test_the_data_set_has_a_line_an_event_and_a_file_a_version(
    filled: LabelStore, images: Path, tmp_path: Path
):
    done = export_to(tmp_path / "out", filled, images)
    assert (done.versions, done.events, done.images, done.reviews) == (3, 6, 2, 2)
    assert done.problems == ("p3__t00: the workspace does not have its image.",)
    lines = [json.loads(line) for line in (tmp_path / "out/labels.jsonl").read_text().splitlines()]
    kinds = [(line["image"], line["kind"]) for line in lines]
    assert kinds == [
        ("p1__t00", "submitted"),
        ("p1__t00", "submitted"),
        ("p1__t00", "skipped"),
        ("p2__t00", "submitted"),
        ("p2__t00", "set_aside"),
        ("p3__t00", "skipped"),
    ]
    assert lines[0]["text"] == "Übung"
    for line in lines:
        assert ("file" in line) == (line["version"] is not None)
        if "file" in line:
            assert sha256(tmp_path / "out" / line["file"]) == line["sha256"]
    assert (tmp_path / "out/images/p1__t00.nii.gz").is_file()


def test_what_was_exported_comes_into_an_empty_workspace_as_it_was_and_only_once(
    filled: LabelStore, images: Path, tmp_path: Path
):
    export_to(tmp_path / "out", filled, images)
    other = LabelStore(tmp_path / "other")
    done = import_from(tmp_path / "out", other, other.folder / "store", "carl")
    assert (done.versions, done.events, done.reviews, done.problems) == (3, 6, 2, ())
    assert other.events() == filled.events()
    assert other.states() == filled.states()
    assert other.review_history("p1") == filled.review_history("p1")
    assert other.check() == []
    again = import_from(tmp_path / "out", other, other.folder / "store", "carl")
    assert (again.versions, again.events, again.reviews, again.problems) == (0, 0, 0, ())
    back = export_to(tmp_path / "out2", other, images)
    assert back.events == 6
    assert (tmp_path / "out2/labels.jsonl").read_bytes() == (
        tmp_path / "out/labels.jsonl"
    ).read_bytes()


def test_a_later_export_adds_what_is_new_and_an_earlier_one_nothing(
    filled: LabelStore, images: Path, tmp_path: Path, label: Path, grid: Grid, by: By
):
    export_to(tmp_path / "early", filled, images)
    filled.submit("p1__t00", grid, label, by(base_version=2))
    export_to(tmp_path / "late", filled, images)
    other = LabelStore(tmp_path / "other")
    import_from(tmp_path / "early", other, images, "carl")
    done = import_from(tmp_path / "late", other, images, "carl")
    assert (done.versions, done.events) == (1, 1)
    assert import_from(tmp_path / "early", other, images, "carl").events == 0
    assert other.events() == filled.events()


def test_another_history_of_a_case_is_left_and_named(
    filled: LabelStore, images: Path, tmp_path: Path, label: Path, grid: Grid, by: By
):
    export_to(tmp_path / "out", filled, images)
    other = LabelStore(tmp_path / "other")
    kept = other.submit("p1__t00", grid, label, by(who="dora"))
    other.save_review("p1", ReviewRecord("p1"), "dora")
    done = import_from(tmp_path / "out", other, images, "carl")
    assert [problem.split(".")[0] for problem in done.problems] == [
        "p1__t00: has another history here",
        "p1: has other reviews here",
    ]
    assert other.newest("p1__t00") == kept
    assert other.version("p2__t00", 1) is not None


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"sequence": 1', '"sequence": 0', "labels.jsonl line 1: is not the record of a label"),
        ('"image": "p1__t00"', '"image": "../../p1"', "'../../p1' is not a valid image name"),
        ('"kind": "submitted"', '"kind": "forged"', "kind: Input should be"),
        ('{"schema', "{schema", "line 1 is not JSON"),
        ('{"schema_version": 1', '{"schema_version": 2', "schema_version: Input should be 1"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_as_a_whole(
    filled: LabelStore, images: Path, tmp_path: Path, old: str, new: str, sentence: str
):
    export_to(tmp_path / "out", filled, images)
    change(tmp_path / "out/labels.jsonl", old, new)
    other = LabelStore(tmp_path / "other")
    with pytest.raises(InputError, match=sentence):
        import_from(tmp_path / "out", other, images, "carl")
    assert other.events() == []


def test_a_changed_file_or_a_foreign_grid_is_left_and_named(
    filled: LabelStore, images: Path, tmp_path: Path, write: Write, heart: np.ndarray
):
    export_to(tmp_path / "out", filled, images)
    first = next((tmp_path / "out/labels/p2__t00").iterdir())
    first.write_bytes(b"changed")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(write(heart[:-1]), elsewhere / "p1__t00.nii.gz")
    other = LabelStore(tmp_path / "other")
    done = import_from(tmp_path / "out", other, elsewhere, "carl")
    assert "does not lie on the grid of its image" in done.problems[0]
    assert done.problems[1] == "p2__t00: the file of version 1 is missing or was changed."
    assert [event.image for event in other.events()] == ["p3__t00"]
    assert list((other.folder / "labels.tmp").iterdir()) == []


def test_a_label_that_was_changed_on_disk_stops_the_export(
    filled: LabelStore, images: Path, tmp_path: Path
):
    kept = filled.newest("p1__t00")
    assert kept is not None
    kept.path.write_bytes(b"changed")
    with pytest.raises(InputError, match="p1__t00: version 2 was changed on disk"):
        export_to(tmp_path / "out", filled, images)
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_never_exported_into(
    filled: LabelStore, images: Path, tmp_path: Path
):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        export_to(tmp_path / "out", filled, images)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_plain_folder_gives_first_versions_and_never_replaces_one(
    store: LabelStore, images: Path, tmp_path: Path, label: Path, grid: Grid, by: By, write: Write
):
    kept = store.submit("p1__t00", grid, label, by())
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("p1__t00", "p2__t00", "unknown"):
        shutil.copy(label, plain / f"{name}.nii.gz")
    done = import_from(plain, store, images, "carl")
    assert done.versions == 1
    assert [problem.split(":")[0] for problem in done.problems] == ["p1__t00", "unknown"]
    assert store.newest("p1__t00") == kept
    imported = store.newest("p2__t00")
    assert imported is not None
    assert (imported.kind, imported.who, imported.version) == ("imported", "carl", 1)
    with pytest.raises(InputError, match="holds no labels"):
        import_from(images.parent, store, images, "carl")


# A workspace of the earlier form


@pytest.fixture
def earlier(tmp_path: Path, write: Write, heart: np.ndarray) -> Path:
    """One label in Slicer's own order, one canonical, one on another grid."""
    workspace = tmp_path / "earlier"
    final = workspace / "store" / "labels" / "final"
    final.mkdir(parents=True)
    shuffled = np.choose(heart, [0, 2, 3, 1]).astype(np.int16)
    labels = {"p1__t00": shuffled, "p2__t00": heart, "p3__t00": heart[:-1]}
    objects = {}
    for name, voxels in labels.items():
        shutil.copy(write(heart.astype(np.int16)), workspace / "store" / f"{name}.nii.gz")
        shutil.copy(write(voxels), final / f"{name}.nii.gz")
        info = {"ts": 1772359200, "client_id": "c7", "name": f"{name}.nii.gz"}
        objects[name] = {"image": {}, "labels": {"final": {"info": info, "ext": ".nii.gz"}}}
    names = [{"name": name, "idx": 9} for name in ("RV", "LV", "MYO")]
    objects["p1__t00"]["labels"]["final"]["info"]["label_info"] = names
    (workspace / "store" / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    return workspace


def test_labels_of_the_earlier_form_are_taken_over_once(earlier: Path, heart: np.ndarray):
    before = {path: path.read_bytes() for path in (earlier / "store").rglob("*.nii.gz")}
    store = LabelStore(earlier)
    taken = store.newest("p1__t00")
    assert taken is not None
    assert (taken.version, taken.kind, taken.who) == (1, "imported", "unknown")
    assert (taken.client_id, taken.time) == ("c7", "2026-03-01T10:00:00.000000+00:00")
    assert np.array_equal(nifti.read_label(taken.path)[0], heart)
    assert store.counts()["versions"] == 2
    (problem,) = store.problems
    assert problem.startswith("p3__t00: its earlier label is not taken over, ")
    assert {path: path.read_bytes() for path in before} == before
    store.set_aside("p1__t00", "its image changed on disk")
    again = LabelStore(earlier)
    assert again.counts()["versions"] == 2
    assert again.newest("p1__t00") is None


@pytest.mark.parametrize("content", ["", "[]", '{"objects": {"p2__t00": 3}}'])
def test_a_damaged_earlier_index_costs_names_and_times_only(earlier: Path, content: str):
    (earlier / "store" / "datastore_v2.json").write_text(content)
    taken = LabelStore(earlier).newest("p2__t00")
    assert taken is not None
    assert taken.who == "unknown"


def test_a_lost_index_leaves_taken_over_labels_alone(
    earlier: Path, label: Path, grid: Grid, by: By
):
    store = LabelStore(earlier)
    changed = replace(by(), base_version=1)
    store.submit("p1__t00", grid, label, changed)
    events = store.events()
    (earlier / "labels.sqlite").unlink()
    assert LabelStore(earlier).events() == events
