"""Cases are served when they are whole, and what is served follows the folder."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.errors import BusyError, ConflictError, InputError, OutputError
from cinelabel.core.grid import Grid
from cinelabel.studies import Study
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.dicom import write_cine
from cinelabel.studies.sources import Scan

GRID = Grid((8, 7, 4), np.diag([1.5, 1.5, 8.0, 1.0]))
DEADLINE_S = 30.0


def make_study(name: str = "cine", frames: int = 3, seed: int = 0) -> Study:
    values = np.random.default_rng(seed).integers(0, 200, (*GRID.shape, frames))
    times = tuple(40.0 * t for t in range(frames)) if frames > 1 else None
    return Study(name, values.astype(np.float32), GRID, frames > 1, trigger_times_ms=times)


def save(path: Path, frames: int = 3, seed: int = 0) -> Path:
    studies.save_image(path, make_study(frames=frames, seed=seed))
    return path


def ids(catalogue: Catalogue) -> list[str]:
    return [case.image_id for case in catalogue.cases()]


def scan(catalogue: Catalogue, times: int = 2) -> Catalogue:
    for _ in range(times):
        catalogue.refresh()
    return catalogue


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        threading.Event().wait(0.02)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in files
        if not path.name.endswith(".lock")
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def catalogue(folder: Path, tmp_path: Path, changes: list[str]) -> Iterator[Catalogue]:
    """No settling time: what two scans see unchanged is taken."""
    made = open_catalogue(folder, tmp_path, changes)
    yield made
    made.close()


def open_catalogue(folder: Path, tmp_path: Path, changes: list[str] | None = None) -> Catalogue:
    def on_change(image_id: str, reason: str, was_there: bool) -> None:
        if changes is not None:
            changes.append(image_id)

    return Catalogue(folder, tmp_path / "workspace", on_change, settle_s=0)


def test_a_case_tells_what_it_is(catalogue: Catalogue, folder: Path) -> None:
    write_cine(folder / "scanner", make_study(frames=2))
    save(folder / "p1_ES.nii.gz", frames=1)
    scan(catalogue)
    dicom, nifti = catalogue.find("scanner__t01"), catalogue.find("p1_ES__t00")
    assert dicom is not None
    assert (dicom.study, dicom.frame, dicom.n_frames) == ("scanner", 1, 2)
    assert (dicom.kind, dicom.phase, dicom.source) == ("dicom", None, folder / "scanner")
    assert dicom.shape == (8, 7, 4)
    assert dicom.spacing_mm == pytest.approx((1.5, 1.5, 8.0))
    assert nifti is not None
    assert (nifti.kind, nifti.phase, nifti.n_frames) == ("nifti", "ES", 1)
    assert catalogue.find("p1_ES__t01") is None


def test_a_file_is_served_only_after_two_scans_saw_it_unchanged(
    catalogue: Catalogue, folder: Path
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue, 1)
    assert ids(catalogue) == []
    assert "a.nii.gz: waits until" in catalogue.waiting[0]
    save(source, seed=1)
    scan(catalogue, 1)
    assert ids(catalogue) == []
    scan(catalogue, 1)
    assert len(ids(catalogue)) == 3
    assert catalogue.waiting == ()


def test_a_file_must_rest_for_the_settling_time(folder: Path, tmp_path: Path) -> None:
    save(folder / "a.nii.gz")
    assert ids(scan(Catalogue(folder, tmp_path / "workspace", settle_s=3600), 3)) == []


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_file_that_is_still_growing_is_never_served(
    catalogue: Catalogue, folder: Path, tmp_path: Path, suffix: str
) -> None:
    whole = save(tmp_path / f"whole{suffix}").read_bytes()
    target = folder / f"copied{suffix}"
    for part in range(1, 8):  # each pause is long enough to be taken for the end
        target.write_bytes(whole[: len(whole) * part // 8])
        scan(catalogue, 3)
        assert ids(catalogue) == []
        assert f"copied{suffix}: " in catalogue.problems[0]
    target.write_bytes(whole)
    scan(catalogue)
    assert catalogue.problems == ()
    image = studies.load(catalogue.image_path("copied__t02"))
    assert np.array_equal(image.frame(0), make_study().frame(2))


@pytest.mark.parametrize(
    "copy",
    ["{}.part", ".{}.Xy12aB", "{}.filepart", ".1a2b3c4d-{}", "{}.crdownload", "{}.tmp"],
)
def test_nothing_is_taken_while_an_unfinished_copy_lies_beside_it(
    catalogue: Catalogue, folder: Path, copy: str
) -> None:
    write_cine(folder / "scan", make_study(frames=2))
    first = sorted((folder / "scan").rglob("*.dcm"))[0]
    save(folder / "a.nii.gz")
    save(folder / "b.nii.gz")
    beside = [folder / copy.format("a.nii.gz"), first.with_name(copy.format("IM9999.dcm"))]
    for path in beside:
        path.write_bytes(b"half")
    scan(catalogue, 3)
    assert {case.study for case in catalogue.cases()} == {"b"}
    assert len(catalogue.waiting) == 2
    assert all("still being copied" in sentence for sentence in catalogue.waiting)
    for path in beside:
        path.unlink()
    scan(catalogue)
    assert {case.study for case in catalogue.cases()} == {"a", "b", "scan"}


def test_a_dicom_folder_is_served_when_it_is_a_stack_of_slices_with_all_phases(
    catalogue: Catalogue, folder: Path, tmp_path: Path
) -> None:
    write_cine(tmp_path / "whole", make_study(frames=2))
    (folder / "scan").mkdir()
    shapes = []
    for file in sorted(path for path in (tmp_path / "whole").rglob("*") if path.is_file()):
        shutil.copy(file, folder / "scan" / file.name)  # slice by slice, each phase by phase
        scan(catalogue)
        shapes.append([case.shape[2] for case in catalogue.cases() if case.shape is not None])
    assert shapes == [[], [], [], [], [], [3, 3], [3, 3], [4, 4]]
    assert catalogue.problems == ()


def test_hidden_dicom_files_are_not_read(catalogue: Catalogue, folder: Path) -> None:
    write_cine(folder / "scan", make_study(frames=2))
    write_cine(folder / "scan" / ".trash", make_study(frames=3, seed=1), patient_id="OTHER")
    assert ids(scan(catalogue)) == ["scan__t00", "scan__t01"]
    assert catalogue.problems == ()


def test_a_dicom_folder_must_rest_four_times_as_long_as_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("cinelabel.studies.catalogue.time.monotonic", lambda: now[0])
    write_cine(folder / "scan", make_study(frames=2))
    save(folder / "a.nii.gz")
    catalogue = Catalogue(folder, tmp_path / "workspace", settle_s=5)
    served = {}
    for seconds in (0, 4, 6, 19, 21):
        now[0] = 1000.0 + seconds
        catalogue.refresh()
        served[seconds] = {case.study for case in catalogue.cases()}
    assert served == {0: set(), 4: set(), 6: {"a"}, 19: {"a"}, 21: {"a", "scan"}}


def test_a_source_that_changes_while_it_is_read_is_not_served(
    catalogue: Catalogue, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(folder / "a.nii.gz")
    load = studies.load

    def load_and_change(path: Path, **options: str | None) -> Study:
        study = load(path, **options)
        if Path(path) == source:
            monkeypatch.setattr(studies, "load", load)
            save(source, seed=1)
        return study

    monkeypatch.setattr(studies, "load", load_and_change)
    scan(catalogue)
    assert ids(catalogue) == []
    assert "it changed while it was read" in catalogue.waiting[0]
    scan(catalogue)
    image = studies.load(catalogue.image_path("a__t00"))
    assert np.array_equal(image.frame(0), make_study(seed=1).frame(0))


def test_a_study_dropped_in_while_served_appears(folder: Path, tmp_path: Path) -> None:
    catalogue = Catalogue(folder, tmp_path / "workspace", settle_s=0.05)
    catalogue.watch(0.05)
    try:
        assert ids(catalogue) == []
        save(folder / "new.nii.gz")
        wait_until(lambda: len(ids(catalogue)) == 3)
        (folder / "new.nii.gz").unlink()
        wait_until(lambda: ids(catalogue) == [])
    finally:
        catalogue.close()


def test_what_was_served_last_time_is_served_at_once(
    catalogue: Catalogue, folder: Path, tmp_path: Path
) -> None:
    save(folder / "a.nii.gz")
    save(folder / "gone.nii.gz")
    scan(catalogue)
    (folder / "gone.nii.gz").unlink()
    scan(catalogue)
    cases = list(catalogue.cases())
    assert list(open_catalogue(folder, tmp_path).cases()) == cases
    assert {case.study for case in cases} == {"a"}


def test_a_study_that_is_gone_is_not_served_and_returns_as_it_was(
    catalogue: Catalogue, folder: Path, tmp_path: Path, changes: list[str]
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    changes.clear()
    written = catalogue.image_path("a__t00").stat().st_mtime_ns
    away = source.rename(tmp_path / "a.nii.gz")
    scan(catalogue)
    assert ids(catalogue) == []
    away.rename(source)
    scan(catalogue, 1)
    assert ids(catalogue) == ["a__t00", "a__t01", "a__t02"]
    assert catalogue.image_path("a__t00").stat().st_mtime_ns == written
    assert changes == []


def test_another_file_in_place_of_one_that_is_gone_does_not_bring_that_back(
    catalogue: Catalogue, folder: Path, changes: list[str]
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    whole = source.read_bytes()
    source.unlink()
    scan(catalogue)
    changes.clear()
    source.write_bytes(whole[:-9])
    scan(catalogue, 3)
    assert ids(catalogue) == []
    save(source, seed=1)
    scan(catalogue)
    assert ids(catalogue) == changes == ["a__t00", "a__t01", "a__t02"]


def test_while_the_folder_cannot_be_reached_all_stays_as_it_was(
    catalogue: Catalogue, folder: Path, tmp_path: Path
) -> None:
    save(folder / "a.nii.gz")
    scan(catalogue)
    folder.rename(tmp_path / "away")
    for _ in range(3):
        with pytest.raises(InputError, match="there is no such folder"):
            catalogue.refresh()
    assert len(ids(catalogue)) == 3


def test_an_unmounted_share_leaves_all_as_it_was(
    catalogue: Catalogue, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    source.unlink()
    monkeypatch.setattr(catalogue, "_device", -1)  # the mount point alone is on another disk
    for _ in range(3):
        with pytest.raises(InputError, match="lies on another disk"):
            catalogue.refresh()
    assert len(ids(catalogue)) == 3


def test_one_study_that_cannot_be_taken_does_not_keep_others_from_it(
    folder: Path, tmp_path: Path
) -> None:
    def refuse(image_id: str, reason: str, was_there: bool) -> None:
        if image_id.startswith("a"):
            raise OutputError("the label store is locked", where="labels")

    save(folder / "a.nii.gz")
    save(folder / "b.nii.gz")
    catalogue = Catalogue(folder, tmp_path / "workspace", refuse, settle_s=0)
    catalogue.watch(0.01)
    wait_until(lambda: len(ids(catalogue)) == 3)
    catalogue.close()
    assert ids(catalogue)[0] == "b__t00"


def test_only_the_labels_of_images_that_differ_are_set_aside(
    catalogue: Catalogue, folder: Path, changes: list[str]
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    changes.clear()
    frames = make_study().frames.copy()
    frames[0, 0, 0, 1] += 1
    studies.save_image(source, replace(make_study(), frames=frames))
    scan(catalogue)
    assert changes == ["a__t01"]
    assert np.array_equal(studies.load(catalogue.image_path("a__t01")).frame(0), frames[..., 1])


def test_the_same_voxels_packed_otherwise_are_the_same_image(
    catalogue: Catalogue, folder: Path, changes: list[str]
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    changes.clear()
    image = catalogue.image_path("a__t00")
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()), 9))
    os.utime(source, ns=(1, 1))
    scan(catalogue)
    assert changes == []


def test_an_image_stays_as_it_is_while_its_labels_cannot_be_set_aside(
    folder: Path, tmp_path: Path
) -> None:
    def refuse(image_id: str, reason: str, was_there: bool) -> None:
        raise OutputError("the disk is full", where="labels")

    source = save(folder / "a.nii.gz")
    scan(open_catalogue(folder, tmp_path))
    save(source, seed=1)
    catalogue = Catalogue(folder, tmp_path / "workspace", refuse, settle_s=0)
    with pytest.raises(OutputError, match="the disk is full"):
        scan(catalogue)
    image = studies.load(catalogue.image_path("a__t00"))
    assert np.array_equal(image.frame(0), make_study().frame(0))
    assert len(ids(catalogue)) == 3
    changes: list[str] = []
    scan(open_catalogue(folder, tmp_path, changes))
    assert len(changes) == 3


def test_no_image_changes_under_whoever_writes_its_label(
    folder: Path, tmp_path: Path, catalogue: Catalogue, changes: list[str]
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    changes.clear()
    save(source, seed=1)
    thread = threading.Thread(target=scan, args=(catalogue,))
    with catalogue.holding("a__t00") as case:
        thread.start()
        wait_until(lambda: catalogue.find("a__t00") is None)
        assert changes == []
        with pytest.raises(InputError, match="no such image"), catalogue.holding("a__t01"):
            pass
        image = studies.load(catalogue.image_path(case.image_id))
        assert np.array_equal(image.frame(0), make_study().frame(0))
    thread.join(DEADLINE_S)
    assert changes == ["a__t00", "a__t01", "a__t02"]
    assert catalogue.find("a__t00") is not None


def test_a_study_whose_images_are_replaced_stays_hidden_whatever_else_is_published(
    folder: Path, tmp_path: Path
) -> None:
    """While labels are set aside, a segmentation of another study marks its phases."""
    source = save(folder / "a.nii.gz")
    save(folder / "b.nii.gz", seed=5)
    served: list[bool] = []

    def on_change(image_id: str, reason: str, was_there: bool) -> None:
        if was_there:
            catalogue.mark_phases("b__t00", ed=0, es=1)
            served.append(catalogue.find("a__t00") is not None)

    catalogue = Catalogue(folder, tmp_path / "workspace", on_change, settle_s=0)
    scan(catalogue)
    save(source, seed=1)
    scan(catalogue)
    assert served == [False, False, False]
    assert catalogue.find("a__t00") is not None
    assert [case.phase for case in catalogue.cases() if case.study == "b"] == ["ED", "ES", None]


def test_an_image_is_added_while_the_folder_is_being_listed(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, listed = threading.Event(), threading.Event()
    scanner = catalogue._scanner.scan

    def slow() -> Scan:
        listing.set()
        assert listed.wait(DEADLINE_S)
        return scanner()

    monkeypatch.setattr(catalogue._scanner, "scan", slow)
    thread = threading.Thread(target=scan, args=(catalogue,))
    thread.start()
    assert listing.wait(DEADLINE_S)
    catalogue.add_image("new", save(tmp_path / "new.nii.gz", frames=1))
    assert ids(catalogue) == ["new"]
    listed.set()
    thread.join(DEADLINE_S)
    assert ids(catalogue) == ["new"]


def test_images_to_be_added_wait_for_a_study_for_a_moment_and_only_a_few_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study takes long: the first that wait are told so after a while, the others at once."""
    monkeypatch.setattr("cinelabel.studies.catalogue.ADDING_PATIENCE_S", 1.0)
    reading, go_on = threading.Event(), threading.Event()

    def on_change(image_id: str, reason: str, was_there: bool) -> None:
        reading.set()
        assert go_on.wait(DEADLINE_S)

    catalogue = Catalogue(folder, tmp_path / "workspace", on_change, settle_s=0)
    save(folder / "a.nii.gz")
    image = save(tmp_path / "new.nii.gz", frames=1)
    thread = threading.Thread(target=scan, args=(catalogue,))
    thread.start()
    assert reading.wait(DEADLINE_S)
    started = time.monotonic()
    refused: list[float] = []

    def add(number: int) -> None:
        with pytest.raises(BusyError, match="studies are being read|others are adding"):
            catalogue.add_image(f"new{number}", image)
        refused.append(time.monotonic() - started)

    adding = [threading.Thread(target=add, args=(number,)) for number in range(40)]
    for each in adding:
        each.start()
    for each in adding:
        each.join(DEADLINE_S)
    assert len(refused) == 40
    assert sum(seconds >= 1.0 for seconds in refused) <= 8
    go_on.set()
    thread.join(DEADLINE_S)
    assert [case.image_id for case in catalogue.add_image("new", image)] == ["new"]


