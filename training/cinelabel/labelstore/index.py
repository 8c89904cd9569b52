"""The index of the label store in SQLite: what is asked often, all of it made from the records."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from cinelabel.core.errors import BusyError, OutputError
from cinelabel.labelstore.records import CaseState, Event, Lease, State

FORM = 2  # of the tables; another form is made anew from the records
BUSY_TIMEOUT_S = 30.0

_TABLES = f"""
CREATE TABLE events (
    image TEXT NOT NULL, sequence INTEGER NOT NULL, version INTEGER, stem TEXT NOT NULL,
    record TEXT NOT NULL, PRIMARY KEY (image, sequence)
) WITHOUT ROWID;
CREATE UNIQUE INDEX versions ON events (image, version) WHERE version IS NOT NULL;
CREATE TABLE cases (
    image TEXT PRIMARY KEY, state TEXT NOT NULL, newest INTEGER NOT NULL, last INTEGER NOT NULL,
    sequence INTEGER NOT NULL, who TEXT NOT NULL, time TEXT NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE leases (
    image TEXT PRIMARY KEY, who TEXT NOT NULL, client_id TEXT NOT NULL,
    since TEXT NOT NULL, until TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE seen (
    image TEXT NOT NULL, who TEXT NOT NULL, client_id TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (image, who, client_id)
) WITHOUT ROWID;
CREATE TABLE shown (
    image TEXT NOT NULL, who TEXT NOT NULL, client_id TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (image, who, client_id)
) WITHOUT ROWID;
CREATE TABLE predictions (image TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {FORM};
"""


class DamagedIndexError(Exception):
    """The index is missing, or is not a whole index of this form."""


@dataclass(frozen=True)
class CaseRow:
    """A case in the index: `newest` is the version that counts, `last` the highest number used."""

    image: str
    state: str = "open"
    newest: int = 0
    last: int = 0
    sequence: int = 0
    who: str = ""
    time: str = ""
    reason: str = ""

    def after(self, event: Event) -> CaseRow:
        """The case once the event has happened."""
        row = replace(self, sequence=event.sequence)
        if event.kind == "lease_taken_over":
            return row
        row = replace(row, who=event.who, time=event.time, reason=event.text)
        if event.version is not None:
            return replace(row, state="labelled", newest=event.version, last=event.version)
        if event.kind == "skipped":
            return replace(row, state="skipped")
        if event.kind == "reopened":
            return replace(row, state="open")
        return replace(row, state="open", newest=0)  # set aside


class Index:
    """The tables, through one connection; opened for a moment and closed again."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def begin(self) -> None:
        """Start a change; nobody else can start one until it ends."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End a change; it is on disk when this returns."""
        self._connection.execute("COMMIT")

    def case(self, image: str) -> CaseRow:
        """A case, also one of which nothing is known."""
        row = self._connection.execute("SELECT * FROM cases WHERE image = ?", (image,)).fetchone()
        return CaseRow(image) if row is None else CaseRow(*row)

    def add(self, event: Event) -> None:
        """Enter an event and what it changes."""
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
            (event.image, event.sequence, event.version, event.stem, event.model_dump_json()),
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO cases VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            astuple(self.case(event.image).after(event)),
        )

    def events(self, image: str) -> list[Event]:
        """The history of a case, oldest first."""
        rows = self._connection.execute(
            "SELECT record FROM events WHERE image = ? ORDER BY sequence", (image,)
        )
        return [Event.model_validate_json(record) for (record,) in rows]

    def event(self, image: str, version: int) -> Event | None:
        """The event of a label version."""
        row = self._connection.execute(
            "SELECT record FROM events WHERE image = ? AND version = ?", (image, version)
        ).fetchone()
        return None if row is None else Event.model_validate_json(row[0])

    def all_events(self) -> Iterator[Event]:
        """Every event, by image and sequence."""
        rows = self._connection.execute("SELECT record FROM events ORDER BY image, sequence")
        return (Event.model_validate_json(record) for (record,) in rows)

    def labelled_images(self) -> set[str]:
        """Images that ever had a label."""
        rows = self._connection.execute("SELECT image FROM events WHERE version IS NOT NULL")
        return {image for (image,) in rows}

    def states(self, now: str, images: Iterable[str] | None = None) -> dict[str, CaseState]:
        """Cases of which something is known, all or some; leases that have run out do not count."""
        among = None if images is None else json.dumps(list(images))
        found = {
            image: CaseState(image, state, newest, None, who, time, reason)
            for image, state, newest, who, time, reason in self._connection.execute(
                "SELECT image, state, newest, who, time, reason FROM cases "
                "WHERE ?1 IS NULL OR image IN (SELECT value FROM json_each(?1))",
                (among,),
            )
        }
        for lease in self.leases(now):
            case = found.get(lease.image, CaseState(lease.image))
            found[lease.image] = replace(case, lease=lease)
        return found

    def standing(self) -> dict[str, tuple[State, int]]:
        """State and newest version of every case of which something is known."""
        rows = self._connection.execute("SELECT image, state, newest FROM cases")
        return {image: (state, newest) for image, state, newest in rows}

    def counts(self) -> dict[str, int]:
        """Cases labelled and skipped, and label versions in all."""
        labelled, skipped = self._connection.execute(
            "SELECT count(*) FILTER (WHERE state = 'labelled'), "
            "count(*) FILTER (WHERE state = 'skipped') FROM cases"
        ).fetchone()
        (versions,) = self._connection.execute("SELECT count(version) FROM events").fetchone()
        return {"labelled": labelled, "skipped": skipped, "versions": versions}

    def leases(self, now: str) -> list[Lease]:
        """The leases that have not run out."""
        rows = self._connection.execute("SELECT * FROM leases WHERE until > ?", (now,))
        return [Lease(*row) for row in rows]

    def lease(self, image: str) -> Lease | None:
        """The last lease of a case, also one that has run out."""
        row = self._connection.execute("SELECT * FROM leases WHERE image = ?", (image,)).fetchone()
        return None if row is None else Lease(*row)

    def set_lease(self, lease: Lease) -> None:
        """Enter a lease in place of the last one."""
        self._connection.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)",
            (lease.image, lease.who, lease.client_id, lease.since, lease.until),
        )

    def remove_lease(self, image: str, who: str, client_id: str | None = None) -> None:
        """End the lease of a reader, if there is one; of any client if None."""
        self._connection.execute(
            "DELETE FROM leases WHERE image = ? AND who = ? AND client_id = ifnull(?, client_id)",
            (image, who, client_id),
        )

    def seen(self, image: str, who: str, client_id: str) -> int | None:
        """The version a client was shown last."""
        row = self._connection.execute(
            "SELECT version FROM seen WHERE image = ? AND who = ? AND client_id = ?",
            (image, who, client_id),
        ).fetchone()
        return None if row is None else int(row[0])

    def set_seen(self, image: str, who: str, client_id: str, version: int) -> None:
        """Enter the version a client was shown."""
        self._connection.execute(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", (image, who, client_id, version)
        )

    def clients(self, image: str, who: str) -> list[str]:
        """The clients of a reader that were shown a version."""
        rows = self._connection.execute(
            "SELECT client_id FROM seen WHERE image = ? AND who = ?", (image, who)
        )
        return [str(client_id) for (client_id,) in rows]

    def remove_seen(self, image: str) -> None:
        """Forget what clients were shown of an image."""
        self._connection.execute("DELETE FROM seen WHERE image = ?", (image,))

    def shown(self, image: str, who: str, client_id: str) -> str | None:
        """The record of the prediction a client was shown since it last took the case, as JSON."""
        row = self._connection.execute(
            "SELECT record FROM shown WHERE image = ? AND who = ? AND client_id = ?",
            (image, who, client_id),
        ).fetchone()
        return None if row is None else str(row[0])

    def set_shown(self, image: str, who: str, client_id: str, record: str) -> None:
        """Enter the prediction a client was shown."""
        self._connection.execute(
            "INSERT OR REPLACE INTO shown VALUES (?, ?, ?, ?)", (image, who, client_id, record)
        )

    def remove_shown(self, image: str, who: str | None = None, client_id: str = "") -> None:
        """Forget the prediction a client was shown, or of all clients if None."""
        self._connection.execute(
            "DELETE FROM shown WHERE image = ?1 AND (?2 IS NULL OR (who = ?2 AND client_id = ?3))",
            (image, who, client_id),
        )

    def prediction(self, image: str) -> str | None:
        """The record of a case's prediction, as JSON."""
        row = self._connection.execute(
            "SELECT record FROM predictions WHERE image = ?", (image,)
        ).fetchone()
        return None if row is None else str(row[0])

    def predictions(self) -> dict[str, str]:
        """The records of all predictions, as JSON."""
        return dict(self._connection.execute("SELECT image, record FROM predictions"))

    def predicted(self) -> set[str]:
        """Images with a prediction."""
        return {image for (image,) in self._connection.execute("SELECT image FROM predictions")}

    def set_prediction(self, image: str, record: str) -> None:
        """Enter a prediction in place of the last one."""
        self._connection.execute(
            "INSERT OR REPLACE INTO predictions VALUES (?, ?)", (image, record)
        )

    def stems(self, image: str) -> set[str]:
        """The names of a case's files, without suffixes."""
        rows = self._connection.execute("SELECT stem FROM events WHERE image = ?", (image,))
        return {stem for (stem,) in rows}

    def all_stems(self) -> dict[str, set[str]]:
        """The names of all files, without suffixes, by image."""
        found: dict[str, set[str]] = {}
        for image, stem in self._connection.execute("SELECT image, stem FROM events"):
            found.setdefault(image, set()).add(stem)
        return found

    def require_sound(self) -> None:
        """Raise DamagedIndexError unless every page can be read and belongs together."""
        problems: Sequence[tuple[str]] = self._connection.execute(
            "PRAGMA integrity_check(1)"
        ).fetchall()
        if problems != [("ok",)]:
            raise DamagedIndexError(problems[0][0])


def create(path: Path) -> None:
    """Make an empty index. Raises OutputError."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(_TABLES)
    except sqlite3.OperationalError as error:
        raise _failed(path, error) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Index]:
    """The index for a moment; a change that was begun and not committed is undone.

    Raises:
        DamagedIndexError: it is missing, damaged or of another form.
        BusyError: another program has been changing it for too long.
        OutputError: it cannot be read or written now: disk full, no rights.
    """
    try:
        if not path.exists():
            raise DamagedIndexError("it is missing")
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA synchronous = FULL")
            (form,) = connection.execute("PRAGMA user_version").fetchone()
            if form != FORM:
                raise DamagedIndexError(f"it has the form {form}")
            yield Index(connection)
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            raise DamagedIndexError(str(error)) from error
        raise _failed(path, error) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise DamagedIndexError(str(error)) from error


def _failed(path: Path, error: sqlite3.OperationalError) -> OutputError:
    if "locked" in str(error):
        return BusyError(
            "another program has been changing the index of the labels for too long",
            where=path.name,
            remedy="Try again in a minute",
        )
    return OutputError(
        f"the index of the labels cannot be read or written, {error}",
        where=path.name,
        remedy="Free disk space and check the rights of the workspace, then try again",
    )
