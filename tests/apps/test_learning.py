"""Readers correct, an admin trains, a challenger is judged, and the next prediction is by whichever
version is in use then: on the real server, without restarting it."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.core.grid import Grid
from cinelabel.models.store import BUNDLED, Draft, Kept, ModelStore
from cinelabel.networks.weights import get_weights
from cinelabel.phantom.cohort import make_study
from cinelabel.serving import process
from cinelabel.serving.jobs import Job
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.study import Study
from cinelabel.studies.workspace import prepare
from lib.http.guard import Rules
from lib.server import create
from starlette.testclient import TestClient

DEADLINE_S = 240
PATIENTS = 3
PHANTOMS = 15  # of which a fifth judges
LENIENT = {"phantoms": 4, "phantom_margin": 1}  # small untrained models may forget every phantom
QUICK = {"method": "all", "steps": 5, "batch_size": 4, "replay": 0, "lr": 0.02, "decision": LENIENT}
NAMES = [{"name": name} for name in ("LV", "MYO", "RV")]


def drawn_heart(number: int) -> np.ndarray:
    """LV inside MYO, and RV beside it."""
    labels = np.zeros((24, 30, 4), np.uint8)
    labels[9:14, 10:15], labels[10:13, 11:14] = 2, 1
    labels[14:17, 10 : 12 + number % 4] = 3
    return labels


@dataclass(frozen=True)
class Clinic:
    """A real server of patients with one frame each, whose hearts are known."""

    http: httpx.Client
    folder: Path
    store: ModelStore
    hearts: Mapping[str, np.ndarray]

    def get(self, path: str) -> Any:
        return right(self.http.get(path)).json()

    def post(self, path: str, **body: Any) -> Any:
        return right(self.http.post(path, json=body)).json()

    def submit(self, name: str) -> None:
        """Hand in the truth of a patient's frame."""
        file = self.folder / "label.nii.gz"
        image = studies.load(self.folder / "studies" / f"{name}.nii.gz")
        studies.save_label(file, self.hearts[name], image)
        right(
            self.http.put(
                "/datastore/label",
                params={"image": f"{name}__t00"},
                files={"label": (file.name, file.read_bytes())},
                data={"params": json.dumps({"label_info": NAMES, "model": self.store.current()})},
            )
        )

    def train(self, **changes: Any) -> list[dict[str, Any]]:
        """Train to the end; what was told on the way, and at the end."""
        self.post("/train/cine", **(QUICK | changes))
        told, pause, end = [self.get("/training/")], threading.Event(), time.monotonic() + 600
        while not told[-1]["ended"]:
            assert time.monotonic() < end, told[-1]
            pause.wait(0.1)
            told.append(self.get("/training/"))
        assert told[-1]["state"] == "done", self.http.get(f"/jobs/{told[-1]['job']}/log").text
        return told

    def predicted_by(self) -> str:
        """The version that segments the next frame."""
        asked = {"image": f"{min(self.hearts)}__t00", "output": "json"}
        return str(right(self.http.post("/infer/cine", params=asked)).json()["model"])