def test_a_study_that_became_unreadable_is_served_as_it_was(
    catalogue: Catalogue, folder: Path, changes: list[str]
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    changes.clear()
    source.write_bytes(source.read_bytes()[:-9])
    scan(catalogue)
    assert len(ids(catalogue)) == 3
    assert changes == []
    assert "a.nii.gz: is truncated or damaged" in catalogue.problems[0]


def test_labels_follow_a_dicom_series_that_moves(
    catalogue: Catalogue, folder: Path, changes: list[str]
) -> None:
    write_cine(folder / "inbox" / "scan", make_study(frames=2))
    scan(catalogue)
    changes.clear()
    (folder / "2026").mkdir()
    (folder / "inbox" / "scan").rename(folder / "2026" / "scan")
    scan(catalogue, 3)
    assert ids(catalogue) == ["inbox-scan__t00", "inbox-scan__t01"]
    assert catalogue.cases()[0].source == folder / "2026" / "scan"
    assert changes == []
    shutil.copytree(folder / "2026" / "scan", folder / "inbox" / "scan")
    scan(catalogue)
    assert {case.study for case in catalogue.cases()} == {"inbox-scan", "inbox-scan-2"}
    assert all(changed.startswith("inbox-scan-2") for changed in changes)


def test_a_second_series_of_an_examination_leaves_the_first_as_it_is(
    catalogue: Catalogue, folder: Path, changes: list[str]
) -> None:
    write_cine(folder / "p" / "sax", make_study(frames=2), series_number=5)
    scan(catalogue)
    changes.clear()
    assert ids(catalogue) == ["p-sax__t00", "p-sax__t01"]
    write_cine(folder / "p" / "lax", make_study(frames=3, seed=1), series_number=6)
    for _ in range(4):
        scan(catalogue, 1)
        assert {"p-sax__t00", "p-sax__t01"} <= set(ids(catalogue))
    assert len(ids(catalogue)) == 5
    assert all(not changed.startswith("p-sax") for changed in changes)


def test_a_name_of_a_study_that_is_gone_goes_only_to_the_same_images(
    catalogue: Catalogue, folder: Path
) -> None:
    save(folder / "x" / "b.nii.gz")
    scan(catalogue)
    shutil.rmtree(folder / "x")
    scan(catalogue)
    save(folder / "x-b.nii.gz", seed=1)
    scan(catalogue)
    assert {case.study for case in catalogue.cases()} == {"x-b-2"}
    (folder / "x-b.nii.gz").unlink()
    scan(catalogue)
    save(folder / "x-b.nii", seed=0)
    scan(catalogue)
    assert {case.study for case in catalogue.cases()} == {"x-b"}


def test_the_whole_study_is_loaded_only_if_the_images_were_made_of_it(
    catalogue: Catalogue, folder: Path
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue)
    study = catalogue.load_study("a__t01")
    assert (study.name, study.n_frames) == ("a", 3)
    save(source, seed=1)
    with pytest.raises(ConflictError, match="is being changed or was removed"):
        catalogue.load_study("a__t01")
    with pytest.raises(InputError, match="no such image"):
        catalogue.load_study("b__t01")


def test_marked_phases_are_kept_until_the_study_changes(
    catalogue: Catalogue, folder: Path, tmp_path: Path
) -> None:
    def phases(of: Catalogue) -> list[str | None]:
        return [case.phase for case in of.cases()]

    source = save(folder / "a.nii.gz")
    scan(catalogue)
    catalogue.mark_phases("a__t00", ed=0, es=2)
    assert phases(catalogue) == phases(open_catalogue(folder, tmp_path)) == ["ED", None, "ES"]
    save(source, seed=1)
    scan(catalogue)
    assert phases(catalogue) == [None, None, None]


def test_marks_of_two_programs_are_kept_both(folder: Path, tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(8)]
    for number, name in enumerate(names):
        save(folder / f"{name}.nii.gz", seed=number)
    scan(open_catalogue(folder, tmp_path))

    def mark(mine: list[str]) -> None:
        catalogue = open_catalogue(folder, tmp_path)
        for name in mine:
            catalogue.mark_phases(f"{name}__t00", ed=0, es=1)

    children = [
        get_context("fork").Process(target=mark, args=(names[start::2],)) for start in (0, 1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(DEADLINE_S)
    phases = {case.study: case.phase for case in open_catalogue(folder, tmp_path).cases()[1::3]}
    assert phases == dict.fromkeys(names, "ES")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": {"of": 1}}', ""])
def test_damaged_marks_are_kept_beside_the_new_ones(
    catalogue: Catalogue, folder: Path, content: str
) -> None:
    save(folder / "a.nii.gz")
    scan(catalogue)
    (catalogue.path / "phases.json").write_text(content)
    catalogue.mark_phases("a__t00", ed=0, es=2)
    assert [case.phase for case in catalogue.cases()] == ["ED", None, "ES"]
    [aside] = catalogue.path.glob("phases.damaged-*.json")
    assert aside.read_text() == content


def test_an_added_image_is_a_case_of_its_name_or_a_case_a_frame(
    catalogue: Catalogue, folder: Path, tmp_path: Path
) -> None:
    [single] = catalogue.add_image("one", save(tmp_path / "any.nii.gz", frames=1))
    several = catalogue.add_image("many", save(tmp_path / "other.nii", frames=2))
    assert (single.image_id, single.study, single.n_frames) == ("one", "one", 1)
    assert [case.image_id for case in several] == ["many__t00", "many__t01"]
    scan(catalogue)
    assert ids(open_catalogue(folder, tmp_path)) == ["many__t00", "many__t01", "one"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "a__t01", "many", "many__t00"])
def test_an_image_is_never_replaced(
    catalogue: Catalogue, folder: Path, tmp_path: Path, name: str
) -> None:
    save(folder / "a.nii.gz")
    scan(catalogue)
    catalogue.add_image("many", save(tmp_path / "many.nii.gz"))
    before = snapshot(catalogue.path)
    with pytest.raises(ConflictError, match="of this name"):
        catalogue.add_image(name, save(tmp_path / "new.nii.gz", frames=1, seed=7))
    assert snapshot(catalogue.path) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ok", b"not an image"),
        ("ok", b""),
        ("../out", None),
        ("a/b", None),
        ("..", None),
        (".hidden", None),
        ("", None),
        ("x" * 300, None),
        ("ok.dcm", b"\0" * 128 + b"DICM"),
    ],
)
def test_what_cannot_be_added_leaves_nothing_behind(
    catalogue: Catalogue, tmp_path: Path, name: str, content: bytes | None
) -> None:
    file = save(tmp_path / "upload.nii.gz", frames=1)
    if content is not None:
        file.write_bytes(content)
    before = snapshot(tmp_path)
    with pytest.raises(InputError) as raised:
        catalogue.add_image(name, file)
    assert str(tmp_path) not in str(raised.value)
    assert snapshot(tmp_path) == before
    assert ids(catalogue) == []


