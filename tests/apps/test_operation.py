"""What those who run the server see of it: health, numbers, a log; and what the log leaves out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cinelabel.serving.settings import ServerSettings

DEADLINE_S = 20


@pytest.fixture
def http(running: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as opened:
        yield opened


def logged(settings: ServerSettings, request_id: str) -> dict[str, Any]:
    """The record of a request, once it is written."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in settings.log.read_text().splitlines()]
        found = [line for line in lines if line.get("id") == request_id]
        if found:
            return dict(found[-1])
    raise AssertionError(f"{request_id} is not in the log")


def test_every_request_is_one_record_without_the_name_of_the_case(
    http: httpx.Client, running: Any
) -> None:
    response = http.get("/datastore/image/info?image=heart__t00&x=Smith^John")
    record = logged(running.server.settings, response.headers["x-request-id"])
    assert {"time", "level", "id", "who", "method", "route", "status", "ms", "case"} <= set(record)
    assert record["route"] == "/datastore/image/info"
    assert (record["method"], record["status"]) == ("GET", 200)
    again = http.get("/cases/heart__t00/history")
    assert logged(running.server.settings, again.headers["x-request-id"])["case"] == record["case"]
    text = running.server.settings.log.read_text()
    assert "heart__t" not in text
    assert "Smith" not in text


def test_a_client_may_name_its_request_but_not_write_into_the_log(
    http: httpx.Client, running: Any
) -> None:
    named = http.get("/health/live", headers={"X-Request-ID": "scan-17"})
    assert named.headers["x-request-id"] == "scan-17"
    assert logged(running.server.settings, "scan-17")["route"] == "/health/live"
    odd = http.get("/health/live", headers={"X-Request-ID": 'x", "status": 500'})
    assert odd.headers["x-request-id"].isalnum()


def test_the_server_says_that_it_lives_and_that_it_can_work(http: httpx.Client) -> None:
    assert http.get("/health/live").json() == {"status": "live"}
    assert http.get("/health/ready").json() == {"status": "ready", "problems": []}


def test_the_metrics_count_requests_by_route_and_name_nobody(http: httpx.Client) -> None:
    def count() -> float:
        name = 'cinelabel_http_requests_total{method="GET",route="/cases/{image}/history",'
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = count()
    http.get("/cases/heart__t00/history")
    http.get("/cases/nobody/history")
    assert count() == before + 2
    text = http.get("/metrics").text
    for name in ("http_request_seconds", "cases", "segmentations", "jobs", "labels"):
        assert f"# TYPE cinelabel_{name} " in text, name
    assert "heart" not in text


def test_an_address_that_is_not_there_is_counted_under_no_name_of_its_own(
    http: httpx.Client,
) -> None:
    http.get("/secret/Smith")
    text = http.get("/metrics").text
    assert 'route="unmatched",status="404"' in text
    assert "Smith" not in text


def test_the_page_of_addresses_needs_no_other_server(http: httpx.Client) -> None:
    """Stock's page loads its scripts from elsewhere."""
    page = http.get("/")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "http" not in page.text.replace("http-equiv", "")
    assert "/datastore/label" in page.text


def test_no_answer_names_the_program_that_made_it(http: httpx.Client) -> None:
    assert "server" not in http.get("/info/").headers
