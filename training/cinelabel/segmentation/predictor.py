"""Segmenting a study: locate, crop, networks with mirroring, average, inverse, post-process.

The order is that of Gong et al. (STACOM 2022, sections 2.5 and 3.3) with a heart locator in place
of the pseudo labels that centre their crops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from cinelabel.core.errors import InputError, ModelError
from cinelabel.core.grid import Grid
from cinelabel.core.measures import Measures, measure
from cinelabel.models.card import MemberCard
from cinelabel.models.store import ModelStore, ModelVersion
from cinelabel.segmentation.backend import (
    Backend,
    choose_device,
    load_backend,
    mirrored_probabilities,
)
from cinelabel.segmentation.locator import HeartBox, Located, locate
from cinelabel.segmentation.postprocess import Postprocessing
from cinelabel.studies.study import Study
from cinelabel.transforms.preprocess import Crop, normalise

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CropDefaults:
    """The window round the heart: margin (mm), least and most pixels, and when to centre again."""

    margin_mm: float = 24.0
    least: int = 128
    most: int = 192
    step: int = 16
    recentre_mm: float = 12.0


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What is known of a study after segmentation.

    `labels` uint8 (x, y, z, t) on the study's grid; `heart` and `reason` where the heart is or why
    none was found; `ed`, `es` phases when there is more than one; times in seconds a step.
    """

    labels: np.ndarray
    heart: HeartBox | None
    reason: str | None
    ed: int | None
    es: int | None
    measures: Measures
    timings_s: dict[str, float]
    model: str
    device: str


@dataclass
class _Clock:
    """Seconds spent a step."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            ("locate", "preprocess", "network", "restore", "postprocess"), 0.0
        )
    )

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


class Segmenter:
    """A model version that is loaded and ready to segment studies."""

    def __init__(self, version: ModelVersion, device: str = "auto") -> None:
        """Load every member of a version; raises ModelError when it lacks one or a file is bad."""
        self.version = version
        self.device = choose_device(device)
        members = version.card.members
        self._segmenters = [m for m in members if m.role == "segmenter"]
        locators = [m for m in members if m.role == "locator"]
        if not self._segmenters or len(locators) != 1:
            raise ModelError(
                "a model version needs one locator and at least one segmenter", where=version.name
            )
        self._locator = locators[0]
        self._backends: dict[str, Backend] = {
            m.name: load_backend(version, m, self.device) for m in [*self._segmenters, *locators]
        }

    @classmethod
    def load(
        cls, version: str | None = None, device: str = "auto", store: ModelStore | None = None
    ) -> Segmenter:
        """The segmenter of a version, the current one when None.

        Raises:
            ModelError: for an unknown version or damaged files.
            InputError: for an unknown device.
        """
        return cls((store or ModelStore()).load(version), device)

    def locate(self, study: Study, mirror: bool = True) -> Located:
        """Where the heart is in a study."""
        preparation = self._locator.preprocessing
        return locate(
            study.frames,
            study.grid,
            self._backends[self._locator.name],
            float(preparation["spacing_mm"]),
            int(preparation["size"]),
            mirror,
        )

    def segment(
        self,
        study: Study,
        *,
        frames: Sequence[int] | None = None,
        mirror: bool = True,
        postprocessing: Postprocessing | None = None,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment a study, every slice of every wanted phase.

        Args:
            study: of any number of phases.
            frames: phases to segment, all when None; the others stay empty.
            mirror: average over mirrorings.
            postprocessing: steps to take; all when None.
            progress: called with phases done, phases in all, and what is done.

        Raises:
            InputError: for a phase that the study does not have.
        """
        start = time.perf_counter()
        wanted = list(range(study.n_frames)) if frames is None else list(frames)
        for t in wanted:
            if not 0 <= t < study.n_frames:
                raise InputError(
                    f"there is no phase {t}; the study has {study.n_frames}", where=study.name
                )
        clock = _Clock()
        labels = np.zeros(study.frames.shape, np.uint8)
        with clock.step("locate"):
            located = self.locate(study, mirror)
        heart = located.heart
        if heart is not None:
            heart = self._label_frames(
                study, wanted, heart, labels, mirror, postprocessing, clock, progress
            )
        measures = measure(labels, study.grid, study.ed, study.es, study.trigger_times_ms)
        reason = located.reason
        if reason is None and not labels.any():
            reason = "no heart found: the segmenter labelled nothing where the locator pointed"
        return Segmentation(
            labels=labels,
            heart=heart,
            reason=reason,
            ed=measures.ed,
            es=measures.es,
            measures=measures,
            timings_s={**clock.seconds, "total": time.perf_counter() - start},
            model=self.version.name,
            device=self.device,
        )

    def _label_frames(
        self,
        study: Study,
        wanted: Sequence[int],
        heart: HeartBox,
        labels: np.ndarray,
        mirror: bool,
        postprocessing: Postprocessing | None,
        clock: _Clock,
        progress: Progress | None,
    ) -> HeartBox:
        """Fill `labels` phase by phase; the first phase may centre the window again."""
        cleaning = postprocessing or Postprocessing()
        for done, t in enumerate(wanted):
            predicted = self._predict(study.frame(t), study.grid, heart, mirror, clock)
            with clock.step("postprocess"):
                labels[..., t] = cleaning.apply(predicted)
            if done == 0:
                better = _recentred(labels[..., t], study.grid, heart)
                if better is not heart:
                    heart = better
                    predicted = self._predict(study.frame(t), study.grid, heart, mirror, clock)
                    with clock.step("postprocess"):
                        labels[..., t] = cleaning.apply(predicted)
            if progress is not None:
                progress(done + 1, len(wanted), "phases")
        return heart

    def _predict(
        self, volume: np.ndarray, grid: Grid, heart: HeartBox, mirror: bool, clock: _Clock
    ) -> np.ndarray:
        """Labels of one phase before post-processing, uint8 (x, y, z)."""
        total: np.ndarray | None = None
        for member in self._segmenters:
            with clock.step("preprocess"):
                window = _window(grid, heart, member)
                images = normalise(window.apply(volume))
            with clock.step("network"):
                maps = mirrored_probabilities(self._backends[member.name], images, mirror)
            with clock.step("restore"):
                classes = [
                    window.restore(maps[:, c], outside=float(c == 0)) for c in range(maps.shape[1])
                ]
                stacked = np.stack(classes)
                total = stacked if total is None else total + stacked
        assert total is not None
        with clock.step("restore"):
            return np.asarray(total.argmax(0), np.uint8)


