"""NIfTI studies and labels in and out, with the geometry and the traps of NIfTI-1 and -2.

The header's meaning follows the NIfTI-1 standard (Cox et al. 2004), with one exception: some
public sets (ACDC) carry an sform of unit scale beside a truthful qform and pixdim, so an sform is
believed only when its scale agrees with pixdim.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from cinelabel.core.errors import GridError, InputError
from cinelabel.core.files import atomic_write
from cinelabel.core.grid import Grid
from cinelabel.core.labels import CANONICAL, LabelMap
from cinelabel.studies.study import Study, require_image

SUFFIXES = (".nii", ".nii.gz")
LABEL_DESCRIPTION = "CineLabel labels: 1 LV, 2 MYO, 3 RV"
_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_LENGTH_UNITS = {1: "metres", 3: "micrometres"}  # codes of xyzt_units; unknown means mm
_TIME_UNITS_MS = {8: 1000.0, 16: 1.0, 24: 0.001}
_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    MemoryError,
)


@dataclass(frozen=True)
class Tolerances:
    """What still counts as agreement.

    Attributes:
        scale: relative difference between the sform's scale and pixdim; printing and
            non-orthonormal cosines in public sets stay below 1e-3.
        cycle_s: shortest and longest duration of all frames that can be a heart beat; other
            values in pixdim[4] are fillers, such as 1 s a frame.
    """

    scale: float = 0.01
    cycle_s: tuple[float, float] = (0.25, 3.0)


TOLERANCES = Tolerances()


@dataclass(frozen=True)
class Limits:
    """How far a file is read, in bytes after decompression.

    Attributes:
        header_bytes: the header with its extensions.
        after_bytes: what may follow the voxels.
    """

    header_bytes: int = 1 << 26
    after_bytes: int = 1 << 24


LIMITS = Limits()


@dataclass(frozen=True, eq=False)
class _File:
    """An opened NIfTI file: its header as stored, its real axes, its grid; voxels not yet read."""

    path: Path
    header: Nifti1Header
    shape: tuple[int, ...]
    grid: Grid

    def voxels(self, read: Callable[[Any], np.ndarray]) -> np.ndarray:
        """Voxels of the real axes, as `read` takes them from the image.

        The stream is read to its end, where gzip keeps the checksum; nibabel would not look. Much
        more than the header announces is refused, so that a small file cannot expand for ever.
        """
        kind = _image_kind(self.header)
        try:
            with LoggingOutputSuppressor(), ImageOpener(str(self.path)) as stream:
                holder = {"image": FileHolder(fileobj=cast(IOBase, stream))}
                array = read(kind.from_file_map(holder, mmap=False))
                _require_end(stream)
        except _UNREADABLE as error:
            raise _unreadable(self.path, error) from error
        return array.reshape(self.shape, order="F")


def is_nifti(path: Path) -> bool:
    """Whether the name is one of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def study_name(path: Path) -> str:
    """An identifier made from a file or folder name, without the suffixes of NIfTI."""
    name = re.sub(r"\.nii(\.gz)?$", "", path.resolve().name, flags=re.IGNORECASE)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return name if name.strip("._-") else "study"


def read(path: Path, *, mend: bool = False) -> Study:
    """A study from a 3D or 4D NIfTI file; trailing axes of length 1 are dropped.

    Frames are float32 with the file's scaling applied. Trigger times are taken from pixdim[4] when
    its unit is known and the frames fill a plausible heart beat. With `mend`, voxels that are NaN
    or infinite get the lowest value of the others, which `notes` then says.

    Raises:
        InputError: the file is missing, damaged, not a grey-value 3D or 4D image, has voxels that
            are not finite or all the same, or a geometry that contradicts itself.
    """
    path = Path(path)
    source = _open(path)
    voxels = source.voxels(lambda image: image.get_fdata(caching="unchanged", dtype=np.float32))
    frames = voxels if voxels.ndim == 4 else voxels[..., np.newaxis]
    notes = _mend(frames) if mend else ()
    require_image(frames, path)
    return Study(
        name=study_name(path),
        frames=frames,
        grid=source.grid,
        is_cine=voxels.ndim == 4,
        trigger_times_ms=_trigger_times_ms(source.header, frames.shape[3]),
        source=path,
        kind="nifti",
        header=source.header,
        notes=notes,
    )


