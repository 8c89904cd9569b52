"""Fine-tuning: members of a model version learn from readers' labels; a candidate comes of it.

`finetune` runs, or goes on with, one run folder. Every batch holds phantoms beside the readers'
slices (replay, against forgetting), augmented as the member was in pre-training. The candidate
keeps the locator and the other members of its parent, and is not put in use. Its card tells the
Dice of held-out patients and of phantoms before and after, and what was decided (`decision`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cinelabel
from cinelabel.core.errors import InputError, OutputError, RunError
from cinelabel.core.files import write_json, write_text
from cinelabel.learning import config as configuration
from cinelabel.learning.challenge import open_cohort, score_cohort
from cinelabel.learning.config import OPERATIONAL, FinetuneConfig
from cinelabel.learning.corrections import (
    Correction,
    Examples,
    judging_frames,
    read_examples,
)
from cinelabel.learning.data import Progress, SliceCache, open_cache, prefetched
from cinelabel.learning.decision import decide
from cinelabel.learning.judging import Scores, draft_of, score_version, without_moved
from cinelabel.learning.loop import AveragedWeights, Interruption
from cinelabel.learning.losses import deep_supervision_loss, marginal_logits
from cinelabel.learning.metalr import Forward, Objective
from cinelabel.learning.publication import publish_candidate
from cinelabel.learning.rates import draw_rates
from cinelabel.learning.rivals import METHODS
from cinelabel.learning.run_folder import Checkpoint, MetricsFile, RunFolder
from cinelabel.learning.tuned import (
    CLASSES,
    VALIDATION,
    Batch,
    MixedBatches,
    Tuned,
    judging_patients,
)
from cinelabel.models.store import ModelStore, ModelVersion
from cinelabel.networks.base import Network
from cinelabel.networks.weights import get_weights, on_cpu, set_weights
from cinelabel.segmentation.backend import choose_device

logger = logging.getLogger(__name__)

PLAN_FILE = "finetuning.json"
DRAFT = ".draft"  # hidden: members have folders of their names beside it
FIGURES = "figures"


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        stage: what is done now, in words.
        done, total: of this stage.
        loss: of the newest step.
        rates: learning rate of each layer group in it.
        seconds: of all steps so far.
        seconds_left: of the steps to come, None when not known.
        dice: mean of the held-out patients, before fine-tuning, and after it at the end.
        member: that learns.
    """

    stage: str
    done: int = 0
    total: int = 0
    loss: float | None = None
    rates: Mapping[str, float] | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    dice: Mapping[str, float] | None = None
    member: str | None = None


Report = Callable[[State], None]


