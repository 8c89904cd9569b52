"""Folders that appear whole or not at all: written under another name, flushed, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from cinelabel.core.errors import OutputError
from cinelabel.core.files import flush_to_disk

PARTIAL = ".partial-"


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when the block ends well.

    `target` must not exist yet. After any failure nothing remains. Raises OutputError if the
    folder cannot be written or `target` exists by then.
    """
    temporary = target.with_name(f"{PARTIAL}{target.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            flush_to_disk(path)
        if target.exists():
            raise OutputError("the folder exists already", where=target)
        os.rename(temporary, target)
        flush_to_disk(target.parent)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot be written, {reason}", where=target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
