"""Prepared cases of public sets on disk, so that training reads windows and resamples nothing.

A case is a folder `SET/CASE`: `image.npy` float16 (n, h, w), the whole image at the pixel size
that the network learns from; `labels.npy` uint8 of the same shape; and `manifest.json`. Only what
does not depend on the window is done here: intensities are judged by what a window shows
(`transforms.preparation`), so the values kept are those of the file over their spread. Sizes, times
and checksums of the files that a case was made from are kept too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from cinelabel.core.errors import OutputError, RunError
from cinelabel.core.files import sha256, write_json
from cinelabel.core.grid import Grid
from cinelabel.datasets import Case, load_case
from cinelabel.models.folders import whole_folder
from cinelabel.transforms.preparation import Preparation, heart_centre
from cinelabel.transforms.preprocess import Crop, clip

VERSION = 1
"""Of what is kept: cases of another version are refused."""


@dataclass(frozen=True)
class PreparedCase:
    """A prepared case; its arrays are mapped anew at each use, so that no files stay open.

    Attributes:
        case: that it was made from.
        folder: of its files.
        shape: slices, height and width.
        middle: row and column of the heart's middle, `heart_centre` of the truth; of the image
            where nothing is labelled.
        foreground: slices with a structure.
    """

    case: Case
    folder: Path
    shape: tuple[int, int, int]
    middle: tuple[float, float]
    foreground: tuple[int, ...]

    @property
    def images(self) -> np.ndarray:
        """Memory-mapped float16 (n, h, w)."""
        return self._array("image", np.float16)

    @property
    def labels(self) -> np.ndarray:
        """Memory-mapped uint8 (n, h, w)."""
        return self._array("labels", np.uint8)

    def _array(self, name: str, dtype: type) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(f"{path.name} cannot be read ({error})", self.folder) from error
        if array.shape != self.shape or array.dtype != dtype:
            raise _damaged(f"{path.name} holds {array.dtype} {array.shape}", self.folder)
        return array


@dataclass(frozen=True)
class Store:
    """A folder of prepared cases, one folder in it a way of preparing.

    Attributes:
        path: of the store.
        roots: set -> the user's copy, which is only read.
        preparation: of the network; spacing, order and, for whole images, clipping count here.
    """

    path: Path
    roots: Mapping[str, Path]
    preparation: Preparation

    @property
    def recipe(self) -> dict[str, Any]:
        """What tells apart cases prepared in different ways."""
        wanted = self.preparation
        whole = wanted.window == "image"
        return {
            "version": VERSION,
            "spacing_mm": wanted.spacing_mm,
            "order": wanted.order if wanted.spacing_mm else None,
            "clipped_over": wanted.normalised_over if whole else None,
            "clip_percentiles": list(wanted.clip_percentiles) if whole else None,
        }

    def folder(self, case: Case) -> Path:
        """Where a case is kept."""
        recipe = self.recipe
        name = "native" if recipe["spacing_mm"] is None else f"{recipe['spacing_mm']:g}mm"
        if recipe["order"]:
            name += f"-order{recipe['order']}"
        if recipe["clipped_over"]:
            name += f"-clipped-{recipe['clipped_over']}"
        return self.path / name / case.set / case.name

    def prepare(
        self,
        cases: Sequence[Case],
        workers: int = 1,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> list[PreparedCase]:
        """The cases, prepared where they are not yet; an interrupted preparation goes on.

        Args:
            cases: with labels.
            workers: processes.
            progress: called with cases done, cases in all, and what is done.

        Raises:
            InputError, GridError, LabelError: naming the file that is not what it should be.
            RunError: for a prepared case whose files are damaged or no longer those of the set.
            OutputError: where the store cannot be written.
        """
        left = [case for case in cases if not self.folder(case).is_dir()]
        before = len(cases) - len(left)
        report = progress if progress is not None and left else lambda *state: None
        report(before, len(cases), "prepared cases")
        for done, _ in enumerate(self._prepared(left, workers), before + 1):
            report(done, len(cases), "prepared cases")
        return [self.open(case) for case in cases]

    def _prepared(self, left: Sequence[Case], workers: int) -> Iterator[None]:
        """Prepares cases, one a turn, in any order."""
        if min(workers, len(left)) <= 1:
            yield from map(partial(prepare_case, self), left)
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(prepare_case, self, case) for case in left]
            try:
                for job in as_completed(jobs):
                    yield job.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def open(self, case: Case) -> PreparedCase:
        """A case that was prepared. Raises RunError as `prepare` does."""
        folder = self.folder(case)
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            sources, recipe = manifest["sources"], manifest["recipe"]
            n, height, width = manifest["shape"]
            row, column = manifest["middle"]
            foreground = tuple(manifest["foreground"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(f"its manifest cannot be read ({error})", folder) from error
        if recipe != self.recipe:
            raise _damaged("it was prepared in another way", folder)
        for path, name in self.sources(case):
            if not _is_same(path, sources.get(name, {})):
                raise RunError(
                    f"was prepared from another content of {path}",
                    where=folder,
                    remedy="Delete that folder to prepare the case anew; runs that have learned "
                    "from it begin anew, too",
                )
        return PreparedCase(case, folder, (n, height, width), (row, column), foreground)

    def sources(self, case: Case) -> Iterator[tuple[Path, str]]:
        """Image and label of a case, and their names below the root of the set."""
        for path in (case.image, case.label):
            if path is not None:
                yield path, path.relative_to(self.roots[case.set]).as_posix()


def prepare_case(store: Store, case: Case) -> None:
    """Prepare a case, unless it was meanwhile; its folder appears whole. Raises as `prepare`."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # matrices this small only wait for a second thread
        _prepare_case(store, case)


