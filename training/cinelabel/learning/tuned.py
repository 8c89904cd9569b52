"""The member that is fine-tuned: how it sees, the batches it learns from, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from cinelabel.core.errors import RunError
from cinelabel.core.labels import STRUCTURES
from cinelabel.learning.config import DataConfig, FinetuneConfig, LossConfig
from cinelabel.learning.corrections import Correction, Examples, read_lessons
from cinelabel.learning.data import Progress, SliceCache
from cinelabel.models.card import MemberCard
from cinelabel.models.store import ModelVersion
from cinelabel.networks.base import Network
from cinelabel.segmentation.passes import softmax
from cinelabel.transforms import Augment, build_augmentation
from cinelabel.transforms.preparation import Preparation
from cinelabel.transforms.preprocess import unit_range

CLASSES = len(STRUCTURES) + 1
TRAINING, VALIDATION = 0, 1
"""Streams of random numbers: the batch of a step, and one beside it to judge a step on."""


@dataclass(frozen=True)
class Tuned:
    """The member that is fine-tuned: what it sees, and how it was trained before.

    Raises:
        RunError: on construction, for a member whose way of seeing is not provided for.
    """

    version: ModelVersion
    card: MemberCard

    def __post_init__(self) -> None:
        seen = self.preparation
        problem = None
        if self.card.role != "segmenter" or self.card.spec.classes != CLASSES:
            problem = "it does not segment the structures"
        elif self.card.spec.dimensions != 2:
            problem = "it learns from stacks, of which readers' labels may be a part"
        elif seen.window != "heart" or seen.normalised_over != "slice" or seen.spacing_mm is None:
            problem = "it does not see the heart slice by slice at one pixel size"
        if problem:
            raise RunError(
                f"the member '{self.card.name}' cannot be fine-tuned: {problem}",
                where=self.version.name,
                remedy="Choose another member",
            )

    @property
    def preparation(self) -> Preparation:
        """What it wants to see."""
        return Preparation.from_dict(self.card.preprocessing)

    @property
    def shown(self) -> Preparation:
        """The same before augmentation, which scales intensities to zero mean and unit spread."""
        return replace(self.preparation, intensity="z-score")

    @property
    def only(self) -> int:
        """The one size of its network, 0 if there is none."""
        return self.card.spec.size or 0

    @property
    def finish(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """What is done to images after augmentation."""
        return unit_range if self.preparation.intensity == "min-max" else None

    @property
    def _pretraining(self) -> dict[str, Any]:
        """The configuration that it was trained with, as far as the card tells."""
        origin = self.version.card.provenance.get("runs", {}).get(self.card.name, {})
        return origin.get("config", {})

    @property
    def augment(self) -> Augment | None:
        """The augmentation of its pre-training."""
        settings = self._pretraining.get("augmentation", {})
        if settings is None:
            return None
        size = self.only or self.preparation.size
        return build_augmentation(settings, (size, size), pixel_mm=self.preparation.spacing_mm)

    @property
    def loss(self) -> LossConfig:
        """The loss of its pre-training."""
        return LossConfig.model_validate(self._pretraining.get("loss", {}))

    @property
    def phantom(self) -> DataConfig:
        """How phantom slices for it are made: as in its pre-training."""
        known = self._pretraining.get("data", {})
        kept = {key: known[key] for key in ("seed", "phantom") if key in known}
        return DataConfig(
            size=self.only or self.preparation.size,
            spacing_mm=self.preparation.spacing_mm,
            **kept,
        )

    def network(self) -> Network:
        """Its network on the CPU, in float32."""
        network = self.version.network(self.card)
        assert isinstance(network, Network)
        return network


class Batch(NamedTuple):
    """Images float32 (b, h, w), labels uint8 (b, h, w), and what they tell, bool (b, classes)."""

    images: np.ndarray
    labels: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class MixedBatches:
    """Batches of a step: slices of readers' labels, then phantom slices.

    Of the readers', a patient is drawn first and then one of the patient's slices, so that a
    patient with many labelled frames does not outweigh the others. A pure function of step and
    stream.
    """

    examples: Examples
    phantoms: SliceCache | None
    config: FinetuneConfig
    augment: Augment | None = None
    finish: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, step: int, stream: int = TRAINING) -> Batch:
        generator = np.random.default_rng((self.config.seed, step, stream))
        size = self.config.batch_size
        replayed = round(self.config.replay * size) if self.phantoms is not None else 0
        replayed = min(replayed, size - 1)
        chosen = self._draw(size - replayed, generator)
        images = self.examples.images[chosen].astype(np.float32)
        labels = self.examples.labels[chosen]
        known = self.examples.known[chosen]
        if replayed and self.phantoms is not None:
            drawn = generator.integers(len(self.phantoms), size=replayed)
            images = np.concatenate([images, self.phantoms.images[drawn].astype(np.float32)])
            labels = np.concatenate([labels, self.phantoms.labels[drawn]])
            known = np.concatenate([known, np.ones((replayed, CLASSES), bool)])
        if self.augment is not None:
            images, labels = self.augment(images, labels, generator)
        return Batch(self.finish(images) if self.finish else images, labels, known)

    def _draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Indices of so many examples."""
        patients = np.unique(self.examples.patients)
        return np.array(
            [
                generator.choice(np.flatnonzero(self.examples.patients == patient))
                for patient in generator.choice(patients, count)
            ]
        )


@dataclass(frozen=True)
class Scores:
    """Dice of held-out patients on their images' own grids, over the slices that teach.

    `patients`: structure -> Dice, a table a patient; structures that a patient's labels do not
    tell are left out. The member alone, without mirroring, in a window round the labelled heart.
    """

    patients: tuple[dict[str, float], ...]

    @property
    def mean(self) -> dict[str, float]:
        """Structure -> mean over the patients that have it."""
        found = {s.name: [p[s.name] for p in self.patients if s.name in p] for s in STRUCTURES}
        return {name: round(float(np.mean(dice)), 5) for name, dice in found.items() if dice}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the mean, and the patients without their names."""
        return {"dice": self.mean, "patients": list(self.patients)}


def score(
    network: nn.Module,
    corrections: Sequence[Correction],
    member: Tuned,
    problems: list[str],
    progress: Progress | None = None,
) -> Scores | None:
    """Dice of a network on the CPU, a patient; None without corrections that can be read."""
    sums: dict[str, np.ndarray] = {}
    network.eval()
    for correction, lesson in read_lessons(corrections, problems, progress, "scoring"):
        crop = lesson.crop(member.preparation, member.only)
        images = member.preparation.prepare(lesson.volume, crop)[lesson.slices]
        with torch.inference_mode():
            logits = network(torch.from_numpy(images)[:, None]).float().numpy()
        found = crop.restore_probabilities(softmax(logits)).argmax(0)
        truth = lesson.labels[:, :, lesson.slices]
        table = sums.setdefault(correction.patient, np.zeros((CLASSES, 2)))
        for value in np.flatnonzero(lesson.known)[1:]:
            ours, theirs = found == value, truth == value
            table[value] += 2 * (ours & theirs).sum(), ours.sum() + theirs.sum()
    if not sums:
        return None
    return Scores(
        tuple(
            {
                s.name: round(float(table[s.value, 0] / table[s.value, 1]), 5)
                for s in STRUCTURES
                if table[s.value, 1]
            }
            for _, table in sorted(sums.items())
        )
    )
