"""Training examples from the phantom: streamed from worker processes, or kept in a cache on disk.

Domain randomisation (Tobin et al., IROS 2017) over a simulated population: every visit draws
another subject. Two tasks: `segmenter` gives crops round the heart with the three structures,
`locator` whole fields of view with one class, heart.

To make a subject and to paint its surroundings costs as much as to picture its heart, so a visit
gives several examples: VIEWS views (another place, turn, coil, protocol and breath each), and of
each view two phases. One in VISIT examples is of another subject. Whoever learns from them in order
should mix them: `BatchSource` draws from all of a cache, `PhantomSlices` shuffles BLOCK visits.

Every example is a pure function of (task, seed, worker, index) and of what it is made like.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count as count_from
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cinelabel.core.errors import InputError, RunError
from cinelabel.core.files import write_json
from cinelabel.phantom.acquisition import Scanner, sample_scanner
from cinelabel.phantom.anatomy import Heart
from cinelabel.phantom.breathing import Manner, SliceMotion, sample_motion
from cinelabel.phantom.cohort import missing_ends, sample_subject
from cinelabel.phantom.rendering import Subject, plane
from cinelabel.phantom.scanning import (
    SYSTOLE,
    ScannedSlice,
    SlicePose,
    acquired_lines,
    scan_slice,
)
from cinelabel.phantom.settings import PhantomSettings

VERSION = 2
"""Of what the examples look like: caches of another version are refused."""
VIEWS = 2
"""Views of a visit, each with its own protocol."""
PHASES = 2
"""Phases of a view of single slices or stacks."""
VISIT = VIEWS * PHASES
"""Single slices of a visit."""
BLOCK = 16
"""Visits that a stream shuffles among each other."""
TRACE_POINTS = 64
"""Points of the motion trace that comes with an example."""
CHUNK = 256
"""Slices made, and written, at a time: what a killed build loses at most, for each worker."""
SALT = 0x51CE

FAILING = {Manner.HALF_HOLD: 0.4, Manner.FREE: 0.4, Manner.INTENSIVE: 0.2}
"""How the slices with motion are acquired."""

Mode = Literal["slices", "stacks", "clips"]


@dataclass(frozen=True)
class TaskDefaults:
    """What differs between the tasks: scatter of the heart in the image (mm) and slices mixed.

    Heights are drawn from five stretches: beyond the apex, the apex, the middle (what the other
    shares leave), the transition where the valve plane passes between ED and ES, beyond the base.
    """

    scatter_mm: float
    beyond_apex: float
    beyond_base: float
    apex: float = 0.12
    transition: float = 0.14


TASKS: dict[str, TaskDefaults] = {
    "segmenter": TaskDefaults(scatter_mm=14.0, beyond_apex=0.04, beyond_base=0.07),
    "locator": TaskDefaults(scatter_mm=38.0, beyond_apex=0.05, beyond_base=0.07),
}


class Example(NamedTuple):
    """One example: a slice (n, m), or a stack or clip (k, n, m).

    Attributes:
        image: magnitude, or what `prepare` made of it, float32.
        labels: uint8; 0 or 1 for the locator.
        grade: of the displacement alone, 1 mild to 3 severe, uint8 () or, of a stack, (k,).
        severity_mm: see `breathing.motion_severity`, float32 () or, of a stack, (k,).
        trace_mm: displacement (R, A, S) at TRACE_POINTS equal steps of each slice's acquisition,
            float32 (TRACE_POINTS, 3) or, of a stack, (k, TRACE_POINTS, 3); zero without motion.
        shift_mm: true in-plane shift of each slice along the image axes, float32 (2,) or, of a
            stack, (k, 2); zero unless of a stack.
        missing: whether a stack leaves out the apex, the base; bool (2,), else False.
    """

    image: np.ndarray
    labels: np.ndarray
    grade: np.ndarray
    severity_mm: np.ndarray
    trace_mm: np.ndarray
    shift_mm: np.ndarray
    missing: np.ndarray


def make_example(
    task: str,
    seed: int,
    index: int,
    size: int,
    spacing_mm: float,
    settings: PhantomSettings | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One slice of one subject, the same for the same arguments.

    Args:
        task: "segmenter" or "locator".
        seed, index: which; examples VISIT * k to VISIT * k + VISIT - 1 are of one subject.
        size: pixels along both axes.
        spacing_mm: pixel size.
        settings: of the phantom.

    Returns:
        (magnitude float32 (size, size), labels uint8 (size, size); 0 or 1 for the locator).

    Raises:
        RunError: for an unknown task.
    """
    recipe = _Recipe(task, seed, size, spacing_mm, settings or PhantomSettings())
    (example,) = _made(recipe, [index])
    return example.image, example.labels


