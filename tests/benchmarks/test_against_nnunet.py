"""ED and ES of one study on two cores beside nnU-Net's own predictor; prints a table (pytest -s).

nnU-Net predicts with the architecture and the weights of the bundled plain 2D member, at its pixel
size and patch, with mirroring: once the whole image, as nnU-Net does, and once the member's window
round the heart, prepared as for the member, where both do the same and must agree. Every row is a
process of its own. It never fails on time, and is skipped without the extra `benchmark`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.labels import STRUCTURES
from cinelabel.models.card import MemberCard
from cinelabel.models.store import ModelStore, ModelVersion
from cinelabel.networks.specs import NetworkSpec
from cinelabel.phantom.cohort import StackGeometry, make_study
from cinelabel.transforms.preparation import Preparation, heart_centre

CORES = 2
REPEATS, ENOUGH_S = 3, 20.0
"""A row is repeated, unless the first time took long."""
GEOMETRY = StackGeometry(size=(208, 224), pixel=1.4, spacing=10.0, thickness=8.0)
MEASURED = {"seconds": "s", "cpu_seconds": "CPU s", "peak_mb": "MB"}
"""What is compared, and its unit; on a machine that is busy, CPU seconds tell more."""
OURS_MIRRORED, OURS_FAST, WHOLE_IMAGE, WINDOW = "mirrored", "--fast", "whole image", "window"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of ED and ES with its truth, and the prepared windows of the plain 2D member."""
    pytest.importorskip("nnunetv2")
    where = tmp_path_factory.mktemp("study")
    made = make_study(3, frames=3, group="normal", geometry=GEOMETRY)
    phases = [made.study.ed, made.study.es]
    assert made.study.frames.shape[2] == 10
    studies.save_image(where / "study.nii.gz", made.study)
    _, member = plain_member()
    preparation = Preparation.from_dict(member.preprocessing)
    centre = heart_centre(made.labels[..., phases[0]])
    crop = preparation.crop(made.study.grid, centre)
    windows = [preparation.prepare(made.study.frame(t), crop) for t in phases]
    truth = made.labels[..., phases]
    np.savez(where / "known.npz", phases=phases, truth=truth, windows=np.array(windows))
    return where


def plain_member() -> tuple[ModelVersion, MemberCard]:
    """The 2D nnU-Net without deformable convolutions, of the version in use or else of another."""
    store = ModelStore()
    for name in [store.current(), *reversed(store.versions())]:
        version = store.load(name)
        for member in version.card.members:
            spec = member.spec
            plain = spec.family == "nnunet2d" and not spec.deformable_bottleneck
            if member.role == "segmenter" and plain:
                return version, member
    raise LookupError("no bundled version has a plain 2D nnU-Net")


def test_seconds_and_memory_beside_the_predictor_of_nnunet(folder: Path) -> None:
    known = np.load(folder / "known.npz")
    rows: dict[str, dict[str, Any]] = {}
    for name in filter(ModelStore().is_bundled, ModelStore().versions()):
        for manner in (OURS_MIRRORED, OURS_FAST):
            rows[f"{name}, {manner}"] = in_a_process(folder, name, manner)
    for source in (WHOLE_IMAGE, WINDOW):
        rows[f"nnU-Net, {source}"] = in_a_process(folder, "nnU-Net", source)
    reference = rows[f"nnU-Net, {WHOLE_IMAGE}"]
    version, member = plain_member()
    title = f"ED and ES, 2 x 10 slices, {CORES} cores; nnU-Net with the weights of"
    print(f"\n{title} {version.name}/{member.name}")
    head = [f"{name:>8}" for name in (*MEASURED.values(), *("ratio",) * len(MEASURED))]
    print(f"{'':<34}{''.join(head)}  Dice with truth")
    for label, row in rows.items():
        scores = ""
        if label != f"nnU-Net, {WINDOW}":
            scores = "/".join(f"{d:.3f}" for d in dice(np.load(row["labels"]), known["truth"]))
        values = "".join(f"{row[name]:8.2f}" for name in MEASURED)
        ratios = "".join(f"{row[name] / reference[name]:8.3f}" for name in MEASURED)
        print(f"{label:<34}{values}{ratios}  {scores}")
    theirs = np.load(rows[f"nnU-Net, {WINDOW}"]["labels"])
    same = dice(ours_on_windows(known["windows"]), theirs)
    print("same windows, ours with nnU-Net's: Dice " + "/".join(f"{d:.4f}" for d in same))
    assert min(same) > 0.99