def test_an_image_that_would_expand_too_far_is_not_added(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    image = save(tmp_path / "large.nii.gz", frames=1)
    content = bytearray(gzip.decompress(image.read_bytes()))
    content[40:48] = np.array([3, 30000, 30000, 3], "<i2").tobytes()  # dim of the NIfTI header
    image.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match=r"new: holds 10\.1 GB of voxels, 2 GB are read at most"):
        catalogue.add_image("new", image)
    assert list((catalogue.path / "added").iterdir()) == []


def test_names_that_differ_in_case_alone_are_the_same_name(
    catalogue: Catalogue, folder: Path, tmp_path: Path
) -> None:
    """As on file systems that do not tell them apart: each has an image file of its own."""
    save(folder / "Heart.nii.gz")
    save(folder / "heart.nii.gz", seed=1)
    scan(catalogue)
    assert {case.study for case in catalogue.cases()} == {"Heart", "heart-2"}
    image = save(tmp_path / "any.nii.gz", frames=1)
    catalogue.add_image("one", image)
    for name in ("HEART", "heart__T00", "ONE"):
        with pytest.raises(ConflictError, match="of this name"):
            catalogue.add_image(name, image)


def test_a_share_that_is_not_mounted_when_the_server_starts_leaves_all_as_it_was(
    folder: Path, tmp_path: Path
) -> None:
    save(folder / "a.nii.gz")
    scan(open_catalogue(folder, tmp_path))
    index = tmp_path / "workspace" / "studies.json"
    told = json.loads(index.read_text())
    assert told["device"] == folder.stat().st_dev
    index.write_text(json.dumps({**told, "device": told["device"] + 1}))  # the share's
    (folder / "a.nii.gz").rename(tmp_path / "a.nii.gz")
    again = open_catalogue(folder, tmp_path)
    for _ in range(3):
        with pytest.raises(InputError, match=r"on another disk than before\. Mount the share"):
            again.refresh()
    assert len(ids(again)) == 3
    (tmp_path / "a.nii.gz").rename(folder / "a.nii.gz")
    scan(again)
    assert len(ids(again)) == 3


