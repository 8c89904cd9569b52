"""What the sub-commands share: progress on a terminal, tables on standard output, output checks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.files import output_error

if TYPE_CHECKING:
    from rich.table import Table

Progress = Callable[[int, int, str], None]

PLAIN_WIDTH = 120
"""Columns of a table where standard output is not a terminal."""


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """A bar with rate and remaining time on standard error; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None, rate="")

        def show(done: int, total: int, step: str) -> None:
            speed = bars.tasks[0].speed
            rate = f"{speed:.1f}/s" if speed else ""
            bars.update(task, completed=done, total=total, description=step or what, rate=rate)

        yield show


def print_table(table: Table) -> None:
    """Print to standard output, as wide as the terminal (120 columns where it is none)."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(table)


def print_json(obj: object) -> None:
    """Print one JSON value to standard output; NaN is refused (ValueError)."""
    print(json.dumps(obj, ensure_ascii=False, allow_nan=False, indent=2))


def note(text: str) -> None:
    """One line for the reader on standard error."""
    print(text, file=sys.stderr)


def named_path(text: str, option: str, form: str) -> tuple[str, Path]:
    """Name and path of a value like `acdc=/data/ACDC`; InputError if it has not that form."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise InputError(f"'{text}' is not {form}", where=option)
    return name, Path(path)


def require_suffix(path: Path, suffixes: tuple[str, ...], what: str) -> None:
    """Raise OutputError unless the file's name ends with one of the suffixes."""
    if not path.name.lower().endswith(suffixes):
        raise OutputError(
            f"is no name for {what}", where=path, remedy=f"End it with {' or '.join(suffixes)}"
        )


def require_writable(outputs: Mapping[str, Path | None], inputs: tuple[Path, ...] = ()) -> None:
    """Raise OutputError unless every output can be written, and none is an input or another one.

    Called before long work; leaves nothing behind. Of folders that do not exist yet the nearest
    existing one is tried. `outputs` maps the option to the file, None if it was not given.
    """
    seen: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if any(_same(path, source) for source in inputs):
            raise OutputError(
                f"{option} would overwrite the input", where=path, remedy="Choose another name"
            )
        if path.resolve() in seen:
            raise OutputError(
                f"{option} and {seen[path.resolve()]} name the same file",
                where=path,
                remedy="Choose two names",
            )
        seen[path.resolve()] = option
        _try_to_write(path)


def require_exists(path: Path) -> None:
    """Raise InputError unless there is a file or folder of that name."""
    if not path.exists():
        raise InputError("there is no such file or folder", where=path)


def _same(path: Path, other: Path) -> bool:
    if path.resolve() == other.resolve():
        return True
    return path.exists() and other.exists() and os.path.samefile(path, other)


def _try_to_write(path: Path) -> None:
    if path.is_dir():
        raise OutputError("is a folder", where=path, remedy="Give the name of a file")
    try:
        folder = path.parent
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder, prefix=".cinelabel-"):
            pass
    except OSError as error:
        raise output_error(error, path) from error
