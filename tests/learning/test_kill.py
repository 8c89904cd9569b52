"""A run that is killed in the middle goes on to the very result of one that nothing disturbed.

Started by itself, this file starts the processes that are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cinelabel.learning.config import parse
from cinelabel.learning.data import SliceCache
from cinelabel.learning.reporting import Reporter
from cinelabel.learning.run_folder import RunFolder
from cinelabel.learning.supervised import TrainResult, train
from rich.console import Console
from torch.utils import tensorboard  # noqa: F401 - once, before there are more processes

COMMON = {
    "network": {"features": [4, 6]},
    "steps": 6,
    "checkpoint_every": 2,
    "batch_size": 2,
    "device": "cpu",
    "workers": 1,
    "threads": 1,
}
VOLUMES = {
    "family": "nnunet3d",
    "features": [4, 6],
    "kernels": [[1, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
}
CASES = {
    "slices": {"data": {"size": 16}},
    "stacks": {"data": {"size": 16, "depth": 2}, "network": VOLUMES},
    "sets": {
        "data": {"source": "sets", "size": 16, "spacing_mm": 2.0, "partial": True},
        "augmentation": {"kind": "nnunet"},
        "precision": "32-true",
    },
}


def caches(shape: tuple[int, ...]) -> tuple[SliceCache, SliceCache]:
    """Six examples to learn from and two held out, of noise round their labels."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, (8, *shape)).astype(np.uint8)
    images = (labels + rng.normal(0, 0.3, labels.shape)).astype(np.float16)
    return tuple(SliceCache(Path(), images[p], labels[p]) for p in (slice(6), slice(6, 8)))


def run_case(case: str, folder: Path, run: Path, acdc: Path) -> TrainResult:
    """Train one case: slices and stacks of a cache, or the set `acdc` prepared in `folder`."""
    values = COMMON | {"name": case} | CASES[case]
    if case == "sets":
        values["data"] = values["data"] | {"folder": folder / "data", "roots": {"acdc": acdc}}
    config = parse(values, case)
    shape = (config.data.depth, 16, 16) if config.data.depth else (16, 16)
    quiet = Reporter(Console(quiet=True))
    return train(config, run, reporter=quiet, caches=None if case == "sets" else caches(shape))


@pytest.fixture(scope="module")
def killed(tmp_path_factory, sets) -> Path:
    """A folder with a killed run of each case."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, __file__, str(folder), str(sets["acdc"])]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_goes_on_to_the_very_weights_of_an_undisturbed_one(
    case, killed, sets, tmp_path
):
    run = RunFolder(killed / case)
    checkpoints = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert [name[:8] for name in checkpoints] == [".partial", "step-000"]
    assert not run.finished
    resumed = run_case(case, killed, run.path, sets["acdc"])
    straight = run_case(case, killed, tmp_path / "straight", sets["acdc"])
    assert resumed.dice == straight.dice
    assert (run.cases() is None) == (case != "sets")
    assert run.cases() == RunFolder(tmp_path / "straight").cases()
    left, right = run.weights(), RunFolder(tmp_path / "straight").weights()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not list((run.path / "checkpoints").glob(".partial*"))


def main(folder: Path, acdc: Path) -> None:
    """Train each case in a process that is killed while it writes its second checkpoint."""
    for case in CASES:
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), case
            assert os.WTERMSIG(status) == signal.SIGKILL, case
            continue
        save, saved = torch.save, []

        def save_or_die(*arguments: object, save=save, saved=saved) -> None:
            saved.append(arguments)
            if len(saved) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            save(*arguments)

        torch.save = save_or_die
        run_case(case, folder, folder / case, acdc)
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
