"""Training slices: a memory-mapped cache on disk, and batches that depend on seed and step alone.

A cache folder holds `images.npy` (count, h, w), or (count, n, h, w) of stacks, float16, normalised;
`labels.npy` uint8 of the same shape; and `manifest.json`. A batch is a pure function of (seed,
step, rank): a resumed run goes on with exactly the batches it would have seen.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.learning.config import DataConfig, TrainConfig
from cinelabel.phantom.settings import PhantomSettings

Progress = Callable[[int, int, str], None]
Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SliceCache:
    """Memory-mapped slices (count, h, w) or stacks (count, n, h, w): float16 and uint8 labels."""

    folder: Path
    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def open(cls, folder: Path, classes: int) -> SliceCache:
        """The cache of a folder; RunError if files are missing or do not fit one another."""
        try:
            images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
            labels = np.load(folder / "labels.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _bad_cache(f"it cannot be read ({error})", folder) from error
        if images.ndim not in (3, 4) or images.shape != labels.shape or not len(images):
            raise _bad_cache(
                f"images {images.shape} and labels {labels.shape} do not match", folder
            )
        if images.dtype != np.float16 or labels.dtype != np.uint8:
            raise _bad_cache(f"it holds {images.dtype} images, {labels.dtype} labels", folder)
        if (highest := int(labels[: min(len(labels), 256)].max())) >= classes:
            raise _bad_cache(f"label {highest} is more than the {classes} classes", folder)
        return cls(folder, images, labels)


def _bad_cache(problem: str, folder: Path) -> RunError:
    return RunError(
        f"the training cache does not hold together: {problem}",
        where=folder,
        remedy="Delete the folder; it is made again",
    )


@dataclass(frozen=True)
class BatchSource:
    """Batches of a cache for a step: images (b, [n,] h, w) float32 and labels uint8."""

    cache: SliceCache
    batch_size: int
    seed: int
    augment: Augment | None = None
    rank: int = 0
    finish: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng((self.seed, step, self.rank))
        replace = len(self.cache) < self.batch_size
        chosen = np.sort(generator.choice(len(self.cache), self.batch_size, replace=replace))
        images = self.cache.images[chosen].astype(np.float32)
        labels = np.array(self.cache.labels[chosen])
        if self.augment is not None:
            images, labels = self.augment(images, labels, generator)
        return (self.finish(images) if self.finish else images), labels


def prefetched(make: Callable[[int], T], steps: range, depth: int = 2) -> Iterator[T]:
    """`make(step)` for each step in order, made by one thread up to `depth` ahead."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    waiting: deque[Future[T]] = deque()
    upcoming = iter(steps)
    try:
        for step in upcoming:
            waiting.append(pool.submit(make, step))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def open_caches(
    config: TrainConfig, folder: Path, progress: Progress | None
) -> tuple[SliceCache, SliceCache]:
    """The training and the validation cache under `folder`, made if they are not there yet."""
    from cinelabel.phantom.dataset import build_cache
    from cinelabel.transforms.preprocess import normalise

    data = config.data
    if data.spacing_mm is None:
        raise RunError("a phantom has no pixels of its own", where="data.spacing_mm")
    opened = []
    for count, seed, settings in (
        (data.count, data.seed, data.phantom),
        (data.validation_count, data.validation_seed, data.validation_phantom),
    ):
        cache = build_cache(
            folder / cache_name(data, count, seed, settings),
            task=data.task,
            count=count,
            size=data.size,
            spacing_mm=data.spacing_mm,
            seed=seed,
            prepare=normalise,
            depth=data.depth,
            settings=settings,
            workers=config.workers,
            progress=progress,
        )
        opened.append(SliceCache.open(cache, config.network.classes))
    return opened[0], opened[1]


def cache_name(data: DataConfig, count: int, seed: int, settings: PhantomSettings) -> str:
    """A folder name that tells apart caches of different content."""
    shape = f"{count}x{data.depth}x{data.size}px" if data.depth else f"{count}x{data.size}px"
    name = f"{data.source}-{data.task}-{shape}-{data.spacing_mm:g}mm-seed{seed}"
    if settings == PhantomSettings():
        return name
    text = json.dumps(asdict(settings), sort_keys=True)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def build_augmentation(settings: dict[str, object] | None) -> Augment | None:
    """The augmentation of a configuration; None: slices are used as they are."""
    if settings is None:
        return None
    from cinelabel.transforms.augment import Augmentation

    return Augmentation(settings)
