"""One member of the ensemble: its network, loaded when first needed, and its preparation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cinelabel.core.errors import ModelError
from cinelabel.core.grid import Grid
from cinelabel.core.labels import STRUCTURES
from cinelabel.models.card import MemberCard
from cinelabel.models.store import ModelVersion
from cinelabel.segmentation.backend import Backend, load_backend
from cinelabel.segmentation.locator import HeartBox
from cinelabel.segmentation.passes import View, slice_probabilities, stack_probabilities, views
from cinelabel.transforms.preparation import Preparation
from cinelabel.transforms.preprocess import Crop

CLASSES = {"segmenter": 1 + len(STRUCTURES), "locator": 2}
STEPS = ("locate", "load", "preprocess", "network", "restore", "postprocess")


@dataclass(frozen=True)
class MemberCost:
    """What a member took of one study.

    Attributes:
        seconds: loading, preparation, passes and the way back to the grid.
        peak_bytes: most memory that the process was seen to hold while the member computed; None
            where the system does not tell.
    """

    seconds: float
    peak_bytes: int | None


@dataclass
class Clock:
    """Seconds spent a step."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


class Member:
    """A network of a model version.

    Its files are read and verified at the first use. Between uses `release` gives back what its
    activations take, so that members run one after another within the memory of one.
    """

    def __init__(self, version: ModelVersion, card: MemberCard, device: str) -> None:
        """Read what it expects; ModelError where that does not fit its role or its network."""
        self.card = card
        self._version = version
        self._device = device
        self._backend: Backend | None = None
        wanted = CLASSES[card.role]
        if card.spec.classes != wanted or card.spec.in_channels != 1:
            raise self._unfit(
                f"its network has {card.spec.classes} classes and {card.spec.in_channels} input "
                f"channel(s), a {card.role} has {wanted} and 1"
            )
        try:
            self.preparation = Preparation.from_dict(card.preprocessing)
        except ModelError as error:
            raise self._unfit(error.problem) from error
        if card.role == "locator" and (
            card.spec.dimensions != 2 or self.preparation.spacing_mm is None
        ):
            raise self._unfit("a locator looks at single slices at one pixel size")
        if not card.spec.size and self.preparation.size % card.spec.divisor:
            raise self._unfit(
                f"its windows of {self.preparation.size} pixels are no multiple of the "
                f"{card.spec.divisor} that its network wants"
            )

    def _unfit(self, problem: str) -> ModelError:
        return ModelError(
            f"the member '{self.name}' cannot be used, {problem}",
            where=self._version.name,
            remedy="Publish the version again without it, or mended",
        )

    @property
    def name(self) -> str:
        """Its name in the card."""
        return self.card.name

    def backend(self) -> Backend:
        """The network, loaded; ModelError when a file is missing or damaged."""
        if self._backend is None:
            self._backend = load_backend(self._version, self.card, self._device)
        return self._backend

    def answer_by(self, network: Backend) -> None:
        """Have another network answer in place of its own, such as one that was just tuned."""
        self._backend = network

    def release(self) -> None:
        """Give back the memory of its activations; the network stays loaded."""
        if self._backend is not None:
            self._backend.release()

    def window(self, grid: Grid, heart: HeartBox) -> Crop:
        """What it sees of a grid.

        The window follows the heart's extent, unless the network is made for one size, or cannot
        halve the sides of that window as often as it does.
        """
        spec = self.card.spec
        window = self.preparation.crop(grid, heart.centre, heart.extent_mm, spec.size)
        if any(pixels % spec.divisor for pixels in window.size):
            window = self.preparation.crop(grid, heart.centre)
        return window

    def probabilities(
        self, volume: np.ndarray, window: Crop, mirror: bool, turns: bool, clock: Clock
    ) -> np.ndarray:
        """Softmax of one phase in its window: (x, y, n) -> float32 (n, classes, h, w)."""
        seen_as = views(self.card.spec.dimensions, mirror, turns)
        return self.averaged(volume, window, seen_as, clock)

    def averaged(
        self, volume: np.ndarray, window: Crop, seen_as: Sequence[View], clock: Clock
    ) -> np.ndarray:
        """The same, averaged over the views that are given."""
        with clock.step("load"):
            network = self.backend()
        with clock.step("preprocess"):
            images = self.preparation.prepare(volume, window)
        spec = self.card.spec
        with clock.step("network"):
            if spec.dimensions == 2:
                return slice_probabilities(network, images, seen_as)
            depth = self.preparation.depth
            return stack_probabilities(network, images, seen_as, spec.divisors[0], depth)


def resident_bytes() -> int | None:
    """Memory that this process holds, None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
