"""Labels reach the PACS as DICOM SEG, at once or when it is back, and once only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import cast

import numpy as np
import pydicom
import pytest

pytest.importorskip("dicomweb_client", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.studies import dicom
from cinelabel.studies.dicom_seg import SegInfo, read_seg
from cinelabel.studies.outbox import Outbox
from cinelabel.studies.pacs import Credentials, Limits, Pacs

QUICK = Limits(connect_s=1, read_s=10, answer_s=20)
INFO = SegInfo("labels", "reader", "phantom-1")


def pacs_of(orthanc) -> Pacs:
    return Pacs(orthanc.dicomweb, Credentials(orthanc.user, orthanc.password), QUICK)


def some_labels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4, (7, 5, 4)).astype(np.uint8)


def segs_in(orthanc, folder: Path) -> list[Path]:
    """The segmentation objects that an Orthanc holds, as files."""
    files = []
    for name in json.loads(orthanc.rest("/instances")):
        path = folder / f"{name}.dcm"
        path.write_bytes(orthanc.rest(f"/instances/{name}/file"))
        if pydicom.dcmread(path, stop_before_pixels=True).Modality == "SEG":
            files.append(path)
    return files


def test_a_sent_label_is_in_the_pacs_voxel_for_voxel_and_beside_its_images(orthanc, cine, tmp_path):
    orthanc.upload(sorted(cine.iterdir()))
    outbox = Outbox(tmp_path / "out")
    item = outbox.put("heart__t01", some_labels(), dicom.phase_images(cine, 1), INFO)
    assert outbox.send(pacs_of(orthanc)) == 1
    (seg,) = segs_in(orthanc, tmp_path)
    np.testing.assert_array_equal(read_seg(seg, studies.load(cine)), some_labels())
    assert pydicom.dcmread(seg).SOPInstanceUID == item.sop_uid
    assert len(json.loads(orthanc.rest("/studies"))) == 1
    (item,) = outbox.items()
    assert (item.sent, item.attempts, item.last_error) == (True, 1, None)
    assert list(outbox.folder.glob("*.dcm")) == []


def test_a_label_waits_while_the_pacs_is_away_and_goes_when_it_is_back(
    start_orthanc, free_port, cine, tmp_path
):
    outbox = Outbox(tmp_path / "out", first_wait_s=0)
    outbox.put("heart__t00", some_labels(), dicom.phase_images(cine, 0), INFO)
    away = Pacs(f"http://127.0.0.1:{free_port}/dicom-web", Credentials("reader", "secret"), QUICK)
    assert outbox.send(away) == 0
    assert outbox.send(away) == 0
    (item,) = outbox.waiting()
    assert item.attempts == 2
    assert "cannot be reached" in (item.last_error or "")
    with start_orthanc(free_port) as orthanc:
        assert Outbox(outbox.folder).send(away) == 1  # another process, after a restart
        assert len(segs_in(orthanc, tmp_path)) == 1


def test_a_failed_item_is_not_tried_again_before_its_time(free_port, cine, tmp_path):
    outbox = Outbox(tmp_path / "out", first_wait_s=3600)
    outbox.put("heart__t00", some_labels(), dicom.phase_images(cine, 0), INFO)
    away = Pacs(f"http://127.0.0.1:{free_port}/dicom-web", limits=QUICK)
    outbox.send(away)
    outbox.send(away)
    assert outbox.items()[0].attempts == 1


def test_sending_again_does_not_double_a_label(orthanc, cine, tmp_path):
    images = dicom.phase_images(cine, 0)
    for folder in ("first", "again"):
        outbox = Outbox(tmp_path / folder)
        outbox.put("heart__t00", some_labels(), images, INFO)
        assert outbox.send(pacs_of(orthanc)) == 1
    assert len(segs_in(orthanc, tmp_path)) == 1


def test_a_pacs_that_takes_an_object_but_does_not_store_it_has_not_got_it(cine, tmp_path):
    failed = {"00081197": {"vr": "US", "Value": [0xA700]}}
    answer = json.dumps({"00081198": {"vr": "SQ", "Value": [failed]}}).encode()

    class Full(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    outbox = Outbox(tmp_path / "out")
    outbox.put("heart__t00", some_labels(), dicom.phase_images(cine, 0), INFO)
    with HTTPServer(("127.0.0.1", 0), Full) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert outbox.send(Pacs(f"http://127.0.0.1:{server.server_port}/x", limits=QUICK)) == 0
        thread.join(10)
    (item,) = outbox.waiting()
    assert "did not store" in (item.last_error or "")
    assert "0xa700" in (item.last_error or "")


class Receiver:
    """In place of a server: notes what it is sent, after `before` was called with its name."""

    def __init__(self, before: Callable[[str], object]) -> None:
        self.stored: list[str] = []
        self._before = before

    def store(self, path: Path) -> None:
        self._before(path.stem)
        self.stored.append(path.stem)


def test_an_object_that_fails_as_nobody_foresaw_keeps_no_other_from_being_sent(cine, tmp_path):
    def fail(name: str) -> None:
        if name.startswith("a__"):
            raise ZeroDivisionError("Smith^John")

    outbox, receiver = Outbox(tmp_path / "out"), Receiver(fail)
    for image in ("a__t00", "b__t00"):
        outbox.put(image, some_labels(), dicom.phase_images(cine, 0), INFO)
    assert outbox.send(cast(Pacs, receiver)) == 1
    (item,) = outbox.waiting()
    assert (item.image, item.attempts) == ("a__t00", 1)
    assert item.last_error == "It cannot be sent (ZeroDivisionError)."


def test_two_servers_of_one_outbox_send_a_label_once(cine, tmp_path):
    def meanwhile(_: str) -> None:
        assert Outbox(tmp_path / "out").send(cast(Pacs, other)) == 0

    other, receiver = Receiver(lambda name: None), Receiver(meanwhile)
    outbox = Outbox(tmp_path / "out")
    outbox.put("heart__t00", some_labels(), dicom.phase_images(cine, 0), INFO)
    assert outbox.send(cast(Pacs, receiver)) == 1
    assert (receiver.stored, other.stored) == (["heart__t00-v0001"], [])


def test_a_version_is_queued_once_and_another_version_is_another_item(cine, tmp_path):
    outbox = Outbox(tmp_path / "out")
    images = dicom.phase_images(cine, 0)
    one = outbox.put("heart__t00", some_labels(), images, INFO)
    assert outbox.put("heart__t00", some_labels(), images, INFO) == one
    two = SegInfo("labels", "reader", None, version=2)
    assert outbox.put("heart__t00", some_labels(), images, two).sop_uid != one.sop_uid
    assert len(outbox.waiting()) == 2


def test_a_damaged_record_is_queued_anew_and_hinders_no_other(orthanc, cine, tmp_path):
    outbox = Outbox(tmp_path / "out")
    images = dicom.phase_images(cine, 0)
    outbox.put("a__t00", some_labels(), images, INFO)
    outbox.put("b__t00", some_labels(), images, SegInfo("labels", "reader", None, version=2))
    (outbox.folder / "a__t00-v0001.json").write_text("{")
    assert outbox.find("a__t00", 1) is None
    assert outbox.send(pacs_of(orthanc)) == 1
    outbox.put("a__t00", some_labels(), images, INFO)
    assert outbox.send(pacs_of(orthanc)) == 1
