"""The networks of the `paper` presets: one training step and one inference, time and peak memory.

Prints a table (pytest -m slow -s) and never fails on time. Each number is of a process of its own,
one example at the sizes of Gong et al. (STACOM 2022, section 2.5), untrained weights, float32 in
torch; OpenVINO computes as it does for users. On a GPU, where there is one, torch alone.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cinelabel.networks.specs import PRESETS, NetworkSpec
from cinelabel.segmentation.backend import choose_device

PAPER = (
    "nnunet2d-deformable-paper",
    "nnunet2d-paper",
    "nnunet3d-paper",
    "swin_unetr-paper",
    "swin_unet-paper",
)
IMAGE, PATCH = (512, 512), (10, 448, 384)
REPEATS, ENOUGH_S = 3, 10.0


@pytest.mark.slow
def test_seconds_and_memory_of_the_papers_networks(tmp_path: Path) -> None:
    devices = ["cpu", "cuda"] if choose_device("auto") == "cuda" else ["cpu"]
    for device in devices:
        served = "OpenVINO" if device == "cpu" else ""
        print(f"\n{device:<26} {'input':<12}{'training step':>17}{'torch':>17}{served:>17}  ratio")
        for preset in PAPER:
            training = _measured("training", preset, device, tmp_path)
            eager = _measured("eager", preset, device, tmp_path)
            size = "x".join(map(str, _sides(PRESETS[preset])))
            print(f"{preset:<26} {size:<12}{_told(training)}{_told(eager)}", end="")
            if device == "cpu":
                openvino = _measured("openvino", preset, device, tmp_path)
                print(f"{_told(openvino)}{eager['seconds'] / openvino['seconds']:7.1f}", end="")
                assert openvino["shape"] == eager["shape"]
            print(flush=True)
            assert eager["shape"] == [1, PRESETS[preset].classes, *_sides(PRESETS[preset])]


def _told(measured: dict) -> str:
    return f"{measured['seconds']:8.2f} s{measured['peak_mb']:5.0f} MB"


def _sides(spec: NetworkSpec) -> tuple[int, ...]:
    if spec.size:
        return (spec.size,) * 2
    return IMAGE if spec.dimensions == 2 else PATCH


def _measured(what: str, preset: str, device: str, folder: Path) -> dict:
    """What a process of its own prints; eager torch on a CPU also leaves the OpenVINO form."""
    call = [sys.executable, __file__, what, preset, device, str(folder / f"{preset}.xml")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def _fastest(run: Callable[[], object]) -> tuple[float, object]:
    """Seconds of the fastest run after a first one, and what that one gave."""
    given = run()
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH_S:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), given


def _torch(preset: str, device: str, xml: Path, training: bool) -> dict:
    import torch
    from cinelabel.learning.losses import deep_supervision_loss
    from cinelabel.networks import build

    torch.manual_seed(0)
    spec = PRESETS[preset]
    network = build(spec).to(device).train(training)
    images = torch.randn(1, spec.in_channels, *_sides(spec), device=device)
    labels = torch.randint(spec.classes, (1, *_sides(spec)), device=device)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.99, nesterov=True)

    def step() -> float:
        loss = deep_supervision_loss(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    @torch.inference_mode()
    def infer() -> list[int]:
        return list(network(images).cpu().shape)

    seconds, given = _fastest(step if training else infer)
    measured = {"seconds": seconds, "peak_mb": _peak_mb()}
    if device == "cuda":
        measured["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    if not training:
        measured["shape"] = given
        if device == "cpu":
            from cinelabel.models.export import export_openvino

            export_openvino(network, spec, xml, half=True)
    return measured


def _openvino(preset: str, xml: Path) -> dict:
    from cinelabel.models.runtime import openvino_core

    spec = PRESETS[preset]
    compiled = openvino_core().compile_model(xml, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    images = np.random.default_rng(0).standard_normal((1, spec.in_channels, *_sides(spec)))
    images = images.astype(np.float32)
    seconds, _ = _fastest(lambda: request.infer([images]))
    shape = list(request.get_output_tensor(0).data.shape)
    return {"seconds": seconds, "peak_mb": _peak_mb(), "shape": shape}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    what, preset, device, xml = sys.argv[1:]
    if what == "openvino":
        print(json.dumps(_openvino(preset, Path(xml))))
    else:
        print(json.dumps(_torch(preset, device, Path(xml), what == "training")))
