"""What our server adds to MONAI Label's: whole studies, sentences for errors, a clean end."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from cinelabel import studies
from cinelabel.cli.demo import _segment_over_http
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.workspace import prepare

DEADLINE_S = 60


@pytest.fixture
def http(running: Any) -> Any:
    with httpx.Client(base_url=running.url, timeout=120, trust_env=False) as opened:
        yield opened


def infer(
    http: httpx.Client, image: str, model: str = "cine", params: Any = None
) -> httpx.Response:
    data = {"params": params if isinstance(params, str) else json.dumps(params or {})}
    return http.post(f"/infer/{model}", params={"image": image}, data=data)


def sentence(response: httpx.Response) -> str:
    detail = response.json()["detail"]
    assert isinstance(detail, str)
    assert detail.endswith(".")
    return detail


def test_one_request_segments_all_frames_on_the_grid_of_the_study(
    running: Any, tmp_path: Path
) -> None:
    answer, label = _segment_over_http(running.url, "heart__t01")
    (tmp_path / "label.nii.gz").write_bytes(label)
    labels, grid = studies.load_label(tmp_path / "label.nii.gz")
    source = studies.load(running.studies / "heart.nii.gz")
    assert labels.shape == source.frames.shape
    assert np.array_equal(grid.affine, source.grid.affine)
    assert answer["scope"] == "study"
    assert answer["n_frames"] == 3
    assert len(answer["measures"]["lv_curve_ml"]) == 3


def test_an_ensemble_is_served_fast_unless_the_request_says_otherwise(http: httpx.Client) -> None:
    def answer(**params: Any) -> dict[str, Any]:
        asked = {"image": "heart__t00", "output": "json"}
        data = {"params": json.dumps(params)}
        response = http.post("/infer/cine", params=asked, data=data)
        assert response.status_code == 200
        return dict(response.json())

    fast, whole = answer(), answer(fast=False)
    assert (fast["model"], fast["fast"], fast["members"]) == ("pair-1", True, ["two"])
    assert fast["agreement"] is None
    assert (whole["fast"], whole["members"]) == (False, ["one", "two"])
    assert whole["reason"] is None
    assert set(whole["agreement"].values()) <= {1.0, None}
    assert whole["agreement"]["LV"] == 1.0


def test_json_alone_can_be_asked_for(http: httpx.Client) -> None:
    response = http.post(
        "/infer/cine", params={"image": "heart__t00", "output": "json"}, data={"params": "{}"}
    )
    assert response.status_code == 200
    assert response.json()["label_names"] == {"LV": 1, "MYO": 2, "RV": 3}


def test_label_files_do_not_pile_up(http: httpx.Client, running: Any) -> None:
    assert infer(http, "heart__t00").status_code == 200
    uploads = running.workspace.path / "uploads"
    deadline = time.monotonic() + DEADLINE_S  # the server removes it after it has answered
    while [*running.temporary.iterdir(), *uploads.glob("*")] and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert [*running.temporary.iterdir(), *uploads.glob("*")] == []


def test_an_unknown_image_is_404(http: httpx.Client) -> None:
    response = infer(http, "nobody__t00")
    assert response.status_code == 404
    assert "image" in sentence(response)


@pytest.mark.parametrize(
    ("image", "model", "params", "word"),
    [
        ("heart__t00", "unknown", {}, "unknown"),
        ("heart__t00", "cine", {"scope": "patient"}, "patient"),
        ("heart__t00", "cine", {"fast": "yes"}, "true or false"),
        ("heart__t00", "cine", {"scope": "study", "save_label": True}, "study"),
        ("heart__t00", "cine", "{not json", "JSON"),
    ],
)
def test_a_wrong_request_is_400_with_a_sentence(
    http: httpx.Client, image: str, model: str, params: Any, word: str
) -> None:
    response = infer(http, image, model, params)
    assert response.status_code == 400
    assert word in response.json()["detail"]


def test_an_unknown_strategy_is_400(http: httpx.Client) -> None:
    response = http.post("/activelearning/unknown", json={})
    assert response.status_code == 400
    assert "unknown" in response.json()["detail"]


def test_a_label_for_an_unknown_image_is_404(http: httpx.Client) -> None:
    response = http.put(
        "/datastore/label",
        params={"image": "nobody__t00"},
        files={"label": ("label.nii.gz", b"anything")},
    )
    assert response.status_code == 404


def test_web_pages_of_other_origins_are_not_let_in(http: httpx.Client) -> None:
    response = http.get("/info/", headers={"Origin": "http://elsewhere.example"})
    assert "access-control-allow-origin" not in response.headers
    asked = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "PUT"}
    assert http.options("/datastore/label", headers=asked).status_code == 403


def test_the_server_listens_on_loopback_alone(running: Any) -> None:
    process = psutil.Process(running.server.pid)
    listening = [c.laddr for c in process.net_connections("inet") if c.status == "LISTEN"]
    assert [address.ip for address in listening] == ["127.0.0.1"]


def test_what_is_left_out_is_told_with_a_reason(http: httpx.Client) -> None:
    told = http.get("/cases/left-out").json()
    assert told["reading"] is None
    assert told["waiting"] == []
    (problem,) = told["problems"]
    assert problem.startswith("broken.nii.gz: ")
    assert problem.endswith(".")


def test_the_studies_are_not_written_to(running: Any) -> None:
    assert sorted(path.name for path in running.studies.rglob("*")) == [
        "broken.nii.gz",
        "heart.nii.gz",
    ]


def start(served: Path, tmp_path: Path) -> process.Server:
    settings = ServerSettings(
        studies=served,
        workspace=tmp_path / "workspace",
        port=process.free_port(),
    )
    return process.Server(settings)


def test_stopping_leaves_no_process_and_restarting_keeps_the_labels(
    running: Any, tmp_path: Path
) -> None:
    prepared = prepare(running.studies, tmp_path / "workspace")
    label = tmp_path / "label.nii.gz"
    studies.save_label(
        label, running.phantom.labels[..., 1], studies.load(prepared.image_path("heart__t01"))
    )
    with start(running.studies, tmp_path) as server:
        server.wait_until_ready()
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        with httpx.Client(base_url=server.settings.url, trust_env=False) as http:
            response = http.put(
                "/datastore/label",
                params={"image": "heart__t01"},
                files={"label": ("label.nii.gz", label.read_bytes())},
            )
            assert response.status_code == 200
    assert not any(process.is_running() for process in family)
    with start(running.studies, tmp_path) as server:
        server.wait_until_ready()
        with httpx.Client(base_url=server.settings.url, trust_env=False) as http:
            assert http.get("/info/").json()["datastore"]["completed"] == 1


def test_a_server_that_cannot_start_says_why(running: Any, tmp_path: Path) -> None:
    prepare(running.studies, tmp_path / "workspace")
    with (
        start(tmp_path / "elsewhere", tmp_path) as server,
        pytest.raises(process.ServerError, match="is the workspace of"),
    ):
        server.wait_until_ready()
