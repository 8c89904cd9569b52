"""The DICOM images of a folder: place, time and pixels of each, and what cannot be used.

Attributes are those of the Image Plane, MR Image and Cardiac modules (DICOM PS3.3, C.7.6.2, C.8.3).
Works with pydicom 2 and 3, which is imported when the first folder is read.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from CineLabelLib.core.errors import InputError

Progress = Callable[[float, str], object]

_TAGS = [
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
_NOT_UNIT = 1e-2  # how far printed direction cosines may be from perpendicular unit vectors
_OF_SCANNER = "Give the original images of the scanner"


@dataclass(frozen=True, eq=False)
class DicomImage:
    """A grey-value image with its place in space (LPS+, mm) and in the heart beat.

    `spacing` is the distance between rows and between columns, `orientation` (2, 3) the direction
    along a row and along a column, `position` (3,) the centre of the first pixel, `step` the
    distance to the next slice as far as the header tells.
    """

    path: Path
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
    step: float
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


def scan(folder: Path, progress: Progress) -> tuple[list[DicomImage], list[SetAside]]:
    """The images in a folder and its subfolders, in the order of their paths; no pixels are read.

    Hidden files, files without the DICOM preamble and objects without pixels are passed over.

    Raises:
        InputError: there is no DICOM image, a DICOM file is damaged, two files are the same image,
            or the folder mixes patients.
    """
    # for each file whose UIDs are against the standard, as in many real ones
    warnings.filterwarnings("ignore", "Invalid value for VR", UserWarning)
    images: list[DicomImage] = []
    set_aside: list[SetAside] = []
    patients: dict[str, Path] = {}
    seen: dict[str, Path] = {}
    paths = _dicom_files(folder)
    for number, path in enumerate(paths):
        progress(number / len(paths), f"Reading headers, {number} of {len(paths)}")
        header = _read_header(path)
        if "Rows" not in header or "Columns" not in header:
            continue
        patient = str(header.get("PatientID") or header.get("PatientName") or "").strip()
        patients.setdefault(patient, path)
        uid = str(header.get("SOPInstanceUID", path))
        if uid in seen:
            raise InputError(
                f"is the same image as {seen[uid].name}", where=path, remedy="Remove one of them"
            )
        seen[uid] = path
        found = _place_image(header, path)
        if isinstance(found, DicomImage):
            images.append(found)
        else:
            set_aside.append(found)
    _require_one_patient(patients, folder)
    if images:
        return images, set_aside
    if set_aside:
        first = set_aside[0]
        raise InputError(first.reason, where=first.path, remedy=first.remedy)
    raise InputError(
        "holds DICOM files, but no image", where=folder, remedy="Give the folder of a cine series"
    )


def read_pixels(image: DicomImage) -> np.ndarray:
    """(columns, rows) values: as stored, or float32 where the header rescales them.

    Raises:
        InputError: the pixels are missing, truncated, or compressed in an unknown way.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        dataset = pydicom.dcmread(image.path)
        stored = dataset.pixel_array
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError, KeyError) as error:
        raise InputError(
            "is truncated or damaged, its pixels cannot be read",
            where=image.path,
            remedy="Copy it again",
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise InputError(
            f"is compressed ({syntax}) in a way that cannot be read here",
            where=image.path,
            remedy="Decompress it, e.g. with gdcmconv --raw",
        ) from error
    if stored.shape != (image.rows, image.columns):
        raise InputError(
            f"has pixels of shape {stored.shape}, not {image.rows} x {image.columns}",
            where=image.path,
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


def _read_header(path: Path) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        for _ in header:  # values are converted, and found to be damaged, on access
            pass
        return header
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "is damaged, its DICOM header cannot be read", where=path, remedy="Copy it again"
        ) from error
    except (AttributeError, NotImplementedError) as error:
        raise InputError("is a DICOM file of an unknown form", where=path) from error


def _require_one_patient(patients: dict[str, Path], folder: Path) -> None:
    if len(patients) > 1:
        one, other = list(patients.values())[:2]
        raise InputError(
            f"mixes patients, e.g. {one.relative_to(folder)} and {other.relative_to(folder)}",
            where=folder,
            remedy="Keep one patient in a folder",
        )


def _place_image(header: Any, path: Path) -> DicomImage | SetAside:
    series_uid = str(header.get("SeriesInstanceUID", ""))
    problem = _why_not_grey(header) or _why_no_geometry(header)
    if problem is not None:
        return SetAside(path, series_uid, *problem)
    spacing = _numbers(header, "PixelSpacing")
    number = _number(header, "SeriesNumber")
    kinds = header.get("ImageType") or []
    kinds = [kinds] if isinstance(kinds, str) else kinds
    steps = (_number(header, "SpacingBetweenSlices"), _number(header, "SliceThickness"))
    return DicomImage(
        path=path,
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=series_uid,
        series_number=None if number is None else int(number),
        description=" ".join(str(header.get("SeriesDescription") or "").split()),
        phase_map=bool({str(kind) for kind in kinds} & _PHASE_MAP_TYPES),
        rows=int(header.Rows),
        columns=int(header.Columns),
        spacing=(spacing[0], spacing[1]),
        orientation=np.array(_numbers(header, "ImageOrientationPatient")).reshape(2, 3),
        position=np.array(_numbers(header, "ImagePositionPatient")),
        step=next((step for step in steps if step is not None and step > 0), 1.0),
        trigger_time_ms=_number(header, "TriggerTime"),
        instance_number=_number(header, "InstanceNumber"),
        content_time_s=_seconds(header.get("ContentTime")),
        temporal_position=_number(header, "TemporalPositionIdentifier"),
    )


def _why_not_grey(header: Any) -> tuple[str, str] | None:
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


def _why_no_geometry(header: Any) -> tuple[str, str] | None:
    sizes = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2}
    for keyword, size in sizes.items():
        values = _numbers(header, keyword)
        if not values:
            return f"has no {keyword}", _OF_SCANNER
        if len(values) != size or not all(map(math.isfinite, values)):
            return f"has a {keyword} that is not {size} numbers", _OF_SCANNER
    if min(_numbers(header, "PixelSpacing")) <= 0:
        return "has a PixelSpacing that is not positive", _OF_SCANNER
    axes = np.array(_numbers(header, "ImageOrientationPatient")).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > _NOT_UNIT:
        return (
            "has an ImageOrientationPatient that is no pair of perpendicular unit vectors",
            _OF_SCANNER,
        )
    return None


def _numbers(header: Any, keyword: str) -> list[float]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    items = [value] if isinstance(value, (str, float, int)) else value
    try:
        return [float(item) for item in items]
    except (TypeError, ValueError):
        return [math.nan]


def _number(header: Any, keyword: str) -> float | None:
    values = _numbers(header, keyword)
    return values[0] if values and math.isfinite(values[0]) else None


def _seconds(time: object) -> float | None:
    """Seconds after midnight of a DICOM time, HHMMSS.FFFFFF with trailing parts optional."""
    text = str(time or "").replace(":", "").strip()
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or len(whole) not in (2, 4, 6):
        return None
    hours, minutes, seconds = int(whole[:2]), int(whole[2:4] or 0), int(whole[4:6] or 0)
    rest = float(f"0.{fraction}") if fraction.isdigit() else 0.0
    return 3600.0 * hours + 60.0 * minutes + seconds + rest
