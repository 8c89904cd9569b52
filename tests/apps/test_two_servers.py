"""Two servers on one workspace lose nothing of each other's; two of MONAI Label lost 92 of 200."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cinelabel import studies
from cinelabel.phantom.cohort import make_study
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.workspace import prepare

EACH = 100
IMAGES = [f"heart__t{frame:02d}" for frame in range(4)]


def submit_all(server: process.Server, labels: dict[str, bytes]) -> None:
    """Submit again and again, over whatever is there by now."""
    with httpx.Client(base_url=server.settings.url, timeout=60, trust_env=False) as http:
        for number in range(EACH):
            image, base = IMAGES[number % len(IMAGES)], 0
            while True:
                told = {"base_version": base, "client_id": f"{server.pid} {number}"}
                response = http.put(
                    "/datastore/label",
                    params={"image": image},
                    files={"label": ("label.nii.gz", labels[image])},
                    data={"params": json.dumps(told)},
                )
                if response.status_code == 200:
                    break
                assert response.status_code == 409, response.text
                base = response.json()["version"]


@pytest.mark.slow
def test_two_servers_with_a_hundred_submissions_each_lose_none(tmp_path: Path) -> None:
    phantom = make_study(3, frames=len(IMAGES))
    studies.save_image(tmp_path / "studies" / "heart.nii.gz", phantom.study)
    workspace = prepare(tmp_path / "studies", tmp_path / "workspace")
    labels = {}
    for frame, image in enumerate(IMAGES):
        one = studies.load(workspace.image_path(image))
        studies.save_label(tmp_path / "label.nii.gz", phantom.labels[..., frame], one)
        labels[image] = (tmp_path / "label.nii.gz").read_bytes()

    def settings() -> ServerSettings:
        return ServerSettings(
            studies=tmp_path / "studies", workspace=workspace.path, port=process.free_port()
        )

    with process.Server(settings()) as one, process.Server(settings()) as two:
        servers = [one, two]
        for server in servers:
            server.wait_until_ready()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda server: submit_all(server, labels), servers))
        kept = [
            event
            for image in IMAGES
            for event in httpx.get(f"{one.settings.url}/cases/{image}/history").json()["events"]
        ]
    expected = {f"{server.pid} {number}" for server in servers for number in range(EACH)}
    assert {event["client_id"] for event in kept} == expected
    assert len(kept) == len(expected)
    for image in IMAGES:
        versions = [event["version"] for event in kept if event["image"] == image]
        assert versions == list(range(1, len(versions) + 1))
