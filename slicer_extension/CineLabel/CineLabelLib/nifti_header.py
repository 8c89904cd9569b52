"""The NIfTI-1 header: its fields, the axes and types that are read, and what its geometry means.

The header's meaning follows the NIfTI-1 standard (Cox et al. 2004), with one exception: some public
sets (ACDC) carry an sform of unit scale beside a truthful qform and pixdim, so an sform is believed
only when its scale agrees with pixdim. The server reads files by the same rules.
"""

from __future__ import annotations

import math

import numpy as np

from CineLabelLib.core.errors import GridError, InputError
from CineLabelLib.core.grid import Grid

HEADER = np.dtype(
    [
        ("sizeof_hdr", "<i4"),
        ("data_type", "S10"),
        ("db_name", "S18"),
        ("extents", "<i4"),
        ("session_error", "<i2"),
        ("regular", "S1"),
        ("dim_info", "u1"),
        ("dim", "<i2", 8),
        ("intent_p", "<f4", 3),
        ("intent_code", "<i2"),
        ("datatype", "<i2"),
        ("bitpix", "<i2"),
        ("slice_start", "<i2"),
        ("pixdim", "<f4", 8),
        ("vox_offset", "<f4"),
        ("scl_slope", "<f4"),
        ("scl_inter", "<f4"),
        ("slice_end", "<i2"),
        ("slice_code", "u1"),
        ("xyzt_units", "u1"),
        ("cal_max", "<f4"),
        ("cal_min", "<f4"),
        ("slice_duration", "<f4"),
        ("toffset", "<f4"),
        ("glmax", "<i4"),
        ("glmin", "<i4"),
        ("descrip", "S80"),
        ("aux_file", "S24"),
        ("qform_code", "<i2"),
        ("sform_code", "<i2"),
        ("quatern", "<f4", 3),
        ("qoffset", "<f4", 3),
        ("srow", "<f4", (3, 4)),
        ("intent_name", "S16"),
        ("magic", "S4"),
    ]
)
SIZE, _SIZE_OF_NIFTI_2 = 348, 540
FIRST_VOXEL = 352  # the header, and four bytes that say whether extensions follow
DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_COLOURS = (128, 2304)
_SCANNER, _MM_AND_SECONDS = 1, 10
_XFORM_CODES = range(1, 6)
_LENGTH_UNITS = {1: "metres", 3: "micrometres"}  # codes of xyzt_units; unknown means mm
_TIME_UNITS_MS = {8: 1000.0, 16: 1.0, 24: 0.001}
_SAME_SCALE = 0.01  # relative difference between the sform's scale and pixdim
_CYCLE_S = (0.25, 3.0)  # what can be a heart beat; other values in pixdim[4] are fillers
_HEADER_BYTES = 1 << 26  # the most that are read before the voxels


def parse(raw: bytes, where: object) -> np.ndarray:
    """The header's fields, a 0-d record in the byte order of the file."""
    if len(raw) < 4:
        raise damaged(where)
    little, big = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big")
    if _SIZE_OF_NIFTI_2 in (little, big):
        raise InputError("is a NIfTI-2 file", where=where, remedy="Convert it to NIfTI-1")
    if SIZE not in (little, big):
        raise InputError(
            "cannot be read as NIfTI (it does not begin with a NIfTI header)", where=where
        )
    if len(raw) < SIZE:
        raise damaged(where)
    header = np.frombuffer(
        raw, HEADER if little == SIZE else HEADER.newbyteorder(">"), count=1
    ).reshape(())
    if header["magic"].item() != b"n+1":
        raise InputError(
            "cannot be read as NIfTI (it is not a NIfTI-1 file in one piece)", where=where
        )
    return header


def damaged(where: object) -> InputError:
    return InputError("is truncated or damaged", where=where, remedy="Copy it again")


def voxel_offset(header: np.ndarray, where: object) -> int:
    offset = float(header["vox_offset"]) or FIRST_VOXEL
    if not FIRST_VOXEL <= offset <= _HEADER_BYTES:
        raise InputError(
            f"cannot be read as NIfTI (its voxels begin at byte {offset:g})", where=where
        )
    return int(offset)


def stored_dtype(header: np.ndarray, where: object) -> np.dtype:
    code = int(header["datatype"])
    if code in _COLOURS:
        raise InputError("is a colour (RGB) image", where=where, remedy="Give a grey-value image")
    if code not in DTYPES:
        raise InputError(
            f"has voxels of NIfTI's data type {code}, which is not read here",
            where=where,
            remedy="Give the magnitude image as integers or real numbers of up to 64 bits",
        )
    return np.dtype(DTYPES[code]).newbyteorder(header.dtype["dim"].base.byteorder)


