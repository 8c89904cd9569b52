"""Overlaps, HD95 and ASSD of a segmentation against its reference (Gong et al. 2022, section 3).

Surface distances come from MONAI with the spacing of the grid. A structure that is empty on one or
both sides has no meaningful overlap or distance: it is counted and left out of the mean, and a
second, penalised figure states what the mean would be were such failures scored.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cinelabel.core.errors import GridError, InputError
from cinelabel.core.labels import CANONICAL, STRUCTURES, LabelMap, Structure

if TYPE_CHECKING:
    from cinelabel.core.grid import Grid

HD_PERCENTILE = 95.0
PENALTY_OVERLAP = 0.0

Empty = Literal["prediction", "reference", "both"]
Volume = tuple[str, str, int | None]
"""Patient, case and frame: what is the same for every method and structure."""


@dataclass(frozen=True)
class Score:
    """One structure in one frame of one case.

    `dice`, `ppv`, `sensitivity`, `hd95_mm` and `assd_mm` are None where `empty` says which side
    lacks the structure; the distances are also None where they were not asked for. `diagonal_mm` is
    the image diagonal, the penalty of the second HD95 figure. `method` is what made the prediction;
    `patient` whose the case is (empty: the case is a patient of its own); `groups` maps groupings,
    such as the vendor, to the case's group.
    """

    case: str
    structure: str
    dice: float | None
    hd95_mm: float | None
    assd_mm: float | None
    empty: Empty | None
    diagonal_mm: float
    frame: int | None = None
    distances: bool = True
    method: str = ""
    patient: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    ppv: float | None = None
    sensitivity: float | None = None

    @property
    def volume(self) -> Volume:
        """Which volume was scored."""
        return self.patient, self.case, self.frame

    @property
    def penalised_dice(self) -> float | None:
        """Dice with 0 where exactly one side is empty; None (not applicable) where both are."""
        return self._penalised(self.dice)

    @property
    def penalised_ppv(self) -> float | None:
        """The same of the positive predictive value."""
        return self._penalised(self.ppv)

    @property
    def penalised_sensitivity(self) -> float | None:
        """The same of the sensitivity."""
        return self._penalised(self.sensitivity)

    def _penalised(self, overlap: float | None) -> float | None:
        if self.empty is None:
            return overlap
        return None if self.empty == "both" else PENALTY_OVERLAP

    @property
    def penalised_hd95_mm(self) -> float | None:
        """HD95 with the image diagonal where exactly one side is empty; None where both are."""
        if not self.distances or self.empty == "both":
            return None
        return self.hd95_mm if self.empty is None else self.diagonal_mm

    def as_dict(self) -> dict[str, Any]:
        """One JSON-ready row."""
        return {
            "method": self.method,
            "case": self.case,
            "patient": self.patient or self.case,
            "groups": dict(self.groups),
            "frame": self.frame,
            "structure": self.structure,
            "dice": self.dice,
            "ppv": self.ppv,
            "sensitivity": self.sensitivity,
            "hd95_mm": self.hd95_mm,
            "assd_mm": self.assd_mm,
            "empty": self.empty,
            "penalised_dice": self.penalised_dice,
            "penalised_hd95_mm": self.penalised_hd95_mm,
        }


def empty_side(prediction: np.ndarray, reference: np.ndarray) -> Empty | None:
    """Which of two boolean masks is empty."""
    has_prediction, has_reference = bool(prediction.any()), bool(reference.any())
    if has_prediction and has_reference:
        return None
    if has_prediction:
        return "reference"
    return "prediction" if has_reference else "both"


def dice(prediction: np.ndarray, reference: np.ndarray, structure: Structure) -> float | None:
    """Dice overlap 2|A and B| / (|A| + |B|) of one structure in two label arrays of one shape.

    Returns None where the structure is empty on either side. Raises GridError on unequal shapes.
    """
    a, b = _masks(prediction, reference, structure)
    if empty_side(a, b) is not None:
        return None
    return 2.0 * int(np.count_nonzero(a & b)) / int(np.count_nonzero(a) + np.count_nonzero(b))


def ppv(prediction: np.ndarray, reference: np.ndarray, structure: Structure) -> float | None:
    """Positive predictive value |A and B| / |A| of prediction A and reference B; else as `dice`."""
    a, b = _masks(prediction, reference, structure)
    return None if empty_side(a, b) else int(np.count_nonzero(a & b)) / int(np.count_nonzero(a))


def sensitivity(
    prediction: np.ndarray, reference: np.ndarray, structure: Structure
) -> float | None:
    """Sensitivity |A and B| / |B| of prediction A and reference B; else as `dice`."""
    return ppv(reference, prediction, structure)


def hd95_mm(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    structure: Structure,
) -> float | None:
    """95th percentile Hausdorff distance in mm of one structure in two 3D label arrays (x, y, z).

    The larger of the two directed 95th percentiles between surface voxels (voxels with a face
    neighbour outside the structure). Returns None where either side is empty; raises GridError on
    unequal shapes and InputError where MONAI is not installed.
    """
    return surface_distances_mm(prediction, reference, spacing, structure)[0]


def assd_mm(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    structure: Structure,
) -> float | None:
    """Average symmetric surface distance in mm; as `hd95_mm` in all else."""
    return surface_distances_mm(prediction, reference, spacing, structure)[1]


def surface_distances_mm(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    structure: Structure,
) -> tuple[float | None, float | None]:
    """(HD95, ASSD) in mm of one structure in two 3D label arrays; (None, None) if one is empty."""
    a, b = _masks(prediction, reference, structure)
    if a.ndim != 3:
        raise GridError(f"surface distances need a 3D volume, not {a.ndim} axes")
    if empty_side(a, b) is not None:
        return None, None
    try:
        from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
    except ImportError as error:
        raise InputError(
            "surface distances need MONAI, which is not installed",
            remedy="Install cinelabel[train], or ask for Dice alone",
        ) from error
    a, b = a[None, None], b[None, None]
    step = [float(value) for value in spacing]
    with warnings.catch_warnings():  # MONAI calls its own helpers with deprecated arguments
        warnings.simplefilter("ignore", FutureWarning)
        hausdorff = compute_hausdorff_distance(a, b, True, percentile=HD_PERCENTILE, spacing=step)
        average = compute_average_surface_distance(a, b, True, symmetric=True, spacing=step)
    return float(hausdorff.item()), float(average.item())


def image_diagonal_mm(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Diagonal of the imaged block in mm: the square root of the sum of (voxels x spacing)^2."""
    extent = np.asarray(shape[:3], dtype=np.float64) * np.asarray(spacing, dtype=np.float64)
    return float(np.sqrt(np.sum(extent**2)))


