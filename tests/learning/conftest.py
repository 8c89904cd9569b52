"""Trainings so small that they take a second: squares seen through noise, and tiny public sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore, Submission
from cinelabel.learning.config import TrainConfig, parse
from cinelabel.learning.corrections import Correction, find_corrections
from cinelabel.learning.data import SliceCache
from cinelabel.learning.reporting import Reporter
from cinelabel.segmentation import Segmentation, Segmenter
from cinelabel.segmentation.locator import HeartBox, Located
from cinelabel.segmentation.member import Member
from cinelabel.segmentation.postprocess import Postprocessing
from cinelabel.studies import Study
from cinelabel.transforms.preparation import heart_centre
from cinelabel.transforms.preprocess import Crop
from rich.console import Console

SIZE = 16


def write_cache(folder: Path, count: int, seed: int, classes: int = 4) -> Path:
    """Slices with one square a structure at a random place, as bright as its value."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, SIZE, SIZE), np.uint8)
    for label in labels:
        for value in range(1, classes):
            row, column = rng.integers(0, SIZE - 5, 2)
            label[row : row + 5, column : column + 5] = value
    images = labels + rng.normal(0.0, 0.2, labels.shape)
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images.astype(np.float16))
    np.save(folder / "labels.npy", labels)
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> tuple[SliceCache, SliceCache]:
    folder = tmp_path_factory.mktemp("caches")
    return (
        SliceCache.open(write_cache(folder / "training", 24, 1), 4),
        SliceCache.open(write_cache(folder / "validation", 6, 2), 4),
    )


