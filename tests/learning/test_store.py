"""Prepared cases: what networks are shown when they segment, made once and whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import InputError, LabelError, RunError
from cinelabel.datasets import cases, load_case
from cinelabel.learning import store as store_module
from cinelabel.learning.sampling import Windows
from cinelabel.learning.store import Store
from cinelabel.transforms.preparation import Preparation, heart_centre

NATIVE = Preparation(spacing_mm=None, size=16)
WHOLE = Preparation(spacing_mm=1.5, size=32, window="image", order=3, normalised_over="volume")
INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from cinelabel.datasets import cases
from cinelabel.learning.store import Store
from cinelabel.transforms.preparation import Preparation

def stop(done, total, what):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

root = Path(sys.argv[1])
store = Store(Path(sys.argv[2]), {"acdc": root}, Preparation(spacing_mm=None, size=16))
store.prepare(cases("acdc", root), progress=stop)
"""


@pytest.fixture
def acdc(sets, tmp_path) -> Path:
    """A copy of the set that a test may damage."""
    return Path(shutil.copytree(sets["acdc"], tmp_path / "acdc"))


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    }


def test_in_its_own_pixels_a_case_holds_the_voxels_of_its_file(sets, tmp_path):
    case = cases("acdc", sets["acdc"])[0]
    (prepared,) = Store(tmp_path, sets, NATIVE).prepare([case])
    voxels = nib.load(case.image).get_fdata()
    kept = prepared.images.astype(float) * voxels.std()
    assert np.allclose(kept, np.moveaxis(voxels, 2, 0), rtol=1e-3)
    assert np.array_equal(prepared.labels, np.moveaxis(load_case(case)[1], 2, 0))
    assert prepared.foreground == (1, 2, 3)
    assert prepared.middle == (5.0, 22.0)  # rows 2 to 8, columns 20 to 24


@pytest.mark.parametrize(
    "preparation",
    [
        NATIVE,
        replace(NATIVE, normalised_over="volume"),
        replace(NATIVE, size=40),
        Preparation(spacing_mm=2.0, size=24, order=3),
        WHOLE,
        replace(WHOLE, size=48, normalised_over="slice", order=1),
    ],
)
def test_the_middle_window_is_what_a_network_is_shown_when_it_segments(sets, tmp_path, preparation):
    case = cases("acdc", sets["acdc"])[2]
    study, labels = load_case(case)
    (prepared,) = Store(tmp_path, sets, preparation).prepare([case])
    windows = Windows(preparation.size, 5, preparation.window, preparation.normalised_over)
    place = windows.middle(prepared)
    seen, truth = windows.cut(place)
    centre = heart_centre(labels)
    if preparation.spacing_mm is not None and preparation.window == "heart":
        step = preparation.spacing_mm / np.array(study.grid.spacing[:2])
        half = (np.array(prepared.shape[1:]) - 1) / 2  # of the whole image, in its new pixels
        away = np.array(place.corner) + (preparation.size - 1) / 2 - half
        centre = tuple((np.array(study.grid.shape[:2]) - 1) / 2 + away * step)
    crop = preparation.crop(study.grid, centre)
    wanted = preparation.prepare(study.frames[..., 0], crop)
    assert np.abs(seen - wanted).max() < 0.02
    assert np.array_equal(truth, crop.apply_labels(labels))
    single, under = replace(windows, depth=0).cut(replace(place, first=3))
    assert np.abs(single - wanted[3]).max() < 0.02
    assert np.array_equal(under, truth[3])


def test_ways_of_preparing_that_differ_in_what_is_kept_have_different_folders(sets, tmp_path):
    case = cases("acdc", sets["acdc"])[0]
    ways = [NATIVE, WHOLE, replace(WHOLE, window="heart"), replace(WHOLE, normalised_over="slice")]
    ways += [replace(WHOLE, spacing_mm=2.0), replace(WHOLE, order=1), replace(NATIVE, size=32)]
    folders = [Store(tmp_path, sets, way).folder(case) for way in ways]
    assert len(set(folders)) == 6
    assert folders[0] == folders[-1]  # windows of any size are cut from the same


def test_several_processes_prepare_the_same_and_report_it(sets, tmp_path):
    found = cases("acdc", sets["acdc"])
    calls = []
    Store(tmp_path / "one", sets, WHOLE).prepare(found)
    Store(tmp_path / "two", sets, WHOLE).prepare(
        found, workers=2, progress=lambda *call: calls.append(call)
    )
    assert calls == [(done, 8, "prepared cases") for done in range(9)]
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_preparation_that_was_killed_goes_on_and_leaves_the_user_s_files_alone(sets, tmp_path):
    root, before = sets["acdc"], content(sets["acdc"])
    killed = subprocess.run([sys.executable, "-c", INTERRUPTED, root, tmp_path / "killed"])
    assert killed.returncode == -signal.SIGKILL
    found = cases("acdc", root)
    store = Store(tmp_path / "killed", sets, NATIVE)
    assert sum(store.folder(case).is_dir() for case in found) == 3
    calls = []
    store.prepare(found, progress=lambda done, *_: calls.append(done))
    assert calls == [3, 4, 5, 6, 7, 8]
    Store(tmp_path / "straight", sets, NATIVE).prepare(found)
    assert content(tmp_path / "killed") == content(tmp_path / "straight")
    assert content(root) == before


