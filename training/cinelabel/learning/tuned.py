"""The member that is fine-tuned: how it sees, and the batches it learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.core.labels import STRUCTURES
from cinelabel.learning.config import DataConfig, FinetuneConfig, LossConfig
from cinelabel.learning.corrections import UNTOLD, Examples
from cinelabel.learning.data import SliceCache
from cinelabel.models.card import MemberCard
from cinelabel.models.store import ModelVersion
from cinelabel.networks.base import Network
from cinelabel.transforms import Augment, build_augmentation
from cinelabel.transforms.preparation import Preparation
from cinelabel.transforms.preprocess import unit_range

CLASSES = len(STRUCTURES) + 1
TRAINING, VALIDATION = 0, 1
"""Streams of random numbers: the batch of a step, and one beside it to judge a step on."""
OWN_PIXELS_MM = 1.4
"""Of phantoms for a member that sees images in their own pixels: the middle of ACDC's."""
JUDGING_SHARE = 0.2


@dataclass(frozen=True)
class Tuned:
    """The member that is fine-tuned: what it sees, and how it was trained before.

    Raises:
        RunError: on construction, for a member whose way of seeing is not provided for.
    """

    version: ModelVersion
    card: MemberCard

    def __post_init__(self) -> None:
        seen, spec = self.preparation, self.card.spec
        problem = None
        if self.card.role != "segmenter" or spec.classes != CLASSES:
            problem = "it does not segment the structures"
        elif (spec.dimensions == 3) != (seen.depth is not None):
            problem = "its card does not tell of how many slices it sees"
        elif seen.normalised_over == "volume" and seen.intensity == "min-max":
            problem = "the range of a whole volume is unknown to its parts"
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
        """The augmentation of its pre-training, or that which fits how it sees."""
        seen = self.preparation
        fitting = {} if seen.normalised_over == "slice" else {"kind": "nnunet"}
        settings = self._pretraining.get("augmentation", fitting)
        if settings is None:
            return None
        size = self.only or seen.size
        patch = (size, size) if seen.depth is None else (seen.depth, size, size)
        return build_augmentation(settings, patch, pixel_mm=seen.spacing_mm)

    @property
    def loss(self) -> LossConfig:
        """The loss of its pre-training."""
        return LossConfig.model_validate(self._pretraining.get("loss", {}))

    @property
    def phantom(self) -> DataConfig:
        """How phantoms for it are made: as in its pre-training, always round the heart.

        Single slices have no volume; they are normalised by themselves.
        """
        seen = self.preparation
        known = self._pretraining.get("data", {})
        kept = {key: known[key] for key in ("seed", "phantom") if key in known}
        return DataConfig(
            size=self.only or seen.size,
            spacing_mm=seen.spacing_mm or OWN_PIXELS_MM,
            depth=seen.depth or 0,
            normalised_over=seen.normalised_over if seen.depth else "slice",
            **kept,
        )

    def network(self) -> Network:
        """Its network on the CPU, in float32."""
        network = self.version.network(self.card)
        assert isinstance(network, Network)
        return network


class Batch(NamedTuple):
    """Images float32 (b, [n,] h, w), labels uint8 likewise, what they tell (b, [n,] classes)."""

    images: np.ndarray
    labels: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class MixedBatches:
    """Batches of a step: slices or stacks of readers' labels, then phantoms.

    Of the readers', a patient is drawn first and then one of the patient's slices, so that a
    patient with many labelled frames does not outweigh the others. The patients of `judges` are
    in batches of the stream `VALIDATION` alone, and of the readers' no others are; these are not
    augmented, so that a step is judged on what the member will see. Phantoms have their share in
    both streams. Without judges that stream is another training batch. A pure function of step
    and stream.
    """

    examples: Examples
    phantoms: SliceCache | None
    config: FinetuneConfig
    augment: Augment | None = None
    finish: Callable[[np.ndarray], np.ndarray] | None = None
    judges: frozenset[int] = frozenset()

    def __call__(self, step: int, stream: int = TRAINING) -> Batch:
        generator = np.random.default_rng((self.config.seed, step, stream))
        size = self.config.batch_size
        replayed = round(self.config.replay * size) if self.phantoms is not None else 0
        replayed = min(replayed, size - 1)
        judging = stream == VALIDATION and bool(self.judges)
        chosen = self._draw(size - replayed, judging, generator)
        images = self.examples.images[chosen].astype(np.float32)
        labels = self.examples.labels[chosen]
        known = self.examples.known[chosen]
        if replayed and self.phantoms is not None:
            drawn = generator.integers(len(self.phantoms), size=replayed)
            images = np.concatenate([images, self.phantoms.images[drawn].astype(np.float32)])
            labels = np.concatenate([labels, self.phantoms.labels[drawn]])
            known = np.concatenate([known, np.ones((replayed, CLASSES), bool)])
        if self.augment is not None and not judging:
            images, labels = self.augment(images, labels, generator)
        if labels.ndim == 4:
            labels, known = _told(labels, known)
        return Batch(self.finish(images) if self.finish else images, labels, known)

    def _draw(self, count: int, judging: bool, generator: np.random.Generator) -> np.ndarray:
        """Indices of so many examples, of patients that judge or of those that teach."""
        whose = self.examples.patients
        patients = np.unique(whose[np.isin(whose, list(self.judges)) == judging])
        return np.array(
            [
                generator.choice(np.flatnonzero(whose == patient))
                for patient in generator.choice(patients, count)
            ]
        )


def _told(labels: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of stacks without `UNTOLD`, and what each slice tells, bool (b, n, classes)."""
    untold = labels == UNTOLD
    known = known[:, None] & ~untold.any((2, 3))[..., None]
    known[..., 0] = True
    return np.where(untold, np.uint8(0), labels), known


def judging_patients(examples: Examples, config: FinetuneConfig) -> frozenset[int]:
    """Who judges MetaLR's rates: a fifth of the patients, drawn anew a seed; nobody of too few."""
    patients = np.unique(examples.patients)
    enough = examples.frame_count >= config.meta.separate_frames and len(patients) > 1
    if config.method != "metalr" or not enough:
        return frozenset()
    count = max(1, round(JUDGING_SHARE * len(patients)))
    drawn = np.random.default_rng(config.seed).choice(patients, count, replace=False)
    return frozenset(map(int, drawn))
