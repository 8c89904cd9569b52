"""Log-in tokens: random, kept as hashes in one file, each with a name and a role."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path

from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.files import atomic_write, check_identifier, output_error

logger = logging.getLogger(__name__)

TOKEN_BYTES = 32
PREFIX = "cl_"
"""Lets a reader, and scanners for leaked secrets, tell what such a text is."""


class Role(str, Enum):
    """What somebody may do; each role may also do what the ones before it may."""

    reader = "reader"
    annotator = "annotator"
    admin = "admin"

    def allows(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class Identity:
    """Who sent a request."""

    name: str
    role: Role


@dataclass(frozen=True)
class TokenRecord:
    """What the file keeps of a token; times are ISO 8601 in UTC, `expires` None for never."""

    name: str
    role: Role
    sha256: str
    created: str
    expires: str | None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and datetime.fromisoformat(self.expires) <= _now()


class Tokens:
    """The tokens of a file, read again whenever it changes.

    The file holds hashes, never tokens. A missing file holds no token; a damaged one lets nobody
    in and says so in the log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._records: tuple[TokenRecord, ...] = ()

    def check(self, text: str) -> Identity | None:
        """Who has this token; None if nobody has, or its time is over.

        Every record is compared, each in constant time, so the time taken tells nothing.
        """
        digest = _digest(text)
        found: TokenRecord | None = None
        for record in self._current():
            if hmac.compare_digest(record.sha256, digest):
                found = record
        if found is None or found.expired:
            return None
        return Identity(found.name, found.role)

    def records(self) -> tuple[TokenRecord, ...]:
        """All tokens, expired ones too, by name. Raises InputError if the file is damaged."""
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            records = [
                TokenRecord(**{**entry, "role": Role(entry["role"])})
                for entry in document["tokens"]
            ]
            for record in records:
                _ = record.expired  # a time that is none is found here
        except FileNotFoundError:
            return ()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"the tokens cannot be read, {reason}", where=self.path) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "is no file of tokens, or damaged",
                where=self.path,
                remedy="Move it away and add the tokens again with `cinelabel token add`",
            ) from error
        return tuple(sorted(records, key=lambda record: record.name))

    def add(self, name: str, role: Role, days: int | None = None) -> str:
        """Make a token and keep its hash; returns the token, which nobody can read again.

        Raises:
            InputError: the name is taken or no identifier, `days` is not positive, or the file
                is damaged.
            OutputError: the file cannot be written.
        """
        check_identifier(name, "name of a token")
        if days is not None and days < 1:
            raise InputError("a token is valid for one day at least", where=name)
        token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        now = _now()
        try:
            expires = None if days is None else (now + timedelta(days=days)).isoformat()
        except OverflowError as error:
            raise InputError(f"{days} days are too many", where=name) from error
        record = TokenRecord(name, role, _digest(token), now.isoformat(), expires)
        with self._changing() as records:
            if any(other.name == name for other in records):
                raise InputError(
                    f"there is a token named {name} already",
                    where=self.path,
                    remedy="Choose another name, or remove it first",
                )
            self._write([*records, record])
        return token

    def remove(self, name: str) -> None:
        """Forget a token. Raises InputError if there is none of that name."""
        with self._changing() as records:
            kept = [record for record in records if record.name != name]
            if len(kept) == len(records):
                raise InputError(f"there is no token named {name!r}", where=self.path)
            self._write(kept)

    def _current(self) -> tuple[TokenRecord, ...]:
        """The records, read again if the file has changed."""
        with self._lock:
            seen: tuple[int, ...] = ()
            with contextlib.suppress(OSError):
                status = self.path.stat()
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                try:
                    self._records = self.records()
                except InputError as error:
                    logger.error("Nobody is let in: %s", error)
                    self._records = ()
                self._seen = seen
            return self._records

    @contextlib.contextmanager
    def _changing(self) -> Iterator[tuple[TokenRecord, ...]]:
        """The records, with the file to ourselves."""
        from filelock import FileLock

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
            lock.acquire()
        except OSError as error:
            raise output_error(error, self.path) from error
        try:
            yield self.records()
        finally:
            lock.release()

    def _write(self, records: list[TokenRecord]) -> None:
        entries = [asdict(record) | {"role": record.role.value} for record in records]
        with atomic_write(self.path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps({"version": 1, "tokens": entries}, indent=2) + "\n")


def default_tokens() -> Path:
    """The file of tokens in the user's configuration folder."""
    from platformdirs import user_config_path

    return user_config_path("cinelabel", appauthor=False) / "tokens.json"


def require_private(path: Path) -> None:
    """Raise OutputError if others than the owner may read or change the file."""
    if os.name == "posix" and path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise OutputError(
            "others than its owner may read or change the tokens",
            where=path,
            remedy=f"Run chmod 600 {path}",
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
