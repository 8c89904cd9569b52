"""Phantom cohorts on disk, with their truth: in the project's own layout or that of a public set.

The layouts are those of ACDC (Bernard et al., IEEE TMI 2018), M&Ms (Campello et al., IEEE TMI 2021)
and CMRxMotion (Wang et al., MICCAI challenge 2022): folders, file names, tables, label values. What
only a phantom has, labels of every frame and what made the study, lies in `truth/` beside them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.files import atomic_write, write_json, write_text
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.phantom.cohort import PhantomStudy, Progress, make_study

if TYPE_CHECKING:
    from cinelabel.phantom.breathing import Manner
    from cinelabel.studies.dicom_writer import Protocol
    from cinelabel.studies.study import Study

ACDC_VALUES = {RV.value: 1, MYO.value: 2, LV.value: 3}
ACDC_GROUPS = {
    "dilated": "DCM",
    "hypertrophic": "HCM",
    "infarcted": "MINF",
    "abnormal_rv": "RV",
}
"""Groups of ACDC; every other group of the phantom has no disease and is NOR there."""
MNMS_GROUPS = {
    "normal": "NOR",
    "dilated": "DCM",
    "hypertrophic": "HCM",
    "infarcted": "IHD",
    "abnormal_rv": "ARV",
    "athlete": "AHS",
}
"""Pathologies of M&Ms; every other group of the phantom is "Other" there."""
MNMS_TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
MNMS_COLUMNS = (
    *("", "External code", "VendorName", "Vendor", "Centre", "ED", "ES"),
    *("Age", "Pathology", "Sex", "Height", "Weight"),
)
MNMS_VENDOR = ("CineLabel phantom", "P", "0")
"""Name, letter and centre of the "scanner"; the letters A to D belong to real vendors."""
MOST_PATIENTS = 999
"""Numbers of patients in ACDC and of volunteers in CMRxMotion have three digits."""
SEVERE = 3
"""Motion grade of scans that CMRxMotion gives no label for."""


@dataclass(frozen=True)
class Order:
    """A cohort that is asked for: how many studies of what, and whom to tell of progress."""

    studies: int
    seed: int
    frames: int
    manner: Manner | None
    group: str | None
    progress: Progress | None
    unit_sform: bool = False

    def made(self) -> Iterator[tuple[int, PhantomStudy]]:
        """Number from 0 and study, one after another; progress is told after each was used."""
        for number in range(self.studies):
            made = self.study(number, self.manner)
            yield number, made
            self.tell(number + 1, self.studies, made.study.name)

    def study(self, number: int, manner: Manner | None) -> PhantomStudy:
        """Study `number` in a manner of breathing (None: a mixture)."""
        asked: dict[str, Any] = {} if manner is None else {"manner": manner}
        return make_study(self.seed + number, frames=self.frames, group=self.group, **asked)

    def tell(self, done: int, total: int, what: str) -> None:
        """Report progress where somebody asked for it."""
        if self.progress is not None:
            self.progress(done, total, what)


def write_cohort(
    out: Path,
    *,
    studies: int,
    seed: int,
    file_format: str = "nifti",
    frames: int = 20,
    manner: Manner | None = None,
    group: str | None = None,
    progress: Progress | None = None,
    unit_sform: bool = False,
) -> list[Path]:
    """Write phantom studies with their truth below `out`.

    nifti, dicom, both: `<name>/<name>.nii.gz` and/or `<name>/dicom/`, `<name>/<name>_gt.nii.gz` and
    `<name>/truth.json`, labels canonical on every frame.
    acdc: `database/training/patientNNN/`. mnms: `OpenDataset/Training/Labeled/<code>/` and a table.
    cmrxmotion: `CMRxMotion Training Dataset/data/Pnnn-m/` and `IQA.csv`; a study is a volunteer in
    the four manners of breathing (or the one asked for), ED and ES each, without labels where the
    motion grade is 3. Beside these three: `truth/<name>.json` and `truth/<name>_gt.nii.gz`, with
    canonical labels of every frame.

    Args:
        out: folder to fill; made if absent.
        studies: how many.
        seed: of the first study; the next ones count on.
        file_format: one of `FORMATS`.
        frames: cardiac phases a study.
        manner: of breathing; mixed when None.
        group: of the population; sampled when None.
        progress: called with studies done, studies in all, and the study's name.
        unit_sform: whether files of the acdc layout have an sform of unit scale beside a truthful
            qform, as the published ones do.

    Returns:
        The folders written, one a study.

    Raises:
        InputError: for an unknown format or group, fewer than one study, or more than the names
            of a layout can number.
        OutputError: the tree of a public set is there already, or cannot be written.
    """
    if file_format not in FORMATS:
        raise InputError(f"the format is one of {', '.join(FORMATS)}", where=file_format)
    if studies < 1:
        raise InputError("at least one study is needed", where=f"studies={studies}")
    order = Order(studies, seed, frames, manner, group, progress, unit_sform)
    return FORMATS[file_format](Path(out), order)


def _write_nifti(out: Path, order: Order) -> list[Path]:
    return _write_own(out, order, nifti=True, dicom=False)


def _write_dicom(out: Path, order: Order) -> list[Path]:
    return _write_own(out, order, nifti=False, dicom=True)


def _write_both(out: Path, order: Order) -> list[Path]:
    return _write_own(out, order, nifti=True, dicom=True)


def _write_own(out: Path, order: Order, *, nifti: bool, dicom: bool) -> list[Path]:
    from cinelabel import studies
    from cinelabel.studies.dicom import write_cine

    folders = []
    for _, made in order.made():
        folder = out / made.study.name
        if nifti:
            studies.save_image(folder / f"{made.study.name}.nii.gz", made.study)
        if dicom:
            write_cine(folder / "dicom", made.study, protocol=_protocol(made))
        studies.save_label(folder / f"{made.study.name}_gt.nii.gz", made.labels, made.study)
        write_json(folder / "truth.json", made.truth)
        folders.append(folder)
    return folders


def _protocol(made: PhantomStudy) -> Protocol:
    """What the truth tells of the acquisition; a balanced sequence has its echo at half of TR."""
    from cinelabel.studies.dicom_writer import Protocol

    def number(source: object, key: str) -> float | None:
        value = source.get(key) if isinstance(source, Mapping) else None
        return float(value) if isinstance(value, (int, float)) else None

    repetition = number(made.truth, "repetition_ms")
    phase_axis = number(made.truth.get("scanner"), "phase_axis")
    return Protocol(
        field_strength_t=number(made.truth, "field_strength_t"),
        flip_degrees=number(made.truth, "flip_degrees"),
        repetition_ms=repetition,
        echo_ms=None if repetition is None else repetition / 2.0,
        phase_axis=None if phase_axis is None else int(phase_axis),
    )


def _write_acdc(out: Path, order: Order) -> list[Path]:
    """ED and ES count frames from 1."""
    _require_three_digits(order)
    root = _new_tree(out / "database")
    folders = []
    for number, made in order.made():
        patient = f"patient{number + 1:03d}"
        folder = root / "training" / patient
        save = partial(_save, study=made.study, unit_sform=order.unit_sform)
        save(folder / f"{patient}_4d.nii.gz", made.study.frames)
        ed, es = _phases(made)
        for frame in sorted({ed, es}):
            path = folder / f"{patient}_frame{frame + 1:02d}.nii.gz"
            save(path, made.study.frame(frame))
            values = _with_values(made.labels[..., frame], ACDC_VALUES)
            label = path.with_name(path.name.replace(".nii.gz", "_gt.nii.gz"))
            save(label, values)
        group = ACDC_GROUPS.get(str(made.truth["group"]), "NOR")
        facts = {"ED": ed + 1, "ES": es + 1, "Group": group, "NbFrame": made.study.n_frames}
        lines = "".join(f"{key}: {value}\n" for key, value in facts.items())
        write_text(folder / "Info.cfg", lines)
        _save_truth(out, patient, made)
        folders.append(folder)
    return folders


def _write_mnms(out: Path, order: Order) -> list[Path]:
    """ED and ES count frames from 0; the 4D label is empty on the other frames."""
    root = _new_tree(out / "OpenDataset")
    folders: list[Path] = []
    rows: list[Sequence[object]] = []
    for number, made in order.made():
        code = mnms_code(order.seed + number)
        folder = root / "Training" / "Labeled" / code
        ed, es = _phases(made)
        labels = np.zeros_like(made.labels)
        labels[..., [ed, es]] = made.labels[..., [ed, es]]
        _save(folder / f"{code}_sa.nii.gz", made.study.frames, made.study)
        _save(folder / f"{code}_sa_gt.nii.gz", labels, made.study)
        group = MNMS_GROUPS.get(str(made.truth["group"]), "Other")
        rows.append((number, code, *MNMS_VENDOR, ed, es, "", group, "", "", ""))
        _write_table(root / MNMS_TABLE, MNMS_COLUMNS, rows)
        _save_truth(out, code, made)
        folders.append(folder)
    return folders


def _write_cmrxmotion(out: Path, order: Order) -> list[Path]:
    """One phase a file, images with a fourth axis of length 1; a study's grade is its scans'."""
    from cinelabel.phantom.breathing import Manner

    _require_three_digits(order)
    root = _new_tree(out / "CMRxMotion Training Dataset")
    manners = list(Manner) if order.manner is None else [order.manner]
    folders: list[Path] = []
    grades: list[Sequence[object]] = []
    for number in range(order.studies):
        for manner in manners:
            made = order.study(number, manner)
            name = f"P{number + 1:03d}-{int(manner)}"
            grade = int(str(made.truth["grade"]))
            for phase, frame in zip(("ED", "ES"), _phases(made), strict=True):
                path = root / "data" / name / f"{name}-{phase}.nii.gz"
                _save(path, made.study.frames[..., frame : frame + 1], made.study)
                if grade < SEVERE:
                    label = path.with_name(f"{name}-{phase}-label.nii.gz")
                    _save(label, made.labels[..., frame], made.study)
                grades.append((f"{name}-{phase}", grade))
            _write_table(root / "IQA.csv", ("Image", "Label"), grades)
            _save_truth(out, name, made)
            folders.append(root / "data" / name)
            order.tell(len(folders), order.studies * len(manners), name)
    return folders


FORMATS: Mapping[str, Callable[[Path, Order], list[Path]]] = {
    "nifti": _write_nifti,
    "dicom": _write_dicom,
    "both": _write_both,
    "acdc": _write_acdc,
    "mnms": _write_mnms,
    "cmrxmotion": _write_cmrxmotion,
}
"""How each file format is written."""


def mnms_code(number: int) -> str:
    """A subject's code in the manner of M&Ms (letter, digit, three times), one for each number.

    Numbers share a code only where they are equal modulo 17 576 000, which is prime to 7 368 787.
    """
    rest = number * 7_368_787 + 4_211_393
    code = ""
    for _ in range(3):
        rest, letter = divmod(rest, 26)
        rest, digit = divmod(rest, 10)
        code += f"{chr(ord('A') + letter)}{digit}"
    return code


def _require_three_digits(order: Order) -> None:
    if order.studies > MOST_PATIENTS:
        raise InputError(
            f"at most {MOST_PATIENTS} studies have names in this layout",
            where=f"studies={order.studies}",
        )


def _new_tree(root: Path) -> Path:
    """The root of a public set's tree, which must not be there yet: its tables would not fit."""
    if root.exists():
        raise OutputError(
            "is there already", where=root, remedy="Name a folder that does not exist"
        )
    return root