def peek(path: Path) -> tuple[tuple[int, ...], Grid]:
    """Sizes of the real axes (three or four) and the grid, from the header alone.

    Raises:
        InputError: as for `read`, as far as the header tells.
    """
    source = _open(Path(path))
    return source.shape, source.grid


def read_label(path: Path, label_map: LabelMap = CANONICAL) -> tuple[np.ndarray, Grid]:
    """Labels uint8 (x, y, z) or (x, y, z, t) with canonical values, and their grid.

    Raises:
        InputError: as for `read`.
        LabelError: a value is none of the label map's.
    """
    path = Path(path)
    source = _open(path)
    array = source.voxels(lambda image: np.asanyarray(image.dataobj))
    return label_map.to_canonical(array, path), source.grid


def write_label(path: Path, labels: np.ndarray, study: Study) -> None:
    """Write labels on the study's grid, with the source's sform, qform, codes and pixdim.

    A study of one phase gives a 3D file. Labels (x, y, z) of one phase of a cine are written as
    3D, labels (x, y, z, t) of all phases as 4D. gzip at level 1.

    Raises:
        GridError: the labels have another shape than the study.
        LabelError: a value is none of the structures.
        OutputError: the file cannot be written.
    """
    path = _output_path(path)
    if labels.ndim == 4 and labels.shape[3] == 1 and not study.is_cine:
        labels = labels[..., 0]
    if labels.shape not in (study.grid.shape, (*study.grid.shape, study.n_frames)):
        raise GridError(
            f"labels of shape {labels.shape} do not fit the study's {study.frames.shape}",
            where=study.name,
        )
    labels = CANONICAL.to_canonical(labels, path)
    header = _new_header(study) if study.header is None else _header_of(study).copy()
    header.extensions.clear()  # they describe the image, and may name the patient
    for text in {"aux_file", "db_name", "intent_name"} & set(header.keys()):
        header[text] = b""
    header["descrip"] = LABEL_DESCRIPTION.encode()
    header["intent_code"] = _LABEL_INTENT
    header["cal_min"], header["cal_max"] = 0, 0
    _write(path, labels, header)


def write_image(path: Path, study: Study) -> None:
    """Write a study as NIfTI: int16 where its values are whole numbers that fit, else float32.

    Known trigger times go to pixdim[4] and toffset in seconds, as their mean step and first value.

    Raises:
        OutputError: the file cannot be written.
    """
    path = _output_path(path)
    frames = study.frames if study.is_cine else study.frames[..., 0]
    whole = bool(np.all(frames == np.rint(frames)))
    fits = frames.min() >= -32768 and frames.max() <= 32767
    header = _new_header(study)
    header["descrip"] = f"CineLabel {study.kind}".encode()
    _write(path, frames.astype(np.int16) if whole and fits else frames, header)


def _mend(frames: np.ndarray) -> tuple[str, ...]:
    """Fill voxels that are not finite in place; what was done, in sentences."""
    finite = np.isfinite(frames)
    if finite.all() or not finite.any():
        return ()
    frames[~finite] = frames[finite].min()
    return (f"{np.count_nonzero(~finite)} voxels were NaN or infinite and got the lowest value.",)


def _output_path(path: Path) -> Path:
    path = Path(path)
    if not is_nifti(path):
        raise InputError(
            "is not the name of a NIfTI file", where=path, remedy="End it with .nii.gz or .nii"
        )
    return path


def _header_of(study: Study) -> Nifti1Header:
    if not isinstance(study.header, Nifti1Header):
        raise InputError("its header is not one of NIfTI", where=study.name)
    return study.header


def _write(path: Path, array: np.ndarray, header: Nifti1Header) -> None:
    header["dim"] = [array.ndim, *array.shape] + [1] * (7 - array.ndim)
    header["vox_offset"] = 0
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    image = _image_kind(header)(array, None, header)
    for field in ("pixdim", "qform_code", "sform_code"):  # nibabel mends its copy, e.g. a qfac of 0
        image.header[field] = header[field]
    with atomic_write(path) as temporary:
        image.to_filename(temporary)


def _image_kind(header: Nifti1Header) -> type[nib.Nifti1Image]:
    return nib.Nifti2Image if isinstance(header, Nifti2Header) else nib.Nifti1Image


