"""The training loop: optimiser steps over a batch source, averaged weights, checkpoints, resume.

Lightning Fabric places the network and chooses the precision. Weights are averaged exponentially
(Polyak averaging as in Tarvainen and Valpola 2017, with their ramp of the decay). The same seed
on the same machine and thread count gives the same weights, also across a kill and a resume.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from cinelabel.core.errors import RunError
from cinelabel.learning.config import OptimiserConfig, TrainConfig
from cinelabel.learning.data import prefetched
from cinelabel.learning.pretrained import OFFSETS
from cinelabel.learning.reporting import Reporter
from cinelabel.learning.run_folder import Checkpoint, MetricsFile, RunFolder
from cinelabel.learning.schedules import learning_rate
from cinelabel.networks.weights import get_weights, on_cpu, set_weights

Batches = Callable[[int], tuple[np.ndarray, np.ndarray]]
Loss = Callable[[Any, torch.Tensor], torch.Tensor]
Validate = Callable[[nn.Module, Fabric], dict[str, float]]


class AveragedWeights:
    """An exponential moving average of a network's weights, in float32 on its device."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = network
        self.average = {name: t.clone() for name, t in get_weights(network).items()}

    def update(self, step: int) -> None:
        """Take in the weights after `step` (0-based); early steps decay faster."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        for name, tensor in get_weights(self.network).items():
            self.average[name].lerp_(tensor, 1 - decay)


@dataclass
class LoopState:
    """What changes while a run goes on."""

    step: int = 0
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)  # of the newest validation ...
    scored_at: int = -1  # ... after this step
    losses: list[float] = field(default_factory=list)


class Interruption:
    """Whether Ctrl-C or SIGTERM has asked to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Take over both signals within the block (in the main thread; elsewhere do nothing)."""
        previous: dict[signal.Signals, Any] = {}

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        def request(number: int, frame: FrameType | None) -> None:
            self.requested = True
            restore()

        with contextlib.suppress(ValueError):  # not the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, request)
        try:
            yield
        finally:
            restore()


def make_fabric(config: TrainConfig) -> Fabric:
    """One device, or those that `torchrun` has started processes for."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    return Fabric(
        accelerator=config.device, devices=local, num_nodes=nodes, precision=config.precision
    )