def real_axes(header: np.ndarray, where: object) -> tuple[int, ...]:
    """The shape without trailing axes of length 1 beyond the third."""
    count = min(max(int(header["dim"][0]), 0), 7)
    shape = tuple(int(n) for n in header["dim"][1 : count + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    sizes = " x ".join(map(str, shape))
    if not shape or min(shape) < 1:
        raise InputError(f"has no voxels ({sizes or 'no axes'})", where=where)
    if len(shape) not in (3, 4):
        raise InputError(
            f"has {len(shape)} axes ({sizes})",
            where=where,
            remedy="Give a stack of slices (3D) or a cine (4D)",
        )
    return shape


def affine_of(
    header: np.ndarray, shape: tuple[int, ...], where: object
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Voxel index to RAS+ mm: the sform where its scale agrees with pixdim, else the qform."""
    zooms = _spacing(header, where)
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    qform = _qform(header, zooms, where) if qform_code in _XFORM_CODES else None
    notes: tuple[str, ...] = ()
    if sform_code in _XFORM_CODES:
        affine = _believed(_sform(header), qform, zooms, where)
    elif qform is not None:
        affine = qform
    else:
        affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[:3]) - 1) / 2)
        notes = ("The file does not tell where the patient lies; left and right are a guess.",)
    try:
        return Grid(shape[:3], affine).affine, notes
    except GridError as error:
        raise InputError(error.problem, where=where) from error


def trigger_times_ms(header: np.ndarray, n_frames: int) -> tuple[float, ...] | None:
    to_ms = _TIME_UNITS_MS.get(int(header["xyzt_units"]) & 0x38)
    step, start = float(header["pixdim"][4]), float(header["toffset"])
    if to_ms is None or n_frames < 2 or not step > 0:
        return None
    if not _CYCLE_S[0] <= step * to_ms * n_frames / 1000.0 <= _CYCLE_S[1]:
        return None
    return tuple((start + step * t) * to_ms for t in range(n_frames))


def new_header(grid: Grid) -> np.ndarray:
    """A header with the grid in sform and qform; the qform is the nearest one without shears."""
    from scipy.spatial.transform import Rotation

    turned = grid.columns * [1, 1, grid.handedness]
    left, _, right = np.linalg.svd(turned)
    b, c, d, a = Rotation.from_matrix(left @ right).as_quat()
    header = np.zeros((), HEADER)
    header["sizeof_hdr"], header["regular"], header["magic"] = SIZE, b"r", b"n+1"
    header["pixdim"] = [grid.handedness, *grid.spacing, 0, 0, 0, 0]
    header["xyzt_units"] = _MM_AND_SECONDS
    header["qform_code"] = header["sform_code"] = _SCANNER
    header["quatern"] = np.array([b, c, d]) * (1.0 if a >= 0 else -1.0)
    header["qoffset"] = grid.affine[:3, 3]
    header["srow"] = grid.affine[:3]
    return header


def _spacing(header: np.ndarray, where: object) -> np.ndarray:
    spacing = header["pixdim"][1:4].astype(np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        sizes = " x ".join(f"{v:g}" for v in spacing)
        raise InputError(
            f"has a spacing of {sizes} mm", where=where, remedy="Correct pixdim in its header"
        )
    unit = _LENGTH_UNITS.get(int(header["xyzt_units"]) & 0x07)
    if unit is not None:
        raise InputError(f"gives lengths in {unit}", where=where, remedy="Convert it to mm")
    return spacing


def _sform(header: np.ndarray) -> np.ndarray:
    return np.vstack([header["srow"].astype(np.float64), [0, 0, 0, 1]])


def _qform(header: np.ndarray, zooms: np.ndarray, where: object) -> np.ndarray:
    b, c, d = header["quatern"].astype(np.float64)
    a_squared = 1.0 - (b * b + c * c + d * d)
    if not a_squared > -3 * np.finfo(np.float32).eps:
        raise InputError("has a broken qform", where=where, remedy="Correct its header")
    a = math.sqrt(a_squared) if a_squared > 3 * np.finfo(np.float32).eps else 0.0
    qfac = -1.0 if float(header["pixdim"][0]) == -1 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    ) / (a * a + b * b + c * c + d * d)
    affine[:3, :3] *= zooms * [1, 1, qfac]
    affine[:3, 3] = header["qoffset"]
    return affine


def _believed(
    sform: np.ndarray, qform: np.ndarray | None, zooms: np.ndarray, where: object
) -> np.ndarray:
    """The sform, unless its scale contradicts pixdim: a scale of 1 is a filler in either."""
    scale = np.linalg.norm(sform[:3, :3], axis=0)
    if np.allclose(scale, zooms, rtol=_SAME_SCALE, atol=0):
        return sform
    if np.allclose(zooms, 1) and not np.allclose(scale, 1):
        return sform
    if qform is not None:
        return qform
    if np.allclose(scale, 1, rtol=_SAME_SCALE):
        scaled = sform.copy()
        scaled[:3, :3] *= zooms / scale
        return scaled
    sizes = [" x ".join(f"{v:.4g}" for v in values) for values in (scale, zooms)]
    raise InputError(
        f"contradicts itself, spacing is {sizes[0]} mm in the sform and {sizes[1]} mm in pixdim",
        where=where,
        remedy="Correct the header",
    )
