"""How the label store is mended after a kill, a full disk, or damage to its index.

A record whose label is whole is entered: the submission had happened. Anything else without a row
was never confirmed to anybody and is put aside, where a person can look at it. All of it happens
under the lock of the store.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from cinelabel.core.errors import InputError
from cinelabel.core.files import flush_to_disk, output_error, sha256
from cinelabel.core.pseudonyms import pseudonym
from cinelabel.labelstore.folders import Folders, children, place
from cinelabel.labelstore.index import CaseRow, DamagedIndexError, Index, create, opened
from cinelabel.labelstore.records import Event

logger = logging.getLogger(__name__)

STALE_S = 3600.0  # a temporary file older than this belongs to nobody
RECORD_NAME = re.compile(r"(v\d{4,}-[0-9a-f]{12}|e\d{5,}-[a-z_]+)\.json")
LABEL_NAME = re.compile(r"v\d{4,}-[0-9a-f]{12}\.nii\.gz")
TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{8}-")  # as `core.files.atomic_write` makes them


@dataclass(frozen=True)
class Mender:
    """Mends the store below its folders; what it did is in `problems`, a sentence each."""

    folders: Folders
    problems: list[str] = field(default_factory=list)

    def warn(self, sentence: str, image: str = "") -> None:
        """Remember a sentence, and log it without the name of the image it is about."""
        told = sentence.replace(image, f"case {pseudonym(image)}") if image else sentence
        logger.warning("%s", told)
        self.problems.append(sentence)

    def remove_stale(self) -> None:
        """Remove temporary files that a killed program left."""
        oldest = time.time() - STALE_S
        for path in self.folders.temporary.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def repair(self) -> None:
        """Make the index anew from the records unless it is sound; the damaged one is kept."""
        try:
            with opened(self.folders.index) as index:
                index.require_sound()
                return
        except DamagedIndexError as error:
            reason = str(error)
        had_labels = any(self.folders.labels.iterdir())
        try:
            self._put_index_aside(reason)
            fresh = self.folders.temporary / f"{secrets.token_hex(8)}.sqlite"
            create(fresh)
            with opened(fresh) as index:
                index.begin()
                for folder in children(self.folders.labels):
                    self.settle_image(index, folder.name)
                self._find_predictions(index)
                index.commit()
            os.replace(fresh, self.folders.index)
            flush_to_disk(self.folders.root)
        except OSError as error:
            raise output_error(error, self.folders.index) from error
        if had_labels:
            self.warn("The index of the labels was made anew from their records.")

    def _put_index_aside(self, reason: str) -> None:
        """Rename a damaged index, and first its journal, which must not meet the new one."""
        mark = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
        aside = f"labels.damaged-{mark}.sqlite"
        for suffix in ("-journal", ""):
            path = self.folders.root / f"{self.folders.index.name}{suffix}"
            if path.exists():
                os.replace(path, self.folders.root / f"{aside}{suffix}")
                if not suffix:
                    self.warn(f"The index of the labels was damaged ({reason}); see {aside}.")

    def settle(self, index: Index) -> None:
        """Settle every image whose files and rows differ."""
        rows = index.all_stems()
        index.begin()
        for folder in children(self.folders.labels):
            names, stems = set(os.listdir(folder)), rows.pop(folder.name, set())
            expected = {f"{stem}.json" for stem in stems}
            expected |= {f"{stem}.nii.gz" for stem in stems if stem.startswith("v")}
            if names - expected:
                self.settle_image(index, folder.name)
            for missing in sorted(expected - names):
                self.warn(
                    f"{folder.name}: {missing} is missing, bring it from a backup.", folder.name
                )
        for image in rows:
            self.warn(
                f"{image}: the folder of its labels is missing, bring it from a backup.", image
            )
        index.commit()

    def settle_image(self, index: Index, image_id: str) -> bool:
        """Enter records without a row, put aside what else has none; whether any was entered."""
        folder = self.folders.labels / image_id
        if not folder.is_dir():
            return False
        known = index.stems(image_id)
        unknown = {name for name in os.listdir(folder) if name.split(".")[0] not in known}
        records = [name for name in unknown if RECORD_NAME.fullmatch(name)]
        entered = False
        for event in self._readable(folder, records):
            if self._fits(index.case(image_id), event):
                index.add(event)
                known.add(event.stem)
                entered = True
        for name in sorted(unknown):
            if name.split(".")[0] in known:
                continue
            if TEMPORARY_NAME.match(name):
                (folder / name).unlink(missing_ok=True)
            elif RECORD_NAME.fullmatch(name) or LABEL_NAME.fullmatch(name):
                self._put_aside(folder / name)
        return entered

    def _readable(self, folder: Path, names: Sequence[str]) -> list[Event]:
        """The events of the records that can be read and carry their own name, in order."""
        events = []
        for name in names:
            try:
                event = Event.read((folder / name).read_bytes(), f"{folder.name}/{name}")
            except (InputError, OSError):
                continue
            if (event.image, f"{event.stem}.json") == (folder.name, name):
                events.append(event)
        return sorted(events, key=lambda event: event.sequence)

    def _fits(self, case: CaseRow, event: Event) -> bool:
        """Whether an event goes on from a case, and its label is whole."""
        if event.sequence <= case.sequence or (event.version or case.last + 1) <= case.last:
            return False
        if event.version is None:
            return True
        label = self.folders.label(event)
        return label.is_file() and sha256(label) == event.sha256

    def _put_aside(self, path: Path) -> None:
        target = self.folders.unfinished / path.parent.name / path.name
        if target.exists():
            target = target.with_name(f"{secrets.token_hex(4)}-{path.name}")
        place(path, target)
        image = path.parent.name
        self.warn(f"{image}: {path.name} was left half done and is put aside.", image)

    def _find_predictions(self, index: Index) -> None:
        """Enter the newest prediction of every image."""
        for record in sorted(self.folders.predictions.glob("*/*.json")):
            try:
                text = record.read_text(encoding="utf-8")
                told = json.loads(text)
                known = index.prediction(record.parent.name)
                if record.with_suffix(".nii.gz").is_file() and (
                    known is None or json.loads(known)["time"] < told["time"]
                ):
                    index.set_prediction(record.parent.name, text)
            except (OSError, ValueError, KeyError, TypeError):
                image = record.parent.name
                self.warn(f"{image}: the record of a prediction is damaged.", image)
