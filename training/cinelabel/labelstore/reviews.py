"""Reviews of studies in versions: a file each, the highest number is the newest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cinelabel.core.errors import ConflictError, InputError
from cinelabel.core.files import write_json
from cinelabel.core.review import ReviewRecord
from cinelabel.labelstore.folders import Folders, about
from cinelabel.labelstore.records import ReviewVersion, check_name, check_text, conflict


def history(folders: Folders, study: str) -> list[ReviewVersion]:
    """Every review of a study, oldest first. Raises InputError if one is damaged."""
    check_name(study, "study name")
    found = [_read(path) for path in (folders.reviews / study).glob("v*.json")]
    return sorted(found, key=lambda review: review.version)


def save(
    folders: Folders, record: ReviewRecord, who: str, base_version: int | None, time: str
) -> ReviewVersion:
    """Keep a review as the newest version; see `LabelStore.save_review`."""
    check_text(who, "the reader's name", required=True)
    study, base = record.study, base_version or 0
    with about(study), folders.locked():
        known = history(folders, study)
        if base != len(known):
            newest = known[-1] if known else None
            raise conflict(
                study, base, len(known), newest.who if newest else "", newest.time if newest else ""
            )
        kept = ReviewVersion(study, len(known) + 1, who, time, base, record)
        _write(folders, kept)
    return kept


def restore(folders: Folders, study: str, reviews: Sequence[ReviewVersion]) -> int:
    """Bring the reviews of a study in from another store; see `LabelStore.restore_reviews`."""
    if [review.version for review in reviews] != list(range(1, len(reviews) + 1)):
        raise InputError("its reviews are out of order", where=study)
    with about(study), folders.locked():
        known = history(folders, study)
        if known[: len(reviews)] != list(reviews[: len(known)]):
            raise ConflictError("has other reviews here", where=study, version=len(known))
        new = reviews[len(known) :]
        for review in new:
            _write(folders, review)
    return len(new)


def _write(folders: Folders, review: ReviewVersion) -> None:
    write_json(folders.reviews / review.study / f"v{review.version:04d}.json", review.as_dict())


def _read(path: Path) -> ReviewVersion:
    where = f"{path.parent.name}/{path.name}"
    try:
        return ReviewVersion.read(json.loads(path.read_text(encoding="utf-8")), where)
    except (OSError, ValueError) as error:
        raise InputError("is damaged", where=where, remedy="Bring it from a backup") from error
