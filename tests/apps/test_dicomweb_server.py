"""The whole way through a PACS: from its cine to a reader's label that it holds as DICOM SEG."""

from __future__ import annotations

import io
import json
import shutil
import socket
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import pydicom
import pytest
from cinelabel import studies
from cinelabel.core.labels import LABEL_NAMES
from cinelabel.phantom.cohort import make_study
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies import dicom
from cinelabel.studies.dicom_seg import read_seg

T = TypeVar("T")
SLICER_ORDER = ["RV", "LV", "MYO"]


@contextmanager
def serving(folder: Path, url: str, models: Path) -> Iterator[process.Server]:
    """The real server on a DICOMweb server, looking often."""
    settings = ServerSettings(
        studies=None,
        workspace=folder / "workspace",
        dicomweb=url,
        port=process.free_port(),
        model="pair-1",
        fast=True,
        settle_s=0.1,
        scan_interval_s=0.2,
        dicomweb_interval_s=0.5,
    )
    settings.workspace.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CINELABEL_MODELS", str(models))
        patched.setenv("CINELABEL_DICOMWEB_USER", "reader")
        patched.setenv("CINELABEL_DICOMWEB_PASSWORD", "secret")
        server = process.Server(settings)
    with server:
        server.wait_until_ready()
        yield server


def get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as answer:
        return json.loads(answer.read())


def segs_in(orthanc: Any) -> list[pydicom.Dataset]:
    """The segmentation objects that an Orthanc holds."""
    names = json.loads(orthanc.rest("/instances"))
    files = (io.BytesIO(orthanc.rest(f"/instances/{name}/file")) for name in names)
    return [found for found in map(pydicom.dcmread, files) if found.Modality == "SEG"]


def shuffled(label: Path) -> tuple[Path, np.ndarray]:
    """A corrected label as Slicer sends it, values by the order of its segments; and the truth."""
    image = nib.load(label)
    corrected = np.asarray(image.dataobj, np.uint8)
    assert set(np.unique(corrected)) == {0, 1, 2, 3}
    z = int((corrected == LABEL_NAMES["MYO"]).sum(axis=(0, 1)).argmax())
    corrected[corrected.shape[0] // 2, :, z] = 0
    sent = np.zeros_like(corrected)
    for value, name in enumerate(SLICER_ORDER, start=1):
        sent[corrected == LABEL_NAMES[name]] = value
    path = label.with_name("sent.nii.gz")
    nib.Nifti1Image(sent, image.affine, image.header).to_filename(path)
    return path, corrected


def test_a_cine_of_the_pacs_is_segmented_corrected_and_comes_back_as_seg_voxel_for_voxel(
    orthanc, tmp_path, pair, slicer_module
):
    phantom = make_study(3, frames=3).study
    files = dicom.write_cine(tmp_path / "cine", phantom, patient_id="Doe^Jane")
    orthanc.upload(files)
    with serving(tmp_path, orthanc.dicomweb, pair) as server:
        address = server.settings.url
        client = slicer_module.MONAILabelClient(address, tmpdir=str(tmp_path), client_id="reader")
        wait_for(lambda: client.info()["datastore"]["total"] == 3)
        sample = client.next_sample("first", {})
        assert (sample["frame"], sample["n_frames"]) == (0, 3)
        label, answer = client.infer("cine", sample["id"], {"result_extension": ".nii.gz"})
        path, corrected = shuffled(Path(shutil.move(label, tmp_path / "inferred.nii.gz")))
        info = [{"name": name, "idx": 7} for name in SLICER_ORDER]
        with orthanc.hanging():
            began = time.monotonic()
            client.save_label(sample["id"], str(path), "", {"label_info": info, "model": "pair-1"})
            assert client.info()["datastore"]["completed"] == 1
            print(f"submitted in {time.monotonic() - began:.2f} s while the PACS hangs")
            (waiting,) = wait_for(lambda: get(f"{address}/dicomweb/")["labels_waiting"])
            assert (waiting["image"], waiting["version"]) == (sample["id"], 1)
        wait_for(lambda: len(segs_in(orthanc)) == 1)
        wait_for(lambda: get(f"{address}/dicomweb/")["labels_waiting"] == [])
        log = server.settings.log.read_text() + server.settings.output.read_text()
    (seg,) = segs_in(orthanc)
    seg.save_as(tmp_path / "seg.dcm")
    source = studies.load(tmp_path / "cine")
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", source), corrected)
    assert seg.PatientID == "Doe^Jane"
    first_phase = {image.sop_uid for image in dicom.phase_images(tmp_path / "cine", 0)}
    for frame in seg.PerFrameFunctionalGroupsSequence:
        origin = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert origin.ReferencedSOPInstanceUID in first_phase
    for secret in ("Doe", "secret", "Phantom^CineLabel"):
        assert secret not in log
        assert secret not in json.dumps([sample, answer])


def test_a_pacs_that_hangs_freezes_no_client_and_not_the_end_of_the_server(tmp_path, pair):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        with serving(tmp_path, url, pair) as server:
            connection, _ = listener.accept()  # the server has asked, and waits
            seconds = []
            for _ in range(20):
                began = time.monotonic()
                assert get(f"{server.settings.url}/info/")["datastore"]["total"] == 0
                seconds.append(time.monotonic() - began)
            assert get(f"{server.settings.url}/dicomweb/")["stacks"] == 0
            began = time.monotonic()
            server.stop()
            ended = time.monotonic() - began
            connection.close()
    print(f"/info/ in {1000 * statistics.median(seconds):.0f} ms (median), ended in {ended:.1f} s")
    assert statistics.median(seconds) < 1
    assert ended < process.PATIENCE.stop_s  # else it was killed


def wait_for(answer: Callable[[], T], seconds: float = 60) -> T:
    """The answer as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := answer()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
