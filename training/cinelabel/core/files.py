"""Files that are either whole or absent: write beside the target, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError, OutputError

IDENTIFIER = re.compile(r"[A-Za-z0-9._-]+")

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or choose another folder"),
    errno.EFBIG: ("the file is larger than may be", "Raise the limit, or choose another folder"),
    errno.EROFS: ("the file system is read-only", "Choose another folder"),
    errno.EACCES: ("permission is denied", "Choose a folder you may write to"),
    errno.EPERM: ("permission is denied", "Choose a folder you may write to"),
    errno.EISDIR: ("it is a folder", "Give the name of a file"),
    errno.ENOTDIR: ("a part of its path is not a folder", "Choose another folder"),
    errno.EEXIST: ("a part of its path is not a folder", "Choose another folder"),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter name"),
}


def flush_to_disk(path: Path) -> None:
    """fsync a file or folder; folders cannot be opened on Windows and are left to the system."""
    if path.is_dir() and os.name == "nt":
        return
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_about_another_file(error: OSError, target: Path, temporary: Path) -> bool:
    """True for errors on files outside the target's path, e.g. an input that is missing."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return False
    named = Path(error.filename)
    return named not in (target, temporary) and named not in target.parents


def output_error(error: OSError, target: Path) -> OutputError:
    """The sentence for a failed write of `target`."""
    fallback = ((error.strerror or str(error)).lower(), "Choose another folder")
    reason, remedy = _REASONS.get(error.errno or 0, fallback)
    return OutputError(f"cannot be written, {reason}", where=target, remedy=remedy)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the target's folder and rename it to the target on success.

    The temporary name ends like the target's, so that writers which choose a format by suffix
    do the same for both. Parent folders are made. After any failure, an interruption included,
    nothing of the new content remains and an older target is untouched.

    Raises:
        OutputError: the target cannot be written (full disk, read-only folder, ...).
    """
    target = Path(path)
    temporary = target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, target)
        with contextlib.suppress(OSError):  # some network file systems cannot flush a folder
            flush_to_disk(target.parent)
    except OSError as error:
        if _is_about_another_file(error, target, temporary):
            raise
        raise output_error(error, target) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically. Raises OutputError."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], obj: object) -> None:
    """Write an object as readable JSON atomically; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: str | os.PathLike[str]) -> str:
    """The hexadecimal SHA-256 of a file's content. Raises InputError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(
            f"cannot be read, {(error.strerror or str(error)).lower()}", where=path
        ) from error
    return digest.hexdigest()


def check_identifier(text: str, what: str) -> str:
    """Return `text` if it can be a name of a file and a part of an address.

    Raises:
        InputError: `text` has other characters than letters, digits, '.', '_' and '-', is
            empty, or is '.' or '..'.
    """
    if not IDENTIFIER.fullmatch(text) or text in (".", ".."):
        raise InputError(
            f"{text!r} is not a valid {what}",
            remedy="Use letters, digits, '.', '_' and '-' only",
        )
    return text
