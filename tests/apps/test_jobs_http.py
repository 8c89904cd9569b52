"""Trainings and batches over HTTP: MONAI Label's own client starts, follows and ends them.

In MONAI Label 0.8.5 a training outlives its server, and its last lines (the traceback) get lost.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel.serving.jobs import Job, JobRunner, Limits
from cinelabel.serving.settings import ServerSettings
from cinelabel.serving.work import Kind
from lib.http.guard import Rules
from lib.server import create
from lib.train import FineTuning, course

DEADLINE_S = 240  # a job is niced, so it waits for everything else that a machine has to do
TEST_KINDS = Path(__file__).parents[1] / "serving"


@dataclass(frozen=True)
class Served:
    """A real HTTP server in this process, with jobs that wait until they are told to go."""

    url: str
    jobs: JobRunner
    client: Any

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(
            method, f"{self.url}{path}", timeout=DEADLINE_S, trust_env=False, **more
        )

    def state(self, job_id: str) -> str:
        return str(self.ask("GET", f"/jobs/{job_id}").json()["state"])

    def until(self, job_id: str, *states: str) -> None:
        wait_until(lambda: self.state(job_id) in states)


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll until something holds; TimeoutError at the deadline."""
    pause, end = threading.Event(), time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        pause.wait(0.02)


