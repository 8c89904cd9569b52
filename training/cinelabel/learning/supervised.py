"""Supervised training on labelled slices or stacks: `train` runs or resumes one run folder."""

from __future__ import annotations

import contextlib
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

import cinelabel
from cinelabel.core.errors import RunError
from cinelabel.core.files import sha256
from cinelabel.core.labels import STRUCTURES
from cinelabel.learning.config import TrainConfig
from cinelabel.learning.data import Data, SliceCache, cached_data, open_data
from cinelabel.learning.loop import TrainingLoop, make_fabric
from cinelabel.learning.losses import deep_supervision_loss, example_dice
from cinelabel.learning.pretrained import load_pretrained, require_unseen
from cinelabel.learning.reporting import Reporter
from cinelabel.learning.run_folder import RunFolder
from cinelabel.learning.sampling import Validation
from cinelabel.networks import build
from cinelabel.networks.weights import on_cpu
from cinelabel.transforms import Augment

HEART = "heart"  # what a network of two classes segments


@dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended; `dice` is empty unless the run is finished."""

    run: Path
    step: int
    finished: bool
    dice: dict[str, float]


def score_names(classes: int) -> list[str]:
    """Names of the validation scores of a network with so many classes."""
    names = [s.name for s in STRUCTURES] if classes == len(STRUCTURES) + 1 else [HEART]
    if len(names) != classes - 1:
        names = [f"class_{value}" for value in range(1, classes)]
    return [f"dice_{name}" for name in names]


def train(
    config: TrainConfig,
    run: Path,
    *,
    reporter: Reporter | None = None,
    caches: tuple[SliceCache, SliceCache] | None = None,
    augment: Augment | None = None,
) -> TrainResult:
    """Train, or go on training, the run in folder `run`; a finished run returns at once.

    caches (training, validation) and augment replace those that the configuration asks for.
    Raises RunError if no folder of a data set is given, the run folder belongs to another
    configuration or another process trains in it, or training diverges.
    """
    if config.data.source == "sets" and not config.data.roots:
        raise RunError(
            "no data set is given to learn from",
            where=config.name,
            remedy="Name folders with --data SET=DIR, or in the configuration as data.roots",
        )
    folder = RunFolder(run)
    folder.check(config)
    if folder.finished:
        return _result(folder)
    fabric = _start(config)
    fabric.barrier()  # every process has checked the folder before the first one writes
    lock = folder.alone() if fabric.is_global_zero else contextlib.nullcontext()
    with lock, reporter or Reporter(Console(quiet=not fabric.is_global_zero)) as shown:
        if fabric.is_global_zero:
            folder.begin(config)
        rank = fabric.global_rank
        if caches is not None:
            data = cached_data(config, caches, rank, augment)
        else:
            where = config.data.folder or run.parent / "data"
            with fabric.rank_zero_first():
                data = open_data(config, where, shown.progress, rank, augment)
        if fabric.is_global_zero and data.cases is not None:
            folder.keep_cases(data.cases)
        loop = _build_loop(config, folder, fabric, shown, data)
        state = loop.run()
        if not loop.finished:
            shown.note(f"stopped after step {state.step}; the same command goes on from there")
            return TrainResult(run, state.step, False, {})
        if state.scored_at != state.step:  # killed between the last checkpoint and here
            loop.score()
        if fabric.is_global_zero:
            folder.finish(on_cpu(loop.average.average), _summary(config, loop))
        fabric.barrier()
        return _result(folder)


def _result(folder: RunFolder) -> TrainResult:
    summary = folder.summary()
    return TrainResult(folder.path, summary["steps"], True, summary["dice"])


def _start(config: TrainConfig) -> Fabric:
    """Threads, seed and devices of the run."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    fabric = make_fabric(config)
    fabric.launch()
    return fabric


def _build_loop(
    config: TrainConfig,
    folder: RunFolder,
    fabric: Fabric,
    reporter: Reporter,
    data: Data,
) -> TrainingLoop:
    names = score_names(config.network.classes)
    network = build(config.network)
    if config.pretrained and folder.latest_checkpoint() is None:
        require_unseen(config.pretrained.weights, (data.cases or {}).get("held_out", ()))
        origin = load_pretrained(network, config.pretrained)
        reporter.note(f"starting from {origin['weights']}: {origin['transfer']}")
        if fabric.is_global_zero:
            folder.keep_origin(origin)
    return TrainingLoop(
        config,
        folder,
        fabric,
        network,
        data.training,
        partial(
            deep_supervision_loss,
            dice_weight=config.loss.dice,
            cross_entropy_weight=config.loss.cross_entropy,
        ),
        _validation(data.validation, names),
        names,
        reporter,
    )


def _validation(
    examples: Validation, names: list[str]
) -> Callable[[nn.Module, Fabric], dict[str, float]]:
    """Mean Dice of each structure over the examples that have it, in truth or as predicted."""

    def validate(network: nn.Module, fabric: Fabric) -> dict[str, float]:
        scores = []
        for images, labels in examples:
            with fabric.autocast():
                logits = network(torch.from_numpy(images)[:, None].to(fabric.device))
            truth = torch.from_numpy(labels).to(fabric.device)
            scores.append(example_dice(logits.argmax(1), truth, len(names) + 1))
        means = torch.cat(scores).nanmean(0).nan_to_num(0.0)
        return dict(zip(names, means.tolist(), strict=True))

    return validate


def _summary(config: TrainConfig, loop: TrainingLoop) -> dict[str, Any]:
    scores = loop.state.scores
    origin, cases = loop.folder.origin(), loop.folder.cases()
    return {
        "name": config.name,
        "task": config.data.task,
        "steps": config.steps,
        "seconds": round(loop.state.seconds, 1),
        "dice": {name.removeprefix("dice_"): round(v, 5) for name, v in scores.items()},
        "network": config.network.to_dict(),
        "parameters": sum(p.numel() for p in loop.network.parameters()),
        "seed": config.seed,
        "precision": config.precision,
        "device": str(loop.fabric.device),
        "threads": torch.get_num_threads(),
        **({"pretrained": origin} if origin else {}),
        **({"cases": _counted(cases)} if cases else {}),
        "config_sha256": sha256(loop.folder.config_file),
        "versions": {
            "cinelabel": cinelabel.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _counted(cases: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """How many cases of each set are learned from and held out."""
    return {
        side: dict(Counter(name.split("/", 1)[0] for name in names))
        for side, names in cases.items()
    }