def test_nothing_of_a_case_that_cannot_be_written_remains(sets, tmp_path, monkeypatch):
    def fail(path: Path, values: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_json", fail)
    store = Store(tmp_path, sets, NATIVE)
    with pytest.raises(Exception, match="no space left"):
        store.prepare(cases("acdc", sets["acdc"])[:1])
    assert content(tmp_path) == {}


def test_a_file_whose_content_has_changed_is_noticed_and_named(acdc, tmp_path):
    found = cases("acdc", acdc)
    store = Store(tmp_path / "store", {"acdc": acdc}, NATIVE)
    store.prepare(found)
    label = found[3].label
    voxels = np.asarray(nib.load(label).dataobj).copy()
    voxels[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(voxels, nib.load(label).affine), label)
    with pytest.raises(RunError, match="another content of") as error:
        store.prepare(found)
    assert str(label) in str(error.value)
    assert error.value.where == store.folder(found[3])
    shutil.rmtree(store.folder(found[3]))
    assert store.prepare(found)[3].labels[0, 0, 0] == 3  # RV


def test_a_file_that_has_changed_without_a_change_of_its_size_is_noticed(acdc, tmp_path):
    found = cases("acdc", acdc)[:1]
    store = Store(tmp_path / "store", {"acdc": acdc}, NATIVE)
    store.prepare(found)
    content = bytearray(found[0].image.read_bytes())
    content[9] ^= 1  # the operating system that gzip names
    found[0].image.write_bytes(content)
    with pytest.raises(RunError, match="another content of .*patient001_ED.nii.gz"):
        store.prepare(found)


def test_files_copied_elsewhere_are_known_by_their_content(sets, acdc, tmp_path):
    first = Store(tmp_path / "store", sets, NATIVE).prepare(cases("acdc", sets["acdc"]))
    for path in acdc.rglob("*.nii.gz"):
        os.utime(path, (1, 1))
    calls = []
    moved = Store(tmp_path / "store", {"acdc": acdc}, NATIVE)
    again = moved.prepare(cases("acdc", acdc), progress=lambda *call: calls.append(call))
    assert [case.folder for case in again] == [case.folder for case in first]
    assert not calls


def test_a_file_cut_off_in_the_middle_is_named(acdc, tmp_path):
    found = cases("acdc", acdc)
    for workers in (1, 2):
        content = found[5].image.read_bytes()
        found[5].image.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError) as error:
            Store(tmp_path / "store", {"acdc": acdc}, NATIVE).prepare(found, workers)
        assert found[5].image.name in str(error.value)


def test_a_label_with_a_value_of_no_structure_is_named(acdc, tmp_path):
    found = cases("acdc", acdc)
    image = nib.load(found[0].label)
    nib.save(nib.Nifti1Image(np.full(image.shape, 9, np.uint8), image.affine), found[0].label)
    with pytest.raises(LabelError, match="patient001_ED_gt"):
        Store(tmp_path / "store", {"acdc": acdc}, NATIVE).prepare(found)


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("manifest.json", lambda path: path.unlink(), "manifest cannot be read"),
        ("manifest.json", lambda path: path.write_text("{"), "manifest cannot be read"),
        ("image.npy", lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot be read"),
        ("image.npy", lambda path: np.save(path, np.zeros((2, 3, 4))), "holds float64"),
        ("labels.npy", lambda path: path.unlink(), "labels.npy cannot be read"),
    ],
)
def test_a_prepared_case_that_is_damaged_is_named(sets, tmp_path, name, damage, problem):
    found = cases("acdc", sets["acdc"])[:1]
    store = Store(tmp_path, sets, NATIVE)
    store.prepare(found)
    damage(store.folder(found[0]) / name)

    def learn() -> None:
        windows = Windows(16)
        windows.cut(windows.middle(store.prepare(found)[0]))

    with pytest.raises(RunError, match=problem) as error:
        learn()
    assert error.value.where == store.folder(found[0])


def test_a_case_of_an_older_version_is_refused(sets, tmp_path):
    found = cases("acdc", sets["acdc"])[:1]
    store = Store(tmp_path, sets, NATIVE)
    store.prepare(found)
    manifest = store.folder(found[0]) / "manifest.json"
    kept = json.loads(manifest.read_text())
    kept["recipe"]["version"] = 0
    manifest.write_text(json.dumps(kept))
    with pytest.raises(RunError, match="prepared in another way"):
        store.prepare(found)


def test_a_case_in_which_nothing_is_labelled_has_the_middle_of_its_image(acdc, tmp_path):
    case = cases("acdc", acdc)[0]
    nib.save(nib.Nifti1Image(np.zeros((24, 30, 5), np.uint8), np.diag([2, 1.5, 8, 1])), case.label)
    (prepared,) = Store(tmp_path / "store", {"acdc": acdc}, NATIVE).prepare([case])
    assert (prepared.middle, prepared.foreground) == ((11.5, 14.5), ())
    windows = Windows(16, foreground=1.0)
    drawn = {windows.draw(prepared, np.random.default_rng(k)).first for k in range(40)}
    assert drawn == {0, 1, 2, 3, 4}