def write_patient(stem: Callable[[str], Path], number: int, values: dict[str, int]) -> None:
    """ED and ES of a patient, whom `2 * number` pixels of RV in slices 1 to 3 of 5 tell.

    The heart lies at the border of the image for odd numbers.
    """
    rng = np.random.default_rng(number)
    labels, bright = np.zeros((24, 30, 5), np.uint8), {0: 0, values["LV"]: 3, values["MYO"]: 1}
    row, column = (2, 20) if number % 2 else (9, 12)
    labels[row : row + 5, column : column + 5, 1:4] = values["MYO"]
    labels[row + 1 : row + 4, column + 1 : column + 4, 1:4] = values["LV"]
    labels[row + 5 : row + 7, column : column + number, 1:4] = values["RV"]
    for phase in ("ED", "ES"):
        voxels = 200 + 100 * np.vectorize(lambda value: bright.get(value, 2))(labels)
        voxels = (voxels + rng.integers(0, 50, labels.shape)).astype(np.int16)
        for end, array in (("", voxels), ("_gt", labels)):
            path = stem(f"{phase}{end}.nii.gz")
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 1.5, 8.0, 1.0])), path)


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two public sets in their flat layouts: patients 1 to 4 of ACDC, 5 and 6 of M&Ms."""
    folder = tmp_path_factory.mktemp("sets")
    for number in range(1, 7):
        name = f"patient{number:03d}" if number < 5 else f"M{number}N{number}O{number}"
        if number < 5:
            parent, prefix, values = folder / "acdc" / name, name, {"RV": 1, "MYO": 2, "LV": 3}
        else:
            parent, prefix = folder / "mnms" / name, f"{name}_sa"
            values = {"LV": 1, "MYO": 2, "RV": 3}
        write_patient(lambda end, p=parent, x=prefix: p / f"{x}_{end}", number, values)
    return {"acdc": folder / "acdc", "mnms": folder / "mnms"}


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    def make(**changes: object) -> TrainConfig:
        values: dict[str, object] = {
            "name": "tiny",
            "network": {"features": [4, 8, 12]},
            "seed": 3,
            "data": {"count": 24, "validation_count": 6, "size": SIZE},
            "augmentation": None,
            "optimiser": {"lr": 0.01},
            "steps": 12,
            "batch_size": 4,
            "precision": "32-true",
            "device": "cpu",
            "ema": 0.9,
            "validate_every": 6,
            "checkpoint_every": 5,
            "log_every": 4,
            "workers": 1,
            "threads": 1,
        }
        return parse(values | changes, "test")

    return make


@dataclass(frozen=True)
class Readers:
    """A folder of images, and what a reader has made of them."""

    folder: Path
    labels: LabelStore

    def image(self, name: str) -> Path:
        return self.folder / f"{name}.nii.gz"

    def write(self, name: str, labels: np.ndarray, seed: int = 0) -> Grid:
        """An image on which the labels can be seen."""
        noise = np.random.default_rng(seed).integers(0, 30, labels.shape)
        voxels = (100 + 60 * labels.astype(np.int16) + noise).astype(np.int16)
        affine = np.diag([2.0, 1.5, 8.0, 1.0])
        nib.save(nib.Nifti1Image(voxels, affine), self.image(name))
        return Grid(labels.shape, affine)

    def submit(self, name: str, labels: np.ndarray, grid: Grid, **said: object) -> None:
        file = self.folder / "submitted.nii.gz"
        nib.save(nib.Nifti1Image(labels, grid.affine), file)
        now = datetime.now(timezone.utc).isoformat()
        said = {"base_version": 0, **said}
        submission = Submission(image=name, who="reader", client_id="test", time=now, **said)
        self.labels.submit(name, grid, file, submission)

    def corrections(self) -> list[Correction]:
        return find_corrections(self.labels, self.image, patient_of)


def patient_of(name: str) -> str:
    return name.split("__")[0]


def drawn_heart(number: int, slices: slice = slice(1, 4)) -> np.ndarray:
    """LV 3 x 3 in MYO 5 x 5, and `number` + 2 pixels of RV beside it, in some slices of five."""
    labels = np.zeros((24, 30, 5), np.uint8)
    labels[9:14, 10:15, slices] = 2
    labels[10:13, 11:14, slices] = 1
    labels[14:17, 10 : 12 + number, slices] = 3
    return labels


@pytest.fixture(scope="module", autouse=True)
def _hearts_are_bright() -> Iterator[None]:
    """The untrained locator of small models gives way to one that looks for bright.

    Windows are of the size that such a model has learned from.
    """

    def locate(frames: np.ndarray, grid: Grid, *given: object) -> Located:
        bright = (frames.max(3) > 130).astype(np.uint8)
        slices = np.flatnonzero(bright.any((0, 1)))
        ends = (int(slices[0]), int(slices[-1]))
        return Located(HeartBox(heart_centre(bright), (20.0, 20.0), ends, 1.0), None)

    def window(member: Member, grid: Grid, heart: HeartBox) -> Crop:
        return member.preparation.crop(grid, heart.centre, only=member.card.spec.size or 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cinelabel.segmentation.predictor.locate", locate)
        patch.setattr(Member, "window", window)
        yield


class _Plain(Segmenter):
    """Segments by the fast member alone and leaves its labels as they are."""

    def segment(self, study: Study, **options: object) -> Segmentation:
        nothing = Postprocessing(slice_wise=False, volume_wise=False, rv_needs_lv=False)
        return super().segment(study, fast=True, postprocessing=nothing)


@pytest.fixture(scope="module", autouse=True)
def _judged_plainly() -> Iterator[None]:
    """Networks of a few weights do not stand mirroring, and their spots would be tidied away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cinelabel.learning.judging.Segmenter", _Plain)
        yield


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    """Nothing yet."""
    (tmp_path / "images").mkdir()
    return Readers(tmp_path / "images", LabelStore(tmp_path / "workspace"))


@pytest.fixture(scope="session")
def six_patients(tmp_path_factory: pytest.TempPathFactory) -> Readers:
    """Patients p1 to p6, two frames each, every slice of which a reader has corrected."""
    folder = tmp_path_factory.mktemp("readers")
    (folder / "images").mkdir()
    made = Readers(folder / "images", LabelStore(folder / "workspace"))
    for number in range(1, 7):
        for frame in range(2):
            name, labels = f"p{number}__t{frame:02d}", drawn_heart(number)
            grid = made.write(name, labels, seed=10 * number + frame)
            made.submit(name, labels, grid, model="tiny-1")
    return made


@pytest.fixture
def written() -> StringIO:
    """What a reporter made by `reporter` has printed."""
    return StringIO()


@pytest.fixture
def reporter(written: StringIO) -> Reporter:
    return Reporter(Console(file=written, width=200))


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
