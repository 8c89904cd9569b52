"""Training examples from the phantom: single slices of many subjects, kept in a cache on disk.

Every example is a slice of another subject, so a cache of n slices holds n hearts. Two tasks:
`segmenter` gives crops round the heart with the three structures, `locator` whole fields of view
with one class, heart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from cinelabel.core.errors import RunError
from cinelabel.core.files import write_json
from cinelabel.phantom.acquisition import sample_breathing, sample_scanner
from cinelabel.phantom.cohort import sample_subject, scan_slice
from cinelabel.phantom.rendering import plane

CHUNK = 250
"""Examples made, and written, at a time: what a killed build loses at most, for each worker."""


@dataclass(frozen=True)
class TaskDefaults:
    """What differs between the tasks: scatter of the heart in the image (mm) and slices mixed."""

    scatter_mm: float
    beyond_apex: float
    beyond_base: float
    breathing_share: float = 0.2


TASKS: dict[str, TaskDefaults] = {
    "segmenter": TaskDefaults(scatter_mm=14.0, beyond_apex=0.05, beyond_base=0.13),
    "locator": TaskDefaults(scatter_mm=38.0, beyond_apex=0.06, beyond_base=0.12),
}


def make_example(
    task: str, seed: int, index: int, size: int, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """One slice of one subject, the same for the same arguments.

    Returns:
        (magnitude float32 (size, size), labels uint8 (size, size); 0 or 1 for the locator).
    """
    defaults = TASKS[task]
    rng = np.random.default_rng([seed, index, 0x51CE])
    subject = sample_subject(rng)
    scanner = sample_scanner(rng)
    heart = subject.heart
    place = rng.random()
    if place < defaults.beyond_apex:
        height = -heart.wall_apex - rng.uniform(0.0, 16.0)
    elif place < defaults.beyond_apex + defaults.beyond_base:
        height = heart.length_ed + rng.uniform(-6.0, 28.0)
    else:
        height = rng.uniform(-heart.wall_apex, heart.length_ed)
    phase = rng.random()
    contraction = 0.0 if phase < 0.3 else 1.0 if phase < 0.7 else float(rng.random())
    breathing = None
    if rng.random() < defaults.breathing_share:
        breathing = sample_breathing(rng, 1.0 + float(rng.gamma(1.4, 3.0)))
    centre = rng.normal(0.0, defaults.scatter_mm, 2)
    view = plane(
        (size, size),
        spacing_mm,
        (float(centre[0]) - 10.0, float(centre[1])),
        float(rng.uniform(-np.pi, np.pi)),
        bool(rng.random() < 0.5),
    )
    thickness = float(rng.uniform(5.0, 11.0))
    image, labels = scan_slice(
        subject, scanner, view, height, thickness, contraction, rng, breathing
    )
    image = np.clip(image, 0.0, None) ** np.float32(scanner.gamma)
    if task == "locator":
        labels = (labels > 0).astype(np.uint8)
    return image, labels


def build_cache(
    folder: Path,
    *,
    task: str,
    count: int,
    size: int,
    spacing_mm: float,
    seed: int,
    prepare: Callable[[np.ndarray], np.ndarray],
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Make a cache of examples, or go on with one that was interrupted.

    Args:
        folder: `images.npy` float16 (count, size, size), prepared; `labels.npy` uint8; manifest.
        task: "segmenter" or "locator".
        count, size, spacing_mm, seed: how many, pixels, pixel size and seed.
        prepare: what is done to each magnitude (h, w) before it is kept: the network's preparation;
            a function of a module, since processes import it.
        workers: processes.
        progress: called with examples done, examples in all, and what is done.

    Raises:
        RunError: when the folder holds a cache of other parameters, or the task is unknown.
    """
    if task not in TASKS:
        raise RunError(f"unknown task {task!r}; known are {', '.join(TASKS)}")
    wanted = {
        "task": task,
        "count": count,
        "size": size,
        "spacing_mm": spacing_mm,
        "seed": seed,
        "defaults": asdict(TASKS[task]),
    }
    done = _open_cache(folder, wanted)
    chunks = [k for k in range((count + CHUNK - 1) // CHUNK) if k not in done]
    made = count - sum(min(CHUNK, count - k * CHUNK) for k in chunks)
    if not chunks:
        return folder
    with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn")) as pool:
        jobs = {
            pool.submit(_write_chunk, folder, task, seed, size, spacing_mm, prepare, k, count): k
            for k in chunks
        }
        for job in as_completed(jobs):
            made += job.result()
            done.add(jobs[job])
            write_json(folder / "manifest.json", {**wanted, "chunks_done": sorted(done)})
            if progress is not None:
                progress(made, count, f"phantom slices ({task})")
    return folder


def _open_cache(folder: Path, wanted: dict[str, object]) -> set[int]:
    """Chunks already made; a fresh cache is laid out when there is none."""
    manifest = folder / "manifest.json"
    if manifest.exists():
        found = json.loads(manifest.read_text())
        for key, value in wanted.items():
            if found.get(key) != value:
                raise RunError(
                    f"the cache was made with {key} = {found.get(key)!r}, not {value!r}",
                    where=folder,
                    remedy="Use another folder or delete this one",
                )
        return set(found["chunks_done"])
    folder.mkdir(parents=True, exist_ok=True)
    shape = (int(str(wanted["count"])), int(str(wanted["size"])), int(str(wanted["size"])))
    np.lib.format.open_memmap(folder / "images.npy", "w+", np.float16, shape).flush()
    np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint8, shape).flush()
    write_json(manifest, {**wanted, "chunks_done": []})
    return set()


def _write_chunk(
    folder: Path,
    task: str,
    seed: int,
    size: int,
    spacing_mm: float,
    prepare: Callable[[np.ndarray], np.ndarray],
    chunk: int,
    count: int,
) -> int:
    from threadpoolctl import threadpool_limits

    images = np.load(folder / "images.npy", mmap_mode="r+")
    labels = np.load(folder / "labels.npy", mmap_mode="r+")
    first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, count)
    with threadpool_limits(1):  # matrices this small only wait for a second thread
        for index in range(first, last):
            image, label = make_example(task, seed, index, size, spacing_mm)
            images[index], labels[index] = prepare(image), label
    images.flush()
    labels.flush()
    return last - first