def make_optimiser(config: OptimiserConfig, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a configuration over all parameters of a network.

    Each group has beside torch's keys a `scale`, by which it multiplies the rate of the schedule;
    where `offsets_lr` is not 1, the offsets of deformable convolutions are a group of their own.
    """
    groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "scale": 1.0}]
    if config.offsets_lr != 1:
        named = [(OFFSETS in name.split("."), p) for name, p in network.named_parameters()]
        groups = [
            {"params": [p for own, p in named if own == offsets], "scale": scale}
            for offsets, scale in ((False, 1.0), (True, config.offsets_lr))
        ]
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


class TrainingLoop:
    """Trains one network in one run folder; `run` returns when all steps are done or asked to.

    batches: step -> images float32 and labels uint8, (b, h, w) of slices or (b, n, h, w) of stacks;
        a pure function.
    loss: (network output, labels int64 on the device) -> scalar.
    validate: (network in evaluation mode with the averaged weights, fabric) -> named scores.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        fabric: Fabric,
        network: nn.Module,
        batches: Batches,
        loss: Loss,
        validate: Validate,
        score_names: list[str],
        reporter: Reporter,
    ) -> None:
        self.config, self.folder, self.fabric = config, folder, fabric
        self.batches, self.loss, self.validate = batches, loss, validate
        self.reporter = reporter
        self.score_names = score_names
        flat = config.network.dimensions == 2
        self.memory_format = torch.channels_last if flat else torch.contiguous_format
        network = network.to(fabric.device).to(memory_format=self.memory_format)
        self.network = network
        self.evaluated = copy.deepcopy(network).eval()
        self.optimiser = make_optimiser(config.optimiser, network)
        if config.compile:
            network.compile()
        self.wrapped, self.fabric_optimiser = fabric.setup(network, self.optimiser)
        self.average = AveragedWeights(network, config.ema)
        self.state = LoopState()
        self.interruption = Interruption()

    @property
    def finished(self) -> bool:
        return self.state.step >= self.config.steps

    def run(self) -> LoopState:
        """Train from the newest checkpoint to the last step; an interruption ends it earlier.

        A checkpoint is always left behind. Raises RunError if the loss stops being a number.
        """
        self._resume()
        state, config = self.state, self.config
        steps = range(state.step, config.steps)
        columns = ["step", "loss", "learning_rate", "slices_per_s", *self.score_names]
        with self.interruption.watched(), _Log(self, columns) as log:
            started, seconds_before = time.perf_counter(), state.seconds
            log.tick()
            for images, labels in prefetched(self.batches, steps):
                rate = self._step(images, labels)
                state.step += 1
                state.seconds = seconds_before + time.perf_counter() - started
                if state.step % config.validate_every == 0 or self.finished:
                    self.score()
                log.after_step(rate)
                stop = self._asked_to_stop()
                if state.step % config.checkpoint_every == 0 or self.finished or stop:
                    self._save()
                if stop:
                    break
        return state

    def _step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One optimiser step; returns its learning rate."""
        config, state = self.config, self.state
        rate = learning_rate(config.schedule, config.optimiser.lr, state.step, config.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        device = self.fabric.device
        inputs = torch.from_numpy(np.ascontiguousarray(images))[:, None].to(device)
        targets = torch.from_numpy(np.ascontiguousarray(labels)).to(device, torch.int64)
        self.wrapped.train()
        self.optimiser.zero_grad(set_to_none=True)
        value = self.loss(
            self.wrapped(inputs.contiguous(memory_format=self.memory_format)), targets
        )
        number = float(value.detach())
        if not np.isfinite(number):
            raise self._diverged()
        self.fabric.backward(value)
        if config.gradient_clip:
            try:
                self.fabric.clip_gradients(
                    self.wrapped, self.fabric_optimiser, max_norm=config.gradient_clip
                )
            except RuntimeError as error:
                if "non-finite" not in str(error):
                    raise
                raise self._diverged() from error
        self.fabric_optimiser.step()
        self.average.update(state.step)
        state.losses.append(number)
        return rate

    def _diverged(self) -> RunError:
        return RunError(
            f"the loss or its gradient is not a number at step {self.state.step + 1}",
            where=self.folder.path,
            remedy="Lower optimiser.lr or use precision 32-true",
        )

    def score(self) -> None:
        """Validate the averaged weights, on the first process alone."""
        self.state.scored_at = self.state.step
        if self.fabric.is_global_zero:
            set_weights(self.evaluated, self.average.average)
            with torch.inference_mode():
                self.state.scores = self.validate(self.evaluated, self.fabric)
            shown = ", ".join(f"{k} {v:.4f}" for k, v in self.state.scores.items())
            self.reporter.note(f"step {self.state.step}: {shown}")
        self.fabric.barrier()

    def _asked_to_stop(self) -> bool:
        if self.fabric.world_size == 1:
            return self.interruption.requested
        asked = torch.tensor(float(self.interruption.requested), device=self.fabric.device)
        return bool(torch.as_tensor(self.fabric.all_reduce(asked, reduce_op="sum")) > 0)

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            self.folder.save_checkpoint(
                Checkpoint(
                    step=self.state.step,
                    seconds=self.state.seconds,
                    weights=on_cpu(get_weights(self.network)),
                    average=on_cpu(self.average.average),
                    optimiser=self.optimiser.state_dict(),
                    random_state=torch.get_rng_state(),
                )
            )
        self.fabric.barrier()

    def _resume(self) -> None:
        if (found := self.folder.latest_checkpoint()) is None:
            return
        set_weights(self.network, found.weights)
        for name, tensor in found.average.items():
            self.average.average[name].copy_(tensor)
        self.optimiser.load_state_dict(found.optimiser)
        torch.set_rng_state(found.random_state)
        self.state.step, self.state.seconds = found.step, found.seconds
        self.reporter.note(f"going on after step {found.step}")


class _Log:
    """Writes metrics.csv and TensorBoard events and moves the progress bar; first process only."""

    def __init__(self, loop: TrainingLoop, columns: list[str]) -> None:
        self.loop, self.columns = loop, columns
        self.active = loop.fabric.is_global_zero
        self.since, self.steps_since, self.rate = 0.0, 0, 0.0

    def __enter__(self) -> _Log:
        if self.active:
            from torch.utils.tensorboard import SummaryWriter

            step = self.loop.state.step
            self.table = MetricsFile(self.loop.folder.metrics_file, self.columns, step)
            where = str(self.loop.folder.path / "tensorboard")
            self.board = SummaryWriter(where, purge_step=step + 1 if step else None)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.active:
            self.board.close()

    def tick(self) -> None:
        """Start measuring the rate anew."""
        self.since, self.steps_since = time.perf_counter(), 0

    def after_step(self, learning_rate: float) -> None:
        """Report the step just done and, when it is due, log the mean since the last time."""
        state, config = self.loop.state, self.loop.config
        if not self.active:
            state.losses.clear()
            return
        self.steps_since += 1
        self.rate = self.steps_since / (time.perf_counter() - self.since)
        scored = state.scored_at == state.step
        due = state.step % config.log_every == 0 or scored or self.loop.finished
        mean_loss = sum(state.losses) / len(state.losses)
        self.loop.reporter.step(state.step, config.steps, mean_loss, learning_rate, self.rate, due)
        if not due:
            return
        slices = self.rate * config.batch_size * (config.data.depth or 1)
        slices *= self.loop.fabric.world_size
        row: dict[str, float] = {"loss": mean_loss, "learning_rate": learning_rate}
        row |= {"slices_per_s": slices, **(state.scores if scored else {})}
        self.table.append({"step": state.step} | {k: float(f"{v:.6g}") for k, v in row.items()})
        for name, value in row.items():
            self.board.add_scalar(name, value, state.step)
        state.losses.clear()
        self.tick()
