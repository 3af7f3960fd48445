"""Reads records, whether or not anybody writes them at the time: `kaji explain`, `kaji usage`, and the accountant when it begins."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from kajitori.gateway.accounting.records import (
    FILE_NAME,
    LogPosition,
    RequestRecord,
    decode_batch,
    decode_position,
    short_key,
)


def read_request(home: Path, request_id: str) -> RequestRecord | None:
    """The record of a request by its `x-request-id`; None if there is none (yet)."""
    statement = (
        "SELECT records FROM batches WHERE number IN (SELECT number FROM keys WHERE instr(keys, ?))"
        " ORDER BY number DESC"
    )
    found = (record for batch in _read(home, statement, (short_key(request_id),)) for record in batch)
    return next((record for record in found if record.id == request_id), None)


def read_recent(home: Path, limit: int = 50) -> list[RequestRecord]:
    """The newest records, newest first."""
    statement = "SELECT records FROM batches WHERE number > (SELECT max(number) FROM batches) - ? ORDER BY number DESC"
    found = (record for batch in _read(home, statement, (limit,)) for record in reversed(batch))
    return list(itertools.islice(found, limit))


def each_record(home: Path, since: float, until: float) -> Iterator[RequestRecord]:
    """The records of requests that began in a time (seconds since 1970; since <= began < until), oldest first."""
    for batch in _read(home, "SELECT records FROM batches WHERE latest >= ? ORDER BY number", (since,)):
        for record in batch:
            if since <= record.time < until:
                yield record


def read_position(path: Path) -> LogPosition:
    """How far the log was read whose records are in this database; the start of no file if it has none, or is none."""
    if not path.exists():
        return LogPosition()
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT position FROM log_position").fetchone()
    except sqlite3.DatabaseError:
        return LogPosition()  # made by an earlier version, or a moment ago, or no database
    return decode_position(row[0]) if row else LogPosition()


def _read(
    home: Path, statement: str, values: tuple[bytes | int | float, ...]
) -> Iterator[list[RequestRecord]]:
    """Batch by batch; none if there is no file, or if it was made a moment ago and has no table yet."""
    path = home / FILE_NAME
    if not path.exists():
        return
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            rows = database.execute(statement, values)
        except sqlite3.OperationalError:
            return
        for row in rows:
            yield decode_batch(row[0])
