"""What is asked of a label before it is kept: readable, on the image's grid, known structures.

The header is looked at before any voxel is read, and no file is expanded beyond the size that a
label of the image can have. Anatomical oddities are warnings: the reader has the last word.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.core.grid import Grid
from cinelabel.core.labels import BACKGROUND, CANONICAL, LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.labelstore import nrrd_label
from cinelabel.labelstore.records import check_text
from cinelabel.studies import nifti

SUFFIXES = (*nifti.SUFFIXES, ".nrrd")
SYNONYMS: Mapping[str, int] = MappingProxyType(
    {
        name: structure.value
        for structure, names in (
            (
                LV,
                "lv|lvc|lv cavity|lv blood pool|lv bloodpool|lv endo|lv endocardium|left ventricle|"
                "left ventricular cavity|left ventricle cavity|left ventricular blood pool",
            ),
            (
                MYO,
                "myo|lvm|lvmyo|lv myo|lv myocardium|lv wall|myocardium|left ventricular myocardium|"
                "left ventricle myocardium",
            ),
            (
                RV,
                "rv|rvc|rv cavity|rv blood pool|rv bloodpool|rv endo|rv endocardium|"
                "right ventricle|right ventricular cavity|right ventricle cavity|"
                "right ventricular blood pool",
            ),
        )
        for name in names.split("|")
    }
)
Names = Sequence[str] | Mapping[int, str]
DIGEST_LENGTH = 16


@dataclass(frozen=True)
class Limits:
    """What is asked of a label file, and what is still ordinary anatomy.

    Attributes:
        header_bytes: room for a header and its extensions beside the voxels.
        voxel_bytes: of the widest voxels that are read (float64, int64).
        unbounded_bytes: the size to which a file may expand where no grid is given.
        open_contour: share of the cavity's contour in a slice that may lie open, without
            myocardium beside it, as at the outflow tract.
        names: segments a submission may name.
        apart_voxels: how far a voxel may lie from the image's, as a share of its shortest side.
            3D Slicer makes axes orthogonal on reading, which moves voxels of public studies
            (M&Ms) by up to 0.02 mm; the label is kept on the image's own grid.
    """

    header_bytes: int = 1 << 20
    voxel_bytes: int = 8
    unbounded_bytes: int = 1 << 30
    open_contour: float = 0.25
    names: int = 64
    apart_voxels: float = 0.1


LIMITS = Limits()


def read_label(
    path: Path, names: Names | None = None, image_grid: Grid | None = None
) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """A label file as canonical values.

    Args:
        path: .nii, .nii.gz or .nrrd.
        names: segment names in the order of their values (value i + 1 is names[i]), or by value;
            None if the values are canonical.
        image_grid: the grid the label must lie on; None to accept any.

    Returns:
        Labels uint8 (x, y, z), their grid, and what the reader should know, in sentences.

    Raises:
        LabelError: the file has another suffix, is empty, unreadable, too large, or has a value
            that is no structure; a name is unknown or given twice.
        GridError: it does not lie on `image_grid`; says in what they differ.
    """
    path = Path(path)
    label_map, limit = mapping(names), _limit(image_grid)
    if path.name.lower().endswith(".seg.nrrd"):
        raise LabelError(
            "is a segmentation of Slicer, whose segments may overlap",
            where=path.name,
            remedy="Choose .nii.gz as file extension in the settings of MONAI Label",
        )
    if not path.name.lower().endswith(SUFFIXES):
        raise LabelError(
            "is not the name of a label file",
            where=path.name,
            remedy=f"Give one of {', '.join(SUFFIXES)}",
        )
    accept = _accept(image_grid, limit, path)
    try:
        if path.stat().st_size == 0:
            raise LabelError("has zero bytes", where=path.name, remedy="Save and send it again")
        if path.name.lower().endswith(".nrrd"):
            array, grid = nrrd_label.read(path, accept, limit)
            labels = label_map.to_canonical(array, path.name)
        else:
            _require_bounded(path, limit)
            accept(*nifti.peek(path))
            labels, grid = nifti.read_label(path, label_map)
    except InputError as error:  # the client knows the file by its name alone
        kind = GridError if isinstance(error, GridError) else LabelError
        raise kind(error.problem, where=path.name, remedy=error.remedy) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LabelError(f"cannot be read, {reason}", where=path.name) from error
    return labels, grid, ()


def mapping(names: Names | None) -> LabelMap:
    """The label map that segment names mean; canonical values for None.

    Raises:
        LabelError: a name is no structure, or two name the same one.
    """
    if names is None:
        return CANONICAL
    entries = names if isinstance(names, Mapping) else dict(enumerate(names, start=1))
    if len(entries) > LIMITS.names:
        raise LabelError(f"{len(entries)} segments are named, more than {LIMITS.names}")
    values: dict[int, int] = {}
    for value, name in entries.items():
        found = _structure(name)
        if found in values.values():
            title = next(s.name for s in STRUCTURES if s.value == found)
            raise LabelError(
                f"two segments are named {title}", where=name, remedy="Merge or rename one of them"
            )
        values[value] = found
    return LabelMap("submitted", MappingProxyType(values))


def _structure(name: str) -> int:
    check_text(name, "a segment name")
    found = SYNONYMS.get(" ".join(name.replace("_", " ").replace("-", " ").casefold().split()))
    if found is None:
        raise LabelError(
            f"a segment is named {name[:80]!r}, which is no structure",
            remedy=f"Name the segments {', '.join(s.name for s in STRUCTURES)} and remove others",
        )
    return found


def names_of(label_info: object) -> Names | None:
    """Segment names from what a client sends as `label_info`, None where it sends none.

    A list of {"name": ..., "idx": ..., "value": ...}. Values count only where every entry has one;
    `idx` never does, because 3D Slicer counts segments in it that it does not export. An entry
    with value 0 is the background.

    Raises:
        LabelError: it has another form.
    """
    if label_info is None:
        return None
    if not isinstance(label_info, list) or not all(isinstance(e, dict) for e in label_info):
        raise LabelError("is not a list of segments", where="label_info")
    names = [entry.get("name") for entry in label_info]
    if not all(isinstance(name, str) for name in names):
        raise LabelError("has a segment without a name", where="label_info")
    if not label_info or not all("value" in entry for entry in label_info):
        return tuple(names)
    values = [entry["value"] for entry in label_info]
    if not all(type(value) is int and 0 <= value <= 255 for value in values):
        raise LabelError("has a value that is not a whole number from 0 to 255", where="label_info")
    if len(set(values)) < len(values):
        raise LabelError("gives the same value to two segments", where="label_info")
    return {value: name for value, name in zip(values, names, strict=True) if value != BACKGROUND}


def _limit(grid: Grid | None) -> int:
    """Bytes to which a label file may expand."""
    if grid is None:
        return LIMITS.unbounded_bytes
    return int(np.prod(grid.shape, dtype=np.int64)) * LIMITS.voxel_bytes + LIMITS.header_bytes


def _accept(image_grid: Grid | None, limit: int, path: Path) -> nrrd_label.Accept:
    """A check of sizes and grid as the header states them."""

    def accept(shape: tuple[int, ...], grid: Grid) -> None:
        if len(shape) != 3:
            raise GridError(
                f"has {shape[3]} phases",
                where=path.name,
                remedy="Submit one label a frame",
            )
        if image_grid is not None:
            _require_on(image_grid, grid, path.name)
        if np.prod(shape, dtype=np.float64) > limit:
            raise LabelError(
                f"claims to have {' x '.join(map(str, shape))} voxels", where=path.name
            )

    return accept


def _require_on(image_grid: Grid, grid: Grid, where: str) -> None:
    """Raise GridError unless each voxel of a label is one of the image's."""
    tolerance_mm = LIMITS.apart_voxels * min(image_grid.spacing)
    difference = image_grid.difference(grid, tolerance_mm)
    if difference is not None:
        raise GridError(
            f"does not lie on the grid of its image, {difference}",
            where=where,
            remedy="Draw on the image as the server gave it",
        )


