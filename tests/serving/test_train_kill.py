"""A trainer that is killed at random moments leaves the champion and the store whole.

Started by itself, this file is the trainer: it imports what a training needs, and then runs each
job that it is told of in a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.models.store import ModelStore
from cinelabel.serving import train
from cinelabel.serving.work import Context
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.study import Study

REQUEST = {
    "method": "all",
    "steps": 60,
    "batch_size": 4,
    "replay": 0,
    "lr": 0.02,
    "device": "cpu",
    "decision": {"phantoms": 4, "phantom_margin": 1},
}


@dataclass
class Trainer:
    """Runs the job of a clinic, to its end or until it is killed; `span_s` is how long it takes."""

    process: subprocess.Popen[str]
    span_s: float = 0.0

    def __call__(self, clinic: Path, kill_after_s: float | None = None) -> int:
        """The status in which the job's process ended; -9 of one that was killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{clinic}\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after_s is not None:
            time.sleep(kill_after_s)  # the moment is what is tested, nothing is waited for
            os.kill(child, signal.SIGKILL)  # a child that has ended is kept until it is asked for
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def make_clinic(folder: Path, models: ModelStore) -> Path:
    """A workspace of five labelled patients, three of them held out, and `tiny-1` in use."""
    shutil.copytree(models.root, folder / "models")
    ModelStore(folder / "models").use("tiny-1")
    labels = np.zeros((24, 30, 4), np.uint8)
    labels[9:14, 10:15], labels[10:13, 11:14], labels[14:17, 10:14] = 2, 1, 3
    grid = Grid(labels.shape, np.diag([2.0, 1.5, 8.0, 1.0]))
    noise = np.random.default_rng(1)
    for number in range(5):
        voxels = (60.0 * labels + noise.uniform(0, 30, labels.shape)).astype(np.float32)
        study = Study(f"p{number}", voxels[..., None], grid, is_cine=False)
        studies.save_image(folder / "studies" / f"p{number}.nii.gz", study)
    catalogue = Catalogue(folder / "studies", folder / "workspace", settle_s=0.0)
    for _ in range(2):
        catalogue.refresh()
    store = LabelStore(folder / "workspace")
    for case in catalogue.cases():
        image = studies.load(catalogue.image_path(case.image_id))
        studies.save_label(folder / "label.nii.gz", labels, image)
        submission = Submission(case.image_id, "anna", "", "2026-01-01T00:00:00Z", model="tiny-1")
        store.submit(case.image_id, image.grid, folder / "label.nii.gz", submission)
    sides = {"training": ["p0", "p1"], "held_out": ["p2", "p3", "p4"]}
    (folder / "workspace" / "learning").mkdir()
    (folder / "workspace" / "learning" / "patients.json").write_text(
        json.dumps({"schema_version": 1, **sides})
    )
    return folder


def require_whole(store: ModelStore) -> None:
    """The champion and all versions hold, and what is in use is the champion or was published."""
    for name in store.versions():
        store.load(name).verify()
    champion = store.load().card
    assert champion.version == "tiny-1" or (champion.decision or {})["outcome"] == "publish"


def require_published(clinic: Path, store: ModelStore) -> None:
    require_whole(store)
    own = [name for name in store.versions() if not store.is_bundled(name)]
    assert own == ["tiny-1", "tiny-1-tuned-1"]
    assert not list(store.root.glob(".partial-*"))
    assert [use.version for use in store.history()] == ["tiny-1", "tiny-1-tuned-1"]
    table = clinic / "workspace" / "jobs" / "one" / "run" / "metrics.csv"
    assert len(table.read_text().splitlines()) == 1 + REQUEST["steps"]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, models: ModelStore) -> Iterator[Trainer]:
    """It has trained once, undisturbed."""
    command = [sys.executable, __file__]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        made = Trainer(process)
        clinic = make_clinic(tmp_path_factory.mktemp("undisturbed"), models)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        assert made(clinic) == 0
        made.span_s = time.monotonic() - began
        require_published(clinic, ModelStore(clinic / "models"))
        yield made
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 21))]
)
def test_a_trainer_killed_at_random_moments_leaves_champion_and_store_whole(
    trainer: Trainer, models: ModelStore, tmp_path: Path, seed: int
) -> None:
    clinic = make_clinic(tmp_path, models)
    store = ModelStore(clinic / "models")
    moments = random.Random(seed)
    for _ in range(2):
        assert trainer(clinic, moments.uniform(0, trainer.span_s)) in (0, -signal.SIGKILL)
        require_whole(store)
    assert trainer(clinic) == 0
    require_published(clinic, store)


def main() -> None:
    """Run the job of each clinic named on standard input, in a child whose number is told."""
    import cinelabel.learning.finetune
    import cinelabel.models.export  # noqa: F401 - both once, before there are more processes

    print("ready", flush=True)
    while clinic := sys.stdin.readline().strip():
        child = os.fork()
        if child == 0:
            os.environ["CINELABEL_MODELS"] = f"{clinic}/models"
            job = Path(clinic, "workspace", "jobs", "one")
            job.mkdir(parents=True, exist_ok=True)
            try:
                train.run(REQUEST, Context(job))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(child, flush=True)
        sys.stdin.readline()
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
