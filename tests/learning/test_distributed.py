"""Two processes take the training step that one takes with the joint batch.

Started by itself, this file starts both, as torchrun does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cinelabel.learning.config import parse
from cinelabel.learning.loop import TrainingLoop, make_fabric
from cinelabel.learning.losses import deep_supervision_loss, dice_cross_entropy
from cinelabel.learning.reporting import Reporter
from cinelabel.learning.run_folder import RunFolder
from cinelabel.networks import build
from cinelabel.networks.weights import get_weights, on_cpu
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch.utils import tensorboard  # noqa: F401 - once, before there are more processes

VOLUMES = {
    "family": "nnunet3d",
    "features": [4, 6, 8],
    "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
}
CASES = {
    "slices": ({"features": [4, 6, 8]}, (16, 16), 0),
    "stacks": (VOLUMES, (4, 16, 16), 4),
}


def half(shape: tuple[int, ...], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Two examples; those of the second half have no RV, so that the halves' Dice differ."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, 4 - number, (2, *shape)).astype(np.uint8)
    return (labels + rng.normal(0, 0.3, labels.shape)).astype(np.float32), labels


def gradients(folder: Path, case: str, halves: list[int]) -> dict[str, torch.Tensor]:
    """What one step of plain gradient descent at rate 1 takes off each weight of a loop."""
    network, shape, depth = CASES[case]
    config = parse(
        {
            "name": case,
            "network": network,
            "data": {"size": 16, "depth": depth},
            "optimiser": {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
            "schedule": {"name": "poly", "warmup": 0.0},
            "steps": 1,
            "batch_size": 2 * len(halves),
            "precision": "32-true",
            "device": "cpu",
            "gradient_clip": 0,
            "ema": 0,
        },
        "test",
    )
    torch.manual_seed(1)
    fabric = make_fabric(config)
    fabric.launch()
    parts = [half(shape, number) for number in halves]
    batch = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    network = build(config.network)
    before = on_cpu(get_weights(network))
    loop = TrainingLoop(
        config,
        RunFolder(folder),
        fabric,
        network,
        lambda step: batch,
        deep_supervision_loss,
        lambda network, fabric: {},
        [],
        Reporter(Console(quiet=True)),
    )
    loop.run()
    after = on_cpu(loop.average.average)
    return {name: before[name] - after[name] for name in before}


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, __file__, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return {case: load_file(folder / f"{case}.safetensors") for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradients_of_one_with_the_joint_batch(
    case, of_two_processes, tmp_path
):
    expected = gradients(tmp_path, case, [0, 1])
    found = of_two_processes[case]
    assert found.keys() == expected.keys()
    assert max(float(g.abs().max()) for g in expected.values()) > 0.01
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5)


def test_the_dice_of_a_joint_batch_is_not_the_mean_of_those_of_its_halves():
    (images, labels), (others, more) = half((16, 16), 0), half((16, 16), 1)
    joint = torch.from_numpy(np.concatenate([labels, more])).long()
    seen = torch.from_numpy(np.concatenate([images, others]))
    logits = -((seen[:, None] - torch.arange(4.0)[:, None, None]) ** 2)
    halves = [dice_cross_entropy(logits[part], joint[part]) for part in (slice(2), slice(2, 4))]
    assert abs(float(dice_cross_entropy(logits, joint) - sum(halves) / 2)) > 0.05


def main(folder: Path) -> None:
    """Fork two processes with the environment of torchrun; the first writes the gradients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    sizes = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    torch.set_num_threads(1)
    children = []
    for rank in (0, 1):
        if child := os.fork():
            children.append(child)
            continue
        facts = {**shared, **sizes, "RANK": rank, "LOCAL_RANK": rank}
        os.environ.update({key: str(value) for key, value in facts.items()})
        for case in CASES:
            found = gradients(folder / case, case, [rank])
            if rank == 0:
                save_file(found, folder / f"{case}.safetensors")
        return
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
