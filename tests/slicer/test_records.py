"""Labels and reviews of local studies: versions that nothing overwrites, and autosaves."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from CineLabelLib import nifti
from CineLabelLib.core.errors import GridError, InputError, LabelError, OutputError
from CineLabelLib.core.review import Action, Decision, ReviewRecord, SliceReview
from CineLabelLib.records import LocalRecords, OtherImageError, folder_for, user_data_folder
from CineLabelLib.study import CineStudy

LIBRARY = Path(__file__).resolve().parents[2] / "slicer_extension" / "CineLabel"
OBLIQUE = np.array(
    [[1.5, 0, 0, 40], [0, -0.75, 6.4, -30], [0, 1, 4.8, 12.5], [0, 0, 0, 1]], np.float64
)
SHAPE = (7, 5, 4, 3)


def study(affine: np.ndarray = OBLIQUE, seed: int = 0, shape=SHAPE) -> CineStudy:
    rng = np.random.default_rng(seed)
    return CineStudy("heart", rng.integers(0, 900, shape).astype(np.int16), affine)


def labels(seed: int = 0, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


@pytest.fixture
def records(tmp_path: Path) -> LocalRecords:
    return LocalRecords(tmp_path / "records")


def files(records: LocalRecords) -> set[str]:
    return {path.name for path in records.folder.iterdir() if path.name != ".lock"}


def test_a_study_that_was_never_saved_has_nothing(records):
    heart = study()
    found = (records.latest_labels(heart), records.latest_review(), records.recover(heart))
    assert found == (None, None, None)
    records.forget_autosave()


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("shape", [SHAPE, (7, 5, 4, 1)])
def test_labels_come_back_voxel_for_voxel_with_who_and_what_was_edited(records, flip, shape):
    heart = study(OBLIQUE @ np.diag([1, 1, flip, 1]), shape=shape)
    assert records.save_labels(heart, labels(1, shape), {shape[3] - 1, 0}, "Zoë") == 1
    found = LocalRecords(records.folder).latest_labels(heart)
    np.testing.assert_array_equal(found.labels, labels(1, shape))
    assert (found.version, found.who, found.notes) == (1, "Zoë", ())
    assert found.edited_frames == tuple(sorted({0, shape[3] - 1}))


def test_a_label_file_lies_on_the_grid_of_the_study_and_keeps_its_header(records, tmp_path):
    header = nifti.read(nifti.label_bytes(labels(0), OBLIQUE)).header
    heart = dataclasses.replace(study(), header=header)
    records.save_labels(heart, labels(1), [], "me")
    image = nifti.read_labels(records.folder / "labels-0001.nii.gz")
    assert np.abs(image.affine - OBLIQUE).max() < 1e-4
    assert image.header[252:328] == header[252:328]  # codes, quaternion, offsets, rows of the sform


def test_every_save_is_a_version_and_none_is_changed_by_the_next(records):
    heart = study()
    records.save_labels(heart, labels(1), [0], "me")
    first = {name: (records.folder / name).read_bytes() for name in files(records)}
    assert records.save_labels(heart, labels(2), [1], "you") == 2
    assert all((records.folder / name).read_bytes() == kept for name, kept in first.items())
    np.testing.assert_array_equal(records.latest_labels(heart).labels, labels(2))


def test_two_slicers_that_save_at_once_overwrite_nothing(records):
    heart = study()

    def save(start: int) -> None:
        own = LocalRecords(records.folder)
        for seed in range(start, start + 8):
            own.save_labels(heart, labels(seed), [], str(seed))

    threads = [threading.Thread(target=save, args=(start,)) for start in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    kept = sorted(records.folder.glob("labels-*.json"))
    assert len(kept) == 16
    for path in kept:
        image = nifti.read_labels(path.with_suffix(".nii.gz"))
        seed = int(json.loads(path.read_text())["who"])
        np.testing.assert_array_equal(image.voxels, labels(seed))


def test_labels_of_another_image_are_refused_with_a_sentence_both_ways(records):
    records.save_labels(study(), labels(), [], "me")
    other = study(seed=1)
    with pytest.raises(OtherImageError, match="labels-0001.json: belongs to another image"):
        records.latest_labels(other)
    with pytest.raises(OtherImageError, match="choose another folder"):
        records.save_labels(other, labels(), [], "me")
    assert files(records) == {"labels-0001.json", "labels-0001.nii.gz"}


def test_labels_on_another_grid_are_refused_with_a_sentence(records):
    records.save_labels(study(), labels(), [], "me")
    with pytest.raises(GridError, match="it is right-handed and should be left-handed|left-handed"):
        records.latest_labels(study(OBLIQUE @ np.diag([1, 1, -1, 1])))


def test_labels_that_do_not_fit_are_not_kept(records):
    with pytest.raises(GridError, match=r"\(7, 5, 4\) do not fit the study's \(7, 5, 4, 3\)"):
        records.save_labels(study(), labels()[..., 0], [], "me")
    with pytest.raises(LabelError, match="label value 4"):
        records.save_labels(study(), labels() + np.uint8(1), [], "me")
    with pytest.raises(LabelError, match="label value 7"):
        records.autosave(study(), labels() * np.uint8(7), [], "me")
    assert not records.folder.exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("labels-0002.nii.gz", cut),
        ("labels-0002.nii.gz", Path.unlink),
        ("labels-0002.json", cut),
        ("labels-0002.json", lambda path: path.write_text('{"schema_version": 1}')),
        ("labels-0002.json", lambda path: path.write_bytes(b"\xff")),
    ],
)
def test_a_damaged_version_is_told_and_the_one_before_it_is_given(records, name, harm):
    heart = study()
    records.save_labels(heart, labels(1), [], "me")
    records.save_labels(heart, labels(2), [], "me")
    harm(records.folder / name)
    found = records.latest_labels(heart)
    assert found.version == 1
    np.testing.assert_array_equal(found.labels, labels(1))
    (sentence,) = found.notes
    assert name in sentence
    assert records.save_labels(heart, labels(3), [], "me") == 3


def test_labels_of_which_no_version_is_whole_are_an_error(records):
    records.save_labels(study(), labels(), [], "me")
    cut(records.folder / "labels-0001.nii.gz")
    with pytest.raises(InputError, match="no version of the labels is whole"):
        records.latest_labels(study())


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        LocalRecords(tmp_path / "file" / "records").save_labels(study(), labels(), [], "me")


def test_reviews_are_versions_too(records):
    decision = Decision(Action.REPEAT, "motion", "me", "2030-01-01T00:00:00+00:00")
    first = ReviewRecord("heart", slices=(SliceReview(0, decision=decision),))
    second = ReviewRecord("heart")
    assert records.save_review(first) == 1
    assert LocalRecords(records.folder).latest_review() == first
    assert records.save_review(second) == 2
    assert records.latest_review() == second
    assert ReviewRecord.from_json((records.folder / "review-0001.json").read_text()) == first


def test_a_damaged_review_is_named(records):
    records.save_review(ReviewRecord("heart"))
    (records.folder / "review-0001.json").write_text("{")
    with pytest.raises(InputError, match="review-0001.json: is not JSON"):
        records.latest_review()


def test_the_last_autosave_is_recovered_and_takes_one_place(records):
    heart = study()
    for seed in range(3):
        records.autosave(heart, labels(seed), [seed], "me")
    assert len(files(records)) == 2
    found = LocalRecords(records.folder).recover(heart)
    np.testing.assert_array_equal(found.labels, labels(2))
    assert (found.edited_frames, found.version, found.notes) == ((2,), 0, ())
    assert records.latest_labels(heart) is None


def test_what_was_saved_is_not_recovered_again(records):
    heart = study()
    records.autosave(heart, labels(1), [1], "me")
    records.forget_autosave()
    assert files(records) == set()
    records.autosave(heart, labels(2), [1], "me")
    later = LocalRecords(records.folder)
    assert later.recover(heart) is not None
    later.autosave(heart, labels(3), [1], "me")
    later.forget_autosave()
    assert LocalRecords(records.folder).recover(heart) is None


def test_two_slicers_do_not_take_each_others_autosaves(records):
    heart, other = study(), LocalRecords(records.folder)
    records.autosave(heart, labels(1), [1], "me")
    other.autosave(heart, labels(2), [2], "you")
    other.forget_autosave()
    later = LocalRecords(records.folder)
    np.testing.assert_array_equal(later.recover(heart).labels, labels(1))
    other.autosave(heart, labels(3), [2], "you")
    found = later.recover(heart)
    np.testing.assert_array_equal(found.labels, labels(3))
    assert "another autosave, by me" in found.notes[0]
    other.autosave(heart, labels(4), [2], "you")
    later.forget_autosave()  # what `other` wrote since is not what `later` recovered
    np.testing.assert_array_equal(LocalRecords(records.folder).recover(heart).labels, labels(4))


def test_an_autosave_of_another_image_is_neither_given_nor_removed(records):
    records.autosave(study(), labels(1), [1], "me")
    later = LocalRecords(records.folder)
    assert later.recover(study(seed=1)) is None
    later.forget_autosave()
    assert len(files(records)) == 2


def test_a_kill_before_any_step_on_files_loses_and_tears_no_version(tmp_path, killed_at_every_step):
    heart = study()

    def work(trial, reached):
        records = LocalRecords(tmp_path / str(trial))
        for version in (1, 2):
            records.save_labels(heart, labels(version), [version], "me")
            reached(version)

    def check(trial, reached):
        records = LocalRecords(tmp_path / str(trial))
        found = records.latest_labels(heart)
        version = found.version if found else 0
        assert version >= len(reached)
        if found:
            np.testing.assert_array_equal(found.labels, labels(version))
            assert found.notes == ()
        assert records.save_labels(heart, labels(3), [], "me") > version
        assert not [name for name in files(records) if name.startswith(".")]

    assert killed_at_every_step(work, check) > 10


def test_a_kill_before_any_step_on_files_loses_and_tears_no_autosave(
    tmp_path, killed_at_every_step
):
    heart = study()

    def work(trial, reached):
        records = LocalRecords(tmp_path / str(trial))
        for seed in (1, 2):
            records.autosave(heart, labels(seed), [seed], "me")
            reached(seed)

    def check(trial, reached):
        records = LocalRecords(tmp_path / str(trial))
        found = records.recover(heart)
        (seed,) = found.edited_frames if found else (0,)
        assert seed >= len(reached)
        if found:
            np.testing.assert_array_equal(found.labels, labels(seed))
            assert found.notes == ()
            records.forget_autosave()
            assert LocalRecords(records.folder).recover(heart) is None

    assert killed_at_every_step(work, check) > 10


def test_a_kill_while_autosaves_are_forgotten_leaves_labels_that_are_whole(
    tmp_path, killed_at_every_step
):
    heart = study()
    for trial in range(30):
        LocalRecords(tmp_path / str(trial)).autosave(heart, labels(1), [1], "me")

    def work(trial, reached):
        records = LocalRecords(tmp_path / str(trial))
        records.recover(heart)
        records.save_labels(heart, labels(1), [1], "me")
        reached("saved")
        records.forget_autosave()

    def check(trial, reached):
        records = LocalRecords(tmp_path / str(trial))
        found = [records.latest_labels(heart), records.recover(heart)]
        assert any(found)
        assert not reached or found[0]
        for each in filter(None, found):
            np.testing.assert_array_equal(each.labels, labels(1))
            assert each.notes == ()

    assert killed_at_every_step(work, check) < 30


BURST = """
import sys
sys.path[:0] = [{library!r}, {tests!r}]
from pathlib import Path
from CineLabelLib.records import LocalRecords
from test_records import labels, study
records, heart = LocalRecords(Path({folder!r})), study()
for version in range(1, 1000):
    records.autosave(heart, labels(version), [], str(version))
    print(f"autosaved {{version}}", flush=True)
    records.save_labels(heart, labels(version), [], str(version))
    print(f"saved {{version}}", flush=True)