@dataclass(frozen=True)
class FinetuneResult:
    """How a call of `finetune` ended; `version` is the candidate of a finished run.

    `outcome` and `reasons` are what `learning.decision` would do with it, and why.
    """

    run: Path
    step: int
    version: str | None = None
    before: Mapping[str, float] | None = None
    after: Mapping[str, float] | None = None
    outcome: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run was begun with, kept in its folder.

    `id` tells its candidate from those of other runs; plans of earlier versions have none.
    """

    parent: str
    members: tuple[str, ...]
    training: tuple[Correction, ...]
    held_out: tuple[Correction, ...]
    id: str | None = None


def finetune(
    config: FinetuneConfig,
    run: Path,
    corrections: Sequence[Correction],
    held_out: Collection[str],
    *,
    cache: Path,
    store: ModelStore | None = None,
    report: Report | None = None,
    stop: Callable[[], bool] | None = None,
) -> FinetuneResult:
    """Fine-tune members, or go on with the run in folder `run`, and publish the candidate.

    Several members learn one after another, each in a folder of its own name within `run`; they
    are judged by their average.

    Args:
        config: of the run.
        run: its folder. A run goes on with the labels that it was begun with; one that is
            finished gives its result again, for these labels alone.
        corrections: all there are.
        held_out: patients that only judge.
        cache: folder of phantom slices, which runs share.
        store: of the models.
        report: told how far the run is.
        stop: asked after every step whether to leave off with a checkpoint; without it, Ctrl-C
            and SIGTERM ask for that.

    Raises:
        RunError: too few slices, a member that cannot be fine-tuned, a folder of another run or of
            one that is finished with other labels, or a loss that is not a number.
        ModelError: for an unknown or damaged version or member, and as `ModelStore.publish`.
        InputError, OutputError: naming a file.
    """
    store, report = store or ModelStore(), report or (lambda state: None)

    def progress(done: int, total: int, what: str) -> None:
        report(State(what, done, total))

    if config.threads:
        torch.set_num_threads(config.threads)
    folder = RunFolder(run)
    with folder.alone():
        _require_same(folder, config)
        if folder.finished:
            _require_same_labels(folder, _sides(config, corrections, held_out))
            return _result(folder)
        plan = _begin(folder, config, _sides(config, corrections, held_out), store)
        parent = store.load(plan.parent)
        members = [Tuned(parent, parent.member(name)) for name in plan.members]
        problems: list[str] = []
        teaching, judging = (
            without_moved(parent, side, problems, device=config.device, progress=progress)
            for side in (plan.training, plan.held_out)
        )
        examples = [
            read_examples(teaching, member.shown, member.only, problems, progress)
            for member in members
        ]
        judges = _Judges(config, members, judging, cache, problems, progress)
        before = judges.judge(parent, [member.network() for member in members])
        trained: list[Trained] = []
        for member, known in zip(members, examples, strict=True):
            where = RunFolder(run / member.card.name) if len(members) > 1 else folder
            part = Part(member, known, len(trained), len(members), before.mean)
            made = _train(config, where, part, cache, report, stop)
            if not made.finished:
                return FinetuneResult(run, made.steps, before=before.mean)
            if where is not folder and not where.finished:
                where.finish(dict(made.weights), made.facts)
            trained.append(made)
        weights = {name: made.weights for name, made in zip(plan.members, trained, strict=True)}
        tuned = [_with(member.network(), weights[member.card.name]) for member in members]
        with draft_of(parent, weights, run / DRAFT) as draft:
            after = judges.judge(draft, tuned)
        seconds = sum(made.seconds for made in trained)
        report(State("publishing", 0, 1, seconds=seconds, dice=after.mean))
        scores = {
            "before": _told(before.scores),
            "after": _told(after.scores),
            "phantoms": {
                "count": config.decision.phantoms,
                "before": before.phantom,
                "after": after.phantom,
            },
            "decision": decide(
                before.patients, after.patients, before.phantom, after.phantom, config.decision
            ).to_dict(),
        }
        facts = {
            "steps": sum(made.steps for made in trained),
            "seconds": round(seconds, 1),
            "learned_from": _counted(teaching) | {"slices": examples[0].slice_count},
            "held_out": _counted(judging) if judging else None,
        }
        version = publish_candidate(store, parent, weights, _step(config, plan, facts), scores)
        names = {"name": config.name, "version": version}
        left_out = {"problems": list(dict.fromkeys(problems))}
        folder.finish(_together(weights), {**names, **facts, **scores, **left_out})
        return _result(folder)


@dataclass(frozen=True)
class _Judged:
    """Dice of a version of held-out patients, None without any; and of its members of phantoms."""

    scores: Scores | None
    phantom: Mapping[str, float]

    @property
    def mean(self) -> Mapping[str, float] | None:
        return self.scores.mean if self.scores else None

    @property
    def patients(self) -> Sequence[Mapping[str, float]]:
        return self.scores.patients if self.scores else ()


class _Judges:
    """What a version is judged by before and after: held-out patients, and phantoms."""

    def __init__(
        self,
        config: FinetuneConfig,
        members: Sequence[Tuned],
        held_out: Sequence[Correction],
        cache: Path,
        problems: list[str],
        progress: Progress,
    ) -> None:
        self.members, self.held_out, self.device = members, held_out, config.device
        self.problems, self.progress = problems, progress
        count = config.decision.phantoms
        self.cohorts = [open_cohort(m.phantom, count, cache, progress) for m in members]

    def judge(self, version: ModelVersion, networks: Sequence[Network]) -> _Judged:
        """Score a version, and the networks of the members that are tuned, in their order."""
        phantom = {}
        for network, member, cohort in zip(networks, self.members, self.cohorts, strict=True):
            of = f" ({member.card.name})" if len(self.members) > 1 else ""
            dice = score_cohort(network, cohort, member.finish)
            phantom.update({f"{name}{of}": value for name, value in dice.items()})
        scores = score_version(
            version, self.held_out, self.problems, device=self.device, progress=self.progress
        )
        return _Judged(scores, phantom)


def _with(network: Network, weights: Mapping[str, torch.Tensor]) -> Network:
    set_weights(network, dict(weights))
    return network


def _together(weights: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The weights of one member; of several, each name behind that of its member."""
    if len(weights) == 1:
        return dict(next(iter(weights.values())))
    return {f"{m}.{name}": tensor for m, own in weights.items() for name, tensor in own.items()}