@pytest.fixture
def served(
    tmp_path: Path, listening: Any, slicer_module: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    monkeypatch.setenv("PYTHONPATH", str(TEST_KINDS), prepend=os.pathsep)
    kinds = {"train": Kind("job_kinds:wait"), "batch": Kind("job_kinds:refuse")}
    limits = Limits(waiting=2, cancel_s=0.5, stop_s=0.5, poll_s=0.02)
    jobs = JobRunner(tmp_path / "jobs", limits, kinds)
    application = create()
    application.state.rules = Rules()
    application.state.services = SimpleNamespace(
        jobs=jobs, settings=ServerSettings(None, tmp_path, fast=True, model="pair-1")
    )
    with listening(application) as port:
        url = f"http://127.0.0.1:{port}"
        client = slicer_module.MONAILabelClient(url, tmpdir=str(tmp_path), client_id="reader")
        yield Served(url, jobs, client)
        jobs.close()


def test_the_stock_client_starts_follows_and_stops_a_training(served: Served) -> None:
    client = served.client
    assert client.train_status(check_if_running=True) is False
    started = client.train_start("cine", {"minutes": 5})
    assert started["status"] == "RUNNING"  # from the moment it waits
    expected = {"model": "cine", "version": "pair-1", "device": "auto", "minutes": 5}
    assert started["request"] == expected
    served.until(started["id"], "running")
    assert client.train_status(check_if_running=True) is True
    assert client.train_status()["id"] == started["id"]
    stopped = client.train_stop()
    assert stopped["id"] == started["id"]
    served.until(started["id"], "cancelled")
    assert client.train_status()["status"] == "STOPPED"
    assert client.train_status(check_if_running=True) is False


def test_all_models_are_the_one(served: Served) -> None:
    started = served.client.train_start(None, {"cine": {"minutes": 5}})
    assert started["cine"]["result"]["request"]["minutes"] == 5


def test_a_second_training_is_refused_unless_it_may_wait(served: Served) -> None:
    first = served.client.train_start("cine", {})
    refused = served.ask("POST", "/train/cine", json={})
    assert refused.status_code == 429
    assert "under way" in refused.json()["detail"]
    second = served.ask("POST", "/train/cine?enqueue=true", json={}).json()
    everything = served.ask("GET", "/train/?all=true").json()
    assert [task["id"] for task in everything] == [first["id"], second["id"]]
    served.until(first["id"], "running")
    assert served.state(second["id"]) == "queued"
    assert served.client.train_stop()["id"] == first["id"]
    served.until(first["id"], "cancelled")
    assert served.state(second["id"]) == "cancelled"


def test_stopping_nothing_is_no_failure(served: Served) -> None:
    assert served.client.train_stop() is None
    assert served.ask("GET", "/train/").status_code == 404
    assert served.ask("GET", "/batch/infer").status_code == 404


def test_a_training_that_was_stopped_goes_on_in_a_job_of_its_own(served: Served) -> None:
    first = served.client.train_start("cine", {"minutes": 5})["id"]
    served.until(first, "running")
    assert served.ask("POST", f"/training/{first}/resume").status_code == 409
    for _ in range(2):  # what was resumed and stopped again still goes on with the first
        served.client.train_stop()
        last = served.ask("GET", "/training/").json()["job"]
        served.until(last, "cancelled")
        again = served.ask("POST", f"/training/{last}/resume").json()
        assert again["id"] not in (first, last)
        assert again["request"]["continues"] == first
        assert again["request"]["minutes"] == 5
        served.until(again["id"], "running")
    assert served.ask("GET", "/training/").json()["state"] == "running"
    assert served.ask("POST", "/train/cine", json={"continues": first}).status_code == 400


def test_a_failed_job_tells_why_and_keeps_its_output(served: Served) -> None:
    started = served.ask("POST", "/batch/infer/cine?images=unlabeled", json={"again": True}).json()
    assert started["request"] == {
        "cases": "open",
        "model": "pair-1",
        "device": "auto",
        "fast": True,
        "again": True,
    }
    served.until(started["id"], "failed")
    task = served.ask("GET", "/batch/infer").json()
    assert task["status"] == "ERROR"
    assert task["error"].endswith(".")
    log = served.ask("GET", f"/jobs/{started['id']}/log").text
    assert "Traceback" in log
    assert str(TEST_KINDS.parent) not in log
    assert task["details"][-1] in log


def test_jobs_are_listed_newest_first_and_ended_by_name(served: Served) -> None:
    first = served.client.train_start("cine", {})["id"]
    second = served.ask("POST", "/train/cine?enqueue=true", json={}).json()["id"]
    assert [job["id"] for job in served.ask("GET", "/jobs/").json()] == [second, first]
    assert served.ask("DELETE", f"/jobs/{second}").json()["state"] == "cancelled"
    served.ask("DELETE", f"/jobs/{first}")
    served.until(first, "cancelled")


def test_too_many_jobs_are_503(served: Served) -> None:
    statuses = [
        served.ask("POST", "/train/cine?enqueue=true", json={}).status_code for _ in range(5)
    ]
    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 503


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/train/deepedit", {}, 400),
        ("POST", "/train/cine?run_sync=true", {}, 400),
        ("POST", "/train/cine", [1], 422),
        ("POST", "/train/cine", {"minutes": "long"}, 400),
        ("POST", "/train/cine", {"epochs": 5}, 400),
        ("POST", "/train/", {"cine": {"epochs": 5}}, 400),
        ("POST", "/batch/infer/deepedit", {}, 400),
        ("POST", "/batch/infer/cine?images=some", {}, 422),
        ("POST", "/batch/infer/cine", {"fast": "yes"}, 400),
        ("POST", "/batch/infer/cine", {"image": "x"}, 400),
        ("GET", "/jobs/nobody", None, 404),
        ("GET", "/jobs/..%2F..%2Fetc", None, 404),
        ("GET", "/jobs/nobody/log", None, 404),
        ("DELETE", "/jobs/nobody", None, 404),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(
    served: Served, method: str, path: str, body: Any, status: int
) -> None:
    response = served.ask(method, path, **({} if body is None else {"json": body}))
    assert response.status_code == status
    assert response.json()["detail"].endswith(".")
    assert served.jobs.jobs() == []


def test_what_the_stock_batch_sends_besides_is_accepted(served: Served) -> None:
    sent = {
        "device": "cuda",
        "multi_gpu": True,
        "gpus": "all",
        "logging": "WARNING",
        "save_label": True,
        "label_tag": "original",
        "max_workers": 1,
        "max_batch_size": 0,
    }
    response = served.ask("POST", "/batch/infer/cine", json=sent)
    assert response.status_code == 200
    assert response.json()["request"]["device"] == "auto"


def test_a_batch_leaves_a_prediction_of_each_of_its_cases(running: Any) -> None:
    with httpx.Client(base_url=running.url, timeout=DEADLINE_S, trust_env=False) as http:
        asked = {"again": True, "images": ["heart__t01"]}
        started = http.post("/batch/infer/cine", json=asked).json()
        wait_until(lambda: http.get(f"/jobs/{started['id']}").json()["ended"])
        job = http.get(f"/jobs/{started['id']}").json()
        assert (job["state"], job["error"]) == ("done", None)
        assert job["result"]["segmented"] == job["progress"]["done"] == 1
        found = {"label": "heart__t01", "tag": "original"}
        assert http.get("/datastore/label", params=found).status_code == 200


def test_the_trainer_shows_options_and_the_figures_of_the_last_training() -> None:
    progress = {"stage": "learning", "done": 3, "total": 9, "rate": None}
    figures = {"epoch": 3, "total_epochs": 9, "best_metric": 0.5}
    done: list[Job] = []
    trainer = FineTuning(SimpleNamespace(jobs=lambda: done))  # type: ignore[arg-type]
    assert trainer.stats() == {}
    job = Job("one", "train", {}, "", "2026-01-01T10:00:00+00:00", state="running")
    done.append(replace(job, progress={"stage": "reading", "done": 1}))
    assert trainer.stats() == {"stage": "reading", "done": 1, "epoch": 0, "total_epochs": 1}
    done.append(replace(job, progress={**progress, "figures": figures}))
    shown = {"stage": "learning", "done": 3, "total": 9, "epoch": 3, "total_epochs": 9}
    assert trainer.stats() == shown | {"best_metric": 0.5}
    scores = {"after": {"dice": {"LV": 0.9, "MYO": 0.7}}}
    times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:01:05+00:00"}
    done.append(replace(done[-1], state="done", result=scores, **times))
    last = trainer.stats()
    assert last.pop("best_metric") == pytest.approx(0.8)
    assert last == shown | {"total_time": "0:01:05"}
    assert trainer.config()["method"][0] == "metalr"


def test_the_course_of_a_training_tells_its_rate_and_what_is_left(tmp_path: Path) -> None:
    progress = {"stage": "learning", "done": 3, "total": 9, "rate": 0.5, "seconds_left": 12.0}
    job = Job("one", "train", {}, "", "2026-01-01T10:00:00+00:00", progress=progress)
    told = course(SimpleNamespace(folder=tmp_path), job)  # type: ignore[arg-type]
    shown = {name: told[name] for name in progress}
    assert shown == progress
