"""Times of a server with 3000 cases: what clients ask often, and a submission.

`pytest -m slow -s tests/benchmarks/test_server_requests.py` prints the table. MONAI Label 0.8.5 at
3000 images: /info/ 1.2 ms, submission 56 ms, without checks, versions or a flush to disk.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.grid import Grid
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.studies import Study
from cinelabel.studies.workspace import prepare

STUDIES, FRAMES, SHAPE = 100, 30, (160, 160, 10)
REPEATS = 20


@pytest.mark.slow
def test_times_of_requests_with_3000_cases(tmp_path: Path) -> None:
    grid = Grid(SHAPE, np.diag([1.4, 1.4, 8.0, 1.0]))
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 400, (*SHAPE, FRAMES)).astype(np.float32)
    for number in range(STUDIES):
        study = Study(name=f"p{number:03d}", frames=frames, grid=grid, is_cine=True)
        studies.save_image(tmp_path / "studies" / f"p{number:03d}.nii.gz", study)
    prepare(tmp_path / "studies", tmp_path / "workspace")
    label = np.zeros(SHAPE, np.uint8)
    for value, radius in ((3, 40), (2, 28), (1, 20)):
        label[80 - radius : 80 + radius, 80 - radius : 80 + radius, 2:8] = value
    one = studies.load(tmp_path / "workspace" / "store" / "p000__t00.nii.gz")
    studies.save_label(tmp_path / "label.nii.gz", label, one)
    content = (tmp_path / "label.nii.gz").read_bytes()
    settings = ServerSettings(
        studies=tmp_path / "studies", workspace=tmp_path / "workspace", port=process.free_port()
    )
    with process.Server(settings) as server:
        server.wait_until_ready()
        with httpx.Client(base_url=settings.url, timeout=60, trust_env=False) as http:
            assert http.get("/info/").json()["datastore"]["total"] == STUDIES * FRAMES
            print(f"\n{'request, 3000 cases':40} median ms   slowest")
            tell("GET /info/", lambda n: http.get("/info/"))
            tell(
                "GET /datastore/image/info",
                lambda n: http.get(f"/datastore/image/info?image=p{n:03d}__t00"),
            )
            tell("GET /cases/ (100 of them)", lambda n: http.get("/cases/"))
            tell("GET /datastore/?output=all", lambda n: http.get("/datastore/?output=all"))
            tell(
                "POST /activelearning/first", lambda n: http.post("/activelearning/first", json={})
            )
            tell(
                "PUT /datastore/label",
                lambda n: http.put(
                    "/datastore/label",
                    params={"image": f"p{n:03d}__t07"},
                    files={"label": ("label.nii.gz", content)},
                ),
            )


def tell(what: str, ask: Any) -> None:
    """Print how long a request takes."""
    taken = []
    for number in range(REPEATS):
        start = time.perf_counter()
        response = ask(number)
        taken.append(1000 * (time.perf_counter() - start))
        assert response.status_code == 200, response.text
    print(f"{what:40} {statistics.median(taken):9.1f} {max(taken):9.1f}")
