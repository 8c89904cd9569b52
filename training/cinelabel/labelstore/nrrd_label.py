"""Labels in NRRD as 3D Slicer writes them (one file, raw or gzip), read without trust in them.

pynrrd reads the header only: for the voxels it would follow the name of another file, and expand
without a bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cinelabel.core.errors import LabelError
from cinelabel.core.grid import Grid

Accept = Callable[[tuple[int, ...], Grid], None]

HEADER_BYTES = 1 << 16
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **{"float": "f4", "double": "f8"},
}
_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
}


def read(path: Path, accept: Accept, limit: int) -> tuple[np.ndarray, Grid]:
    """Voxels (x, y, z) as stored, and their grid.

    Args:
        path: the file.
        accept: called with sizes and grid before voxels are read; raises what is wrong with them.
        limit: bytes to which the file may expand.

    Raises:
        LabelError: the file is damaged, too large, or of a kind that is not read.
        GridError: its grid is none.
    """
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise LabelError("is larger than a label of this image can be", where=path.name)
    header, data = _split(content, path)
    if {"data file", "datafile"} & header.keys():
        raise LabelError("keeps its voxels in another file", where=path.name, remedy="Save as one")
    try:
        shape = tuple(int(n) for n in header["sizes"])
        dtype = np.dtype("<" + _TYPES[str(header["type"]).strip().lower()])
        affine = _affine(header)
    except (KeyError, TypeError, ValueError) as error:
        raise LabelError(
            f"is no label in NRRD that can be read ({type(error).__name__}: {error})",
            where=path.name,
            remedy="Save it as .nii.gz",
        ) from error
    if len(shape) != 3 or header.get("dimension") != 3:
        raise LabelError(f"has {len(shape)} axes", where=path.name, remedy="Give one phase (3D)")
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    accept(shape, grid)
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    voxels = _expanded(data, str(header.get("encoding", "")).lower(), expected, path)
    if str(header.get("endian", "little")).lower() == "big":
        dtype = dtype.newbyteorder(">")
    return np.frombuffer(voxels, dtype).reshape(shape, order="F"), grid


def _split(content: bytes, path: Path) -> tuple[Mapping[str, Any], bytes]:
    """The header as pynrrd reads it, and the bytes after it."""
    import nrrd

    ends = [(at, len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (at := content.find(mark)) >= 0]
    at, length = min(ends, default=(len(content), 0))
    try:
        if at > HEADER_BYTES:
            raise ValueError("its header has no end")
        return nrrd.read_header(content[:at].decode("utf-8").splitlines()), content[at + length :]
    except Exception as error:  # pynrrd lets many kinds through
        reason = " ".join(str(error).split())[:200]
        raise LabelError(f"cannot be read as NRRD ({reason})", where=path.name) from error


def _affine(header: Mapping[str, Any]) -> np.ndarray:
    """Voxel index to RAS+ mm."""
    signs = _TO_RAS[str(header["space"]).strip().lower()]
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"], np.float64).reshape(3, 3).T
    affine[:3, 3] = np.asarray(header["space origin"], np.float64).reshape(3)
    affine[:3] *= np.array(signs)[:, None]
    return affine


def _expanded(data: bytes, encoding: str, expected: int, path: Path) -> bytes:
    """Exactly the bytes of the voxels."""
    if encoding in ("gzip", "gz"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            data = unpacker.decompress(data, expected + 1)
        except zlib.error as error:
            raise LabelError("is damaged", where=path.name, remedy="Save it again") from error
        if len(data) == expected and not unpacker.eof:  # the checksum comes last
            raise LabelError("is truncated", where=path.name, remedy="Save and send it again")
    elif encoding != "raw":
        raise LabelError(
            f"is encoded as {encoding or 'nothing'!r}", where=path.name, remedy="Save as .nii.gz"
        )
    if len(data) != expected:
        raise LabelError(
            f"does not hold the {expected} bytes of its voxels",
            where=path.name,
            remedy="Save and send it again",
        )
    return data
