"""`cinelabel segment` on ED and ES of 10 slices, whole and `--fast`: seconds, steps, peak memory.

Prints tables (pytest -s) and never fails on time. CPU seconds say what a busy machine hides. Beside
it stands one member in eager torch, which is what a user would run without the OpenVINO form.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.models.store import ModelStore
from cinelabel.phantom.cohort import StackGeometry, make_study

REPEATS = 3
GEOMETRY = StackGeometry(size=(224, 208), pixel=1.5, spacing=10.0, thickness=8.0)


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_study(11, frames=2, group="normal", geometry=GEOMETRY)
    path = tmp_path_factory.mktemp("phases") / "phases.nii.gz"
    studies.save_image(path, made.study)
    return path


@pytest.mark.parametrize("options", [[], ["--fast"]], ids=["whole", "fast"])
def test_seconds_and_memory_of_a_whole_process(phases: Path, options: list[str]) -> None:
    code = (
        "import atexit, resource, sys, time; from cinelabel.cli.main import main; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "atexit.register(lambda: print(time.process_time(), peak(), file=sys.stderr)); main()"
    )
    call = ["segment", str(phases), "--output", str(phases.parent / "label.nii.gz"), "--json"]
    best, cpu, peak, record = np.inf, np.inf, 0.0, {}
    for _ in range(REPEATS):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *call, *options],
            capture_output=True,
            check=True,
            text=True,
        )
        if (seconds := time.perf_counter() - start) < best:
            best, record = seconds, json.loads(done.stdout)
        used, held = (float(number) for number in done.stderr.split()[-2:])
        cpu, peak = min(cpu, used), max(peak, held / 1024)
    slices = studies.load(phases).grid.shape[2]
    members = ", ".join(record["members"])
    print(f"\n2 phases of {slices} slices, {record['model']} ({members}), fastest of {REPEATS}")
    print(f"  whole process {best:6.2f} s, {cpu:.2f} CPU seconds, peak {peak:.0f} MB")
    for step, spent in record["timings_s"].items():
        print(f"  {step:<12} {spent:7.3f} s")
    for name, cost in record["members"].items():
        print(f"  {name:<28} {cost['seconds']:7.3f} s")
    assert record["heart_found"]


def test_openvino_beside_eager_torch() -> None:
    torch = pytest.importorskip("torch")
    from cinelabel.segmentation.backend import load_backend

    version = ModelStore().load()
    member = next(m for m in version.card.members if m.role == "segmenter")
    images = np.random.default_rng(0).normal(size=(10, 1, 128, 128)).astype(np.float32)
    network = version.network(member).eval()
    served = load_backend(version, member, "cpu")

    def eager(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    def fastest(run) -> float:
        run(images)
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            run(images)
            times.append(time.perf_counter() - start)
        return min(times)

    slow, fast = fastest(eager), fastest(served)
    same = np.mean(eager(images).argmax(1) == served(images).argmax(1))
    print(f"\n10 slices of 128x128: eager torch {slow:.3f} s, OpenVINO {fast:.3f} s, ", end="")
    print(f"ratio {slow / fast:.1f}, same label {same:.4f}")
    assert same > 0.98
