"""What a run learns from: phantoms in a memory-mapped cache, or prepared cases of public sets.

`open_data` serves both. A cache folder holds `images.npy` (count, h, w), or (count, n, h, w) of
stacks, float16, normalised; `labels.npy` uint8 of the same shape; and `manifest.json`. A batch is a
pure function of (seed, step, rank): a resumed run goes on with exactly the batches it would have
seen.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.core.labels import STRUCTURES
from cinelabel.datasets import Case, dataset, split_by_patient
from cinelabel.datasets.folds import SEED, read_folds
from cinelabel.datasets.fusion import TABLES, Balance, Fusion, Source, fuse
from cinelabel.learning.config import DataConfig, TrainConfig
from cinelabel.learning.sampling import Batch, SetBatches, Validation, Windows, set_validation
from cinelabel.learning.store import Store
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.transforms import Augment, build_augmentation
from cinelabel.transforms.preparation import Preparation
from cinelabel.transforms.preprocess import normalise, unit_range

Progress = Callable[[int, int, str], None]
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

    def __call__(self, step: int) -> Batch:
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


@dataclass(frozen=True)
class Data:
    """What a run learns from: batches of a step, and the held-out examples."""

    training: Callable[[int], Batch]
    validation: Validation
    cases: Mapping[str, Sequence[str]] | None = None


def open_data(
    config: TrainConfig,
    folder: Path,
    progress: Progress | None = None,
    rank: int = 0,
    augment: Augment | None = None,
) -> Data:
    """The data of a configuration; what is not yet there is made below `folder`.

    Args:
        config: of the run.
        folder: of caches of phantoms and prepared cases.
        progress: called with items done, items in all, and what is done.
        rank: of the process; each draws its own batches.
        augment: replaces the augmentation of the configuration.

    Raises:
        RunError: where settings, or files below `folder`, do not fit one another.
        InputError, GridError, LabelError: for a folder or file of a set, naming it.
    """
    if config.data.source == "sets":
        return _open_sets(config, folder, progress, rank, augment)
    return cached_data(config, open_caches(config, folder, progress), rank, augment)


def cached_data(
    config: TrainConfig,
    caches: tuple[SliceCache, SliceCache],
    rank: int = 0,
    augment: Augment | None = None,
) -> Data:
    """Batches of the first cache, validation on the second."""
    training, validation = caches
    finish = _finish(config.data)
    augment = augment or _augmentation(config)

    def take(which: range) -> Batch:
        images = validation.images[which.start : which.stop].astype(np.float32)
        labels = np.array(validation.labels[which.start : which.stop])
        return (finish(images) if finish else images), labels

    return Data(
        BatchSource(training, config.batch_size, config.seed, augment, rank, finish),
        Validation(len(validation), config.batch_size, take),
    )


def _open_sets(
    config: TrainConfig,
    folder: Path,
    progress: Progress | None,
    rank: int,
    augment: Augment | None,
) -> Data:
    data = config.data
    classes = 2 if data.task == "locator" else len(STRUCTURES) + 1
    if config.network.classes < classes:
        raise RunError(f"the network has {config.network.classes} classes, the data {classes}")
    augment = augment or _augmentation(config)
    fusion = fused(data)
    training, held_out = hold_out(fusion.cases, data)
    if data.few:
        training, held_out = _first_of_each_set(training), _first_of_each_set(held_out)
    store = Store(folder, dict(data.roots), preparation(data))
    prepared = store.prepare([*training, *held_out], config.workers, progress)
    shares = replace(fusion, cases=tuple(training)).probabilities()
    windows = Windows(
        size=data.size,
        depth=data.depth,
        window=data.window,
        over=data.normalised_over,
        foreground=data.foreground,
        heart_only=data.task == "locator",
    )
    finish = _finish(data)
    return Data(
        SetBatches(
            prepared[: len(training)],
            [share / sum(shares) for share in shares],
            windows,
            config.batch_size,
            config.seed,
            augment,
            rank,
            finish,
        ),
        set_validation(
            prepared[len(training) :], windows, data.validation_count, config.batch_size, finish
        ),
        {
            side: [f"{case.set}/{case.name}" for case in cases]
            for side, cases in (("training", training), ("held_out", held_out))
        },
    )


def fused(data: DataConfig) -> Fusion:
    """The labelled cases of the roots that a configuration takes, and how often each is drawn.

    Without a table all that are labelled in every structure; a set must then be as large as
    published. Raises InputError as `datasets.fusion.fuse`.
    """
    if data.table:
        table = TABLES[data.table]
    else:
        table = tuple(
            Source(name, dataset(name).published.labelled or 0, 1, "every labelled case")
            for name in data.roots
        )
    return fuse(data.roots, table, balance=Balance(data.balance), partial=data.partial)


def hold_out(cases: Sequence[Case], data: DataConfig) -> tuple[list[Case], list[Case]]:
    """(training, held-out) cases: by the fold of a file, else a tenth of the patients is held out.

    That tenth is the same for every seed of a run. Raises InputError for folds of other patients,
    and for fewer than two patients.
    """
    if data.folds is not None and data.fold is not None:
        return read_folds(data.folds).split(cases, data.fold)
    tenths = min(10, max(2, len({case.group for case in cases})))
    return split_by_patient(cases, tenths, SEED)[0]


def _first_of_each_set(cases: Sequence[Case]) -> list[Case]:
    return list({case.set: case for case in reversed(cases)}.values())


def preparation(data: DataConfig) -> Preparation:
    """What the network of a run is shown of a volume."""
    return Preparation(
        spacing_mm=data.spacing_mm,
        size=data.size,
        window=data.window,
        order=data.order,
        intensity=data.intensity,
        normalised_over=data.normalised_over,
        depth=data.depth or None,
    )


def open_caches(
    config: TrainConfig, folder: Path, progress: Progress | None
) -> tuple[SliceCache, SliceCache]:
    """The training and the validation cache under `folder`, made if they are not there yet."""
    data = config.data
    common = (folder, config.workers, config.network.classes, progress)
    return (
        open_cache(data, data.count, data.seed, data.phantom, *common),
        open_cache(
            data, data.validation_count, data.validation_seed, data.validation_phantom, *common
        ),
    )


def open_cache(
    data: DataConfig,
    count: int,
    seed: int,
    settings: PhantomSettings,
    folder: Path,
    workers: int,
    classes: int,
    progress: Progress | None,
) -> SliceCache:
    """A cache of so many phantoms below `folder`, made if it is not there yet. Raises RunError."""
    from cinelabel.phantom.dataset import build_cache

    if data.spacing_mm is None:
        raise RunError("a phantom has no pixels of its own", where="data.spacing_mm")
    cache = build_cache(
        folder / cache_name(data, count, seed, settings),
        task=data.task,
        count=count,
        size=data.size,
        spacing_mm=data.spacing_mm,
        seed=seed,
        prepare=partial(normalise, over=data.normalised_over),
        depth=data.depth,
        settings=settings,
        workers=workers,
        progress=progress,
    )
    return SliceCache.open(cache, classes)


def cache_name(data: DataConfig, count: int, seed: int, settings: PhantomSettings) -> str:
    """A folder name that tells apart caches of different content."""
    shape = f"{count}x{data.depth}x{data.size}px" if data.depth else f"{count}x{data.size}px"
    name = f"{data.source}-{data.task}-{shape}-{data.spacing_mm:g}mm-seed{seed}"
    if data.normalised_over == "volume":
        name += "-volume"
    if settings == PhantomSettings():
        return name
    text = json.dumps(asdict(settings), sort_keys=True)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _augmentation(config: TrainConfig) -> Augment | None:
    """The augmentation of a configuration; None: examples are used as they are."""
    data = config.data
    if config.augmentation is None:
        return None
    kind = config.augmentation.get("kind", "compact")
    if data.normalised_over == "volume" and kind == "compact":
        raise RunError(
            "the compact augmentation normalises each slice by itself",
            where="data.normalised_over",
            remedy="Choose 'slice', or the augmentation {kind: nnunet}",
        )
    patch = (data.depth, data.size, data.size) if data.depth else (data.size, data.size)
    return build_augmentation(config.augmentation, patch, pixel_mm=data.spacing_mm or 1.5)


def _finish(data: DataConfig) -> Callable[[np.ndarray], np.ndarray] | None:
    """What is done to the images of a batch at the end."""
    if data.intensity == "z-score":
        return None
    if data.normalised_over == "volume":
        raise RunError(
            "the range of a whole volume is unknown to its windows",
            where="data.normalised_over",
            remedy="Choose 'slice', or the intensity z-score",
        )
    return unit_range