def in_a_process(folder: Path, who: str, how: str) -> dict[str, Any]:
    """What a child process reports of a row: seconds, peak memory, a file of labels."""
    threads = {name: str(CORES) for name in ("OMP_NUM_THREADS", "nnUNet_def_n_proc")}
    threads["OMP_WAIT_POLICY"] = "passive"  # torch's threads that wait would burn a busy machine
    done = subprocess.run(
        [sys.executable, __file__, str(folder), who, how],
        capture_output=True,
        text=True,
        env={**os.environ, **threads},
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def dice(one: np.ndarray, other: np.ndarray) -> list[float]:
    """Dice of each structure."""
    pairs = [(one == s.value, other == s.value) for s in STRUCTURES]
    return [2 * float((a & b).sum()) / float(a.sum() + b.sum()) for a, b in pairs]


def ours_on_windows(windows: np.ndarray) -> np.ndarray:
    """The plain member's labels of prepared windows (phases, n, h, w), with mirroring."""
    from cinelabel.segmentation.backend import load_backend
    from cinelabel.segmentation.passes import slice_probabilities, views

    version, member = plain_member()
    network = load_backend(version, member, "cpu")
    maps = [slice_probabilities(network, phase, views(2, True, False)) for phase in windows]
    return np.stack([each.argmax(1) for each in maps])


# What a child process does


def run(folder: Path, who: str, how: str) -> None:
    """Time one row, keep its labels, and print a line of JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    known = np.load(folder / "known.npz")
    if who != "nnU-Net":
        segment = prepare_ours(folder, who, how, known["phases"].tolist())
    else:
        segment = prepare_nnunet(folder, how, known)
    seconds, cpu_seconds = [], []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH_S:
        start, cpu_start = time.perf_counter(), time.process_time()
        labels = segment()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    path = folder / f"{who}-{how}.npy".replace(" ", "-")
    np.save(path, labels)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"seconds": min(seconds), "cpu_seconds": min(cpu_seconds), "peak_mb": peak}
    print(json.dumps({**result, "labels": str(path)}))


def prepare_ours(
    folder: Path, version: str, manner: str, phases: list[int]
) -> Callable[[], np.ndarray]:
    """The segmenter of a version, ready."""
    from cinelabel.segmentation import Segmenter

    segmenter = Segmenter.load(version, device="cpu")
    study = studies.load(folder / "study.nii.gz")
    fast = manner == OURS_FAST
    return lambda: segmenter.segment(study, frames=phases, fast=fast).labels[..., phases]


def prepare_nnunet(folder: Path, source: str, known: Any) -> Callable[[], np.ndarray]:
    """nnU-Net's predictor with the member's weights, ready: slices first, as it wants them."""
    predictor, spacing = nnunet_predictor()
    if source == WINDOW:
        volumes, through = list(known["windows"]), GEOMETRY.spacing
        sizes = (through, spacing, spacing)
    else:
        study = studies.load(folder / "study.nii.gz")
        volumes = [study.frame(t).transpose(2, 0, 1) for t in known["phases"]]
        sizes = tuple(study.grid.spacing[axis] for axis in (2, 0, 1))

    def segment() -> np.ndarray:
        found = [
            predictor.predict_single_npy_array(volume[None].astype(np.float32), {"spacing": sizes})
            for volume in volumes
        ]
        if source == WINDOW:
            return np.stack(found)
        return np.stack([labels.transpose(1, 2, 0) for labels in found], axis=-1)

    return segment


def nnunet_predictor() -> tuple[Any, float]:
    """nnU-Net's predictor with the plain member, built from plans, and the member's pixel size."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.set_num_threads(CORES)
    version, member = plain_member()
    preparation = Preparation.from_dict(member.preprocessing)
    assert preparation.spacing_mm is not None
    plans = PlansManager(nnunet_plans(member.spec, preparation.spacing_mm, preparation.size))
    configuration = plans.get_configuration("2d")
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        member.spec.in_channels,
        member.spec.classes,
        deep_supervision=False,
    )
    weights = version.network(member).unet.state_dict()
    network.load_state_dict(weights)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    labels = {"background": 0, **{s.name: s.value for s in STRUCTURES}}
    predictor.manual_initialization(
        network.eval(),
        plans,
        configuration,
        [weights],
        {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"},
        "nnUNetTrainer",
        (0, 1),
    )
    return predictor, preparation.spacing_mm


def nnunet_plans(spec: NetworkSpec, spacing_mm: float, size: int) -> dict[str, Any]:
    """Plans as nnU-Net's planner writes them for a 2D network of our specification."""
    stages = len(spec.features)
    resampling = "resample_data_or_seg_to_shape"

    def resample(is_seg: bool, order: int) -> dict[str, Any]:
        return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}

    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(spec.features),
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "kernel_sizes": [[3, 3]] * stages,
            "strides": [[1, 1], *[[2, 2]] * (stages - 1)],
            "n_conv_per_stage": [spec.convs_per_stage] * stages,
            "n_conv_per_stage_decoder": [spec.decoder_convs_per_stage] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 12,
        "patch_size": [size, size],
        "spacing": [spacing_mm, spacing_mm],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": resample(False, 3),
        "resampling_fn_seg": resampling,
        "resampling_fn_seg_kwargs": resample(True, 1),
        "resampling_fn_probabilities": resampling,
        "resampling_fn_probabilities_kwargs": resample(False, 1),
        "architecture": architecture,
        "batch_dice": True,
    }
    return {
        "dataset_name": "Dataset001_Phantom",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"2d": configuration},
    }


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
