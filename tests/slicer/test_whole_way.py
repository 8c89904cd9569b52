"""The reader's whole way on the cores of 3D Slicer, with the real server in a process of its own.

What is done there is in core/test_whole_way.py, core/test_worst_day.py and core/test_learning.py.
Here servers and studies are prepared, and every label that was submitted there is read from the
store by the server's own library and compared with what was on screen.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

sys.path.insert(0, str(Path(__file__).parent))

import environments
from cinelabel import studies
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore
from cinelabel.models.store import ModelStore
from cinelabel.phantom.cohort import make_study
from cinelabel.serving import process
from cinelabel.serving.settings import ServerSettings
from cinelabel.serving.tokens import Role, Tokens
from cinelabel.studies.workspace import prepare

DATA = environments.ROOT.parent / "shared" / "data"
REAL = {
    "SC-HF-I-1": DATA / "sunnybrook" / "SC-HF-I-1" / "dicom",
    "SC-HF-I-4": DATA / "sunnybrook" / "SC-HF-I-4" / "dicom",
    "G1K1V3": DATA / "mnms" / "G1K1V3" / "G1K1V3_sa_ED.nii.gz",
    "H1N8S6": DATA / "mnms" / "H1N8S6" / "H1N8S6_sa_ED.nii.gz",
    "C8O0P2": DATA / "mnms" / "C8O0P2" / "C8O0P2_sa_ED.nii.gz",
}
TESTS = ("test_whole_way.py", "test_worst_day.py", "test_learning.py")
SMALL = 8
"""Small studies, one for each test that spoils one."""


def mirrored(study: studies.Study, name: str) -> studies.Study:
    """The same heart, its slices in the other order: the grid has the other handedness."""
    last = study.frames.shape[2] - 1
    affine = study.grid.affine @ np.diag([1.0, 1.0, -1.0, 1.0])
    affine[:3, 3] += study.grid.affine[:3, 2] * last
    grid = Grid(study.grid.shape, affine)
    return replace(study, name=name, frames=study.frames[:, :, ::-1].copy(), grid=grid)


def small(number: int) -> studies.Study:
    """Noise on an oblique grid; every other one is left-handed."""
    shape = (26, 22, 5)
    affine = np.array([[1.2, 0.5, 0, -20], [-0.6, 1.3, 1, 9], [0.1, -0.2, 8, 3], [0, 0, 0, 1.0]])
    affine[:, 2] *= 1 if number % 2 else -1
    frames = np.random.default_rng(number).integers(0, 400, (*shape, 3)).astype(np.float32)
    return studies.Study(f"small-{number}", frames, Grid(shape, affine), True)


@pytest.fixture(scope="module")
def phantom() -> studies.Study:
    """Three frames of a phantom, right-handed."""
    study = make_study(3, frames=3).study
    return study if study.grid.handedness > 0 else mirrored(study, study.name)


def settings_for(folder: Path, **changes: object) -> ServerSettings:
    workspace = prepare(folder / "studies", folder / "workspace")
    return ServerSettings(
        studies=folder / "studies",
        workspace=workspace.path,
        port=process.free_port(),
        scan_interval_s=0.2,
        settle_s=0.2,
        fast=True,
        **changes,  # type: ignore[arg-type]
    )


def prepare_school(folder: Path, models: ModelStore) -> Path:
    """A server's folder with a small untrained model and four patients; its file of settings."""
    for number in range(4):
        name = f"p{number}"
        study = replace(small(number), name=name, is_cine=False)
        study = replace(study, frames=study.frames[..., :1].copy())
        studies.save_image(folder / "studies" / f"{name}.nii.gz", study)
    shutil.copytree(models.root, folder / "models")
    ModelStore(folder / "models").use("tiny-1")
    settings_for(folder).write(folder / "settings.json")
    return folder / "settings.json"


@pytest.fixture
def walk(
    phantom: studies.Study,
    pair: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Go the whole way on a core: `walk(version, *arguments, full)`.

    In full there are the examinations of ../shared/data, where they are, and a server to train.
    """
    monkeypatch.setenv("CINELABEL_MODELS", str(pair))
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    served, alone = tmp_path / "served", tmp_path / "alone"

    def go(version: str, *arguments: str, full: bool = False) -> None:
        studies.save_image(served / "studies" / "right.nii.gz", phantom)
        studies.save_image(served / "studies" / "left.nii.gz", mirrored(phantom, "left"))
        for number in range(SMALL):
            path = served / "studies" / f"small-{number}.nii.gz"
            studies.save_image(path, small(number))
        studies.save_image(alone / "studies" / "small.nii.gz", small(SMALL))
        sources = {name: path for name, path in REAL.items() if full and path.exists()}
        for name, path in sources.items():
            if path.is_dir():
                shutil.copytree(path, served / "studies" / name)
            else:
                shutil.copy(path, served / "studies" / f"{name}.nii.gz")
        tokens = Tokens(served / "tokens.json")
        names = {"anna": Role.annotator, "berta": Role.annotator, "leaving": Role.annotator}
        settings = settings_for(served, model="pair-1", tokens=tokens.path)
        other = settings_for(alone, model="pair-1")
        other.write(alone / "settings.json")
        (tmp_path / "evidence").mkdir()
        house: dict[str, Any] = {
            "python": sys.executable,
            "url": settings.url,
            "tokens": {name: tokens.add(name, role) for name, role in names.items()},
            "tokens_file": str(tokens.path),
            "studies": str(served / "studies"),
            "settings": {"alone": str(alone / "settings.json")},
            "evidence": str(tmp_path / "evidence"),
        }
        if full:
            school = prepare_school(tmp_path / "school", request.getfixturevalue("models"))
            house["settings"]["school"] = str(school)
        (tmp_path / "house.json").write_text(json.dumps(house))
        with process.Server(settings) as server:
            server.wait_until_ready()
            done = environments.run_pytest(
                version, *arguments, CINELABEL_WHOLE_WAY=str(tmp_path / "house.json")
            )
        if done.returncode:
            log = settings.output.read_text(encoding="utf-8")[-3000:]
            pytest.fail(f"slicer-core {version}\n{done.stdout}\n{log}", pytrace=False)
        require_submitted(tmp_path / "evidence", served)

    return go


def require_submitted(evidence: Path, served: Path) -> None:
    """The store holds every label that was on screen, on the grid of the file it was drawn on."""
    paths = sorted(evidence.glob("*.npz"))
    assert paths
    store = LabelStore(served / "workspace")
    for path in paths:
        seen = np.load(path)
        image = str(seen["image"])
        name, frame = image.rsplit("__t", 1)
        found = store.version(image, int(seen["version"]))
        assert found is not None, image
        labels, grid = studies.load_label(found.path)
        (source,) = [p for p in (served / "studies").iterdir() if p.name.split(".")[0] == name]
        study = studies.load(source)
        assert np.array_equal(labels, seen["labels"]), image
        assert np.array_equal(study.frame(int(frame)), seen["voxels"]), image
        assert study.grid.difference(grid) is None, image
        assert grid.handedness == study.grid.handedness, image


def test_the_whole_way_on_the_stable_core(walk: Callable[..., None]) -> None:
    walk(environments.DEFAULT, *TESTS)


@pytest.mark.slow
@pytest.mark.parametrize("version", environments.VERSIONS)
def test_the_whole_way_on_every_core_with_real_studies(
    walk: Callable[..., None], version: str
) -> None:
    walk(version, "-m", "", *TESTS, full=True)
