"""Studies come, grow and go while the server runs, and what is served is always whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.core.grid import Grid
from cinelabel.core.pseudonyms import pseudonym
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies import Study

DEADLINE_S = 60.0


def save(path: Path, seed: int) -> Path:
    values = np.random.default_rng(seed).integers(0, 200, (8, 7, 4, 2)).astype(np.float32)
    grid = Grid((8, 7, 4), np.diag([1.5, 1.5, 8.0, 1.0]))
    studies.save_image(path, Study("any", values, grid, True))
    return path


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        threading.Event().wait(0.05)


def test_studies_are_served_without_a_restart_and_only_when_they_are_whole(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "studies"
    save(folder / "first.nii.gz", 1)
    whole = save(tmp_path / "late.nii.gz", 2).read_bytes()
    settings = ServerSettings(
        studies=folder,
        workspace=tmp_path / "workspace",
        port=process.free_port(),
        scan_interval_s=0.1,
        settle_s=0.1,
    )
    with (
        process.Server(settings) as server,
        httpx.Client(base_url=settings.url, timeout=DEADLINE_S, trust_env=False) as http,
    ):
        server.wait_until_ready()

        def served() -> set[str]:
            return set(http.get("/datastore/", params={"output": "all"}).json()["objects"])

        def left_out() -> str:
            return http.get("/cases/left-out").text

        wait_until(lambda: served() == {"first__t00", "first__t01"})
        (folder / "late.nii.gz").write_bytes(whole[: len(whole) // 2])
        wait_until(lambda: "truncated" in left_out())
        assert served() == {"first__t00", "first__t01"}
        assert str(tmp_path) not in left_out()
        (folder / "late.nii.gz").write_bytes(whole)
        wait_until(lambda: "late__t01" in served())
        answer = http.get("/datastore/image", params={"image": "late__t01"})
        (tmp_path / "got.nii.gz").write_bytes(answer.content)
        expected = studies.load(tmp_path / "late.nii.gz").frame(1)
        assert np.array_equal(nib.load(tmp_path / "got.nii.gz").get_fdata(), expected)
        (folder / "first.nii.gz").unlink()
        wait_until(lambda: served() == {"late__t00", "late__t01"})
        assert http.get("/datastore/image", params={"image": "first__t00"}).status_code == 404


def test_the_log_does_not_name_the_study_that_changed_under_its_label(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    save(folder / "Smith_John.nii.gz", 1)
    settings = ServerSettings(
        studies=folder,
        workspace=tmp_path / "workspace",
        port=process.free_port(),
        scan_interval_s=0.1,
        settle_s=0.1,
    )
    image = "Smith_John__t00"
    with (
        process.Server(settings) as server,
        httpx.Client(base_url=settings.url, timeout=DEADLINE_S, trust_env=False) as http,
    ):
        server.wait_until_ready()

        def objects() -> Any:
            return http.get("/datastore/", params={"output": "all"}).json()["objects"]

        wait_until(lambda: image in objects())
        labels = np.zeros((8, 7, 4), np.uint8)
        labels[2:6, 2:6, 1:3], labels[3:5, 3:5, 1:3] = 2, 1
        studies.save_label(
            tmp_path / "label.nii.gz", labels, studies.load(folder / "Smith_John.nii.gz")
        )
        sent = {"label": ("label.nii.gz", (tmp_path / "label.nii.gz").read_bytes())}
        assert http.put("/datastore/label", params={"image": image}, files=sent).status_code == 200
        save(tmp_path / "other.nii.gz", 2).replace(folder / "Smith_John.nii.gz")
        wait_until(lambda: objects().get(image, {}).get("labels") == {})
        (folder / "Smith_John.nii.gz").write_bytes(b"no image")
        wait_until(lambda: "Smith_John" in str(http.get("/cases/left-out").json()["problems"]))
        assert image in http.get("/cases/left-out").json()["labels"][0]
    written = "".join(path.read_text() for path in settings.log.parent.iterdir())
    assert pseudonym(image) in written
    assert "Smith" not in written