@dataclass(frozen=True, eq=False)
class Trained:
    """What `tune` made: averaged weights on the CPU, after so many steps and seconds of steps.

    `finished` is False where it was asked to stop and has more to do.
    """

    weights: Mapping[str, torch.Tensor]
    steps: int
    seconds: float
    finished: bool = True

    @property
    def facts(self) -> dict[str, Any]:
        """Numbers for a summary."""
        return {"steps": self.steps, "seconds": round(self.seconds, 1)}


@dataclass(frozen=True, eq=False)
class Part:
    """One member's part of a run, the `index`-th of `count`; `dice` as in `State`."""

    member: Tuned
    examples: Examples
    index: int = 0
    count: int = 1
    dice: Mapping[str, float] | None = None


def tune(
    config: FinetuneConfig,
    run: Path,
    member: Tuned,
    examples: Examples,
    *,
    cache: Path,
    report: Report | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trained | None:
    """Tune a member on examples, or go on with the run in folder `run`; nothing is published.

    The examples are those that the run was begun with: the caller sees to it. Loss and rates of
    every step are in metrics.csv of the folder. Arguments as in `finetune`; None when asked to
    stop.

    Raises:
        RunError: a folder of another run, or a loss that is not a number.
        OutputError: naming a file.
    """
    report = report or (lambda state: None)
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = RunFolder(run)
    with folder.alone():
        _require_same(folder, config)
        if not folder.finished:
            write_text(folder.config_file, config.to_yaml())
        made = _train(config, folder, Part(member, examples), cache, report, stop)
        if not made.finished:
            return None
        if not folder.finished:
            folder.finish(dict(made.weights), made.facts)
        return made


def _train(
    config: FinetuneConfig,
    folder: RunFolder,
    part: Part,
    cache: Path,
    report: Report,
    stop: Callable[[], bool] | None,
) -> Trained:
    """Take the steps of a member that the folder does not have yet."""
    if folder.finished:
        summary = folder.summary()
        return Trained(folder.weights(), summary["steps"], summary["seconds"])
    member = part.member
    phantoms = _phantoms(
        config, member, cache, lambda done, total, what: report(State(what, done, total))
    )
    torch.manual_seed(config.seed)
    judges = judging_patients(part.examples, config)
    batches = MixedBatches(part.examples, phantoms, config, member.augment, member.finish, judges)
    loop = _Loop(config, folder, part, batches, report)
    finished = loop.run(stop)
    _draw_rates(folder, f"{member.card.name}, {config.method}")
    return Trained(on_cpu(loop.average.average), loop.step, loop.seconds, finished)


def _draw_rates(folder: RunFolder, title: str) -> None:
    """Draw the rates of a run; it does not fail where that cannot be done."""
    try:
        draw_rates(folder.metrics_file, folder.path / FIGURES, title)
    except (InputError, OutputError, ValueError) as error:  # matplotlib's, of what cannot be shown
        logger.warning("the figures of the learning rates are missing: %s", error)


class _Loop:
    """The steps of a run: resumes from the newest checkpoint and leaves one behind."""

    def __init__(
        self,
        config: FinetuneConfig,
        folder: RunFolder,
        part: Part,
        batches: MixedBatches,
        report: Report,
    ) -> None:
        self.config, self.folder, self.batches = config, folder, batches
        self.part, self.weighing, self.report = part, part.member.loss, report
        self.device = torch.device(choose_device(config.device))
        self.mixed = _computes_in_bfloat16(config.precision, self.device)
        self.flat = part.member.card.spec.dimensions == 2
        network = part.member.network().to(self.device)
        self.network = (
            network.to(memory_format=torch.channels_last) if self.flat else network
        ).train()
        self.method = METHODS[config.method](self.network, config)
        self.average = AveragedWeights(self.network, config.ema)
        self.settled = self._copied_average()
        self.step, self.seconds = 0, 0.0

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the time is over."""
        return self.step >= self.config.steps or self.seconds >= 60 * self.config.minutes

    def run(self, stop: Callable[[], bool] | None) -> bool:
        """Take steps until the end, or until asked to stop; True at the end."""
        self._resume()
        interruption = Interruption()
        started, before, first = time.perf_counter(), self.seconds, self.step
        rates = [f"rate_{group}" for group in self.method.groups]
        table = MetricsFile(
            self.folder.metrics_file, ["step", "loss", "seconds", *rates], self.step
        )
        steps = range(self.step, 0 if self.finished else self.config.steps)
        with interruption.watched() if stop is None else contextlib.nullcontext():
            for training, validation in prefetched(self._pair, steps):
                judged = self.objective(validation) if validation is not None else None
                taken = self.method.step(self.objective(training), judged)
                self._take_in(taken.kept)
                self.step += 1
                self.seconds = before + time.perf_counter() - started
                each = (self.seconds - before) / (self.step - first)
                shown = {f"rate_{group}": rate for group, rate in taken.rates.items()}
                row = {"loss": taken.loss, "seconds": self.seconds, **shown}
                table.append({"step": self.step} | {k: float(f"{v:.6g}") for k, v in row.items()})
                self.report(self._state(taken.loss, taken.rates, each))
                stopped = interruption.requested or (stop is not None and stop())
                if self.finished or stopped or self.step % self.config.checkpoint_every == 0:
                    self._save()
                if self.finished or stopped:
                    break
        self.network.eval()
        return self.finished

    def _take_in(self, kept: bool | None) -> None:
        """Average the newest weights in, and out again what the method has taken back."""
        if kept is False:
            self._set_average(self.settled)
            return
        self.average.update(self.step)
        if kept:
            self.settled = self._copied_average()

    def _copied_average(self) -> dict[str, torch.Tensor]:
        """The average as it is now, for a method that may take later steps back."""
        average = self.average.average if self.method.takes_back else {}
        return {name: tensor.clone() for name, tensor in average.items()}

    def _set_average(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in weights.items():
            self.average.average[name].copy_(tensor)

    def objective(self, batch: Batch) -> Objective:
        """The loss of a batch, whatever network labels it."""
        images = torch.from_numpy(np.ascontiguousarray(batch.images))[:, None].to(self.device)
        if self.flat:
            images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(np.ascontiguousarray(batch.labels)).to(self.device, torch.int64)
        known = torch.from_numpy(batch.known).to(self.device)

        def loss(forward: Forward) -> torch.Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                logits = forward(images)
            levels = [logits] if isinstance(logits, torch.Tensor) else list(logits)
            if not batch.known.all():
                levels = [marginal_logits(level.float(), known) for level in levels]
            return deep_supervision_loss(
                levels,
                labels,
                dice_weight=self.weighing.dice,
                cross_entropy_weight=self.weighing.cross_entropy,
            )

        return loss

    def _pair(self, step: int) -> tuple[Batch, Batch | None]:
        judged = self.batches(step, VALIDATION) if self.method.validates else None
        return self.batches(step), judged

    def _state(self, loss: float, rates: Mapping[str, float], each: float) -> State:
        steps, limit, others = self.config.steps, 60 * self.config.minutes, self.part.count - 1
        left = min((steps - self.step) * each, limit - self.seconds)
        left = max(0.0, left) + (others - self.part.index) * min(steps * each, limit)
        return State(
            stage="learning",
            done=self.part.index * steps + self.step,
            total=self.part.count * steps,
            loss=loss,
            rates=rates,
            seconds=self.seconds,
            seconds_left=left,
            dice=self.part.dice,
            member=self.part.member.card.name,
        )

    def _save(self) -> None:
        self.folder.save_checkpoint(
            Checkpoint(
                step=self.step,
                seconds=self.seconds,
                weights=on_cpu(get_weights(self.network)),
                average=on_cpu(self.average.average),
                optimiser={"method": self.method.state_dict(), "settled": on_cpu(self.settled)},
                random_state=torch.get_rng_state(),
            )
        )

    def _resume(self) -> None:
        if (found := self.folder.latest_checkpoint()) is None:
            return
        if "settled" not in found.optimiser:
            raise RunError(
                "the checkpoint is of an earlier version, which did not keep all that is needed",
                where=self.folder.path,
                remedy="Begin the run again, in another folder",
            )
        set_weights(self.network, found.weights)
        self._set_average(found.average)
        self.method.load_state_dict(found.optimiser["method"])
        for name, tensor in found.optimiser["settled"].items():
            self.settled[name].copy_(tensor)
        torch.set_rng_state(found.random_state)
        self.step, self.seconds = found.step, found.seconds


def _computes_in_bfloat16(precision: str, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bf16-mixed"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    units = torch.cpu.get_capabilities()
    return bool(units.get("avx512_bf16") or units.get("amx_bf16"))


def _sides(
    config: FinetuneConfig, corrections: Sequence[Correction], held_out: Collection[str]
) -> dict[str, tuple[Correction, ...]]:
    """Which corrections train, and which judge."""
    judging = [c for c in corrections if c.patient in held_out]
    return {
        "training": tuple(c for c in corrections if c.patient not in held_out),
        "held_out": judging_frames(judging, config.judged_frames),
    }


def _begin(
    folder: RunFolder,
    config: FinetuneConfig,
    sides: Mapping[str, tuple[Correction, ...]],
    store: ModelStore,
) -> Plan:
    """The plan of a run, kept since it was begun, or made now. Raises RunError, ModelError."""
    file = folder.path / PLAN_FILE
    if file.exists():
        return read_plan(file)
    parent = store.load(config.model)
    segmenters = [m.name for m in parent.card.members if m.role == "segmenter"]
    members = config.members or (parent.card.fast or next(iter(segmenters), ""),)
    for member in members:
        Tuned(parent, parent.member(member))
    plan = Plan(parent.name, members, **sides, id=secrets.token_hex(16))
    write_text(folder.config_file, config.to_yaml())
    names = {"id": plan.id, "parent": plan.parent, "members": list(plan.members)}
    labels = {side: [c.to_dict() for c in of_side] for side, of_side in sides.items()}
    write_json(file, names | labels)
    return plan


def _require_same(folder: RunFolder, config: FinetuneConfig) -> None:
    """Raise RunError where the folder holds a run of another configuration."""
    if not folder.config_file.exists():
        return
    kept = configuration.read_yaml(folder.config_file)
    before = configuration.parse_finetuning(kept, folder.config_file)
    if difference := configuration.first_difference(before, config):
        key, old, new = difference
        raise RunError(
            f"the run was begun with {key} = {old}, not {new}",
            where=folder.path,
            remedy="Use another run folder, or the configuration in its config.yaml",
        )


def _require_same_labels(folder: RunFolder, sides: Mapping[str, Sequence[Correction]]) -> None:
    """Raise RunError where a finished run was begun with other labels, naming the first."""
    plan = read_plan(folder.path / PLAN_FILE)
    for side, corrections in sides.items():
        before = {c.image: _wherever_it_lies(c) for c in getattr(plan, side)}
        now = {c.image: _wherever_it_lies(c) for c in corrections}
        for image in sorted({*before, *now}):
            if before.get(image) != now.get(image):
                how = "new" if image not in before else "changed" if image in now else "gone"
                raise RunError(
                    f"the run is finished and was begun with other labels: {image} is {how}",
                    where=folder.path,
                    remedy="Use another name or run folder to learn from the labels there are now",
                )


def _wherever_it_lies(correction: Correction) -> Correction:
    return replace(correction, image_file=Path(), label_file=Path())


def read_plan(file: Path) -> Plan:
    """The plan that a run was begun with. Raises RunError for what is none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        sides = {
            side: tuple(map(Correction.from_dict, values[side]))
            for side in ("training", "held_out")
        }
        return Plan(values["parent"], tuple(values["members"]), **sides, id=values.get("id"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError("this is no plan of a fine-tuning run", where=file) from error


def _phantoms(
    config: FinetuneConfig, member: Tuned, cache: Path, progress: Progress
) -> SliceCache | None:
    if not config.replay:
        return None
    data = member.phantom
    count, workers = config.replay_count, config.workers
    return open_cache(data, count, data.seed, data.phantom, cache, workers, CLASSES, progress)


def _counted(corrections: Sequence[Correction]) -> dict[str, int]:
    return {"patients": len({c.patient for c in corrections}), "frames": len(corrections)}


def _told(scores: Scores | None) -> dict[str, Any] | None:
    return scores.to_dict() if scores else None


def _step(config: FinetuneConfig, plan: Plan, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the card tells of a run."""
    versions = {
        "cinelabel": cinelabel.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    return {
        "run": config.name,
        "id": plan.id,
        "from": plan.parent,
        "config": config.model_dump(mode="json", exclude=set(OPERATIONAL)),
        "result": {**facts, "versions": versions},
    }


def _result(folder: RunFolder) -> FinetuneResult:
    summary = folder.summary()
    before, after = (
        summary[side]["dice"] if summary[side] else None for side in ("before", "after")
    )
    decided = summary["decision"]
    return FinetuneResult(
        folder.path,
        summary["steps"],
        summary["version"],
        before,
        after,
        decided["outcome"],
        tuple(decided["reasons"]),
    )
