"""A study as MR Image Storage objects (DICOM PS3.3, A.4), one file a slice and phase.

Made for phantoms: the patient module says so, and UIDs follow from the names given. dciodvfy finds
no error in the objects, dcentvfy none between those of a series (Clunie, dicom3tools).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from cinelabel.core.errors import GridError, InputError, OutputError
from cinelabel.core.files import output_error
from cinelabel.core.grid import Grid
from cinelabel.studies.study import Study

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NOT_PERPENDICULAR = 1e-3  # of the in-plane axes, which DICOM takes to be perpendicular
_DATE = "20000101"  # of everything: a phantom has no date, and the same study gives the same bytes
_BREATH_HOLD_S = 20  # from the beginning of one slice to that of the next
_MOST_SLICES = 4000  # that begin on one day


@dataclass(frozen=True)
class Protocol:
    """How a study was acquired, as far as that is known; what is None is left out or empty.

    Attributes:
        field_strength_t: of the main field, in tesla.
        flip_degrees: flip angle.
        repetition_ms: time between two radio-frequency pulses.
        echo_ms: time from pulse to echo.
        phase_axis: axis of the study's frames along which phase was encoded, 0 or 1.
    """

    field_strength_t: float | None = None
    flip_degrees: float | None = None
    repetition_ms: float | None = None
    echo_ms: float | None = None
    phase_axis: int | None = None


@dataclass(frozen=True)
class _Quantised:
    """Frames as int16 with the line back to their values, and the display window."""

    frames: np.ndarray
    slope: float
    intercept: float
    window: tuple[float, float]


def write_cine(
    folder: Path,
    study: Study,
    *,
    patient_id: str = "PHANTOM",
    series_uid: str | None = None,
    series_number: int = 1,
    description: str = "cine short axis phantom",
    protocol: Protocol = Protocol(),
) -> list[Path]:
    """Write a study as int16 MONOCHROME2 images, slice by slice; the folder is whole or absent.

    Whole numbers that fit 16 bits are stored as they are, other values in 4096 steps with a
    rescale slope. UIDs depend on `patient_id`, the study's name and `series_number` alone.

    Args:
        folder: a folder that does not exist yet or is empty.
        study: frames (x, y, z, t); x becomes the column and y the row of an image.
        patient_id: at most 64 characters.
        series_uid: SeriesInstanceUID; made from the names if not given.
        series_number: SeriesNumber.
        description: SeriesDescription.
        protocol: how the study was acquired.

    Returns:
        The files, in the order of slices and phases.

    Raises:
        InputError: the patient id is too long.
        GridError: the in-plane axes are not perpendicular.
        OutputError: the folder is not empty or cannot be written.
    """
    folder = Path(folder)
    if not 0 < len(patient_id) <= 64 or "\\" in patient_id:
        raise InputError(f"{patient_id!r} is not a patient id of 1 to 64 characters")
    i, j = study.grid.columns[:, 0], study.grid.columns[:, 1]
    if abs(float(i @ j)) > _NOT_PERPENDICULAR:
        raise GridError("its in-plane axes are not perpendicular", where=study.name)
    quantised = _quantise(study.frames)
    common = _Series(study, patient_id, series_uid, series_number, description, quantised, protocol)
    names = []
    temporary = folder.with_name(f".{secrets.token_hex(4)}-{folder.name}")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(
                "is not an empty folder", where=folder, remedy="Name a folder that does not exist"
            )
        temporary.mkdir(parents=True)
        for z in range(study.grid.shape[2]):
            for t in range(study.n_frames):
                names.append(f"slice{z:02d}_phase{t:02d}.dcm")
                with (temporary / names[-1]).open("xb") as stream:
                    common.image(z, t).save_as(stream, write_like_original=False)
                    stream.flush()
                    os.fsync(stream.fileno())
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except OSError as error:
        raise output_error(error, folder) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return [folder / name for name in names]


@dataclass(frozen=True, eq=False)
class _Series:
    """What the images of a series share, and the images made from it."""

    study: Study
    patient_id: str
    series_uid: str | None
    series_number: int
    description: str
    quantised: _Quantised
    protocol: Protocol

    def uid(self, *parts: object) -> UID:
        """A UID that depends on the patient, the study and the parts alone."""
        names = ["cinelabel", self.patient_id, self.study.name, *map(str, parts)]
        return generate_uid(entropy_srcs=["\n".join(names)])  # pydicom joins without a separator

    def image(self, z: int, t: int) -> FileDataset:
        """The image of slice z and phase t."""
        sop_uid = self.uid(self.series_number, self.series_uid, z, t)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = sop_uid
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.is_little_endian, image.is_implicit_VR = True, False
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, sop_uid
        self._identify(image)
        self._describe_acquisition(image, z, t)
        self._place(image, z)
        self._add_pixels(image, z, t)
        return image

    def _identify(self, image: FileDataset) -> None:
        image.SpecificCharacterSet = "ISO_IR 192"
        image.PatientName = "Phantom^CineLabel"
        image.PatientID = self.patient_id
        image.PatientBirthDate = ""
        image.PatientSex = "O"
        image.QualityControlSubject = "YES"
        image.PatientComments = "Computed phantom, not a person"
        image.StudyInstanceUID = self.uid("study")
        image.StudyID = "1"
        image.StudyDate, image.StudyTime = _DATE, "000000"
        image.StudyDescription = self.study.name[:64]
        image.AccessionNumber = ""
        image.ReferringPhysicianName = ""
        image.SeriesInstanceUID = self.series_uid or self.uid("series", self.series_number)
        image.SeriesNumber = self.series_number
        image.SeriesDescription = self.description[:64]
        image.SeriesDate, image.SeriesTime = _DATE, "000000"
        image.ProtocolName = self.description[:64]
        image.BodyPartExamined = "HEART"
        image.Modality = "MR"
        image.Manufacturer = "CineLabel"
        image.ManufacturerModelName = "Phantom"
        image.FrameOfReferenceUID = self.uid("frame of reference")
        image.PositionReferenceIndicator = ""

    def _describe_acquisition(self, image: FileDataset, z: int, t: int) -> None:
        image.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
        image.DerivationDescription = "Computed from a digital phantom"
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SS", ""
        image.MRAcquisitionType = "2D"
        protocol = self.protocol
        image.RepetitionTime = _decimal_or_empty(protocol.repetition_ms)
        image.EchoTime = _decimal_or_empty(protocol.echo_ms)
        image.EchoTrainLength = 1
        if protocol.flip_degrees is not None:
            image.FlipAngle = _decimal(protocol.flip_degrees)
        if protocol.field_strength_t is not None:
            image.MagneticFieldStrength = _decimal(protocol.field_strength_t)
        if protocol.phase_axis is not None:
            image.InPlanePhaseEncodingDirection = ("ROW", "COL")[protocol.phase_axis]
        image.PatientPosition = "HFS"
        image.InstanceNumber = z * self.study.n_frames + t + 1
        image.AcquisitionNumber = z + 1
        image.AcquisitionDate = image.ContentDate = _DATE
        self._describe_timing(image, z, t)

    def _describe_timing(self, image: FileDataset, z: int, t: int) -> None:
        """Times within the day and the heartbeat; gated where trigger times are known."""
        times = self.study.trigger_times_ms
        begin_ms = 1000 * _BREATH_HOLD_S * (z % _MOST_SLICES)
        image.AcquisitionTime = _time_of_day(begin_ms)
        image.ContentTime = _time_of_day(begin_ms + (times[t] if times is not None else t))
        image.CardiacNumberOfImages = self.study.n_frames
        if times is None:
            return
        image.ScanOptions = "CG"
        image.TriggerTime = _decimal(times[t])
        if len(times) > 1:
            step = (times[-1] - times[0]) / (len(times) - 1)
            cycle = max(1, round(step * len(times)))
            image.NominalInterval = cycle
            image.HeartRate = max(1, round(60000 / cycle))

    def _place(self, image: FileDataset, z: int) -> None:
        grid = _lps(self.study.grid)
        row, column = grid.columns[:, 0], grid.columns[:, 1]
        column = column - (column @ row) * row
        column /= np.linalg.norm(column)
        position = grid.index_to_world(np.array([0, 0, z]))
        step = abs(float(grid.affine[:3, 2] @ np.cross(row, column)))
        image.ImageOrientationPatient = [_decimal(value) for value in (*row, *column)]
        image.ImagePositionPatient = [_decimal(value) for value in position]
        image.PixelSpacing = [_decimal(grid.spacing[1]), _decimal(grid.spacing[0])]
        image.SliceThickness = _decimal(self.study.slice_thickness_mm or step)
        image.SpacingBetweenSlices = _decimal(step)
        image.SliceLocation = _decimal(float(position @ np.cross(row, column)))

    def _add_pixels(self, image: FileDataset, z: int, t: int) -> None:
        pixels = np.ascontiguousarray(self.quantised.frames[:, :, z, t].T)
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = pixels.shape
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation = 1
        image.WindowCenter, image.WindowWidth = map(_decimal, self.quantised.window)
        if (self.quantised.slope, self.quantised.intercept) != (1.0, 0.0):
            image.RescaleSlope = _decimal(self.quantised.slope)
            image.RescaleIntercept = _decimal(self.quantised.intercept)
            image.RescaleType = "US"
        image.PixelData = pixels.astype("<i2").tobytes()


def _quantise(frames: np.ndarray) -> _Quantised:
    low, high = float(frames.min()), float(frames.max())
    if not np.isfinite([low, high]).all():
        raise InputError("the frames have voxels that are NaN or infinite")
    dark, bright = np.percentile(frames[::2, ::2], (1, 99.5))
    window = (float(dark + bright) / 2, max(1.0, float(bright - dark)))
    if low >= -32768 and high <= 32767 and np.array_equal(frames, np.rint(frames)):
        return _Quantised(frames.astype(np.int16), 1.0, 0.0, window)
    slope = float(_decimal((high - low) / 4095)) or 1.0
    intercept = float(_decimal(low))
    steps = np.clip(np.rint((frames - intercept) / slope), 0, 4095).astype(np.int16)
    return _Quantised(steps, slope, intercept, window)


def _lps(grid: Grid) -> Grid:
    return Grid(grid.shape, _RAS_TO_LPS @ grid.affine)


def _time_of_day(milliseconds: float) -> str:
    """A time (TM) with microseconds, so long after midnight."""
    seconds, rest = divmod(round(milliseconds * 1000), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour % 24:02d}{minute:02d}{second:02d}.{rest:06d}"


def _decimal_or_empty(value: float | None) -> str | None:
    return None if value is None else _decimal(value)


def _decimal(value: float) -> str:
    """A number in the 16 characters of a decimal string (DS), to a tenth of a billionth.

    Rounded first: pydicom gives 17 characters to a number a hair below a power of ten.
    """
    return format_number_as_ds(round(float(value), 10))
