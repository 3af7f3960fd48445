"""Writes records: the accountant's thread is the only one that does.

They live in SQLite, and with them what they add up to (`usage_tables`), which outlives them. A batch that was committed survives `kill -9`, and with it
how far the log was read that its records come from, so that no line is booked twice or never. What cannot be written, as on a full disk, is tried
again until it can.

A batch is one row, and beside it the short keys of its requests: a row and an index for each request cost four times as much to write. The oldest batches go
when they are too old or beyond the number of records that are kept.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from pathlib import Path

from kajitori.gateway.accounting.records import (
    LogPosition,
    RequestRecord,
    encode_batch,
    encode_position,
    short_key,
)
from kajitori.gateway.accounting.usage_tables import SCHEMA as USAGE_SCHEMA
from kajitori.gateway.accounting.usage_tables import Row, UsageWriter, prune_usage, write_rows

_log = logging.getLogger(__name__)

_SCHEMA = """
DROP TABLE IF EXISTS requests; -- of development versions before 0.1.0
CREATE TABLE IF NOT EXISTS batches (
  number INTEGER PRIMARY KEY, -- of its last record, counted from the first that was ever written
  latest REAL NOT NULL,
  records BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS keys (number INTEGER PRIMARY KEY, keys BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS forget_keys AFTER DELETE ON batches BEGIN
  DELETE FROM keys WHERE number = old.number;
END;
CREATE TABLE IF NOT EXISTS log_position (number INTEGER PRIMARY KEY, position BLOB NOT NULL);
"""
# Whoever looks for one record decodes so many.
_MOST_IN_A_BATCH = 500
# At most so often something is written; the first after a silence is written at once.
_FLUSH_SECONDS = 1.0
_PRUNE_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_COMPLAINT_SECONDS = 60.0
_Batch = tuple[list[RequestRecord], LogPosition | None]


class RecordStore:
    """Writes records. newest_rows, age_seconds: what is kept."""

    def __init__(self, path: Path, *, newest_rows: int = 500_000, age_seconds: float = 14 * 86_400.0) -> None:
        self._path = path
        self._newest_rows = newest_rows
        self._age_seconds = age_seconds
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._usage = UsageWriter()
        self._prune_soon = False
        self._ending = threading.Event()
        self._taken = self._written = 0
        self._complained = -_COMPLAINT_SECONDS
        self.saved: LogPosition | None = None  # the latest on disk
        # Whether what was tried last could not be written.
        self.fails = False
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Records that were handed over and are not on disk; it grows while the disk is full."""
        return self._taken - self._written

    def write(self, records: list[RequestRecord], position: LogPosition | None = None) -> None:
        """Hands records to the writing thread; they are on disk within a flush interval (1 s).

        position: how far the log was read with them, saved in the same transaction.
        """
        self._taken += len(records)
        self._queue.put((records, position))

    def prune(self) -> None:
        """Takes away what is beyond the bounds with the next batch, rather than within a minute."""
        self._prune_soon = True

    def close(self) -> None:
        """Returns when everything that was handed over is on disk, or cannot be written."""
        self._queue.put(None)
        self._ending.set()
        self._thread.join()

    def _work(self) -> None:
        opened = self._open()
        if opened is None:
            return  # they stay in the log, and are read again
        with contextlib.closing(opened) as database:
            pruned = time.monotonic()
            flushed = 0.0
            stopped = False
            while not stopped:
                batch, position, stopped = self._gather(flushed + _FLUSH_SECONDS)
                if self._prune_soon or time.monotonic() - pruned > _PRUNE_SECONDS:
                    pruned, self._prune_soon = time.monotonic(), False
                    self._prune(database)
                flushed = time.monotonic()
                self._commit(database, batch, position)
                self._written += len(batch)

    def _open(self) -> sqlite3.Connection | None:
        """None if it cannot be opened for as long as this lives."""
        while True:
            try:
                return _open(self._path)
            except (OSError, sqlite3.Error) as error:
                self._complain("%s cannot be opened: %s; trying again each second", self._path, error)
                if self._ending.wait(_RETRY_SECONDS):
                    return None

    def _complain(self, text: str, *values: object) -> None:
        """Once a minute."""
        self.fails = True
        if time.monotonic() - self._complained > _COMPLAINT_SECONDS:
            self._complained = time.monotonic()
            _log.error(text, *values)

    def _gather(self, until: float) -> tuple[list[RequestRecord], LogPosition | None, bool]:
        """What is handed over until a time, and something at least; whether that is all that will ever be."""
        batch: list[RequestRecord] = []
        position: LogPosition | None = None
        taken = self._queue.get()
        self._ending.wait(
            max(0.0, until - time.monotonic())
        )  # it does not wake for each that comes meanwhile
        while taken is not None:
            batch += taken[0]
            position = taken[1] or position
            try:
                taken = self._queue.get_nowait()
            except queue.Empty:
                return batch, position, False
        return batch, position, True

    def _commit(
        self, database: sqlite3.Connection, batch: list[RequestRecord], position: LogPosition | None
    ) -> None:
        batch, encoded = _encoded(batch)
        usage: list[Row] | None = None
        while True:
            try:
                if usage is None:
                    usage = self._sums(database, batch)
                with database:
                    _insert(database, batch, encoded, position)
                    write_rows(database, usage)
                self.saved, self.fails = position or self.saved, False
                return
            except sqlite3.Error as error:
                text = "%d request records cannot be written to %s: %s; trying again each second"
                self._complain(text, len(batch), self._path, error)
                if self._ending.is_set():
                    return  # they stay in the log, and are read again
                time.sleep(_RETRY_SECONDS)
                self._prune(database)

    def _sums(self, database: sqlite3.Connection, batch: list[RequestRecord]) -> list[Row]:
        try:
            return self._usage.take(database, batch)
        except sqlite3.Error:
            raise
        except Exception:
            # The records are worth more, and without this thread nothing would ever be booked again.
            _log.exception("%d requests are counted in no sum of usage", len(batch))
            return []

    def _prune(self, database: sqlite3.Connection) -> None:
        try:
            with database:
                # Numbers follow the time closely enough: looking at the oldest ones spares an index.
                database.execute(
                    "DELETE FROM batches WHERE latest < ? AND number IN"
                    " (SELECT number FROM batches ORDER BY number LIMIT 5000)",
                    (time.time() - self._age_seconds,),
                )
                database.execute(
                    "DELETE FROM batches WHERE number <= (SELECT max(number) FROM batches) - ?",
                    (self._newest_rows,),
                )
                prune_usage(database, time.strftime("%Y-%m-%d", time.gmtime()))
        except sqlite3.Error:
            _log.exception("could not prune %s", self._path)


def _encoded(records: list[RequestRecord]) -> tuple[list[RequestRecord], list[bytes]]:
    """Those that can be written, and the batches that they make."""
    parts = [records[at : at + _MOST_IN_A_BATCH] for at in range(0, len(records), _MOST_IN_A_BATCH)]
    try:
        return records, [encode_batch(part) for part in parts]
    except Exception:
        # One must not take the others with it, nor the thread: without it, records would pile up.
        return _encoded([record for record in records if _is_writable(record)])


def _is_writable(record: RequestRecord) -> bool:
    try:
        encode_batch([record])
    except Exception:
        _log.exception("request %s cannot be written", record.id)
        return False
    return True


def _insert(
    database: sqlite3.Connection,
    records: list[RequestRecord],
    encoded: list[bytes],
    position: LogPosition | None,
) -> None:
    (number,) = database.execute("SELECT ifnull(max(number), 0) FROM batches").fetchone()
    for place, data in enumerate(encoded):
        part = records[place * _MOST_IN_A_BATCH : (place + 1) * _MOST_IN_A_BATCH]
        number += len(part)
        latest = max(record.time for record in part)
        database.execute("INSERT INTO batches VALUES (?, ?, ?)", (number, latest, data))
        database.execute(
            "INSERT INTO keys VALUES (?, ?)", (number, b"".join(short_key(record.id) for record in part))
        )
    if position is not None:
        database.execute("INSERT OR REPLACE INTO log_position VALUES (1, ?)", (encode_position(position),))


def _open(path: Path) -> sqlite3.Connection:
    """Raises OSError, sqlite3.Error. What is no database is put aside: booking anew is better than not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)
    try:
        return _made_ready(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(path.name + ".unreadable")
        _log.error("%s cannot be read, and is kept as %s: %s", path, aside, error)
        path.replace(aside)
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        path.touch(mode=0o600)
        return _made_ready(path)


def _made_ready(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        _prepare(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA page_size=32768")  # few large writes: each costs a call of the system
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("PRAGMA wal_autocheckpoint=1000")  # 32 MB: a page is written back once for many
    database.execute("PRAGMA cache_size=-16000")
    database.executescript(_SCHEMA + USAGE_SCHEMA)
