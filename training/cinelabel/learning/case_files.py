"""Labelled cases of data sets as corrections, to be learned from as readers' labels are.

Each labelled phase is written as two NIfTI files, the image and its canonical label, whose names
tell what they were made from, so that they are made once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cinelabel import studies
from cinelabel.core.errors import InputError
from cinelabel.core.files import sha256
from cinelabel.datasets import Case, load_case
from cinelabel.learning.corrections import Correction
from cinelabel.learning.data import Progress
from cinelabel.studies.study import Study


def corrections_of(
    cases: Sequence[Case], folder: Path, progress: Progress | None = None
) -> list[Correction]:
    """What labelled cases teach, as if readers had corrected every slice that the set annotates.

    Args:
        cases: with labels.
        folder: where image and label of each phase are kept.
        progress: told cases done, cases in all, and what is done.

    Raises:
        InputError, GridError, LabelError: naming the file that is not what it should be.
        OutputError: the folder cannot be written.
    """
    found: list[Correction] = []
    for done, case in enumerate(cases):
        if progress is not None:
            progress(done, len(cases), "reading cases")
        found += _phases(case, folder)
    return found


def fingerprint(case: Case) -> str:
    """SHA-256 over image and label of a case. Raises InputError for files that cannot be read."""
    digest = hashlib.sha256(f"{case.frame}".encode())
    for path in filter(None, (case.image, case.label)):
        files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(sha256(file).encode())
    return digest.hexdigest()


def _phases(case: Case, folder: Path) -> Iterator[Correction]:
    """A correction for each phase of a case that has a label."""
    study, labels = load_case(case)
    if labels is None:
        raise InputError("the case has no label", where=case.image)
    made_from = fingerprint(case)[:12]
    frames = labels[..., np.newaxis] if labels.ndim == 3 else labels
    for t in range(frames.shape[3]):
        if not frames[..., t].any():
            continue
        name = f"{case.set}-{case.name}-t{t:02d}-{made_from}"
        image, label = (folder / f"{name}{end}.nii.gz" for end in ("", "_gt"))
        if not label.exists():  # it is written last
            studies.save_image(image, _phase(study, t))
            studies.save_label(label, _annotated(case, frames[..., t]), studies.load(image))
        yield Correction(
            image=name,
            patient=case.group,
            version=1,
            sha256=sha256(label),
            image_file=image,
            label_file=label,
            whole=case.scored_slices is None,
            phase=case.phase if case.phase in ("ED", "ES") else None,
        )


def _phase(study: Study, t: int) -> Study:
    return replace(
        study,
        frames=study.frames[..., t : t + 1],
        is_cine=False,
        trigger_times_ms=None,
        ed=None,
        es=None,
    )


def _annotated(case: Case, labels: np.ndarray) -> np.ndarray:
    """The labels (x, y, z) of those slices in which the set annotates all its structures."""
    if case.scored_slices is None:
        return labels
    annotated = [set(case.scored_slices[s.name]) for s in case.structures]
    kept = np.zeros_like(labels)
    for k in set.intersection(*annotated):
        kept[:, :, k] = labels[:, :, k]
    return kept