"""


@pytest.mark.parametrize("seed", range(2))
def test_a_kill_at_a_random_moment_loses_and_tears_nothing(
    tmp_path, seed, killed_at_a_random_moment
):
    folder, tests = tmp_path / "records", str(Path(__file__).parent)
    code = BURST.format(library=str(LIBRARY), tests=tests, folder=str(folder))
    said = [line.split() for line in killed_at_a_random_moment(code, random.Random(seed))]
    heart, records = study(), LocalRecords(folder)
    for word, found in (
        ("saved", records.latest_labels(heart)),
        ("autosaved", records.recover(heart)),
    ):
        last = max((int(number) for what, number in said if what == word), default=0)
        reached = int(found.who) if found else 0
        assert last <= reached <= last + 1
        if found:
            np.testing.assert_array_equal(found.labels, labels(reached))
            assert found.notes == ()


def test_the_same_image_finds_its_folder_again_and_another_has_its_own(tmp_path):
    here = folder_for(tmp_path, study())
    assert here == folder_for(tmp_path, dataclasses.replace(study(), source=Path("elsewhere")))
    assert here.parent == tmp_path
    assert here.name.startswith("heart-")
    assert folder_for(tmp_path, study(seed=1)) != here
    long = dataclasses.replace(study(), name="x" * 240)
    assert len(folder_for(tmp_path, long).name) < 150


def test_the_folder_of_the_users_data_follows_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert user_data_folder() == tmp_path / "CineLabel"
    monkeypatch.setattr("sys.platform", "darwin")
    assert user_data_folder() == tmp_path / "Library" / "Application Support" / "CineLabel"