def score_labels(
    prediction: np.ndarray,
    reference: np.ndarray,
    grid: Grid,
    *,
    case: str,
    structures: Sequence[Structure] = STRUCTURES,
    labelled_frames_only: bool = False,
    scored_slices: Mapping[str, Sequence[int]] | None = None,
    distances: bool = True,
) -> list[Score]:
    """Scores of each structure in each frame of two label arrays on one grid.

    prediction, reference: integer arrays (x, y, z) or (x, y, z, t) of equal shape, values 0..3.
    labelled_frames_only: leave out frames in which the reference holds no label at all.
    scored_slices: for each structure's name the slices (index from 0) that have a reference; other
        slices are ignored, and structures that are not named or have no slices are not scored.
    distances: also HD95 and ASSD, in mm by the grid's spacing (imports MONAI).
    Raises GridError on unequal shapes, LabelError on a value that is no structure.
    """
    where = case
    prediction = CANONICAL.to_canonical(np.asarray(prediction), f"{where} (prediction)")
    reference = CANONICAL.to_canonical(np.asarray(reference), f"{where} (reference)")
    _require_same_shape(prediction, reference, where)
    if tuple(prediction.shape[:3]) != tuple(grid.shape) or prediction.ndim not in (3, 4):
        raise GridError(
            f"labels of shape {prediction.shape} do not lie on a grid of {tuple(grid.shape)}",
            where=where,
        )
    frames: list[int | None] = [None]
    if prediction.ndim == 4:
        frames = [
            t
            for t in range(prediction.shape[3])
            if not labelled_frames_only or reference[..., t].any()
        ]
    chosen = [s for s in structures if scored_slices is None or scored_slices.get(s.name)]
    scores = []
    for frame in frames:
        pair = (
            (prediction, reference)
            if frame is None
            else (
                prediction[..., frame],
                reference[..., frame],
            )
        )
        for structure in chosen:
            volumes = pair
            if scored_slices is not None:
                keep = list(scored_slices[structure.name])
                volumes = (_only_slices(pair[0], keep), _only_slices(pair[1], keep))
            scores.append(_score_structure(*volumes, grid, structure, case, frame, distances))
    return scores


