"""Phantom cohorts on disk, with their truth: in the project's own layout or that of a public set.

The layouts are those of ACDC (Bernard et al., IEEE TMI 2018), M&Ms (Campello et al., IEEE TMI 2021)
and CMRxMotion (Wang et al., MICCAI challenge 2022): folders, file names, tables, label values. What
only a phantom has, labels of every frame and what made the study, lies in `truth/` beside them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinelabel import __version__
from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.files import atomic_write, write_json, write_text
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.phantom.cohort import PhantomStudy, Progress, make_study
from cinelabel.phantom.settings import PhantomSettings

if TYPE_CHECKING:
    from cinelabel.phantom.breathing import Manner
    from cinelabel.studies.dicom_writer import Protocol
    from cinelabel.studies.study import Study

Truth = Mapping[str, object]
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
MNMS_CODES = 260**3
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
    settings: PhantomSettings | None = None
    protocol: Mapping[str, Any] | None = None

    def study(self, number: int, manner: Manner | None) -> PhantomStudy:
        """Study `number` in a manner of breathing (None: a mixture)."""
        return make_study(
            self.seed + number,
            frames=self.frames,
            group=self.group,
            manner=manner,
            settings=self.settings,
            protocol=self.protocol,
        )

    def tell(self, done: int, total: int, what: str) -> None:
        """Report progress where somebody asked for it."""
        if self.progress is not None:
            self.progress(done, total, what)

    def facts(self, file_format: str) -> dict[str, object]:
        """What decides the files, the number of studies apart; JSON-ready."""
        manner = None if self.manner is None else self.manner.name.lower()
        facts = {"seed": self.seed, "frames": self.frames, "manner": manner, "group": self.group}
        unit = {"unit_sform": self.unit_sform}
        return {"cinelabel": __version__, "format": file_format, **facts, **unit}


@dataclass(frozen=True)
class PublicSet:
    """How a public set lies on disk.

    Attributes:
        root: first folder of the tree.
        studies: folder of the studies' folders below it.
        name: of a study, from its number (from 0), its seed and its manner of breathing.
        write: writes the files of a study into its folder, which has its name.
        tabulate: writes the set's table from the truths of all studies so far, by name.
        every_manner: whether a study is scanned in every manner, each with its own name.
        most: studies that the names can tell apart.
    """

    root: str
    studies: str
    name: Callable[[int, int, Manner | None], str]
    write: Callable[[Path, PhantomStudy, bool], None]
    tabulate: Callable[[Path, Mapping[str, Truth]], None]
    every_manner: bool = False
    most: int = MOST_PATIENTS


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
    settings: PhantomSettings | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write phantom studies with their truth below `out`.

    nifti, dicom, both: `<name>/<name>.nii.gz` and/or `<name>/dicom/`, `<name>/<name>_gt.nii.gz` and
    `<name>/truth.json`, labels canonical on every frame.
    acdc: `database/training/patientNNN/`. mnms: `OpenDataset/Training/Labeled/<code>/` and a table.
    cmrxmotion: `CMRxMotion Training Dataset/data/Pnnn-m/` and `IQA.csv`; a study is a volunteer in
    the four manners of breathing (or the one asked for), ED and ES each, without labels where the
    motion grade is 3. Beside these three: `truth/<name>.json` and `truth/<name>_gt.nii.gz`, with
    canonical labels of every frame.

    A tree of a public set that was begun with the same arguments is continued.

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
        settings, protocol: as in `make_study`; of the project's own layout alone.

    Returns:
        The folders written, one a study.

    Raises:
        InputError: for an unknown format or group, fewer than one study, or more than the names
            of a layout can number.
        OutputError: another cohort is there in the tree of a public set, or it cannot be written.
    """
    if file_format not in FORMATS:
        raise InputError(f"the format is one of {', '.join(FORMATS)}", where=file_format)
    if studies < 1:
        raise InputError("at least one study is needed", where=f"studies={studies}")
    order = Order(studies, seed, frames, manner, group, progress, unit_sform, settings, protocol)
    if file_format in PUBLIC_SETS:
        return _write_public(Path(out), order, file_format)
    return _write_own(Path(out), order, file_format)


def _write_own(out: Path, order: Order, file_format: str) -> list[Path]:
    from cinelabel import studies
    from cinelabel.studies.dicom import write_cine

    folders = []
    for number in range(order.studies):
        made = order.study(number, order.manner)
        name = made.study.name
        folder = out / name
        if file_format in ("nifti", "both"):
            studies.save_image(folder / f"{name}.nii.gz", made.study)
        if file_format in ("dicom", "both"):
            write_cine(folder / "dicom", made.study, patient_id=name, protocol=protocol_of(made))
        studies.save_label(folder / f"{name}_gt.nii.gz", made.labels, made.study)
        write_json(folder / "truth.json", made.truth)
        folders.append(folder)
        order.tell(number + 1, order.studies, name)
    return folders


def _write_public(out: Path, order: Order, file_format: str) -> list[Path]:
    """The truth of a study is written when its files are whole: then it need not be made again."""
    layout = PUBLIC_SETS[file_format]
    if order.studies > layout.most:
        where = f"studies={order.studies}"
        raise InputError(f"at most {layout.most} studies have names in this layout", where=where)
    root = out / layout.root
    _begin(root, out / "truth" / "cohort.json", order.facts(file_format))
    wanted = list(product(range(order.studies), _manners(order, layout)))
    truths: dict[str, Truth] = {}
    for number, manner in wanted:
        name = layout.name(number, order.seed + number, manner)
        truth = out / "truth" / f"{name}.json"
        if truth.is_file() and (root / layout.studies / name).is_dir():
            truths[name] = json.loads(truth.read_text(encoding="utf-8"))
        else:
            made = order.study(number, manner)
            layout.write(root / layout.studies / name, made, order.unit_sform)
            _save(truth.with_name(f"{name}_gt.nii.gz"), made.labels, made.study)
            write_json(truth, made.truth)
            truths[name] = made.truth
        layout.tabulate(root, truths)
        order.tell(len(truths), len(wanted), name)
    return [root / layout.studies / name for name in truths]


