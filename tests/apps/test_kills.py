"""A server that is killed while labels come in has every label that it confirmed."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from pathlib import Path

import httpx
import pytest
from cinelabel import studies
from cinelabel.core.files import sha256
from cinelabel.labelstore import LabelStore
from cinelabel.phantom.cohort import make_study
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies.workspace import prepare

from ..conftest import at_home

READERS = 3
LONGEST_S = 2.0


def submit_until_the_server_is_gone(
    url: str, reader: int, label: bytes, confirmed: list[tuple[str, int, str]]
) -> None:
    """Submit one label after the other for an image of one's own, noting the answers."""
    image, version = f"heart__t{reader:02d}", 0
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        version = client.get("/datastore/image/info", params={"image": image}).json()["version"]
        while True:
            params = {"base_version": version, "client_id": "c", "comment": str(version)}
            try:
                answer = client.put(
                    "/datastore/label",
                    params={"image": image},
                    files={"label": ("label.nii.gz", label)},
                    data={"params": json.dumps(params)},
                )
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            version = answer.json()["version"]
            confirmed.append((image, version, answer.json()["sha256"]))


def kill_and_restart(folder: Path, pair: Path, trials: int) -> None:
    phantom = make_study(3, frames=READERS)
    studies.save_image(folder / "studies" / "heart.nii.gz", phantom.study)
    workspace = prepare(folder / "studies", folder / "workspace")
    labels = []
    for frame in range(READERS):
        image = studies.load(workspace.image_path(f"heart__t{frame:02d}"))
        studies.save_label(folder / "label.nii.gz", phantom.labels[..., frame], image)
        labels.append((folder / "label.nii.gz").read_bytes())
    chance, confirmed = random.Random(7), list[tuple[str, int, str]]()
    for trial in range(trials):
        settings = ServerSettings(
            studies=folder / "studies",
            workspace=workspace.path,
            port=process.free_port(),
            model="pair-1",
            fast=True,
        )
        (folder / f"home{trial}").mkdir()
        with at_home(folder / f"home{trial}", pair):
            server = process.Server(settings)
        with server:
            server.wait_until_ready()
            before = len(confirmed)
            readers = [
                threading.Thread(
                    target=submit_until_the_server_is_gone,
                    args=(settings.url, reader, labels[reader], confirmed),
                )
                for reader in range(READERS)
            ]
            for reader in readers:
                reader.start()
            threading.Event().wait(chance.uniform(0.3, LONGEST_S))
            os.kill(server.pid, signal.SIGKILL)
            for reader in readers:
                reader.join(60)
        store = LabelStore(workspace.path)
        assert store.check() == []
        for image, version, digest in confirmed:
            kept = store.version(image, version)
            assert kept is not None
            assert kept.sha256 == digest == sha256(kept.path)
        print(f"\nkill {trial + 1}: {len(confirmed) - before} labels confirmed, all there")
    assert confirmed


def test_a_server_killed_during_submissions_has_what_it_confirmed(
    tmp_path: Path, pair: Path
) -> None:
    kill_and_restart(tmp_path, pair, trials=2)


@pytest.mark.slow
def test_a_server_killed_twenty_times_has_what_it_confirmed(tmp_path: Path, pair: Path) -> None:
    kill_and_restart(tmp_path, pair, trials=20)