def score_files(
    prediction: Path,
    reference: Path,
    *,
    case: str | None = None,
    structures: Sequence[Structure] = STRUCTURES,
    reference_map: LabelMap = CANONICAL,
    prediction_map: LabelMap = CANONICAL,
    labelled_frames_only: bool = False,
    distances: bool = True,
) -> list[Score]:
    """Scores of a label file against a reference file on the same grid.

    Raises InputError for unreadable files, LabelError (naming the file) for values outside the
    map, GridError where shape, number of frames or affine differ.
    """
    from cinelabel.studies import load_label

    predicted, grid = load_label(prediction, prediction_map)
    truth, truth_grid = load_label(reference, reference_map)
    truth_grid.require_equal(grid, str(prediction))
    _require_same_shape(predicted, truth, prediction)
    return score_labels(
        predicted,
        truth,
        grid,
        case=case or stem(prediction),
        structures=structures,
        labelled_frames_only=labelled_frames_only,
        distances=distances,
    )


def match_folders(prediction: Path, reference: Path) -> list[tuple[str, Path, Path]]:
    """(case, prediction, reference) of two folders of NIfTI labels, matched by file name.

    `.nii` and `.nii.gz` count as the same name. Raises InputError naming files without a partner.
    """
    predictions, references = _label_files(prediction), _label_files(reference)
    for folder, lacking in (
        (prediction, sorted(references.keys() - predictions.keys())),
        (reference, sorted(predictions.keys() - references.keys())),
    ):
        if lacking:
            shown = ", ".join(lacking[:8]) + (" and more" if len(lacking) > 8 else "")
            raise InputError(
                f"{len(lacking)} case(s) of the other folder have no partner here: {shown}",
                where=folder,
                remedy="Give both files of a pair the same name",
            )
    return [(name, predictions[name], references[name]) for name in sorted(predictions)]


def stem(path: Path) -> str:
    """File name without `.nii` or `.nii.gz`."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _label_files(folder: Path) -> dict[str, Path]:
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")
    ]
    if not files:
        raise InputError("no .nii or .nii.gz file in this folder", where=folder)
    named: dict[str, Path] = {}
    for path in files:
        if stem(path) in named:
            raise InputError(f"{stem(path)} is there both as .nii and .nii.gz", where=folder)
        named[stem(path)] = path
    return named


def _masks(
    prediction: np.ndarray, reference: np.ndarray, structure: Structure
) -> tuple[np.ndarray, np.ndarray]:
    _require_same_shape(prediction, reference, structure.name)
    return prediction == structure.value, reference == structure.value


def _require_same_shape(prediction: np.ndarray, reference: np.ndarray, where: object) -> None:
    if prediction.shape != reference.shape:
        raise GridError(
            f"the prediction has shape {prediction.shape}, the reference {reference.shape}",
            where=where,
            remedy="Compare labels of the same study and the same frames",
        )


def _only_slices(volume: np.ndarray, slices: Sequence[int]) -> np.ndarray:
    kept = np.zeros_like(volume)
    kept[:, :, list(slices)] = volume[:, :, list(slices)]
    return kept


def _score_structure(
    prediction: np.ndarray,
    reference: np.ndarray,
    grid: Grid,
    structure: Structure,
    case: str,
    frame: int | None,
    distances: bool,
) -> Score:
    spacing = [float(value) for value in grid.spacing]
    hausdorff, average = (
        surface_distances_mm(prediction, reference, spacing, structure)
        if distances
        else (None, None)
    )
    return Score(
        case=case,
        structure=structure.name,
        dice=dice(prediction, reference, structure),
        hd95_mm=hausdorff,
        assd_mm=average,
        empty=empty_side(prediction == structure.value, reference == structure.value),
        diagonal_mm=image_diagonal_mm(prediction.shape, spacing),
        frame=frame,
        distances=distances,
        ppv=ppv(prediction, reference, structure),
        sensitivity=sensitivity(prediction, reference, structure),
    )
