"""Names of studies: after their path, unique, and kept whatever comes, goes or moves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cinelabel.studies.cases import Entry, ServedStudy
from cinelabel.studies.sources import stem

NAME_LENGTH = 150


@dataclass(frozen=True)
class Known:
    """What has been named so far.

    Attributes:
        entries: by the key of their source.
        missing: keys of sources that are not there now; their names may go to a successor.
    """

    entries: Mapping[str, Entry]
    missing: Collection[str]

    def holders(self, study: ServedStudy) -> list[tuple[str, ServedStudy]]:
        """Studies that have the name of a study, or that of one of its images.

        Names that differ in case alone are one file on some file systems, and count as the same.
        """
        name, ids = study.name.casefold(), _folded(study)
        return [
            (key, other)
            for key, entry in self.entries.items()
            for other in entry.studies
            if other.name.casefold() == name or not ids.isdisjoint(_folded(other))
        ]


def _folded(study: ServedStudy) -> set[str]:
    return {image_id.casefold() for image_id in study.image_ids()}


def study_name(source: Path, folder: Path) -> str:
    """A name that stays the same when other studies come: the path, without what it repeats."""
    parts: list[str] = []
    for part in (*source.relative_to(folder).parent.parts, stem(source.name)):
        if source == folder:
            break
        if parts and part.startswith(parts[-1]):
            parts.pop()
        parts.append(part)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts or [folder.name])).lstrip(".")
    if len(name) > NAME_LENGTH:
        name = f"{name[: NAME_LENGTH - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return name if name.strip("._-") else "study"


def kept_name(
    study: ServedStudy, key: str, known: Known, taken: Collection[str]
) -> tuple[str, list[tuple[str, ServedStudy]]] | None:
    """The name that a study had before, and who must give it up for that; None if it is new.

    It is that of the same series of the same source, or, since DICOM series have identities of
    their own, of the same series in a folder that is missing now.

    Args:
        study: as it would be served; its name does not count.
        key: of its source.
        known: what has been named so far.
        taken: names of other studies of the same source, given just now.
    """
    before = known.entries.get(key, Entry("")).studies
    own = [other for other in before if other.name not in taken]
    uid = study.series_uid
    ways: list[Callable[[ServedStudy], bool]] = [
        lambda other: (other.series_uid, other.series) == (uid, study.series),
        lambda other: uid is not None and other.series_uid == uid,
        lambda other: other.series_uid is None and other.series == study.series,
    ]
    for is_same in ways:
        found = next(filter(is_same, own), None)
        if found is not None:
            return found.name, []
    for missing in known.missing:
        for other in known.entries.get(missing, Entry("")).studies:
            if uid is not None and other.series_uid == uid:
                return other.name, [(missing, other)]
    return None
