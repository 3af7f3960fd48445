"""SQLite under the store: one thread, one connection, many requests in one transaction.

The event loop hands over records; the thread writes all that have come in meanwhile as one transaction with
`synchronous=FULL`, and reports back into the loop. A record is acknowledged only after its commit, so what a
client was told survives `kill -9` and power loss. A transaction that fails (disk full) changes nothing and is
reported as such. Rows carry a checksum: a row that does not match is named at start, and nothing starts.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from kajitori.base.errors import KajitoriError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    version INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name));
CREATE TABLE IF NOT EXISTS versions (resource TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
    slot INTEGER PRIMARY KEY, number INTEGER NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL,
    name TEXT NOT NULL, record BLOB NOT NULL);
"""
UPSERT = """
INSERT INTO objects (resource, namespace, name, version, checksum, body) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (resource, namespace, name)
DO UPDATE SET version = excluded.version, checksum = excluded.checksum, body = excluded.body
"""
SET_VERSION = (
    "INSERT INTO versions (resource, version) VALUES (?, ?) "
    "ON CONFLICT (resource) DO UPDATE SET version = excluded.version"
)
AUDIT_ROWS = 20_000
LARGEST_TRANSACTION = 1_000


class CorruptState(KajitoriError):
    """The state file holds something that was not written by this program, or was damaged since."""


def lock_state(path: Path) -> int:
    """Holds the state for this process alone; the kernel lets go of it however the process ends."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UsageError(
            "another API server has this state open",
            where=str(path),
            hint="`kaji status` shows the cluster that runs in this home; give this one another --home",
        ) from None
    return descriptor


class AuditRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One accepted mutating request, as `/kajitori/audit` tells it."""

    time: str
    user: str
    user_agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    uid: str
    subresource: str = ""
    field_manager: str = ""
    impersonated_by: str = ""
    annotations: dict[str, str] = {}


class Record(msgspec.Struct):
    """One change on its way to disk. body None: the object goes."""

    resource: str
    namespace: str
    name: str
    version: int
    body: bytes | None
    audit: AuditRecord | None
    number: int


class StoredObject(msgspec.Struct, frozen=True):
    resource: str
    namespace: str
    name: str
    version: int
    body: bytes


class Journal:
    """The database file. `on_done(records, error)` is called in the writing thread after each transaction."""

    def __init__(self, path: Path, on_done: Callable[[Sequence[Record], Exception | None], None]) -> None:
        self._path = path
        self._on_done = on_done
        self._queue: queue.SimpleQueue[list[Record] | None] = queue.SimpleQueue()
        self._audit_encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock_state(path)
        try:
            self._database = self._connect(SCHEMA)
        except sqlite3.DatabaseError as error:
            os.close(self._lock)
            raise CorruptState(
                f"cannot open the state file: {error}",
                where=str(path),
                hint="restore a copy of it, or move it away to begin with an empty cluster",
            ) from error

    def _connect(self, schema: str = "") -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("PRAGMA locking_mode=NORMAL")
            if schema:
                database.executescript(schema)
        except sqlite3.Error:
            database.close()
            raise
        return database

    # Reading happens before the thread starts, and for the audit on a connection of its own.

    def load(self) -> Iterator[StoredObject]:
        """Every object, each checked against its checksum. Raises CorruptState naming the first bad one."""
        rows = self._database.execute(
            "SELECT resource, namespace, name, version, checksum, body FROM objects"
        )
        try:
            for resource, namespace, name, version, checksum, body in rows:
                if not isinstance(body, bytes) or crc32(body) != checksum:
                    raise self._corrupt(resource, namespace, name)
                yield StoredObject(resource, namespace, name, version, body)
        except sqlite3.DatabaseError as error:
            raise CorruptState(
                f"the state file is damaged: {error}",
                where=str(self._path),
                hint="restore a copy of it, or move it away to begin with an empty cluster",
            ) from error

    def _corrupt(self, resource: str, namespace: str, name: str) -> CorruptState:
        path = f"{namespace}/{name}" if namespace else name
        return CorruptState(
            f"the stored object {resource} {path} does not match its checksum",
            where=str(self._path),
            hint="`kaji doctor --repair` keeps a copy of the file and takes only this object out; or restore a copy",
        )

    def last_versions(self) -> dict[str, int]:
        """For each resource that ever changed: the version of its last change, deletions included."""
        return dict(self._database.execute("SELECT resource, version FROM versions"))

    def last_audit_number(self) -> int:
        try:
            (number,) = self._database.execute("SELECT coalesce(max(number), 0) FROM audit").fetchone()
        except sqlite3.DatabaseError as error:
            raise CorruptState(
                f"the state file is damaged: {error}",
                where=str(self._path),
                hint="restore a copy of it, or move it away to begin with an empty cluster",
            ) from error
        return number

    def audit(self, resource: str = "", namespace: str = "", name: str = "") -> list[AuditRecord]:
        """Accepted mutating requests that match, oldest first; resource with or without its group.
        Blocking: call it in a thread."""
        database = sqlite3.connect(self._path, timeout=5)
        try:
            rows = database.execute(
                "SELECT record FROM audit"
                " WHERE (:resource = '' OR resource = :resource OR resource LIKE :resource || '.%')"
                " AND (:namespace = '' OR namespace = :namespace) AND (:name = '' OR name = :name) ORDER BY number",
                {"resource": resource, "namespace": namespace, "name": name},
            ).fetchall()
        finally:
            database.close()
        decoder = msgspec.json.Decoder(AuditRecord)
        return [decoder.decode(record) for (record,) in rows]

    # Writing.

    def start(self) -> None:
        self._thread.start()

    def submit(self, records: list[Record]) -> None:
        self._queue.put(records)

    def stop(self) -> None:
        """Write what was submitted, fold the log into the file, close. Blocking."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._database.close()
        os.close(self._lock)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            first = self._queue.get()
            if first is None:
                return
            records = first
            while len(records) < LARGEST_TRANSACTION:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stopping = True
                    break
                records = records + more
            self._on_done(records, self._write(records))

    def _write(self, records: list[Record]) -> Exception | None:
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                UPSERT,
                [
                    (r.resource, r.namespace, r.name, r.version, crc32(r.body), r.body)
                    for r in records
                    if r.body is not None
                ],
            )
            database.executemany(
                "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
                [(r.resource, r.namespace, r.name) for r in records if r.body is None],
            )
            database.executemany(
                SET_VERSION, list({record.resource: record.version for record in records}.items())
            )
            database.executemany(
                "INSERT OR REPLACE INTO audit (slot, number, resource, namespace, name, record) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        r.number % AUDIT_ROWS,
                        r.number,
                        r.resource,
                        r.namespace,
                        r.name,
                        self._audit_encoder.encode(r.audit),
                    )
                    for r in records
                    if r.audit is not None
                ],
            )
            database.execute("COMMIT")
        except Exception as error:
            # Of the disk, or of a record that cannot be written: the thread lives on, since all writes wait for it.
            if database.in_transaction:
                database.execute("ROLLBACK")
            return error
        return None
