"""The DICOM images of a folder, by their headers: geometry, timing, and what cannot be used.

Attributes are those of the Image Plane, MR Image and Cardiac modules (DICOM PS3.3, C.7.6.2, C.8.3).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ..core.errors import InputError

HEADER_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "PatientID",
    "PatientName",
    "ImageType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SpacingBetweenSlices",
    "TriggerTime",
    "InstanceNumber",
    "ContentTime",
    "TemporalPositionIdentifier",
]
_PHASE_MAP_TYPES = {"P", "PHASE", "PHASE MAP", "VELOCITY", "PHASE CONTRAST"}
_READERS = rf"(pydicom|highdicom|cinelabel\.studies|{re.escape(__package__)})(\.|$)"
_QUIET = ("ignore", None, UserWarning, re.compile(_READERS), 0)
_NOT_UNIT = 1e-2  # how far printed direction cosines may be from perpendicular unit vectors


@dataclass(frozen=True, eq=False)
class Instance:
    """A grey-value image with its place in space (LPS+, mm) and in the heart beat.

    `spacing` is the distance between rows and between columns, `orientation` (2, 3) the direction
    along a row and along a column, `position` (3,) the centre of the first pixel.
    """

    path: Path
    sop_uid: str
    study_uid: str
    series_uid: str
    series_number: int | None
    description: str
    phase_map: bool
    rows: int
    columns: int
    spacing: tuple[float, float]
    orientation: np.ndarray
    position: np.ndarray
    slice_thickness_mm: float | None
    slice_spacing_mm: float | None
    trigger_time_ms: float | None
    instance_number: float | None
    content_time_s: float | None
    temporal_position: float | None

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit normal of the slice, LPS+."""
        normal = np.cross(self.orientation[0], self.orientation[1])
        return normal / np.linalg.norm(normal)


@dataclass(frozen=True)
class SetAside:
    """An image that cannot be part of a stack, and why."""

    path: Path
    series_uid: str
    reason: str
    remedy: str


def quiet() -> None:
    """Pass over warnings on values that real files hold against the standard, from now on.

    For the whole process and once: the filters of `warnings` are shared by all threads, and two
    that change them for a while put back what the other one had set.
    """
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=_READERS)


def scan(
    folder: Path, progress: Callable[[int, int], object] = lambda done, total: None
) -> tuple[list[Instance], list[SetAside]]:
    """The images in a folder and its subfolders, in the order of their paths; no pixels are read.

    Hidden files, files without the DICOM preamble and objects without pixels are passed over.
    `progress` is called with the number of files that are read and of all; what it raises ends it.

    Raises:
        InputError: there is no DICOM image, a DICOM file is damaged, two files are the same
            image, or the folder mixes patients.
    """
    images: list[Instance] = []
    set_aside: list[SetAside] = []
    patients: dict[str, Path] = {}
    seen: dict[str, Path] = {}
    paths = _dicom_files(folder)
    for number, path in enumerate(paths):
        progress(number, len(paths))
        header = _read_header(path)
        if "Rows" not in header or "Columns" not in header:
            continue
        _require_one_patient(header, path, patients, folder)
        sop_uid = str(header.get("SOPInstanceUID", path))
        if sop_uid in seen:
            raise InputError(
                f"is the same image as {seen[sop_uid].name}",
                where=path,
                remedy="Remove one of them",
            )
        seen[sop_uid] = path
        found = place_image(header, path, sop_uid)
        if isinstance(found, Instance):
            images.append(found)
        else:
            set_aside.append(found)
    if images:
        return images, set_aside
    if set_aside:
        first = set_aside[0]
        raise InputError(first.reason, where=first.path, remedy=first.remedy)
    raise InputError(
        "holds DICOM files, but no image", where=folder, remedy="Give the folder of a cine series"
    )