@dataclass(frozen=True)
class _Recipe:
    """What examples are made like; a visit's generator depends on seed, worker and visit alone."""

    task: str
    seed: int
    size: int
    spacing_mm: float
    settings: PhantomSettings
    mode: Mode = "slices"
    worker: int = 0
    depth: int = 8
    frames: int = 8

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise RunError(f"unknown task {self.task!r}; known are {', '.join(TASKS)}")
        if self.mode not in ("slices", "stacks", "clips"):
            raise RunError(f"unknown mode {self.mode!r}; known are slices, stacks, clips")

    @property
    def views(self) -> int:
        return 1 if self.mode == "stacks" else VIEWS

    @property
    def of_a_view(self) -> int:
        return 1 if self.mode == "clips" else PHASES

    @property
    def of_a_visit(self) -> int:
        return self.views * self.of_a_view

    def generator(self, visit: int, part: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.worker, visit, part, SALT])


def _made(recipe: _Recipe, indices: Sequence[int]) -> Iterator[Example]:
    """The examples of these indices in this order, each subject and view made once."""
    subjects: dict[int, Subject] = {}
    looks: dict[int, list[Example]] = {}
    awaited = Counter(index // recipe.of_a_view for index in indices)
    for index in indices:
        look, slot = divmod(index, recipe.of_a_view)
        visit, view = divmod(look, recipe.views)
        if visit not in subjects:
            subjects[visit] = sample_subject(recipe.generator(visit, 0), None, recipe.settings)
        if look not in looks:
            looks[look] = _look(recipe, subjects[visit], recipe.generator(visit, 1 + view))
        awaited[look] -= 1
        yield looks[look][slot] if awaited[look] else looks.pop(look)[slot]


def _look(recipe: _Recipe, subject: Subject, rng: np.random.Generator) -> list[Example]:
    """The examples of one view of a subject: slices of two phases, two stacks, or a clip."""
    scanner = sample_scanner(rng)
    manner = _sample_manner(rng, recipe.settings)
    heights = _heights(recipe, subject.heart, rng)
    phases = _sample_phases(rng)
    if recipe.mode == "clips":
        phases = [t / recipe.frames for t in range(recipe.frames)]
    lay = _Lay.sample(recipe, rng)
    taken = []
    for height in heights:
        pose, shift = lay.pose(recipe, height, rng)
        motion = _sample_motion(rng, manner, pose, scanner)
        scan = scan_slice(subject, scanner, pose, phases, rng, motion=motion)
        taken.append(_Taken(scan, _trace(motion), shift))
    missing = (False, False)
    if recipe.mode == "stacks":
        spacing = abs(heights[1] - heights[0]) if len(heights) > 1 else lay.thickness
        missing = missing_ends(heights, spacing, subject.heart.length_ed)
    shown: list[list[int] | slice] = [[t] for t in range(len(phases))]
    if recipe.mode == "clips":
        shown = [slice(None)]
    return [_example(recipe, scanner, taken, frames, missing) for frames in shown]


@dataclass(frozen=True)
class _Taken:
    """A scanned slice, its motion trace (TRACE_POINTS, 3) and its in-plane shift (2,), mm."""

    scan: ScannedSlice
    trace_mm: np.ndarray
    shift_mm: np.ndarray


def _trace(motion: SliceMotion | None) -> np.ndarray:
    """The displacement at equal steps of the acquisition, float32 (TRACE_POINTS, 3)."""
    if motion is None:
        return np.zeros((TRACE_POINTS, 3), np.float32)
    times, displacement = motion.trace()
    steps = np.linspace(times[0], times[-1], TRACE_POINTS)
    return np.stack([np.interp(steps, times, d) for d in displacement.T], 1).astype(np.float32)


def _example(
    recipe: _Recipe,
    scanner: Scanner,
    taken: list[_Taken],
    frames: list[int] | slice,
    missing: tuple[bool, bool],
) -> Example:
    """Frames of one slice, or one frame of several slices, in the scanner's grey curve."""
    scans = [slice_.scan for slice_ in taken]
    image = np.concatenate([scan.images[frames] for scan in scans])
    image = np.clip(image, 0.0, None) ** np.float32(scanner.gamma)
    labels = np.concatenate([scan.labels[frames] for scan in scans])
    if recipe.task == "locator":
        labels = (labels > 0).astype(np.uint8)
    grade = np.array([scan.grade for scan in scans], np.uint8)
    severity = np.array([scan.severity_mm for scan in scans], np.float32)
    trace = np.stack([slice_.trace_mm for slice_ in taken])
    shift = np.stack([slice_.shift_mm for slice_ in taken])
    if recipe.mode != "stacks":
        grade, severity, trace, shift = grade[0, ...], severity[0, ...], trace[0], shift[0]
    if recipe.mode == "slices":
        image, labels = image[0], labels[0]
    return Example(
        image, labels, np.asarray(grade), np.asarray(severity), trace, shift, np.array(missing)
    )


@dataclass(frozen=True)
class _Lay:
    """How a view lies over the heart: centre (heart frame mm), turn, handedness, thickness."""

    centre: tuple[float, float]
    turn: float
    mirrored: bool
    thickness: float
    hold_mm: float

    @staticmethod
    def sample(recipe: _Recipe, rng: np.random.Generator) -> _Lay:
        centre = rng.normal(0.0, TASKS[recipe.task].scatter_mm, 2)
        return _Lay(
            centre=(float(centre[0]) - 10.0, float(centre[1])),
            turn=float(rng.uniform(-np.pi, np.pi)),
            mirrored=bool(rng.random() < 0.5),
            thickness=float(rng.uniform(5.0, 11.0)),
            hold_mm=1.2 if recipe.mode == "stacks" else 0.0,
        )

    def pose(
        self, recipe: _Recipe, height: float, rng: np.random.Generator
    ) -> tuple[SlicePose, np.ndarray]:
        """The plane of one slice and the shift of the heart in it along the image axes (mm).

        The slices of a stack differ by their breath-holds: a plane that lies further along an axis
        shows the heart further back.
        """
        hold = rng.normal(0.0, 1.0, 2) * self.hold_mm
        view = plane(
            (recipe.size, recipe.size),
            recipe.spacing_mm,
            (self.centre[0] + float(hold[0]), self.centre[1] + float(hold[1])),
            self.turn,
            self.mirrored,
        )
        shift = -(view.axes @ hold).astype(np.float32)
        return SlicePose(view, height, self.thickness), shift


def _heights(recipe: _Recipe, heart: Heart, rng: np.random.Generator) -> list[float]:
    """Heights of the slices of one view: one, or equally spaced ones round the middle."""
    if recipe.mode != "stacks":
        return [_sample_height(TASKS[recipe.task], heart, rng)]
    spacing = rng.uniform(6.0, 11.0)
    middle = rng.uniform(0.3, 0.75) * heart.length_ed
    heights = middle + (np.arange(recipe.depth) - (recipe.depth - 1) / 2) * spacing
    return [float(h) for h in (heights[::-1] if rng.random() < 0.5 else heights)]


def _sample_height(task: TaskDefaults, heart: Heart, rng: np.random.Generator) -> float:
    low, high, closed = -heart.wall_apex, heart.length_ed, float(heart.length(1.0))
    stretches = (
        (task.beyond_apex, low - 16.0, low),
        (task.apex, low, 0.25 * high),
        (task.transition, closed - 5.0, high + 6.0),
        (task.beyond_base, high, high + 28.0),
    )
    place = rng.random()
    for share, start, stop in stretches:
        if place < share:
            return float(rng.uniform(start, stop))
        place -= share
    return float(rng.uniform(0.0, high))


def _sample_phases(rng: np.random.Generator) -> list[float]:
    """Two phases of the cycle: ED, ES and any other in the shares 0.3, 0.4 and 0.3."""
    first = 0.0 if rng.random() < 0.6 else float(rng.random())
    second = SYSTOLE if rng.random() < 0.8 else float(rng.random())
    return [first, second]


def _sample_manner(rng: np.random.Generator, settings: PhantomSettings) -> Manner | None:
    if rng.random() >= settings.motion_share:
        return None
    return Manner(int(rng.choice([int(m) for m in FAILING], p=list(FAILING.values()))))


def _sample_motion(
    rng: np.random.Generator, manner: Manner | None, pose: SlicePose, scanner: Scanner
) -> SliceMotion | None:
    if manner is None:
        return None
    rows, columns = pose.view.x.shape
    lines = acquired_lines((rows, columns), pose.view.pixel, scanner)
    return sample_motion(rng, manner, n_lines=len(lines))


@dataclass(frozen=True)
class PhantomSlices:
    """An endless stream of examples for `torch.utils.data.DataLoader`, or for any loop.

    Worker w of a loader gives the stream of (seed, w), whatever the number of workers; outside of
    a loader w is 0. `start` leaves out that many examples of every worker without making them, to
    go on where a run stopped. The examples of BLOCK visits come in a shuffled order, so that a
    batch rarely holds one subject twice.

    Attributes:
        mode: "slices" (n, m), "stacks" (depth, n, m) at one phase from apex to base or back, or
            "clips" (frames, n, m) of one slice over a heartbeat.
        size, spacing_mm: pixels along both axes and pixel size.
        prepare: what is done to each image (..., n, m); a function of a module, since processes
            import it.

    Raises:
        RunError: for an unknown task or mode.
        InputError: for a depth, a number of frames or a start that makes no sense.
    """

    task: str = "segmenter"
    mode: Mode = "slices"
    seed: int = 1
    size: int = 128
    spacing_mm: float = 1.5
    settings: PhantomSettings = field(default_factory=PhantomSettings)
    depth: int = 8
    frames: int = 8
    prepare: Callable[[np.ndarray], np.ndarray] | None = None
    start: int = 0

    def __post_init__(self) -> None:
        self._recipe(0)
        if self.depth < 1 or self.frames < 1 or self.start < 0:
            raise InputError(
                "depth and frames are at least 1, start at least 0",
                where=f"depth={self.depth}, frames={self.frames}, start={self.start}",
            )
        try:
            from torch.utils.data import IterableDataset
        except ImportError:
            return  # a loop of its own needs no torch
        IterableDataset.register(PhantomSlices)

    def _recipe(self, worker: int) -> _Recipe:
        return _Recipe(
            self.task,
            self.seed,
            self.size,
            self.spacing_mm,
            self.settings,
            self.mode,
            worker,
            self.depth,
            self.frames,
        )

    def __iter__(self) -> Iterator[Example]:
        worker = _torch_worker()
        if worker is not None:
            from threadpoolctl import threadpool_limits

            threadpool_limits(1)  # one core a worker; the process ends with the loader
        return self.stream(worker or 0)

    def stream(self, worker: int) -> Iterator[Example]:
        """The endless stream of one worker, from its example `start` on."""
        recipe = self._recipe(worker)
        length = BLOCK * recipe.of_a_visit
        for block in count_from(self.start // length):
            shuffle = np.random.default_rng([self.seed, worker, block, SALT, 1])
            order = block * length + shuffle.permutation(length)
            skipped = max(self.start - block * length, 0)
            for example in _made(recipe, [int(index) for index in order[skipped:]]):
                if self.prepare is not None:
                    example = example._replace(image=self.prepare(example.image))
                yield example


def _torch_worker() -> int | None:
    """Number of the torch DataLoader worker that this process is; None if it is none."""
    try:
        from torch.utils.data import get_worker_info
    except ImportError:
        return None
    found = get_worker_info()
    return None if found is None else int(found.id)


def build_cache(
    folder: Path,
    *,
    task: str,
    count: int,
    size: int,
    spacing_mm: float,
    seed: int,
    prepare: Callable[[np.ndarray], np.ndarray],
    depth: int = 0,
    settings: PhantomSettings | None = None,
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Make a cache of examples, or go on with one that was interrupted.

    Args:
        folder: `images.npy` float16 (count, size, size), or (count, depth, size, size) of stacks,
            prepared; `labels.npy` uint8 of the same shape; manifest.
        task: "segmenter" or "locator".
        count, size, spacing_mm, seed: how many, pixels, pixel size and seed.
        prepare: what is done to each magnitude (..., h, w) before it is kept: the network's
            preparation; a function of a module, since processes import it.
        depth: slices of a stack; 0 for single slices.
        settings: of the phantom.
        workers: processes; 1: this one.
        progress: called with examples done, examples in all, and what is done.

    Raises:
        RunError: when the folder holds a cache of other parameters, or the task is unknown.
    """
    settings = settings or PhantomSettings()
    recipe = _Recipe(
        task, seed, size, spacing_mm, settings, "stacks" if depth else "slices", depth=depth
    )
    wanted = {
        "version": VERSION,
        "task": task,
        "count": count,
        "size": size,
        "depth": depth,
        "spacing_mm": spacing_mm,
        "seed": seed,
        "defaults": asdict(TASKS[task]),
        "settings": asdict(settings),
    }
    shape = (count, depth, size, size) if depth else (count, size, size)
    done = _open_cache(folder, wanted, shape)
    visits = max(1, CHUNK // recipe.of_a_visit // max(1, depth))
    starts = range(0, count, visits * recipe.of_a_visit)
    spans = {k: range(i, min(i + starts.step, count)) for k, i in enumerate(starts)}
    left = {k: span for k, span in spans.items() if k not in done}
    made = count - sum(map(len, left.values()))
    if not left:
        return folder
    for k, written in _written(partial(_write_chunk, folder, recipe, prepare), left, workers):
        made += written
        done.add(k)
        write_json(folder / "manifest.json", {**wanted, "chunks_done": sorted(done)})
        if progress is not None:
            progress(made, count, f"phantom {recipe.mode} ({task})")
    return folder


def _written(
    write: Callable[[range], int], spans: Mapping[int, range], workers: int
) -> Iterator[tuple[int, int]]:
    """Writes chunks, one a turn, in any order: its number and how many examples it has."""
    if workers <= 1:
        yield from ((k, write(span)) for k, span in spans.items())
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(write, span): k for k, span in spans.items()}
        yield from ((jobs[job], job.result()) for job in as_completed(jobs))


def _open_cache(folder: Path, wanted: dict[str, object], shape: tuple[int, ...]) -> set[int]:
    """Chunks already made; a fresh cache is laid out when there is none."""
    manifest = folder / "manifest.json"
    if manifest.exists():
        found = {"depth": 0} | json.loads(manifest.read_text())
        for key, value in wanted.items():
            if found.get(key) != value:
                raise RunError(
                    f"the cache was made with {key} = {found.get(key)!r}, not {value!r}",
                    where=folder,
                    remedy="Use another folder or delete this one",
                )
        return set(found["chunks_done"])
    folder.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(folder / "images.npy", "w+", np.float16, shape).flush()
    np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint8, shape).flush()
    write_json(manifest, {**wanted, "chunks_done": []})
    return set()


def _write_chunk(
    folder: Path,
    recipe: _Recipe,
    prepare: Callable[[np.ndarray], np.ndarray],
    span: range,
) -> int:
    from threadpoolctl import threadpool_limits

    images = np.load(folder / "images.npy", mmap_mode="r+")
    labels = np.load(folder / "labels.npy", mmap_mode="r+")
    with threadpool_limits(1):  # matrices this small only wait for a second thread
        for index, example in zip(span, _made(recipe, span), strict=True):
            images[index], labels[index] = prepare(example.image), example.labels
    images.flush()
    labels.flush()
    return len(span)
