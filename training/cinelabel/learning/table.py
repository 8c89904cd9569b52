"""`metrics.csv` of a run as it may be found: a kill or a full disk can leave a row cut short."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cinelabel.core.errors import InputError

STEP = "step"


def whole_rows(path: Path) -> list[dict[str, str]]:
    """The rows that were written to their ends: a step, and a number or nothing in each column.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be read, {reason}", where=path) from error
    names, *rows = [line.split(",") for line in text[: text.rfind("\n") + 1].splitlines()] or [[]]
    return [dict(zip(names, row, strict=True)) for row in rows if _is_whole(names, row)]


def _is_whole(names: Sequence[str], row: Sequence[str]) -> bool:
    if len(row) != len(names) or STEP not in names:
        return False
    return row[names.index(STEP)].isdecimal() and all(map(_is_number, filter(None, row)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