def _new_header(study: Study) -> Nifti1Header:
    """A header with the study's grid in sform and qform (the qform without shears)."""
    header = Nifti1Header()
    header.set_data_shape(study.frames.shape if study.is_cine else study.grid.shape)
    header.set_sform(study.grid.affine, code=_SCANNER)
    header.set_qform(study.grid.affine, code=_SCANNER, strip_shears=True)
    header["pixdim"][1:4] = study.grid.spacing
    header.set_xyzt_units("mm", "sec")
    times = study.trigger_times_ms
    if times is not None and len(times) > 1:
        header["pixdim"][4] = (times[-1] - times[0]) / (len(times) - 1) / 1000.0
        header["toffset"] = times[0] / 1000.0
    return header


def _open(path: Path) -> _File:
    """Read and check the header; the voxels follow on demand."""
    if not path.exists():
        raise InputError("does not exist", where=path)
    if path.is_dir() or not is_nifti(path):
        raise InputError(
            "is not a NIfTI file (.nii or .nii.gz)",
            where=path,
            remedy="Give a NIfTI file, or the folder of a DICOM series",
        )
    try:
        header = _stored_header(path)
        checked = _checked(header)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    _require_grey_values(checked, path)
    shape = _real_axes(header, path)
    _require_spacing(header, path)
    _require_all_bytes(header, path)
    try:
        grid = Grid((shape[0], shape[1], shape[2]), _affine(checked, path))
    except GridError as error:
        raise InputError(error.problem, where=path) from error
    return _File(path, header, shape, grid)


def require_size(path: Path, largest_bytes: int) -> None:
    """Raise InputError if a file's voxels need more memory than that, by its header."""
    source = _open(Path(path))
    itemsize = max(source.header.get_data_dtype().itemsize, np.dtype(np.float32).itemsize)
    needed = itemsize * math.prod(source.shape)
    if needed > largest_bytes:
        raise InputError(
            f"holds {needed / 2**30:.1f} GB of voxels, {largest_bytes / 2**30:g} GB are read at "
            "most",
            where=path.name,
        )


class _Beginning:
    """The first bytes of a stream, as nibabel reads headers; no more are read than `LIMITS` say."""

    def __init__(self, stream: ImageOpener) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """The next bytes. Raises ImageFileError where the header would be longer than it may be."""
        if not 0 <= size <= LIMITS.header_bytes - self.tell():
            raise ImageFileError("its header has an extension of an impossible length")
        return bytes(self._stream.read(size))

    def tell(self) -> int:
        """Where the next byte lies."""
        return int(self._stream.tell())


def _require_end(stream: ImageOpener) -> None:
    """Read to the end. Raises ValueError if that is far."""
    after = 0
    while block := stream.read(1 << 20):
        after += len(block)
        if after > LIMITS.after_bytes:
            raise ValueError("it goes on long after the voxels that its header announces")


def _stored_header(path: Path) -> Nifti1Header:
    """The header exactly as stored; nibabel would mend some fields silently on loading."""
    with ImageOpener(str(path)) as stream:
        size = stream.read(4)
        stream.seek(0)
        sizes = {int.from_bytes(size, "little"), int.from_bytes(size, "big")}
        for kind in (Nifti1Header, Nifti2Header):
            if kind.sizeof_hdr in sizes:
                header = kind.from_fileobj(_Beginning(stream), check=False)
                start = float(header["vox_offset"])
                if not 0 <= start <= LIMITS.header_bytes:
                    raise ImageFileError(f"its voxels begin at byte {start:g}")
                return header
    if len(size) < 4:
        raise EOFError
    raise ImageFileError("it does not begin with a NIfTI header")


def _checked(header: Nifti1Header) -> Nifti1Header:
    """A copy with what the standard lets one mend mended, such as a qfac of 0."""
    with LoggingOutputSuppressor():
        return type(header)(header.binaryblock, header.endianness, check=True)


def _unreadable(path: Path, error: BaseException) -> InputError:
    if isinstance(error, (EOFError, zlib.error)) or re.search("Expected|CRC", str(error)):
        return InputError("is truncated or damaged", where=path, remedy="Copy it again")
    if isinstance(error, MemoryError):
        return InputError("does not fit into memory", where=path)
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"cannot be read as NIfTI ({reason})", where=path)