def _require_bounded(path: Path, limit: int) -> None:
    """Expand a file piece by piece up to a limit, without keeping anything."""
    size = path.stat().st_size
    if path.name.lower().endswith(".gz"):
        size = 0
        try:
            with gzip.open(path, "rb") as stream:
                while size <= limit and (block := stream.read(1 << 18)):
                    size += len(block)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise LabelError(
                "is truncated or damaged", where=path.name, remedy="Save and send it again"
            ) from error
    if size > limit:
        raise LabelError(
            f"is larger than a label of this image can be ({limit >> 20} MiB)", where=path.name
        )


def check(labels: np.ndarray, grid: Grid, image_grid: Grid) -> tuple[str, ...]:
    """What is odd about a label (x, y, z) with canonical values, in sentences.

    Raises:
        GridError: it does not lie on the image's grid.
        LabelError: it is empty, or has other values than the structures'.
    """
    _require_on(image_grid, grid, "the label")
    labels = CANONICAL.to_canonical(labels, "the label")
    present = [structure for structure in STRUCTURES if (labels == structure.value).any()]
    if not present:
        raise LabelError(
            "the label is empty", remedy="Skip the case, with a reason, if there is no heart in it"
        )
    missing = [structure.name for structure in STRUCTURES if structure not in present]
    warnings = [f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} missing."] * bool(
        missing
    )
    filled = np.nonzero(labels)
    first = [int(indices.min()) for indices in filled]
    cropped = labels[tuple(slice(a, int(i.max()) + 1) for a, i in zip(first, filled, strict=True))]
    warnings += [text for s in present if (text := _components(cropped == s.value, s.name))]
    return (*warnings, *_around_cavity(cropped, first[2]))


