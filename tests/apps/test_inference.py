"""Segmentation over HTTP: fair, visible, cancellable, and nobody else waits for it.

MONAI Label 0.8.5 runs an inference in its event loop: during one of 4 s, `/info/` was answered
after 3.7 s, and four of 1 s took 4 s although their files could be read side by side.
"""

from __future__ import annotations

import email
import gzip
import http.client
import json
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

import lib.routes.infer
from cinelabel import studies
from cinelabel.core.errors import InputError
from cinelabel.core.grid import Grid
from cinelabel.core.measures import measure
from cinelabel.labelstore import LabelStore
from cinelabel.models.store import ModelStore
from cinelabel.phantom.cohort import make_study
from cinelabel.segmentation import Segmentation, Segmenter
from cinelabel.serving.process import Server, free_port
from cinelabel.serving.settings import ServerSettings, find_app
from cinelabel.serving.tokens import Role, Tokens
from cinelabel.studies import Study, dicom
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.dicom_seg import read_seg
from cinelabel.studies.workspace import prepare
from hypothesis import given, settings
from hypothesis import strategies as st
from lib.http.guard import Rules
from lib.infer import SegmentationTask, read_wanted
from lib.queue import READ_AHEAD, WAITING_LIMIT
from lib.server import create

DEADLINE_S = 30
PHASES = 3


@dataclass
class Networks:
    """In place of a model's networks: a phase takes until the test lets it pass.

    `most` is how many studies were ever segmented at once.
    """

    version: Any
    passes: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    error: BaseException | None = None
    running: int = 0
    most: int = 0

    def segment(self, study: Study, *, progress: Any, **_: Any) -> Segmentation:
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.release()
        try:
            for phase in range(PHASES):
                assert self.passes.acquire(timeout=DEADLINE_S)
                if self.error is not None:
                    raise self.error
                progress(phase + 1, PHASES, "one")
        finally:
            self.running -= 1
        labels = (np.indices(study.frames.shape).sum(axis=0) % 4).astype(np.uint8)
        return Segmentation(
            labels=labels,
            heart=None,
            reason=None,
            ed=None,
            es=None,
            measures=measure(labels, study.grid),
            timings_s={"total": 0.0},
            model=self.version.name,
            device="cpu",
        )

    def let_pass(self, studies_: int) -> None:
        """All phases of so many studies."""
        self.passes.release(PHASES * studies_)