def _require_grey_values(header: Nifti1Header, path: Path) -> None:
    dtype = header.get_data_dtype()
    if dtype.names:
        raise InputError("is a colour (RGB) image", where=path, remedy="Give a grey-value image")
    if dtype.kind not in "iuf":
        raise InputError(
            f"has {dtype} voxels", where=path, remedy="Give the magnitude image as real numbers"
        )


def _real_axes(header: Nifti1Header, path: Path) -> tuple[int, ...]:
    """The shape without trailing axes of length 1 beyond the third."""
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    sizes = " x ".join(map(str, shape))
    if not shape or min(shape) < 1:
        raise InputError(f"has no voxels ({sizes or 'no axes'})", where=path)
    if len(shape) < 3:
        raise InputError(
            f"is a {len(shape)}D image ({sizes})",
            where=path,
            remedy="Give a stack of slices (3D) or a cine (4D)",
        )
    if len(shape) > 4:
        raise InputError(
            f"has {len(shape)} axes ({sizes})",
            where=path,
            remedy="Give a stack of slices (3D) or a cine (4D)",
        )
    return shape


def _require_spacing(header: Nifti1Header, path: Path) -> None:
    spacing = np.array(header["pixdim"][1:4], np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        sizes = " x ".join(f"{v:g}" for v in spacing)
        raise InputError(
            f"has a spacing of {sizes} mm", where=path, remedy="Correct pixdim in its header"
        )
    unit = _LENGTH_UNITS.get(int(header["xyzt_units"]) & 0x07, "mm")
    if unit != "mm":
        raise InputError(f"gives lengths in {unit}", where=path, remedy="Convert it to mm")


def _require_all_bytes(header: Nifti1Header, path: Path) -> None:
    """An uncompressed file shorter than its header says is truncated."""
    if path.name.lower().endswith(".gz"):
        return
    voxels = int(np.prod(header.get_data_shape(), dtype=np.int64))
    expected = int(header["vox_offset"]) + voxels * header.get_data_dtype().itemsize
    if path.stat().st_size < expected:
        raise InputError(
            f"is truncated, it has {path.stat().st_size} of {expected} bytes",
            where=path,
            remedy="Copy it again",
        )


def _affine(header: Nifti1Header, path: Path) -> np.ndarray:
    """Voxel index to RAS+ mm: the sform where its scale agrees with pixdim, else the qform."""
    zooms = np.array(header.get_zooms()[:3], np.float64)
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    try:
        qform = header.get_qform() if qform_code > 0 else None
    except HeaderDataError as error:
        raise InputError(f"has a broken qform ({error})", where=path) from error
    if sform_code <= 0:
        return header.get_base_affine() if qform is None else qform
    sform = header.get_sform()
    scale = np.linalg.norm(sform[:3, :3], axis=0)
    if np.allclose(scale, zooms, rtol=TOLERANCES.scale, atol=0):
        return sform
    return _resolve_contradiction(sform, scale, qform, zooms, path)


def _resolve_contradiction(
    sform: np.ndarray, scale: np.ndarray, qform: np.ndarray | None, zooms: np.ndarray, path: Path
) -> np.ndarray:
    """The geometry when the sform's scale is not pixdim: a scale of 1 is a filler in either."""
    if np.allclose(zooms, 1) and not np.allclose(scale, 1):
        return sform
    if qform is not None:
        return qform
    if np.allclose(scale, 1, rtol=TOLERANCES.scale):
        scaled = sform.copy()
        scaled[:3, :3] *= zooms / scale
        return scaled
    sizes = [" x ".join(f"{v:.4g}" for v in values) for values in (scale, zooms)]
    raise InputError(
        f"contradicts itself, spacing is {sizes[0]} mm in the sform and {sizes[1]} mm in pixdim",
        where=path,
        remedy="Correct the header",
    )


def _trigger_times_ms(header: Nifti1Header, n_frames: int) -> tuple[float, ...] | None:
    to_ms = _TIME_UNITS_MS.get(int(header["xyzt_units"]) & 0x38)
    step = float(header["pixdim"][4])
    if to_ms is None or n_frames < 2 or not step > 0:
        return None
    shortest, longest = TOLERANCES.cycle_s
    if not shortest <= step * to_ms * n_frames / 1000.0 <= longest:
        return None
    start = float(header["toffset"])
    return tuple((start + step * t) * to_ms for t in range(n_frames))
