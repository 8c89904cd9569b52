"""Cine stacks of a real Orthanc, as folders that follow what it holds."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("dicomweb_client", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.studies import dicom
from cinelabel.studies.dicom_seg import SegInfo, read_seg, write_seg
from cinelabel.studies.dicomweb import Mirror
from cinelabel.studies.pacs import Credentials, Pacs
from cinelabel.studies.sources import find_sources


@pytest.fixture
def mirror(orthanc, tmp_path) -> Mirror:
    return mirror_of(orthanc, tmp_path / "mirror")


def mirror_of(orthanc, folder: Path, settle_s: float = 0.0) -> Mirror:
    credentials = Credentials(orthanc.user, orthanc.password)
    return Mirror(orthanc.dicomweb, folder, credentials=credentials, settle_s=settle_s)


def files_of(mirror: Mirror) -> dict[Path, int]:
    """Every file that is served, and when it was written."""
    return {
        path: path.stat().st_mtime_ns
        for source in find_sources(mirror.folder)
        for path in source.iterdir()
    }


def test_a_cine_becomes_a_folder_that_reads_like_the_scanner_s_own(
    orthanc, mirror, make_study, tmp_path
):
    files = dicom.write_cine(tmp_path / "cine", make_study(), patient_id="Doe^Jane")
    orthanc.upload(files)
    report = mirror.sync()
    assert report.problems == ()
    assert len(report.stacks) == len(report.added) == 1
    (source,) = find_sources(mirror.folder)
    ours, theirs = studies.load(source), studies.load(tmp_path / "cine")
    np.testing.assert_array_equal(ours.frames, theirs.frames)
    assert ours.grid.difference(theirs.grid) is None
    assert ours.trigger_times_ms == theirs.trigger_times_ms
    assert "Doe" not in str(source)


def test_series_that_are_no_short_axis_cine_stay_where_they_are_with_a_reason(
    orthanc, mirror, make_study, tmp_path
):
    whole = make_study((7, 5, 4, 3))
    orthanc.upload(dicom.write_cine(tmp_path / "1", whole, description="short axis"))
    long_axis = make_study((7, 5, 1, 3))
    still = make_study((9, 5, 4, 1), trigger_times_ms=None)
    torn = dicom.write_cine(tmp_path / "4", make_study((8, 6, 4, 3)), series_number=4)
    orthanc.upload(dicom.write_cine(tmp_path / "2", long_axis, series_number=2))
    orthanc.upload(dicom.write_cine(tmp_path / "3", still, series_number=3))
    orthanc.upload(torn[:-1])
    report = mirror.sync()
    assert len(report.stacks) == 1
    assert report.problems == ()
    told = " | ".join(report.left_out)
    assert "series 2 " in told
    assert "at least 3 slices" in told
    assert "series 3 " in told
    assert "one phase" in told
    assert "series 4 " in told
    assert "has 2 phases and the others have 3" in told


def test_only_mr_series_are_looked_at(orthanc, mirror, make_study, tmp_path, edit_dicom):
    files = dicom.write_cine(tmp_path / "cine", make_study())
    edit_dicom(files, Modality="CT")
    orthanc.upload(files)
    report = mirror.sync()
    assert (report.stacks, report.left_out, report.problems) == ((), (), ())


def test_slices_stored_as_a_series_each_become_one_stack(orthanc, mirror, make_study, tmp_path):
    files = dicom.write_cine(tmp_path / "cine", make_study())
    for number, path in enumerate(files):
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID = f"{image.SeriesInstanceUID[:50]}.{number // 3 + 1}"
        image.SeriesNumber = 11 + number // 3
        image.save_as(path)
    orthanc.upload(files)
    (name,) = mirror.sync().stacks
    assert len(list((mirror.folder / name / name).iterdir())) == 12


def test_two_stacks_of_an_examination_are_two_studies(orthanc, mirror, make_study, tmp_path):
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    orthanc.upload(dicom.write_cine(tmp_path / "2", make_study((9, 5, 4, 3)), series_number=2))
    stacks = mirror.sync().stacks
    assert len(stacks) == 2
    assert sorted(source.name for source in find_sources(mirror.folder)) == sorted(stacks)


def test_nothing_is_downloaded_twice(orthanc, mirror, make_study, tmp_path):
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    mirror.sync()
    before = files_of(mirror)
    assert mirror.sync().added == ()
    again = mirror_of(orthanc, mirror.folder).sync()
    assert again.added == ()
    assert files_of(mirror) == before


def test_a_lost_state_costs_a_look_but_no_download(orthanc, mirror, make_study, tmp_path):
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    mirror.sync()
    before = files_of(mirror)
    (mirror.folder / ".mirror.json").write_text("{")
    report = mirror_of(orthanc, mirror.folder).sync()
    assert (len(report.stacks), report.added, report.problems) == (1, (), ())
    assert files_of(mirror) == before


def test_a_new_series_comes_and_one_that_went_goes_after_two_rounds(
    orthanc, mirror, make_study, tmp_path
):
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    (first,) = mirror.sync().stacks
    other = make_study(name="phantom-8")
    orthanc.upload(dicom.write_cine(tmp_path / "2", other, patient_id="OTHER"))
    report = mirror.sync()
    assert len(report.added) == 1
    assert len(report.stacks) == 2
    for patient in orthanc.rest("/patients").decode().strip('[]" \n').split():
        orthanc.rest(f"/patients/{patient.strip(',').strip(chr(34))}", method="DELETE")
    assert len(mirror.sync().stacks) == 2
    report = mirror.sync()
    assert report.stacks == ()
    assert first in report.removed


def test_slices_that_come_later_join_their_stack_under_its_name(
    orthanc, mirror, make_study, tmp_path
):
    files = dicom.write_cine(tmp_path / "1", make_study((7, 5, 5, 3)))
    orthanc.upload(files[:12])
    (name,) = mirror.sync().stacks
    before = files_of(mirror)
    orthanc.upload(files[12:])
    report = mirror.sync()
    assert report.added == report.stacks == (name,)
    after = files_of(mirror)
    assert len(after) == 15
    assert before.items() <= after.items()


def test_a_study_that_is_still_being_sent_is_given_time(orthanc, make_study, tmp_path):
    mirror = mirror_of(orthanc, tmp_path / "mirror", settle_s=3600)
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    report = mirror.sync()
    assert (report.stacks, report.waiting, report.problems) == ((), 1, ())


def test_what_was_downloaded_of_a_stack_is_kept_for_the_next_round(
    orthanc, make_study, tmp_path, monkeypatch
):
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    mirror = mirror_of(orthanc, tmp_path / "mirror")
    stop = threading.Event()

    def after_five(done: int, total: int, name: str) -> None:
        assert total == 12
        if done == 5:
            stop.set()

    report = mirror.sync(after_five, stop)
    assert report.stacks == ()
    assert find_sources(mirror.folder) == []
    assert "5 of 12 images are here" in report.problems[0]
    asked = []
    fetch = mirror._pacs.fetch
    monkeypatch.setattr(mirror._pacs, "fetch", lambda *uids: asked.append(uids) or fetch(*uids))
    assert len(mirror.sync().stacks) == 1
    assert len(asked) == 7


def test_a_stack_that_was_lost_comes_again_and_one_of_another_server_goes(
    orthanc, mirror, make_study, tmp_path
):
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    (name,) = mirror.sync().stacks
    (mirror.folder / name).rename(mirror.folder / "0123456789-1-abcd")
    report = mirror.sync()
    assert report.stacks == report.added == (name,)
    assert report.removed == ("0123456789-1-abcd",)


DOWNLOAD = """
import sys
from pathlib import Path
from cinelabel.studies.dicomweb import Mirror
from cinelabel.studies.pacs import Credentials
url, user, password, folder = sys.argv[1:]
print(Mirror(url, Path(folder), credentials=Credentials(user, password), settle_s=0).sync())
"""


def test_a_process_killed_while_it_downloads_leaves_whole_stacks_only(
    orthanc, make_study, tmp_path
):
    files = dicom.write_cine(tmp_path / "cine", make_study((7, 5, 8, 12), trigger_times_ms=None))
    orthanc.upload(files)
    folder = tmp_path / "mirror"
    command = [sys.executable, "-c", DOWNLOAD, orthanc.dicomweb, orthanc.user, orthanc.password]
    for least in (20, 60):
        with subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE) as process:
            wait_until(lambda least=least: len(list(folder.glob(".incoming/*/*/*.dcm"))) >= least)
            process.kill()
        assert find_sources(folder) == []
        assert len(list(folder.glob(".incoming/*/*/*.dcm"))) >= least
    (name,) = mirror_of(orthanc, folder).sync().stacks
    assert studies.load(folder / name / name).frames.shape == (7, 5, 8, 12)


def test_watching_notices_a_new_study_and_ends_when_told(orthanc, mirror, make_study, tmp_path):
    stop = threading.Event()
    thread = threading.Thread(target=mirror.watch, args=(0.05, stop))
    thread.start()
    orthanc.upload(dicom.write_cine(tmp_path / "1", make_study()))
    wait_until(lambda: len(mirror.report.stacks) == 1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_wrong_password_is_a_sentence_and_the_right_one_appears_nowhere(
    orthanc, tmp_path, caplog
):
    caplog.set_level("DEBUG")
    wrong = Mirror(orthanc.dicomweb, tmp_path / "m", credentials=Credentials("reader", "geheim"))
    (problem,) = wrong.sync().problems
    assert "refused the log-in" in problem
    assert "CINELABEL_DICOMWEB_USER" in problem
    assert "geheim" not in problem + caplog.text + repr(Credentials("reader", "geheim"))


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "sunnybrook"


@pytest.mark.skipif(not DATA.is_dir(), reason="the examinations of ../shared/data are not here")
@pytest.mark.parametrize("phases", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", ["SC-HF-I-1", "SC-HF-I-4"])
def test_a_real_examination_comes_through_with_every_voxel_and_takes_its_labels(
    orthanc, mirror, case, phases, tmp_path
):
    """Anonymised: UIDs against the standard, no date, a frame of reference for each image."""
    original = DATA / case / "dicom"
    for phase in range(phases):
        orthanc.upload([image.path for image in dicom.phase_images(original, phase)])
    report = mirror.sync()
    assert report.problems == ()
    (source,) = find_sources(mirror.folder)
    ours, theirs = studies.load(source), studies.load(original)
    np.testing.assert_array_equal(ours.frames, theirs.frames[..., :phases])
    assert ours.grid.difference(theirs.grid) is None
    labels = np.random.default_rng(0).integers(0, 4, ours.grid.shape).astype(np.uint8)
    images = dicom.phase_images(source, 2)
    uid = write_seg(tmp_path / "seg.dcm", labels, images, SegInfo("labels", "reader", None))
    pacs = Pacs(orthanc.dicomweb, Credentials(orthanc.user, orthanc.password))
    pacs.store(tmp_path / "seg.dcm")
    (series,) = pacs.search({"Modality": "SEG"})
    back = pacs.fetch(series.study_uid, series.series_uid, uid)
    (tmp_path / "back.dcm").write_bytes(back)
    np.testing.assert_array_equal(read_seg(tmp_path / "back.dcm", ours), labels)