@dataclass(frozen=True)
class Slow:
    """A real HTTP server in this process with such networks, and an image to send to it."""

    application: Any
    url: str
    port: int
    task: SegmentationTask
    networks: Networks
    image: bytes
    pool: ThreadPoolExecutor

    def send(self, request_id: str | None = None, token: str = "", **params: Any) -> httpx.Response:
        asked = params if request_id is None else {**params, "request_id": request_id}
        return httpx.post(
            f"{self.url}/infer/cine",
            files={"file": ("image.nii.gz", self.image)},
            data={"params": json.dumps(asked)},
            params={"output": "json"},
            headers=bearer(token),
            timeout=DEADLINE_S,
            trust_env=False,
        )

    def submit(self, request_id: str, token: str = "") -> Future[httpx.Response]:
        """Send in the background; returns when the request has its place in the queue."""
        future = self.pool.submit(self.send, request_id, token)
        wait_until(lambda: self.task.board.find(request_id) is not None or future.done())
        return future

    def progress(self, request_id: str) -> dict[str, Any]:
        return dict(self.get(f"/progress/{request_id}").json())

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=DEADLINE_S, trust_env=False)

    def cancel(self, request_id: str, token: str = "") -> httpx.Response:
        return httpx.delete(
            f"{self.url}/progress/{request_id}",
            headers=bearer(token),
            timeout=DEADLINE_S,
            trust_env=False,
        )

    def connect_and_leave(self, request_id: str, ready: Callable[[], bool]) -> None:
        """A client that sends its request and closes the connection when something holds."""
        request = httpx.Request(
            "POST",
            f"{self.url}/infer/cine",
            files={"file": ("image.nii.gz", self.image)},
            data={"params": json.dumps({"request_id": request_id})},
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        connection.request(
            "POST",
            "/infer/cine",
            request.read(),
            {"Content-Type": request.headers["Content-Type"]},
        )
        wait_until(ready)
        connection.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll until something holds; TimeoutError at the deadline."""
    pause, end = threading.Event(), time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        pause.wait(0.005)


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    affine = np.diag([1.5, 1.5, 8.0, 1.0])
    frames = np.random.default_rng(0).random((8, 8, 3, 1), np.float32)
    study = Study("small", frames, Grid((8, 8, 3), affine), is_cine=False)
    studies.save_image(tmp_path / "image.nii.gz", study)
    return (tmp_path / "image.nii.gz").read_bytes()


@pytest.fixture
def slow(
    tmp_path: Path, image: bytes, monkeypatch: pytest.MonkeyPatch, listening: Any
) -> Iterator[Slow]:
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "models"))
    networks = Networks(SimpleNamespace(name=ModelStore().current()))
    monkeypatch.setattr(Segmenter, "load", lambda version, device: networks)
    task = SegmentationTask(None, "cpu")
    application = create()
    application.state.rules = Rules()
    application.state.services = SimpleNamespace(segmentation=task, uploads=tmp_path / "uploads")
    with listening(application) as port, ThreadPoolExecutor(64) as pool:
        yield Slow(application, f"http://127.0.0.1:{port}", port, task, networks, image, pool)
        networks.let_pass(100)


def test_requests_are_served_one_at_a_time_in_the_order_of_their_arrival(slow: Slow) -> None:
    futures = [slow.submit(f"r{number}") for number in range(6)]
    assert slow.get("/queue/").json()["waiting"] == 5
    for number, future in enumerate(futures):
        wait_until(lambda number=number: slow.progress(f"r{number}")["state"] == "running")  # type: ignore[misc]
        waiting = [slow.progress(f"r{other}")["position"] for other in range(number + 1, 6)]
        assert waiting == list(range(1, 6 - number))
        slow.networks.let_pass(1)
        answer = future.result(DEADLINE_S).json()
        assert answer["queue"]["position_at_arrival"] == number
        assert slow.progress(f"r{number}")["state"] == "done"
    assert slow.networks.most == 1


def test_studies_are_read_side_by_side(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    together, load = threading.Barrier(READ_AHEAD), studies.load

    def slowly(path: Path) -> Study:
        together.wait(DEADLINE_S)  # passes when so many read at the same time
        return load(path)

    monkeypatch.setattr(studies, "load", slowly)
    slow.networks.let_pass(READ_AHEAD)
    futures = [slow.submit(f"r{number}") for number in range(READ_AHEAD)]
    assert {future.result(DEADLINE_S).status_code for future in futures} == {200}


def test_labels_are_written_while_the_next_study_is_segmented(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, write = threading.Barrier(6), lib.routes.infer.label_file

    def slowly(result: Any) -> bytes:
        together.wait(DEADLINE_S)
        return write(result)

    monkeypatch.setattr(lib.routes.infer, "label_file", slowly)
    slow.networks.let_pass(6)
    futures = [slow.submit(f"r{number}") for number in range(6)]
    assert {future.result(DEADLINE_S).status_code for future in futures} == {200}


def test_a_full_queue_is_503_and_says_when_to_come_again(slow: Slow) -> None:
    futures = [slow.submit(f"r{number}") for number in range(WAITING_LIMIT + 1)]
    response = slow.send()
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert f"{WAITING_LIMIT} requests are waiting" in response.json()["detail"]
    assert slow.get("/queue/").json()["waiting"] == WAITING_LIMIT  # others are answered meanwhile
    slow.networks.let_pass(WAITING_LIMIT + 1)
    assert {future.result(DEADLINE_S).status_code for future in futures} == {200}


def test_a_failing_segmentation_gives_the_device_to_the_next(slow: Slow) -> None:
    slow.networks.error = RuntimeError("broken")
    failing = slow.submit("failing")
    slow.networks.passes.release()
    assert failing.result(DEADLINE_S).status_code == 500
    assert slow.progress("failing")["state"] == "failed"
    assert "broken" not in slow.progress("failing")["error"]
    slow.networks.error = None
    slow.networks.let_pass(1)
    assert slow.send().status_code == 200


def test_a_waiting_request_is_cancelled_and_the_others_move_up(slow: Slow) -> None:
    futures = [slow.submit(f"r{number}") for number in range(3)]
    assert slow.progress("r2")["position"] == 2
    assert slow.cancel("r1").json()["request_id"] == "r1"
    cancelled = futures[1].result(DEADLINE_S)
    assert (cancelled.status_code, cancelled.json()["cause"]) == (409, "cancelled")
    assert slow.progress("r1")["state"] == "cancelled"
    assert slow.progress("r2")["position"] == 1
    slow.networks.let_pass(2)
    assert [futures[k].result(DEADLINE_S).status_code for k in (0, 2)] == [200, 200]


def test_a_running_request_is_cancelled_at_its_next_phase(slow: Slow) -> None:
    running = slow.submit("running")
    slow.networks.passes.release()
    wait_until(lambda: slow.progress("running")["done"] == 1)
    seen = slow.progress("running")
    assert (seen["state"], seen["total"], seen["position"]) == ("running", PHASES, 0)
    assert slow.cancel("running").json()["cancelling"] is True
    slow.networks.passes.release()
    assert running.result(DEADLINE_S).json()["cause"] == "cancelled"
    slow.networks.let_pass(1)
    assert slow.send().status_code == 200


def test_a_client_that_goes_away_while_it_waits_gives_up_its_place(slow: Slow) -> None:
    first = slow.submit("first")
    assert slow.networks.begun.acquire(timeout=DEADLINE_S)
    slow.connect_and_leave("gone", lambda: slow.task.board.find("gone") is not None)
    last = slow.submit("last")
    wait_until(lambda: slow.progress("gone")["state"] == "cancelled")
    assert slow.get("/queue/").json()["waiting"] == 1
    slow.networks.let_pass(2)
    assert first.result(DEADLINE_S).status_code == last.result(DEADLINE_S).status_code == 200


def test_a_client_that_goes_away_stops_what_runs_for_it(slow: Slow) -> None:
    slow.connect_and_leave("gone", lambda: slow.networks.begun.acquire(blocking=False))
    wait_until(lambda: slow.progress("gone")["cancelling"])
    slow.networks.passes.release()
    wait_until(lambda: slow.progress("gone")["state"] == "cancelled")
    slow.networks.let_pass(1)
    assert slow.send().status_code == 200


def test_an_id_in_use_is_a_conflict(slow: Slow) -> None:
    first = slow.submit("mine")
    again = slow.send("mine")
    assert again.status_code == 409
    assert "under way" in again.json()["detail"]
    assert slow.get("/queue/").json()["waiting"] == 0
    slow.networks.let_pass(1)
    assert first.result(DEADLINE_S).json()["request_id"] == "mine"


def test_an_unknown_request_is_404(slow: Slow) -> None:
    assert slow.get("/progress/nobody").status_code == 404
    assert slow.cancel("nobody").status_code == 404


def test_another_model_is_loaded_when_it_becomes_current(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, pair: Path
) -> None:
    loaded = []

    def load(version: str, device: str) -> Networks:
        loaded.append(version)
        return Networks(SimpleNamespace(name=version), passes=slow.networks.passes)

    monkeypatch.setattr(Segmenter, "load", load)
    monkeypatch.setenv("CINELABEL_MODELS", str(pair))
    slow.networks.let_pass(4)
    before = ModelStore().current()
    answered = [slow.send().json()["model"] for _ in range(2)]
    ModelStore().use("pair-1")
    try:
        answered += [slow.send().json()["model"] for _ in range(2)]
    finally:
        (pair / "current").unlink()
    assert answered == [before, before, "pair-1", "pair-1"]
    assert loaded == [before, "pair-1"]


def test_nothing_received_is_left_behind(slow: Slow, tmp_path: Path) -> None:
    slow.networks.let_pass(1)
    assert slow.send().status_code == 200
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"model": "deepedit"}, "'model'"),
        ({"image": "/etc/passwd"}, "'image'"),
        ({"result_write_to_file": False}, "'result_write_to_file'"),
        ({"device": 1}, "device"),
        ({"label_info": "LV"}, "label_info"),
        ({"uncertainty": 1}, "uncertainty is true or false"),
        ({"scope": ["study"]}, "scope"),
        ({"request_id": 5}, "request_id"),
        ({"request_id": "../x"}, "request id"),
        ({"label_tag": "final"}, "original"),
        ({"save_label": True}, "image of the server"),
    ],
)
def test_parameters_are_taken_by_name_and_kind(slow: Slow, params: Any, word: str) -> None:
    response = slow.send(**params)
    assert response.status_code == 400
    assert word in response.json()["detail"]
    assert slow.get("/queue/").json()["waiting"] == 0


NAMES = st.sampled_from(
    ["scope", "fast", "uncertainty", "save_label", "request_id", "label_tag", "device", "x"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["frame", "study"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(NAMES | st.text(), VALUES, max_size=4))
def test_any_parameters_are_understood_or_refused_with_a_sentence(params: dict[str, Any]) -> None:
    sentence, wanted = None, None
    try:
        wanted = read_wanted(params, False)
    except InputError as error:
        sentence = str(error)
    if wanted is None:
        assert sentence is not None
        assert sentence.endswith(".")
        assert len(sentence) < 200
    else:
        assert wanted.scope == params.get("scope", "frame")
        assert wanted.fast == params.get("fast", False)


def test_what_clients_of_monai_label_send_besides_is_accepted(slow: Slow) -> None:
    slow.networks.let_pass(1)
    sent = {
        "client_id": None,
        "device": "cuda",
        "label_info": [{"name": "LV", "idx": 1}],
        "restore_label_idx": False,
        "result_compress": False,
        "result_dtype": "uint16",
        "result_extension": ".nrrd",
    }
    assert slow.send(**sent).status_code == 200


def test_an_image_whose_header_announces_too_much_is_not_read(slow: Slow) -> None:
    content = bytearray(gzip.decompress(slow.image))
    content[40:48] = np.array([3, 30000, 30000, 3], "<i2").tobytes()  # dim of the NIfTI header
    response = replace(slow, image=gzip.compress(bytes(content))).send()
    assert response.status_code == 400
    assert "10.1 GB of voxels" in response.json()["detail"]


def test_only_who_asked_or_an_admin_cancels(slow: Slow, tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    anna, ben, chief = (tokens.add(f"{role.value}-1", role) for role in Role)
    slow.application.state.rules = Rules(tokens)
    futures = [slow.submit(f"r{number}", anna) for number in range(2)]
    assert slow.cancel("r1", ben).status_code == 403
    assert slow.cancel("r1", anna).status_code == 200
    assert slow.cancel("r0", chief).status_code == 200
    slow.networks.let_pass(1)
    assert [future.result(DEADLINE_S).status_code for future in futures] == [409, 409]


def test_monai_labels_own_call_writes_a_label(slow: Slow, tmp_path: Path) -> None:
    slow.networks.let_pass(1)
    label, answer = slow.task({"image": str(tmp_path / "image.nii.gz"), "model": "cine"})
    assert studies.load_label(label)[0].any()
    assert answer["label_names"] == {"LV": 1, "MYO": 2, "RV": 3}
    Path(label).unlink()


def test_a_frame_of_a_dicom_study_is_answered_as_dicom_seg(slow: Slow, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 200, (8, 7, 4, 2)).astype(np.float32)
    grid = Grid((8, 7, 4), np.diag([1.5, 1.5, -8.0, 1.0]))
    times = (0.0, 400.0)
    source = tmp_path / "studies" / "scanner"
    dicom.write_cine(source, Study("scanner", frames, grid, True, trigger_times_ms=times))
    catalogue = Catalogue(tmp_path / "studies", tmp_path / "workspace", settle_s=0)
    catalogue.refresh()
    catalogue.refresh()
    slow.application.state.services.catalogue = catalogue
    slow.application.state.services.labels = LabelStore(tmp_path / "workspace")
    slow.networks.let_pass(3)

    def answer(**params: Any) -> httpx.Response:
        asked = {"image": "scanner__t01", "output": params.pop("output")}
        sent = {"params": json.dumps(params)}
        return httpx.post(
            f"{slow.url}/infer/cine", params=asked, data=sent, timeout=60, trust_env=False
        )

    (tmp_path / "seg.dcm").write_bytes(answer(output="dicom_seg").content)
    found = read_seg(tmp_path / "seg.dcm", studies.load(source))
    assert np.array_equal(found, np.indices(grid.shape).sum(axis=0) % 4)
    assert answer(output="dicom_seg", scope="study").status_code == 400
    (tmp_path / "all.nii.gz").write_bytes(answer(output="image", scope="study").content)
    labels, written = studies.load_label(tmp_path / "all.nii.gz")
    assert labels.shape == frames.shape
    assert written.equals(studies.load(source).grid)
    catalogue.close()


# From here on the server of `cinelabel serve`, with real networks.


def post(running: Any, image: str, output: str | None = None, **params: Any) -> httpx.Response:
    asked = {"image": image} | ({"output": output} if output else {})
    return httpx.post(
        f"{running.url}/infer/cine",
        params=asked,
        data={"params": json.dumps(params)},
        timeout=120,
        trust_env=False,
    )


def parts(response: httpx.Response) -> dict[str, Message]:
    """The parts of a multipart answer by name, by the standard library's reader of e-mail."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content)
    named = message.get_payload()
    assert isinstance(named, list)
    return {str(p.get_param("name", header="content-disposition")): p for p in named}


def nifti(part: Message) -> nib.Nifti1Image:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def test_uncertainty_is_a_part_of_the_answer(running: Any) -> None:
    found = parts(post(running, "heart__t00", uncertainty=True))
    assert list(found) == ["params", "image", "uncertainty"]
    label, entropy = nifti(found["image"]), nifti(found["uncertainty"])
    assert np.array_equal(label.affine, entropy.affine)
    assert label.shape == entropy.shape
    values = np.asarray(entropy.dataobj)
    assert values.dtype == np.float32
    assert 0 <= values.min() < values.max() <= np.log(4) + 1e-3


def test_the_stock_client_takes_the_label_and_not_the_uncertainty(
    client: Any, running: Any
) -> None:
    label, answer = client.infer("cine", "heart__t00", {"uncertainty": True})
    assert set(np.unique(nib.load(label).dataobj)) <= {0, 1, 2, 3}
    assert answer["label_names"] == {"LV": 1, "MYO": 2, "RV": 3}


def test_the_label_alone_is_a_file(running: Any) -> None:
    response = post(running, "heart__t00", "image")
    assert response.headers["content-disposition"].endswith('.nii.gz"')
    assert response.content[:2] == b"\x1f\x8b"


def test_members_that_agree_disagree_nowhere(running: Any) -> None:
    answer = post(running, "heart__t00", "json", fast=False).json()
    told = answer["disagreement"]
    assert answer["members"] == ["one", "two"]
    assert told["mean"]["LV"] == 0.0
    assert {entry["disputed_ml"] for entry in told["slices"]} == {0.0}
    assert {entry["frame"] for entry in told["slices"]} == {0}
    assert len(told["worst_slices"]) == len(told["slices"]) > 3
    assert post(running, "heart__t00", "json", fast=True).json()["disagreement"] is None


@dataclass(frozen=True)
class Watched:
    """One request for a whole study, and what others were told while it ran."""

    answer: dict[str, Any]
    progress: list[dict[str, Any]]
    cases: list[dict[str, Any]]


@pytest.fixture(scope="module")
def watched(running: Any) -> Watched:
    progress = []
    asked = {"scope": "study", "fast": False, "request_id": "study-1"}
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=running.url, trust_env=False) as http:
        answer = pool.submit(post, running, "heart__t01", "json", **asked)
        while not answer.done():
            response = http.get("/progress/study-1")
            if response.status_code == 200:
                progress.append(response.json())
        progress.append(http.get("/progress/study-1").json())
        cases = http.get("/cases/").json()["cases"]
    return Watched(answer.result().json(), progress, cases)