def _phases(made: PhantomStudy) -> tuple[int, int]:
    """ED and ES, from 0."""
    ed, es = made.study.ed, made.study.es
    if ed is None or es is None:
        raise InputError("a phantom without ED and ES has no place here", where=made.study.name)
    return ed, es


def _with_values(labels: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Canonical labels of any shape with the values of another convention, uint8."""
    table = np.zeros(max(values) + 1, np.uint8)
    for canonical, value in values.items():
        table[canonical] = value
    return table[labels]


def _save(path: Path, array: np.ndarray, study: Study, *, unit_sform: bool = False) -> None:
    """Write labels (uint8) or frames (3D or 4D; int16 where whole numbers fit) on a study's grid.

    With `unit_sform` the sform has columns of unit length beside a truthful qform and pixdim.
    """
    import nibabel as nib

    if array.dtype != np.uint8:
        whole = array.astype(np.int16)
        array = whole if np.array_equal(whole, array) else array
    sform = study.grid.affine.copy()
    if unit_sform:
        sform[:3, :3] = study.grid.columns
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_qform(study.grid.affine, code=1)
    header.set_sform(sform, code=1)
    header.set_xyzt_units("mm", "sec")
    times = study.trigger_times_ms
    if array.ndim == 4 and array.shape[3] > 1 and times is not None:
        header["pixdim"][4] = (times[-1] - times[0]) / (len(times) - 1) / 1000.0
    image = nib.Nifti1Image(array, None, header)
    with atomic_write(path) as temporary:
        image.to_filename(temporary)


def _save_truth(out: Path, name: str, made: PhantomStudy) -> None:
    _save(out / "truth" / f"{name}_gt.nii.gz", made.labels, made.study)
    write_json(out / "truth" / f"{name}.json", made.truth)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