def _prepare_case(store: Store, case: Case) -> None:
    sources = {name: _identity(path) for path, name in store.sources(case)}
    study, labels = load_case(case)
    if labels is None:
        raise RunError("has no label to learn from", where=case.image)
    crop = whole_crop(study.grid, store.preparation)
    image = study.frames[..., 0]
    if over := store.recipe["clipped_over"]:
        slices = clip(np.moveaxis(image, 2, 0), over, store.preparation.clip_percentiles)
        image = np.moveaxis(slices, 0, 2)
    images, truth = crop.apply(image), crop.apply_labels(labels)
    spread = float(images.std()) or 1.0
    middle = heart_centre(np.moveaxis(truth, 0, 2))
    manifest = {
        "set": case.set,
        "patient": case.patient,
        "phase": case.phase,
        "recipe": store.recipe,
        "sources": sources,
        "shape": images.shape,
        "middle": middle or [(n - 1) / 2 for n in images.shape[1:]],
        "foreground": np.flatnonzero(truth.any((1, 2))).tolist(),
        "spread": spread,
    }
    target = store.folder(case)
    try:
        with whole_folder(target) as folder:
            np.save(folder / "image.npy", (images / spread).astype(np.float16))
            np.save(folder / "labels.npy", truth)
            write_json(folder / "manifest.json", manifest)
    except OutputError:
        if not target.is_dir():  # else another run was faster
            raise


def whole_crop(grid: Grid, preparation: Preparation) -> Crop:
    """The window that shows the whole image at the pixel size of a preparation."""
    shape, spacing = grid.shape[:2], grid.spacing[:2]
    wanted = preparation.spacing_mm
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    if wanted is None:
        return Crop(middle, shape, None, shape, spacing)
    rows, columns = (
        max(1, round(n * step / wanted)) for n, step in zip(shape, spacing, strict=True)
    )
    return Crop(middle, (rows, columns), wanted, shape, spacing, preparation.order)


def _identity(path: Path) -> dict[str, object]:
    checksum, stat = sha256(path), path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns, "sha256": checksum}


def _is_same(path: Path, kept: Mapping[str, object]) -> bool:
    """Whether a file is the one of a manifest; copied elsewhere, its content tells."""
    stat = path.stat()
    if stat.st_size != kept.get("bytes"):
        return False
    return stat.st_mtime_ns == kept.get("modified_ns") or sha256(path) == kept.get("sha256")


def _damaged(problem: str, folder: Path) -> RunError:
    return RunError(
        f"the prepared case does not hold together: {problem}",
        where=folder,
        remedy="Delete the folder; it is made again",
    )