def _window(grid: Grid, heart: HeartBox, member: MemberCard) -> Crop:
    """The member's window round the heart; a network made for one size sees that size."""
    defaults = CropDefaults()
    spacing = float(member.preprocessing["spacing_mm"])
    only = member.spec.size

    def pixels(axis: int) -> int:
        wide = (heart.extent_mm[axis] + 2 * defaults.margin_mm) / spacing
        steps = int(np.ceil(wide / defaults.step)) * defaults.step
        return int(np.clip(steps, defaults.least, defaults.most))

    return Crop(
        centre=heart.centre,
        size=(only, only) if only else (pixels(0), pixels(1)),
        spacing=spacing,
        source_shape=(grid.shape[0], grid.shape[1]),
        source_spacing=(float(grid.spacing[0]), float(grid.spacing[1])),
    )


def _recentred(labels: np.ndarray, grid: Grid, heart: HeartBox) -> HeartBox:
    """The same box, or one round the labels when those lie well off its middle."""
    seen = np.argwhere(labels.any(2))
    if not len(seen):
        return heart
    low, high = seen.min(0), seen.max(0)
    middle = (low + high) / 2
    off = np.hypot(*((middle - np.array(heart.centre)) * np.asarray(grid.spacing)[:2]))
    if off < CropDefaults().recentre_mm:
        return heart
    extent = (high - low + 1) * np.asarray(grid.spacing)[:2]
    return HeartBox(
        (float(middle[0]), float(middle[1])),
        (float(extent[0]), float(extent[1])),
        heart.slices,
        heart.probability,
    )