def _components(mask: np.ndarray, name: str) -> str | None:
    """A sentence where a structure falls into parts that do not touch, corners included."""
    from scipy import ndimage

    _, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return f"{name} lies in {count} separate parts." if count > 1 else None


def _around_cavity(labels: np.ndarray, first_slice: int) -> list[str]:
    """Sentences on what the LV cavity touches in its slices besides myocardium."""
    cavity = labels == LV.value
    if not cavity.any() or not (labels == MYO.value).any():
        return []
    padded = np.pad(labels, ((1, 1), (1, 1), (0, 0)))
    size_i, size_j = labels.shape[:2]
    beside = [padded[i : i + size_i, j : j + size_j] for i, j in ((0, 1), (2, 1), (1, 0), (1, 2))]
    faces = [np.where(cavity, neighbour, LV.value) for neighbour in beside]
    contour = sum(np.count_nonzero(face != LV.value, axis=(0, 1)) for face in faces)
    to_open = sum(np.count_nonzero(face == BACKGROUND, axis=(0, 1)) for face in faces)
    to_rv = sum(np.count_nonzero(face == RV.value, axis=(0, 1)) for face in faces)
    sentences = []
    if (is_open := to_open > LIMITS.open_contour * np.maximum(contour, 1)).any():
        sentences.append(f"LV is not inside MYO in {_slices(is_open, first_slice)}.")
    if (touches := to_rv > 0).any():
        sentences.append(f"LV touches RV in {_slices(touches, first_slice)}.")
    return sentences


def _slices(flags: np.ndarray, first: int) -> str:
    numbers = [str(first + int(k)) for k in np.nonzero(flags)[0]]
    return f"slice{'s' * (len(numbers) > 1)} {', '.join(numbers)} (counted from 0)"


def slice_digests(labels: np.ndarray) -> tuple[str, ...]:
    """Of each slice of (x, y, z) canonical labels a digest: equal ones are equal slices."""
    slices = np.ascontiguousarray(np.moveaxis(labels, 2, 0), np.uint8)
    return tuple(hashlib.sha256(one.tobytes()).hexdigest()[:DIGEST_LENGTH] for one in slices)