def test_two_catalogues_of_one_workspace_agree(folder: Path, tmp_path: Path) -> None:
    one, other = open_catalogue(folder, tmp_path), open_catalogue(folder, tmp_path)
    for number in range(6):
        save(folder / f"{number}.nii.gz", seed=number)
    threads = [threading.Thread(target=scan, args=(made, 4)) for made in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert ids(one) == ids(other)
    assert len(ids(one)) == 18
    other.add_image("new", save(tmp_path / "new.nii.gz", frames=1))
    scan(one, 1)
    assert one.find("new") == other.find("new") is not None


def test_a_damaged_index_is_made_again(
    catalogue: Catalogue, folder: Path, tmp_path: Path, changes: list[str]
) -> None:
    save(folder / "a.nii.gz")
    catalogue.add_image("one", save(tmp_path / "one.nii.gz", frames=1))
    scan(catalogue)
    cases = list(catalogue.cases())
    changes.clear()
    (catalogue.path / "studies.json").write_text("{")
    again = open_catalogue(folder, tmp_path, changes)
    assert ids(again) == []
    assert list(scan(again).cases()) == cases
    assert changes == []


def test_a_lost_image_is_made_again(catalogue: Catalogue, folder: Path, changes: list[str]) -> None:
    save(folder / "a.nii.gz")
    scan(catalogue)
    changes.clear()
    catalogue.image_path("a__t01").unlink()
    scan(catalogue)
    assert studies.load(catalogue.image_path("a__t01")).grid.equals(GRID)
    assert changes == []


def test_reading_tells_how_far_it_is(catalogue: Catalogue, folder: Path) -> None:
    told = []

    def on_change(image_id: str, reason: str, was_there: bool) -> None:
        told.append(catalogue.reading)

    catalogue._on_change = on_change
    save(folder / "a.nii.gz", frames=4)
    scan(catalogue)
    assert told[0] is not None
    assert (told[0].study, told[0].done, told[0].total) == ("a", 4, 4)
    assert told[0].rate > 0
    assert catalogue.reading is None


def test_a_scan_that_is_closed_in_the_middle_of_a_study_ends(
    catalogue: Catalogue, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(folder / "a.nii.gz", frames=8)
    write, written = studies.save_image, []

    def write_and_close(path: Path, study: Study) -> None:
        written.append(path)
        write(path, study)
        catalogue.close()

    monkeypatch.setattr(studies, "save_image", write_and_close)
    scan(catalogue)
    assert len(written) == 1
    assert ids(catalogue) == []


def test_the_folder_is_never_written_to(folder: Path, tmp_path: Path, catalogue: Catalogue) -> None:
    save(folder / "a.nii.gz")
    write_cine(folder / "deep" / "er" / "scan", make_study(frames=2))
    (folder / "broken.nii.gz").write_bytes(b"no")
    (folder / "b.nii.gz.part").write_bytes(b"half")
    before = snapshot(folder)
    folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    times = [path.stat().st_mtime_ns for path in folders]
    scan(catalogue, 3)
    catalogue.add_image("one", save(tmp_path / "one.nii.gz", frames=1))
    catalogue.load_study("a__t00")
    assert snapshot(folder) == before
    assert [path.stat().st_mtime_ns for path in folders] == times


def test_an_index_of_the_earlier_form_is_read(
    catalogue: Catalogue, folder: Path, tmp_path: Path, changes: list[str]
) -> None:
    save(folder / "a.nii.gz")
    scan(catalogue)
    changes.clear()
    index = json.loads((catalogue.path / "studies.json").read_text())
    fields = ("name", "source", "series", "kind", "n_frames", "ed", "es")
    for entry in index["sources"].values():
        entry["studies"] = [{key: study[key] for key in fields} for study in entry["studies"]]
        entry["fingerprint"] = "of another form"
        del entry["gone"]
    index["schema_version"] = 1
    index["sources"]["a.nii.gz"]["studies"][0]["name"] = "as-it-was"
    (catalogue.path / "studies.json").write_text(json.dumps(index))
    (catalogue.path / "absent").mkdir()
    for frame in range(3):
        image = catalogue.image_path(f"a__t{frame:02d}")
        image.rename(catalogue.path / "absent" / f"as-it-was__t{frame:02d}.nii.gz")
    again = open_catalogue(folder, tmp_path, changes)
    assert ids(again)[0] == "as-it-was__t00"
    assert scan(again).cases()[0].shape == GRID.shape
    assert ids(again)[0] == "as-it-was__t00"
    assert changes == []