def test_a_study_tells_its_progress_until_it_is_done(watched: Watched) -> None:
    assert watched.answer["request_id"] == "study-1"
    last = watched.progress[-1]
    assert (last["state"], last["done"], last["total"]) == ("done", 6, 6)
    under_way = [told for told in watched.progress if told["state"] == "running" and told["done"]]
    assert under_way
    assert all(told["rate"] > 0 and told["seconds_left"] >= 0 for told in under_way)
    steps = [told["done"] for told in watched.progress]
    assert steps == sorted(steps)


SLOWED_S = 4.0
SLOW_NETWORKS = f"""

import time
from cinelabel.segmentation import Segmenter
segment = Segmenter.segment

def again_and_again(*arguments, **options):
    end = time.monotonic() + {SLOWED_S}
    while True:
        found = segment(*arguments, **options)
        if time.monotonic() >= end:
            return found

Segmenter.segment = again_and_again
"""


@pytest.fixture
def slowed(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real server whose networks compute one study for at least `SLOWED_S`."""
    monkeypatch.setenv("CINELABEL_MODELS", str(pair))
    app = shutil.copytree(find_app(), tmp_path / "app")
    (app / "main.py").write_text((app / "main.py").read_text() + SLOW_NETWORKS)
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", make_study(3, frames=3).study)
    workspace = prepare(tmp_path / "studies", tmp_path / "workspace").path
    with Server(
        ServerSettings(tmp_path / "studies", workspace, app, port=free_port(), model="pair-1")
    ) as server:
        server.wait_until_ready()
        yield server


@pytest.mark.timed
def test_info_is_answered_at_once_while_a_study_is_segmented(
    slowed: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    url, info_s = slowed.settings.url, []
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, trust_env=False) as http:
        start = time.perf_counter()
        answer = pool.submit(post, slowed.settings, "heart__t01", "json", scope="study")
        while not answer.done():
            before = time.perf_counter()
            assert http.get("/info/").status_code == 200
            info_s.append(time.perf_counter() - before)
        seconds = time.perf_counter() - start
    assert answer.result().status_code == 200
    median, worst = statistics.median(info_s), max(info_s)
    with capsys.disabled():
        print(
            f"\n{len(info_s)} /info/ during an inference of {seconds:.1f} s: "
            f"median {1000 * median:.1f} ms, worst {1000 * worst:.0f} ms"
        )
    assert seconds >= SLOWED_S
    assert len(info_s) >= 20
    assert median < 0.05


def test_a_segmented_study_has_its_phases_marked(watched: Watched) -> None:
    found = {case["phase"]: case["frame"] for case in watched.cases if case["phase"]}
    assert found == {"ED": watched.answer["ed"], "ES": watched.answer["es"]}


def test_a_saved_label_is_the_prediction_of_its_image(running: Any) -> None:
    saved = post(running, "heart__t02", "json", save_label=True)
    assert saved.status_code == 200
    url = f"{running.url}/datastore/label"
    found = {"label": "heart__t02", "tag": "original"}
    label = httpx.get(url, params=found, timeout=60, trust_env=False)
    answered = post(running, "heart__t02", "image").content
    kept, again = (
        nib.Nifti1Image.from_bytes(gzip.decompress(c)) for c in (label.content, answered)
    )
    assert np.array_equal(kept.dataobj, again.dataobj)
    assert httpx.get(url, params={"label": "heart__t02"}, trust_env=False).status_code == 404
    told = httpx.get(
        f"{running.url}/datastore/image/info", params={"image": "heart__t02"}, trust_env=False
    ).json()
    assert told["quality"]["coverage"] == saved.json()["coverage"]


def test_dicom_seg_is_refused_for_a_nifti_study(running: Any) -> None:
    response = post(running, "heart__t00", "dicom_seg")
    assert response.status_code == 400
    assert "DICOM" in response.json()["detail"]
