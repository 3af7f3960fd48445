"""Takes what is damaged out of a state file, so that a server starts again: the rest stays, a copy stays too.

The server that has the file open keeps it locked, so nobody mends what is in use. A file whose pages are damaged,
not only its rows, cannot be mended here: its copy is what a tool of SQLite can try.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import msgspec

from kajitori.laptop.apiserver.journal import SET_VERSION, CorruptState, lock_state

if TYPE_CHECKING:
    from pathlib import Path

ALL = "SELECT resource, namespace, name, version, checksum, body FROM objects"


class Lost(NamedTuple):
    """An object that was taken out. resource: such as `deployments.apps`. problem: why."""

    resource: str
    namespace: str
    name: str
    problem: str

    def __str__(self) -> str:
        path = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.resource} {path}: {self.problem}"


class Repaired(NamedTuple):
    """copy: the file as it was, None if nothing had to be mended."""

    copy: Path | None
    lost: list[Lost]


def repair(path: Path) -> Repaired:
    """Take damaged objects out of the state file. Raises UsageError while a server has it open, CorruptState."""
    lock = lock_state(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as database:
            try:
                lost = _damaged(database)
                if not lost:
                    _check_pages(database)
                    return Repaired(None, [])
                copy = _copy(path)
                _take_out(database, lost)
            except sqlite3.DatabaseError as error:
                raise CorruptState(
                    f"the state file itself is damaged, not only objects in it: {error}",
                    where=str(path),
                    hint="`sqlite3 state.db .recover` may save what can be read; or restore a copy of the file",
                ) from error
        return Repaired(copy, lost)
    finally:
        os.close(lock)


def _damaged(database: sqlite3.Connection) -> list[Lost]:
    found: list[Lost] = []
    for resource, namespace, name, _, checksum, body in database.execute(ALL):
        if problem := _problem(body, checksum):
            found.append(Lost(resource, namespace, name, problem))
    return found


def _check_pages(database: sqlite3.Connection) -> None:
    """Raises DatabaseError where something else than an object is damaged, such as the record of changes."""
    (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(said.splitlines()[-1])


def _problem(body: Any, checksum: int) -> str:
    if not isinstance(body, bytes) or crc32(body) != checksum:
        return "it does not match its checksum"
    try:
        obj = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        return f"it cannot be read: {error}"
    return "" if isinstance(obj.get("metadata"), dict) else "it has no metadata"


def _copy(path: Path) -> Path:
    """The file and what is not yet folded into it, beside it."""
    copy = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copy2(source, copy.with_name(copy.name + suffix))
    return copy


def _take_out(database: sqlite3.Connection, lost: list[Lost]) -> None:
    (last,) = database.execute("SELECT coalesce(max(version), 1) FROM versions").fetchone()
    database.execute("PRAGMA synchronous=FULL")
    database.execute("BEGIN IMMEDIATE")
    database.executemany(
        "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
        [(one.resource, one.namespace, one.name) for one in lost],
    )
    # Whoever knew the object lists again: its disappearance is a change that no watch can tell.
    database.executemany(SET_VERSION, [(resource, last + 1) for resource in {one.resource for one in lost}])
    database.execute("COMMIT")
