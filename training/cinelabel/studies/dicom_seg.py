"""Labels as DICOM Segmentation objects (PS3.3, A.51): one binary object a cardiac phase.

Segments are LV, MYO and RV with the codes of `core.labels`. Every frame names the image it lies on.
highdicom (Bridge et al. 2022) writes the objects; dciodvfy finds no error in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage, generate_uid
from pydicom.valuerep import DA, TM

from cinelabel import __version__
from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.core.files import atomic_write
from cinelabel.core.labels import LABEL_NAMES, STRUCTURES, CodedConcept, Structure
from cinelabel.dicom.headers import Instance, quiet
from cinelabel.studies.study import Study

_CATEGORY = CodedConcept("123037004", "SCT", "Anatomical Structure")
_FAMILY = CodedConcept("123110", "DCM", "Artificial Intelligence")
_SERIES_NUMBER = 9000  # of phase 0; far from those of the scanner
# Attributes that must be there, though perhaps empty (type 2); anonymisers remove or spoil them.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
_SAME_PLACE = 0.05  # of a voxel, between a frame of the object and a slice of the study


@dataclass(frozen=True)
class SegInfo:
    """What a segmentation object says of its origin.

    Attributes:
        description: SeriesDescription, cut to 64 characters.
        who: name of the reader who submitted the labels.
        model: version of the model whose labels the reader corrected, None for hand-drawn ones.
        frame: cardiac phase, counted from 0.
        version: of the labels, another is another object; 0 for a prediction nobody has seen yet.
    """

    description: str
    who: str
    model: str | None
    frame: int = 0
    version: int = 1


def write_seg(path: Path, labels: np.ndarray, images: Sequence[Instance], info: SegInfo) -> str:
    """Write labels (x, y, z) uint8 as one object; the file is whole or absent.

    UIDs follow from images, labels and version alone: written again it is the same object.
    Images of one stack that name several frames of reference get that of the first.

    Args:
        path: the file to write.
        labels: canonical values on the grid of the images' study.
        images: of one phase, in the order of slices (`dicom.phase_images`).
        info: what the object says of its origin.

    Returns:
        The SOPInstanceUID.

    Raises:
        GridError: the labels have another shape than the images.
        LabelError: a value is none of the structures.
        InputError: an image cannot be read or lacks what the object must repeat.
        OutputError: the file cannot be written.
    """
    shape = (images[0].columns, images[0].rows, len(images))
    if labels.shape != shape:
        raise GridError(f"labels of shape {labels.shape} do not fit images of {shape}", where=path)
    if not np.isin(labels, (0, *LABEL_NAMES.values())).all():
        raise LabelError("the labels have values that are no structure", where=path)
    seg = _segmentation(labels, images, info)
    quiet()
    with atomic_write(path) as temporary:
        seg.save_as(temporary)
    return str(seg.SOPInstanceUID)


def read_seg(path: Path, study: Study) -> np.ndarray:
    """Labels (x, y, z) uint8 on the grid of a study; slices without a frame are background.

    Raises:
        InputError: the file is no readable binary segmentation.
        GridError: a frame does not lie on a slice of the study, voxel on voxel.
        LabelError: a segment is no structure, or two of them overlap.
    """
    quiet()
    return _labels(path, study)


def _labels(path: Path, study: Study) -> np.ndarray:
    seg, planes = _read(path)
    structures = {int(item.SegmentNumber): _structure(item, path) for item in seg.SegmentSequence}
    labels = np.zeros(study.grid.shape, np.uint8)
    for number, plane in enumerate(planes):
        groups = _groups(seg, number)
        z = _slice_of(groups, plane.shape, study, path)
        structure = structures[int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        here = plane.T.astype(bool)
        if labels[:, :, z][here].any():
            raise LabelError(f"{structure.name} overlaps another segment in slice {z}", where=path)
        labels[:, :, z][here] = structure.value
    return labels


def _segmentation(labels: np.ndarray, images: Sequence[Instance], info: SegInfo) -> Dataset:
    from highdicom.content import PixelMeasuresSequence
    from highdicom.seg import Segmentation

    digest = hashlib.sha256(np.ascontiguousarray(labels, np.uint8).tobytes()).hexdigest()
    entropy = ["cinelabel seg", images[0].sop_uid, str(info.version), digest]
    quiet()
    sources = _sources(images)
    try:
        seg = Segmentation(
            source_images=sources,
            pixel_array=labels.transpose(2, 1, 0).astype(np.uint8),
            segmentation_type="BINARY",
            segment_descriptions=[_description(s, info) for s in STRUCTURES],
            series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
            series_number=_SERIES_NUMBER + info.frame,
            sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
            instance_number=1,
            manufacturer="CineLabel",
            manufacturer_model_name="CineLabel",
            software_versions=__version__,
            device_serial_number="1",
            content_label="CINELABEL",
            content_description=f"Label version {info.version}" if info.version else "Prediction",
            content_creator_name=_person(info.who),
            series_description=" ".join(info.description.split())[:64],
            pixel_measures=PixelMeasuresSequence(
                pixel_spacing=images[0].spacing,
                slice_thickness=sources[0].SliceThickness,
                spacing_between_slices=_step(images),
            ),
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"lacks what a segmentation object must repeat, {error}", where=images[0].path
        ) from error
    _name_true_series(seg, images, sources)
    return seg


def _sources(images: Sequence[Instance]) -> list[Dataset]:
    """Headers of the images as if of one series and frame of reference, as highdicom asks."""
    headers: list[Dataset] = []
    for image in images:
        try:
            header = pydicom.dcmread(image.path, stop_before_pixels=True)
        except (InvalidDicomError, OSError, EOFError, ValueError) as error:
            raise InputError("is damaged, it cannot be read", where=image.path) from error
        for keyword in _MAY_BE_EMPTY:
            if not _can_be_repeated(header.get(keyword), keyword):
                setattr(header, keyword, None)
        header.SliceThickness = image.slice_thickness_mm or _step(images)
        first = headers[0] if headers else header
        header.SeriesInstanceUID = first.SeriesInstanceUID
        header.FrameOfReferenceUID = first.get("FrameOfReferenceUID") or generate_uid(
            entropy_srcs=["cinelabel frame of reference", images[0].series_uid]
        )
        headers.append(header)
    return headers


def _can_be_repeated(value: object, keyword: str) -> bool:
    """Whether an attribute is there, and a date or time is one ("00000000" is not)."""
    parse: Any = DA if keyword.endswith("Date") else TM if keyword.endswith("Time") else str
    try:
        return value is not None and parse(value) is not None
    except ValueError:
        return False


def _name_true_series(seg: Dataset, images: Sequence[Instance], sources: list[Dataset]) -> None:
    """Refer to the series that the images are of, several where each slice is one."""
    series: dict[str, Dataset] = {}
    for image, source in zip(images, sources, strict=True):
        reference = Dataset()
        reference.ReferencedSOPClassUID = source.SOPClassUID
        reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
        if image.series_uid not in series:
            series[image.series_uid] = Dataset()
            series[image.series_uid].SeriesInstanceUID = image.series_uid
            series[image.series_uid].ReferencedInstanceSequence = []
        series[image.series_uid].ReferencedInstanceSequence.append(reference)
    seg.ReferencedSeriesSequence = list(series.values())


def _description(structure: Structure, info: SegInfo) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept as Code

    kind = "AUTOMATIC" if info.version == 0 else "SEMIAUTOMATIC"

    def coded(concept: CodedConcept) -> Any:
        return Code(concept.value, concept.scheme, concept.meaning)

    algorithm = None
    if info.model is not None:
        algorithm = AlgorithmIdentificationSequence("CineLabel", coded(_FAMILY), info.model)
    return SegmentDescription(
        segment_number=structure.value,
        segment_label=structure.name,
        segmented_property_category=coded(_CATEGORY),
        segmented_property_type=coded(structure.code),
        algorithm_type="MANUAL" if algorithm is None else kind,
        algorithm_identification=algorithm,
    )


def _person(who: str) -> str:
    """A name that a person name (PN) can hold: no control character, no separator but '^'."""
    kept = "".join(c for c in who if c.isprintable() and c not in "\\=^")
    return f"{kept.strip()[:60] or 'unknown'}^"


def _step(images: Sequence[Instance]) -> float:
    """Distance of the slices along the normal in mm."""
    if len(images) == 1:
        return images[0].slice_spacing_mm or images[0].slice_thickness_mm or 1.0
    whole = (images[-1].position - images[0].position) @ images[0].normal
    return round(abs(float(whole)) / (len(images) - 1), 6)


def _read(path: Path) -> tuple[Dataset, np.ndarray]:
    """The object and its frames (frame, row, column)."""
    try:
        seg = pydicom.dcmread(path)
        if seg.SOPClassUID != SegmentationStorage:
            raise InputError("is no DICOM segmentation", where=path)
        if seg.SegmentationType != "BINARY":
            raise InputError("is a segmentation of fractions, not a binary one", where=path)
        planes = seg.pixel_array
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError, KeyError) as error:
        raise InputError("is not a readable DICOM segmentation", where=path) from error
    return seg, planes.reshape(-1, int(seg.Rows), int(seg.Columns))


def _groups(seg: Dataset, number: int) -> Dataset:
    """The functional groups of a frame, those shared by all frames included."""
    groups = Dataset()
    groups.update(seg.SharedFunctionalGroupsSequence[0])
    groups.update(seg.PerFrameFunctionalGroupsSequence[number])
    return groups


def _structure(segment: Dataset, path: Path) -> Structure:
    """The structure of a segment, by its code or else by its label."""
    codes = {str(item.CodeValue) for item in segment.get("SegmentedPropertyTypeCodeSequence", [])}
    label = str(segment.get("SegmentLabel", ""))
    for structure in STRUCTURES:
        if structure.code.value in codes or structure.name == label:
            return structure
    raise LabelError(
        f"segment {label!r} is no structure",
        where=path,
        remedy=f"Use {', '.join(LABEL_NAMES)}",
    )


def _slice_of(groups: Dataset, shape: tuple[int, ...], study: Study, path: Path) -> int:
    """The slice of a study that a frame lies on, voxel on voxel."""
    rows, columns = shape
    position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
    axes = np.array(groups.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down, right = map(float, groups.PixelMeasuresSequence[0].PixelSpacing)
    corners = np.array([[0, 0], [columns - 1, 0], [0, rows - 1]])
    lps = position + corners * (right, down) @ axes.reshape(2, 3)
    indices = study.grid.world_to_index(lps * (-1.0, -1.0, 1.0))
    z = round(float(indices[0, 2]))
    expected = np.column_stack([corners, np.full(3, z)])
    away = float(np.abs(indices - expected).max())
    if (columns, rows) != study.grid.shape[:2] or away > _SAME_PLACE:
        raise GridError(
            f"a frame does not lie on a slice of {study.name}, voxel on voxel", where=path
        )
    if not 0 <= z < study.grid.shape[2]:
        raise GridError(f"a frame lies outside the stack of {study.name}", where=path)
    return z