def _begin(root: Path, note: Path, facts: Mapping[str, object]) -> None:
    """Note what a new tree will hold; a tree that is there must hold the same."""
    if not root.exists():
        write_json(note, facts)
    elif not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != facts:
        raise OutputError(
            "holds another cohort", where=root, remedy="Name a folder that does not exist"
        )


def _manners(order: Order, layout: PublicSet) -> Sequence[Manner | None]:
    if order.manner is not None or not layout.every_manner:
        return [order.manner]
    from cinelabel.phantom.breathing import Manner

    return list(Manner)


def protocol_of(made: PhantomStudy) -> Protocol:
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


def _acdc_name(number: int, seed: int, manner: Manner | None) -> str:
    return f"patient{number + 1:03d}"


def _write_acdc(folder: Path, made: PhantomStudy, unit_sform: bool) -> None:
    """ED and ES count frames from 1; `Info.cfg` has them and the group."""
    patient = folder.name
    save = partial(_save, study=made.study, unit_sform=unit_sform)
    save(folder / f"{patient}_4d.nii.gz", made.study.frames)
    ed, es = _phases(made)
    for frame in sorted({ed, es}):
        name = f"{patient}_frame{frame + 1:02d}"
        save(folder / f"{name}.nii.gz", made.study.frame(frame))
        values = _with_values(made.labels[..., frame], ACDC_VALUES)
        save(folder / f"{name}_gt.nii.gz", values)
    group = ACDC_GROUPS.get(str(made.truth["group"]), "NOR")
    facts = {"ED": ed + 1, "ES": es + 1, "Group": group, "NbFrame": made.study.n_frames}
    write_text(folder / "Info.cfg", "".join(f"{key}: {value}\n" for key, value in facts.items()))


def _no_table(root: Path, truths: Mapping[str, Truth]) -> None:
    """ACDC has no table."""


def _mnms_name(number: int, seed: int, manner: Manner | None) -> str:
    return mnms_code(seed)


def _write_mnms(folder: Path, made: PhantomStudy, unit_sform: bool) -> None:
    """A 4D label that is empty on the frames other than ED and ES."""
    phases = list(_phases(made))
    labels = np.zeros_like(made.labels)
    labels[..., phases] = made.labels[..., phases]
    _save(folder / f"{folder.name}_sa.nii.gz", made.study.frames, made.study)
    _save(folder / f"{folder.name}_sa_gt.nii.gz", labels, made.study)


def _tabulate_mnms(root: Path, truths: Mapping[str, Truth]) -> None:
    """ED and ES count frames from 0; what a phantom has not, such as an age, is blank."""
    rows = []
    for number, (code, truth) in enumerate(truths.items()):
        group = MNMS_GROUPS.get(str(truth["group"]), "Other")
        phases = (truth["ed"], truth["es"])
        rows.append((number, code, *MNMS_VENDOR, *phases, "", group, "", "", ""))
    _write_table(root / MNMS_TABLE, MNMS_COLUMNS, rows)


def _cmrxmotion_name(number: int, seed: int, manner: Manner | None) -> str:
    return f"P{number + 1:03d}-{manner or 0:d}"


def _write_cmrxmotion(folder: Path, made: PhantomStudy, unit_sform: bool) -> None:
    """One phase a file, images with a fourth axis of length 1; no labels of severe scans."""
    for phase, frame in zip(("ED", "ES"), _phases(made), strict=True):
        path = folder / f"{folder.name}-{phase}.nii.gz"
        _save(path, made.study.frames[..., frame : frame + 1], made.study)
        if made.truth["grade"] != SEVERE:
            label = folder / f"{folder.name}-{phase}-label.nii.gz"
            _save(label, made.labels[..., frame], made.study)


def _tabulate_cmrxmotion(root: Path, truths: Mapping[str, Truth]) -> None:
    """A study's grade is that of both its scans."""
    rows = [
        (f"{name}-{phase}", truth["grade"])
        for name, truth in truths.items()
        for phase in ("ED", "ES")
    ]
    _write_table(root / "IQA.csv", ("Image", "Label"), rows)


PUBLIC_SETS: Mapping[str, PublicSet] = {
    "acdc": PublicSet("database", "training", _acdc_name, _write_acdc, _no_table),
    "mnms": PublicSet(
        "OpenDataset", "Training/Labeled", _mnms_name, _write_mnms, _tabulate_mnms, most=MNMS_CODES
    ),
    "cmrxmotion": PublicSet(
        "CMRxMotion Training Dataset",
        "data",
        _cmrxmotion_name,
        _write_cmrxmotion,
        _tabulate_cmrxmotion,
        every_manner=True,
    ),
}
FORMATS = ("nifti", "dicom", "both", *PUBLIC_SETS)
"""File formats and layouts of a cohort."""


def mnms_code(number: int) -> str:
    """A subject's code in the manner of M&Ms (letter, digit, three times), one for each number.

    Numbers share a code only where they are equal modulo `MNMS_CODES`, which is prime to 7 368 787.
    """
    rest = number * 7_368_787 + 4_211_393
    code = ""
    for _ in range(3):
        rest, letter = divmod(rest, 26)
        rest, digit = divmod(rest, 10)
        code += f"{chr(ord('A') + letter)}{digit}"
    return code


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


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