def right(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 200, answer.text
    return answer


@contextlib.contextmanager
def serving(folder: Path, store: ModelStore, hearts: Mapping[str, np.ndarray]) -> Iterator[Clinic]:
    """A server of the studies in a folder, with a store of its own."""
    workspace = prepare(folder / "studies", folder / "workspace")
    settings = ServerSettings(
        studies=folder / "studies", workspace=workspace.path, port=process.free_port()
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CINELABEL_MODELS", str(store.root))
        server = process.Server(settings)
    with server:
        server.wait_until_ready()
        with httpx.Client(base_url=settings.url, timeout=DEADLINE_S, trust_env=False) as http:
            yield Clinic(http, folder, store, hearts)


@pytest.fixture
def clinic(models: ModelStore, tmp_path: Path) -> Iterator[Clinic]:
    """Squares for hearts, and `tiny-1`, untrained, in use."""
    grid = Grid((24, 30, 4), np.diag([2.0, 1.5, 8.0, 1.0]))
    noise, hearts = np.random.default_rng(1), {}
    for number in range(PATIENTS):
        name, heart = f"p{number:02d}", drawn_heart(number)
        voxels = (60.0 * heart + noise.uniform(0, 30, grid.shape)).astype(np.float32)
        study = Study(name, voxels[..., None], grid, is_cine=False)
        studies.save_image(tmp_path / "studies" / f"{name}.nii.gz", study)
        hearts[name] = heart
    shutil.copytree(models.root, tmp_path / "models")
    store = ModelStore(tmp_path / "models")
    store.use("tiny-1")
    with serving(tmp_path, store, hearts) as made:
        yield made


@pytest.fixture
def worn_clinic(tmp_path: Path) -> Iterator[Clinic]:
    """Phantoms, and in use `worn-1`: the bundled network, which has become shy of the heart."""
    hearts = {}
    for seed in range(PHANTOMS):
        made = make_study(600 + seed, frames=1)
        name = f"phantom-{seed:02d}"
        studies.save_image(tmp_path / "studies" / f"{name}.nii.gz", made.study)
        hearts[name] = made.labels[..., 0]
    store = ModelStore(tmp_path / "models")
    bundled = store.load(BUNDLED)
    (card,) = (m for m in bundled.card.members if m.role == "segmenter")
    network = bundled.network(card)
    for parameter in network.layer_groups()["head"]:
        if parameter.shape == (4,):
            parameter.data += parameter.new_tensor([9.0, 0.0, 0.0, 0.0])
    worn = Draft(card.name, card.role, card.spec, get_weights(network), card.preprocessing)
    locators = [Kept(bundled, m) for m in bundled.card.members if m.role == "locator"]
    store.publish("worn-1", [worn, *locators], provenance={}, metrics={}, fast=card.name)
    store.use("worn-1")
    with serving(tmp_path, store, hearts) as made_clinic:
        yield made_clinic


def test_three_corrected_studies_give_a_candidate_that_a_person_uses_and_takes_back(
    clinic: Clinic,
) -> None:
    for name in clinic.hearts:
        clinic.submit(name)
    told = clinic.train()
    end = told[-1]
    assert end["version"] == "tiny-1-tuned-1"
    assert end["decision"]["outcome"] == "keep"
    assert end["decision"]["reasons"] == [
        "0 patients held out, and a decision needs 3: a person decides."
    ]
    assert not end["in_use"]
    assert end["curves"]["second"]["step"] == [1, 2, 3, 4, 5]
    assert {"loss", "seconds", "rate_stem", "rate_head"} <= set(end["curves"]["second"])
    assert all(
        right(clinic.http.get(f"/training/{end['job']}/figures/{name}")).content[:4] == b"\x89PNG"
        for name in end["figures"]
    )
    assert "total_time" in clinic.get("/info/")["train_stats"]["cine"]
    assert clinic.predicted_by() == "tiny-1"

    answer = clinic.post("/models/tiny-1-tuned-1/use", why="it sees the apex", client_id="anna")
    assert (answer["current"], answer["served"], answer["before"]) == (
        "tiny-1-tuned-1",
        "tiny-1-tuned-1",
        "tiny-1",
    )
    made = next(v for v in answer["versions"] if v["version"] == "tiny-1-tuned-1")
    assert (made["parent"], made["decision"]) == ("tiny-1", end["decision"])
    assert clinic.predicted_by() == "tiny-1-tuned-1"
    answer = clinic.post("/models/rollback", why="it does not")
    assert answer["current"] == "tiny-1"
    assert [(use["who"], use["why"], use["rolled_back"]) for use in answer["history"][-2:]] == [
        ("anna", "it sees the apex", False),
        ("local", "it does not", True),
    ]
    assert clinic.predicted_by() == "tiny-1"


@pytest.mark.slow
def test_a_challenger_that_is_better_on_held_out_patients_makes_the_next_prediction(
    worn_clinic: Clinic,
) -> None:
    clinic = worn_clinic
    for name in clinic.hearts:
        clinic.submit(name)
    told = clinic.train(method="last", steps=40, batch_size=8)
    end = told[-1]
    assert end["held_out"] == {"patients": 3, "frames": 3}
    assert (end["decision"]["outcome"], end["in_use"]) == ("publish", True), end["decision"]
    assert end["decision"]["reasons"][0].startswith("It is better by 0.")
    learning = [each for each in told if each["stage"] == "learning"]
    assert all(each["steps"] == 40 and each["rates"]["head"] == 0.02 for each in learning)
    assert learning[-1]["step"] > learning[0]["step"]
    assert min(each["seconds_left"] for each in learning) < learning[0]["seconds_left"]
    assert clinic.predicted_by() == end["version"]
    (use,) = clinic.get("/models/")["history"][1:]
    assert (use["version"], use["who"]) == (end["version"], "a training")
    assert use["why"] == " ".join(end["decision"]["reasons"])
    clinic.post("/models/rollback")
    assert clinic.predicted_by() == "worn-1"


@pytest.fixture
def asking(models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """An application without a server, with a store that has `tiny-1` and a rejected candidate."""
    shutil.copytree(models.root, tmp_path / "models")
    shutil.copytree(tmp_path / "models" / "tiny-1", tmp_path / "models" / "bad-1")
    card = tmp_path / "models" / "bad-1" / "card.json"
    decision = {"outcome": "reject", "reasons": ["LV became worse."]}
    changes = {"version": "bad-1", "metrics": {"held_out": {"decision": decision}}}
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "models"))
    application = create()
    application.state.rules = Rules()
    application.state.services = SimpleNamespace(settings=ServerSettings(None, tmp_path))
    return TestClient(application, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


def test_a_rejected_version_is_used_by_force_alone(asking: TestClient) -> None:
    refused = asking.post("/models/bad-1/use")
    assert (refused.status_code, refused.json()["cause"]) == (409, "conflict")
    assert "rejected" in refused.json()["detail"]
    assert asking.get("/models/").json()["current"] == BUNDLED
    assert asking.post("/models/bad-1/use", json={"force": True}).json()["current"] == "bad-1"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/models/nothing-1/use", {}, 404),
        ("/models/..%2Fx/use", {}, 404),
        ("/models/tiny-1/use", {"version": "bad-1"}, 422),
        ("/models/tiny-1/use", {"why": "x" * 3000}, 422),
        ("/models/rollback", {}, 409),
    ],
)
def test_a_wrong_wish_changes_nothing(
    asking: TestClient, path: str, body: dict[str, Any], status: int
) -> None:
    answer = asking.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["detail"].endswith(".")
    assert asking.get("/models/").json()["history"] == []


