"""NIfTI-1 in and out with numpy alone: 4D, left-handed and slightly oblique grids as they are."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import numpy as np

from CineLabelLib.core.errors import GridError, InputError
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.labels import CANONICAL
from CineLabelLib.nifti_header import (
    DTYPES,
    FIRST_VOXEL,
    SIZE,
    affine_of,
    damaged,
    new_header,
    parse,
    real_axes,
    stored_dtype,
    trigger_times_ms,
    voxel_offset,
)
from CineLabelLib.study import CineStudy, require_image, study_name

SUFFIXES = (".nii", ".nii.gz")
LABEL_DESCRIPTION = b"CineLabel labels: 1 LV, 2 MYO, 3 RV"
_GZIP = b"\x1f\x8b"
_UINT8, _LABEL_INTENT = 2, 1002
_AFTER_BYTES = 1 << 24  # the most that are read behind the voxels
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, eq=False)
class Image:
    """What a NIfTI file holds.

    Attributes:
        voxels: (x, y, z) or (x, y, z, t), read-only; float32 where the header scales them, else of
            the stored type; trailing axes of length 1 are dropped.
        affine: (4, 4) float64, voxel index to RAS+ mm.
        header: the 348 bytes of the header as stored.
        notes: what had to be decided, in sentences.
    """

    voxels: np.ndarray
    affine: np.ndarray
    header: bytes
    notes: tuple[str, ...] = ()


def read(source: Path | bytes, where: object | None = None) -> Image:
    """The image in a NIfTI-1 file or in its bytes, compressed by gzip or not.

    Args:
        source: a .nii or .nii.gz file, or what is in one.
        where: what errors name; the file itself if it is left out.

    Raises:
        InputError: there is no such file, it is damaged, no grey-value 3D or 4D image, or its
            geometry contradicts itself.
    """
    where = where or (source if isinstance(source, Path) else "the image")
    if isinstance(source, Path):
        _require_nifti_name(source)
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
        with _opened(content) as stream:
            raw = stream.read(SIZE)
            header = parse(raw, where)
            shape = real_axes(header, where)
            dtype = stored_dtype(header, where)
            _skip(stream, voxel_offset(header, where) - SIZE)
            voxels = stream.read(math.prod(shape) * dtype.itemsize)
            _require_end(stream, where)
    except _DAMAGED as error:
        raise damaged(where) from error
    except MemoryError as error:
        raise InputError("does not fit into memory", where=where) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be read, {reason}", where=where) from error
    if len(voxels) < math.prod(shape) * dtype.itemsize:
        raise damaged(where)
    affine, notes = affine_of(header, shape, where)
    stored = np.frombuffer(voxels, dtype).reshape(shape, order="F")
    return Image(_scaled(stored, header, where), affine, raw, notes)


def read_study(path: Path) -> CineStudy:
    """The study in a 3D or 4D NIfTI-1 file.

    Trigger times are taken from pixdim[4] when its unit is known and the frames fill a plausible
    heart beat.

    Raises:
        InputError: as for `read`, or voxels are not finite or all the same.
    """
    path = Path(path)
    image = read(path)
    voxels = image.voxels if image.voxels.ndim == 4 else image.voxels[..., np.newaxis]
    require_image(voxels, path)
    return CineStudy(
        name=study_name(path),
        voxels=voxels,
        affine=image.affine,
        trigger_times_ms=trigger_times_ms(parse(image.header, path), voxels.shape[3]),
        source=path,
        notes=image.notes,
        header=image.header,
    )


def read_labels(source: Path | bytes, where: object | None = None) -> Image:
    """Labels uint8 (x, y, z) or (x, y, z, t) with the values of the structures.

    Raises:
        InputError: as for `read`.
        LabelError: a value is none of the structures.
    """
    image = read(source, where)
    named = where or (source if isinstance(source, Path) else "the label")
    return replace(image, voxels=CANONICAL.to_canonical(image.voxels, named))


def label_bytes(labels: np.ndarray, affine: np.ndarray, header: bytes | None = None) -> bytes:
    """Labels (x, y, z) or (x, y, z, t) as the bytes of a .nii.gz file, uint8, gzip at level 1.

    Args:
        labels: values of the structures; a fourth axis of length 1 is dropped.
        affine: (4, 4), voxel index to RAS+ mm.
        header: of the source. Its sform, qform, codes, pixdim and units are kept bit for bit; what
            may name a person is not. Without it, sform and qform are made from the affine.

    Raises:
        LabelError: a value is none of the structures.
        GridError: the labels' shape or the affine is not that of the header.
    """
    if labels.ndim == 4 and labels.shape[3] == 1:
        labels = labels[..., 0]
    if labels.ndim not in (3, 4):
        raise GridError(f"labels of shape {labels.shape} are not (x, y, z) or (x, y, z, t)")
    labels = CANONICAL.to_canonical(labels, "the labels")
    grid = Grid(labels.shape[:3], affine)
    if header is None:
        fields = new_header(grid)
    else:
        fields = parse(header, "the header").copy()
        shape = real_axes(fields, "the header")
        own = Grid(shape[:3], affine_of(fields, shape, "the header")[0])
        own.require_equal(grid, "the label")
    fields["dim"] = [labels.ndim, *labels.shape, *[1] * (7 - labels.ndim)]
    fields["datatype"], fields["bitpix"], fields["vox_offset"] = _UINT8, 8, FIRST_VOXEL
    fields["scl_slope"], fields["scl_inter"], fields["cal_min"], fields["cal_max"] = 1, 0, 0, 0
    fields["intent_code"], fields["intent_p"] = _LABEL_INTENT, 0
    for text in ("data_type", "db_name", "aux_file", "intent_name"):
        fields[text] = b""
    fields["descrip"] = LABEL_DESCRIPTION
    extensions = bytes(FIRST_VOXEL - SIZE)  # none: they describe the image, and may name a person
    content = fields.tobytes() + extensions + labels.tobytes(order="F")
    return gzip.compress(content, compresslevel=1, mtime=0)


def image_bytes(voxels: np.ndarray, affine: np.ndarray) -> bytes:
    """An image (x, y, z) or (x, y, z, t) as the bytes of a .nii.gz file that names nobody.

    The type of the voxels is kept where NIfTI-1 has it. Raises GridError for another shape.
    """
    if voxels.ndim not in (3, 4):
        raise GridError(f"an image of shape {voxels.shape} is not (x, y, z) or (x, y, z, t)")
    codes = {np.dtype(name): code for code, name in DTYPES.items()}
    dtype = voxels.dtype if voxels.dtype in codes else np.dtype("f4")
    fields = new_header(Grid(voxels.shape[:3], affine))
    fields["dim"] = [voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim)]
    fields["datatype"], fields["bitpix"] = codes[dtype], dtype.itemsize * 8
    fields["vox_offset"] = FIRST_VOXEL
    fields["scl_slope"] = 1
    stored = np.asarray(voxels, dtype.newbyteorder("<")).tobytes(order="F")
    content = fields.tobytes() + bytes(FIRST_VOXEL - SIZE) + stored
    return gzip.compress(content, compresslevel=1, mtime=0)


def _require_nifti_name(path: Path) -> None:
    if not path.exists():
        raise InputError("does not exist", where=path)
    if path.is_dir() or not path.name.lower().endswith(SUFFIXES):
        raise InputError(
            "is not a NIfTI file (.nii or .nii.gz)",
            where=path,
            remedy="Give a NIfTI file, or the folder of a DICOM series",
        )


def _opened(content: bytes) -> IO[bytes]:
    raw = io.BytesIO(content)
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if content[:2] == _GZIP else raw


def _skip(stream: IO[bytes], size: int) -> None:
    while size > 0 and (block := stream.read(min(size, 1 << 20))):
        size -= len(block)


def _require_end(stream: IO[bytes], where: object) -> None:
    """Read to the end, where gzip keeps the checksum; a small file must not expand for ever."""
    after = 0
    while block := stream.read(1 << 20):
        after += len(block)
        if after > _AFTER_BYTES:
            raise InputError(
                "cannot be read as NIfTI (it goes on long after the voxels that its header "
                "announces)",
                where=where,
            )


def _scaled(stored: np.ndarray, header: np.ndarray, where: object) -> np.ndarray:
    """Native voxels with the header's slope and intercept applied, read-only."""
    slope, intercept = np.float32(header["scl_slope"]), np.float32(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0 or (slope == 1 and intercept == 0):
        voxels = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    elif not np.isfinite(intercept):
        raise InputError(
            f"has an intercept (scl_inter) of {intercept}", where=where, remedy="Correct its header"
        )
    else:
        wide = stored.astype(np.promote_types(stored.dtype, np.float32))
        wide *= slope
        wide += intercept
        voxels = wide.astype(np.float32, copy=False)
    voxels.flags.writeable = False
    return voxels