def require_size(folder: Path, largest_bytes: int) -> None:
    """Raise InputError if the images below a folder need more memory than that, by their headers.

    A file that is deflated as a whole is refused: what it expands to is known only afterwards.
    """
    needed = 0
    for path in _dicom_files(folder):
        try:
            syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise InputError("is damaged, its DICOM header cannot be read", where=path) from error
        if syntax == DeflatedExplicitVRLittleEndian:
            raise InputError(
                "is deflated as a whole", where=path, remedy="Send it as explicit VR little endian"
            )
        header = _read_header(path)
        sizes = [_number(header, k) for k in ("Rows", "Columns", "SamplesPerPixel")]
        frames = _number(header, "NumberOfFrames") or 1
        needed += int(math.prod(size or 1 for size in (*sizes, frames))) * 4
        if needed > largest_bytes:
            raise InputError(
                f"holds more than {largest_bytes / 2**30:g} GB of voxels, {path.name} included",
                where=folder,
            )


def read_pixels(instance: Instance) -> np.ndarray:
    """(columns, rows) values: as stored, or float32 where the header rescales them.

    Raises:
        InputError: the pixels are missing, truncated, or compressed in an unknown way.
    """
    try:
        quiet()
        dataset = pydicom.dcmread(instance.path)
        stored = dataset.pixel_array
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError, KeyError) as error:
        raise InputError(
            "is truncated or damaged, its pixels cannot be read",
            where=instance.path,
            remedy="Copy it again",
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise InputError(
            f"is compressed ({syntax}) in a way that cannot be read here",
            where=instance.path,
            remedy="Decompress it, e.g. with gdcmconv --raw",
        ) from error
    if stored.shape != (instance.rows, instance.columns):
        raise InputError(
            f"has pixels of shape {stored.shape}, not {instance.rows} x {instance.columns}",
            where=instance.path,
        )
    slope = _number(dataset, "RescaleSlope") or 1.0
    intercept = _number(dataset, "RescaleIntercept") or 0.0
    if (slope, intercept) == (1.0, 0.0):
        return stored.T
    values = stored.T.astype(np.float32)
    values *= slope
    values += intercept
    return values


def _dicom_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(problem, where=folder, remedy="Give the folder of a DICOM cine series")
    files = sorted(path for path in folder.rglob("*") if _is_visible(path, folder))
    if not files:
        raise InputError(
            "is an empty folder", where=folder, remedy="Give the folder of a DICOM cine series"
        )
    found = [path for path in files if _has_preamble(path)]
    if not found:
        raise InputError(
            f"has no DICOM file among its {len(files)} files",
            where=folder,
            remedy="Give the folder of a DICOM cine series, or a NIfTI file",
        )
    return found


def _is_visible(path: Path, folder: Path) -> bool:
    """Whether a path is a file and nothing on its way from the folder is hidden."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.is_file()


def _has_preamble(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise InputError(f"cannot be read, {error.strerror}", where=path) from error


def _read_header(path: Path) -> Dataset:
    try:
        quiet()
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
        for _ in header:  # values are converted, and found to be damaged, on access
            pass
        return header
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "is damaged, its DICOM header cannot be read", where=path, remedy="Copy it again"
        ) from error
    except (AttributeError, NotImplementedError) as error:
        raise InputError("is a DICOM file of an unknown form", where=path) from error


def patient_id(folder: Path) -> str | None:
    """PatientID, else PatientName, of the first DICOM file below a folder; None where it has none.

    Raises:
        InputError: no DICOM file is there, or its header is damaged.
    """
    return _patient(_read_header(_dicom_files(folder)[0])) or None


def _patient(header: Dataset) -> str:
    return str(header.get("PatientID") or header.get("PatientName") or "").strip()


def _require_one_patient(
    header: Dataset, path: Path, patients: dict[str, Path], folder: Path
) -> None:
    patient = _patient(header)
    patients.setdefault(patient, path)
    if len(patients) > 1:
        one, other = list(patients.values())[:2]
        raise InputError(
            f"mixes patients, e.g. {one.relative_to(folder)} and {other.relative_to(folder)}",
            where=folder,
            remedy="Keep one patient in a folder",
        )


def place_image(header: Dataset, path: Path, sop_uid: str) -> Instance | SetAside:
    """The image of a header (with `HEADER_TAGS`), or why it cannot be used."""
    series_uid = str(header.get("SeriesInstanceUID", ""))
    problem = _why_not_grey(header) or _why_no_geometry(header)
    if problem is not None:
        return SetAside(path, series_uid, *problem)
    spacing = _numbers(header, "PixelSpacing")
    number = _number(header, "SeriesNumber")
    image_type = header.get("ImageType") or []
    kinds = {str(image_type)} if isinstance(image_type, str) else {str(kind) for kind in image_type}
    return Instance(
        path=path,
        sop_uid=sop_uid,
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=series_uid,
        series_number=None if number is None else int(number),
        description=" ".join(str(header.get("SeriesDescription") or "").split()),
        phase_map=bool(kinds & _PHASE_MAP_TYPES),
        rows=int(header.Rows),
        columns=int(header.Columns),
        spacing=(spacing[0], spacing[1]),
        orientation=np.array(_numbers(header, "ImageOrientationPatient")).reshape(2, 3),
        position=np.array(_numbers(header, "ImagePositionPatient")),
        slice_thickness_mm=_positive(_number(header, "SliceThickness")),
        slice_spacing_mm=_positive(_number(header, "SpacingBetweenSlices")),
        trigger_time_ms=_number(header, "TriggerTime"),
        instance_number=_number(header, "InstanceNumber"),
        content_time_s=_seconds(header.get("ContentTime")),
        temporal_position=_number(header, "TemporalPositionIdentifier"),
    )


def _why_not_grey(header: Dataset) -> tuple[str, str] | None:
    samples = int(header.get("SamplesPerPixel") or 1)
    photometric = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if samples != 1 or not photometric.startswith("MONOCHROME"):
        return (
            f"is a colour image (SamplesPerPixel {samples}, {photometric})",
            "Give the grey-value images of the scanner",
        )
    if photometric != "MONOCHROME2":
        return f"has inverted grey values ({photometric})", "Export it as MONOCHROME2"
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        return (
            f"is a multi-frame object ({frames} frames)",
            "Export it as classic MR images, one file a frame",
        )
    return None


def _why_no_geometry(header: Dataset) -> tuple[str, str] | None:
    remedy = "Give the original images of the scanner"
    sizes = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2}
    for keyword, size in sizes.items():
        values = _numbers(header, keyword)
        if not values:
            return f"has no {keyword}", remedy
        if len(values) != size or not all(map(math.isfinite, values)):
            return f"has a {keyword} that is not {size} numbers", remedy
    if min(_numbers(header, "PixelSpacing")) <= 0:
        return "has a PixelSpacing that is not positive", remedy
    axes = np.array(_numbers(header, "ImageOrientationPatient")).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > _NOT_UNIT:
        return (
            "has an ImageOrientationPatient that is no pair of perpendicular unit vectors",
            remedy,
        )
    return None


def _numbers(header: Dataset, keyword: str) -> list[float]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    items = value if isinstance(value, (MultiValue, list)) else [value]
    try:
        return [float(item) for item in items]
    except (TypeError, ValueError):
        return [math.nan]


def _number(header: Dataset, keyword: str) -> float | None:
    values = _numbers(header, keyword)
    return values[0] if values and math.isfinite(values[0]) else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _seconds(time: object) -> float | None:
    """Seconds after midnight of a DICOM time, HHMMSS.FFFFFF with trailing parts optional."""
    text = str(time or "").replace(":", "").strip()
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or len(whole) not in (2, 4, 6):
        return None
    hours, minutes, seconds = int(whole[:2]), int(whole[2:4] or 0), int(whole[4:6] or 0)
    rest = float(f"0.{fraction}") if fraction.isdigit() else 0.0
    return 3600.0 * hours + 60.0 * minutes + seconds + rest