def test_a_damaged_version_is_told_and_not_used(asking: TestClient, tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny-1" / "second.bin").write_bytes(b"")
    (tmp_path / "models" / "bad-1" / "card.json").write_text("{")
    answer = asking.post("/models/tiny-1/use")
    assert (answer.status_code, answer.json()["cause"]) == (503, "model")
    assert str(tmp_path) not in answer.text
    told = {version["version"]: version for version in asking.get("/models/").json()["versions"]}
    assert told["bad-1"]["problem"].startswith("card.json: ")
    assert asking.get("/models/").json()["current"] == BUNDLED


def test_a_server_of_one_version_says_so(asking: TestClient, tmp_path: Path) -> None:
    settings = ServerSettings(None, tmp_path, model="tiny-1")
    asking.app.state.services.settings = settings  # type: ignore[attr-defined]
    for path in ("/models/bad-1/use", "/models/rollback"):
        answer = asking.post(path)
        assert answer.status_code == 409
        assert "without --model" in answer.json()["detail"]
    assert asking.get("/models/").json()["served"] == "tiny-1"


def test_figures_are_those_of_a_training_and_no_other_file(
    asking: TestClient, tmp_path: Path
) -> None:
    job = Job("one", "train", {}, "", "2026-01-01T10:00:00+00:00", state="done")
    figures = tmp_path / "jobs" / "one" / "run" / "figures"
    figures.mkdir(parents=True)
    (figures.parent / "finetuning.json").write_text('{"members": ["second"]}')
    (figures / "rates.png").write_bytes(b"\x89PNG")
    jobs = {"one": job, "two": SimpleNamespace(kind="batch")}
    asking.app.state.services.jobs = SimpleNamespace(  # type: ignore[attr-defined]
        folder=tmp_path / "jobs", job=jobs.__getitem__, jobs=lambda: [job]
    )
    answer = asking.get("/training/one/figures/rates.png")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert asking.get("/training/").json()["figures"] == ["rates.png"]
    for name in ("finetuning.json", "..%2Ffinetuning.json", "other.png"):
        assert asking.get(f"/training/one/figures/{name}").status_code == 404
    assert asking.get("/training/two/figures/rates.png").status_code == 404
    assert asking.get("/training/two").status_code == 404
