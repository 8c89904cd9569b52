"""The DICOMweb server behind the app: stacks come in, labels go back, and it may hang."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cinelabel import studies
from cinelabel.labelstore import LabelStore, LabelVersion, Submission
from cinelabel.phantom.cohort import make_study
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies import Study, dicom
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.dicom_seg import read_seg
from lib.pacs import PacsLink, mirror_folder


@pytest.fixture
def settings(tmp_path, monkeypatch) -> ServerSettings:
    """Those of a server of DICOMweb that looks often; its address is still to be set."""
    monkeypatch.setenv("CINELABEL_DICOMWEB_USER", "reader")
    monkeypatch.setenv("CINELABEL_DICOMWEB_PASSWORD", "secret")
    return ServerSettings(
        studies=None, workspace=tmp_path / "workspace", settle_s=0.05, dicomweb_interval_s=0.1
    )


@contextmanager
def linked(settings: ServerSettings) -> Iterator[tuple[PacsLink, Catalogue, LabelStore]]:
    labels = LabelStore(settings.workspace)
    catalogue = Catalogue(
        mirror_folder(settings), settings.workspace, labels.set_aside, settings.settle_s
    )
    catalogue.watch(0.1)
    link = PacsLink(settings, catalogue, labels)
    link.start()
    try:
        yield link, catalogue, labels
    finally:
        link.stop()
        catalogue.close()


def small_study(folder: Path) -> list[Path]:
    """A cine of 6 x 5 x 4 voxels and 2 phases, as files of a scanner."""
    phantom = make_study(3, frames=2).study
    frames = phantom.frames[20:26, 20:25, :4].round()
    grid = replace(phantom.grid, shape=frames.shape[:3])
    return dicom.write_cine(folder, replace(phantom, frames=frames, grid=grid))


def submit(
    labels: LabelStore, catalogue: Catalogue, image_id: str, array: np.ndarray
) -> LabelVersion:
    study = catalogue.load_study(image_id)
    file = catalogue.path / "label.nii.gz"
    studies.save_label(file, array, study)
    now = datetime.now(timezone.utc).isoformat()
    return labels.submit(image_id, study.grid, file, Submission(image_id, "reader", "test", now))


def segs_in(orthanc, folder: Path) -> list[Path]:
    """The segmentation objects that an Orthanc holds, as files."""
    found = []
    for name in json.loads(orthanc.rest("/instances")):
        content = orthanc.rest(f"/instances/{name}/file")
        if pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).Modality == "SEG":
            found.append(folder / f"{name}.dcm")
            found[-1].write_bytes(content)
    return found


def some_labels(study: Study) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 4, study.grid.shape).astype(np.uint8)


def test_a_stack_is_served_and_its_label_is_in_the_pacs(orthanc, settings, tmp_path):
    orthanc.upload(small_study(tmp_path / "cine"))
    with linked(replace(settings, dicomweb=orthanc.dicomweb)) as (link, catalogue, labels):
        wait_until(lambda: len(catalogue.cases()) == 2)
        case = catalogue.cases()[1]
        study = catalogue.load_study(case.image_id)
        submit(labels, catalogue, case.image_id, some_labels(study))
        link.submitted()
        wait_until(lambda: len(segs_in(orthanc, tmp_path)) == 1)
        (seg,) = segs_in(orthanc, tmp_path)
        np.testing.assert_array_equal(read_seg(seg, study), some_labels(study))
        wait_until(lambda: link.status()["labels_waiting"] == [])
        frame = pydicom.dcmread(seg).PerFrameFunctionalGroupsSequence[0]
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        phase = {image.sop_uid for image in dicom.phase_images(case.source, 1)}
        assert source.ReferencedSOPInstanceUID in phase


def test_a_label_of_which_nobody_told_is_sent_after_the_next_start(orthanc, settings, tmp_path):
    """As if the server had been killed between keeping the label and sending it."""
    orthanc.upload(small_study(tmp_path / "cine"))
    settings = replace(settings, dicomweb=orthanc.dicomweb)
    with linked(settings) as (link, catalogue, labels):
        wait_until(lambda: len(catalogue.cases()) == 2)
        link.stop()
        image_id = catalogue.cases()[0].image_id
        submit(labels, catalogue, image_id, some_labels(catalogue.load_study(image_id)))
    assert segs_in(orthanc, tmp_path) == []
    with linked(settings):
        wait_until(lambda: len(segs_in(orthanc, tmp_path)) == 1)


def test_a_label_of_which_no_object_can_be_made_keeps_no_other_from_being_sent(
    orthanc, settings, tmp_path, monkeypatch, caplog
):
    orthanc.upload(small_study(tmp_path / "cine"))
    asked = []

    def load_label(path: Path):
        asked.append(path)
        if path == strange.path:
            raise ZeroDivisionError("Smith^John")
        return read_label(path)

    read_label = studies.load_label
    settings = replace(settings, dicomweb=orthanc.dicomweb)
    with linked(settings) as (link, catalogue, labels):
        wait_until(lambda: len(catalogue.cases()) == 2)
        link.stop()
        array = some_labels(catalogue.load_study(catalogue.cases()[0].image_id))
        strange, _ = (submit(labels, catalogue, c.image_id, array) for c in catalogue.cases())
    monkeypatch.setattr(studies, "load_label", load_label)
    with linked(settings) as (link, catalogue, labels):
        wait_until(lambda: len(segs_in(orthanc, tmp_path)) == 1)
        (problem,) = link.status()["problems"]
        link.submitted()
        submit(labels, catalogue, catalogue.cases()[1].image_id, np.roll(array, 1))
        link.submitted()
        wait_until(lambda: len(segs_in(orthanc, tmp_path)) == 2)
        assert "ZeroDivisionError" in problem
        assert asked.count(strange.path) == 1, "it is tried again later, not at every look"
    assert "Smith" not in problem + caplog.text


def test_a_pacs_that_hangs_keeps_nobody_waiting_and_lets_the_app_stop(settings):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        with linked(replace(settings, dicomweb=url)) as (link, catalogue, labels):
            connection, _ = listener.accept()  # it is being asked now, and will not answer
            began = time.monotonic()
            assert catalogue.cases() == ()
            assert labels.states() == {}
            assert link.status()["problems"] == []
            link.submitted()
            asked = time.monotonic()
            link.stop()
            stopped = time.monotonic()
            connection.close()
    print(f"asked in {asked - began:.3f} s, stopped in {stopped - asked:.1f} s")
    assert asked - began < 1
    assert stopped - asked < 5


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
