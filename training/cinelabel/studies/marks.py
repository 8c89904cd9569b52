"""Which frames are ED and ES, as segmentations found them; several processes may write them."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cinelabel.core.errors import BusyError
from cinelabel.core.files import output_error, write_text
from cinelabel.studies.cases import ServedStudy

logger = logging.getLogger(__name__)

PHASES = "phases.json"
LOCK = ".phases.lock"
LOCK_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Mark:
    """The frames of a study, counted from 0, and the fingerprint it had when they were found."""

    of: str
    ed: int
    es: int

    __pydantic_config__ = ConfigDict(strict=True)


_FORM = TypeAdapter(dict[str, Mark])


@dataclass(frozen=True)
class Marked:
    """The marks of a moment, by study."""

    marks: Mapping[str, Mark]

    def on(self, study: ServedStudy, fingerprint: str) -> ServedStudy:
        """A study with its marks, unless its source names phases or has changed since."""
        mark = self.marks.get(study.name)
        if mark is None or mark.of != fingerprint or (study.ed, study.es) != (None, None):
            return study
        return replace(study, ed=mark.ed, es=mark.es)


class Marks:
    """The marks of a workspace, in one file."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / PHASES
        self._lock = workspace / LOCK

    def read(self) -> Marked:
        """The marks as they are; none where the file is missing or damaged."""
        try:
            return Marked(_FORM.validate_json(self.path.read_bytes()))
        except (OSError, ValidationError):
            return Marked({})

    def set(self, study: str, of: str, ed: int, es: int) -> None:
        """Mark the frames of a study; a damaged file is kept beside the new one.

        Raises:
            BusyError: another program has been writing marks for too long.
            OutputError: they cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._lock, timeout=LOCK_PATIENCE_S):
                marks = {**self._sound(), study: Mark(of, ed, es)}
                write_text(self.path, _FORM.dump_json(marks, indent=2).decode() + "\n")
        except Timeout as error:
            raise BusyError(
                "another program has been writing the phases for too long", where=study
            ) from error
        except OSError as error:
            raise output_error(error, self.path) from error

    def _sound(self) -> Mapping[str, Mark]:
        """The marks on disk; a damaged file is renamed, and its marks are to be found anew."""
        try:
            return _FORM.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError:
            aside = self.path.with_name(f"phases.damaged-{secrets.token_hex(4)}.json")
            os.replace(self.path, aside)
            logger.warning("the marks of phases were damaged; see %s", aside.name)
            return {}
