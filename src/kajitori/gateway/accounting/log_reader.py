"""Follows the access log that Envoy writes, line by line, and never books one twice.

How far it was read is saved with the records of what was read, in one transaction; a process that was killed goes on
there. Envoy appends, also after a restart. When the file has grown to its bound it is renamed, Envoy is told to open a new
one, and once that is there the old one is read to its end and deleted.

Envoy writes ten times a second, so the file is looked at as often; when nothing came for a while, less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.gateway.accounting.records import LogPosition

if TYPE_CHECKING:
    from kajitori.gateway.accounting.ledger import Ledger
    from kajitori.gateway.accounting.records import RecordStore, RequestRecord

_log = logging.getLogger(__name__)

_OLD_SUFFIX = ".1"
_POLL_SECONDS = 0.1
_AFTER_ERROR_SECONDS = 5.0
_QUIET_AFTER_SECONDS, _QUIET_POLL_SECONDS = 2.0, 0.4
# About 150 lines, 2 ms: whoever shares the loop waits no longer. No line is longer.
_CHUNK_BYTES = 64 * 1024
_HEAD_BYTES = 128
ROTATE_BYTES = 64 * 1024 * 1024
# So long after Envoy was told, the new file is waited for before it is told again.
_REOPEN_SECONDS = 5.0
# More records than these in memory, and the lines are left where they are.
_MOST_BACKLOG = 20_000


class LogReader:
    """Reads `path` into a ledger.

    reopen: tells Envoy to open the file anew. settle: is told of records before they and the new position are saved, so
    that nothing is forgotten; after a crash it may be told twice. rotate_bytes: when the file is renamed.
    """

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        store: RecordStore,
        position: LogPosition,
        reopen: Callable[[], Awaitable[None]],
        settle: Callable[[list[RequestRecord]], Awaitable[None]] | None = None,
        *,
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        self.path = path
        self._old = path.with_name(path.name + _OLD_SUFFIX)
        self._ledger = ledger
        self._store = store
        self._position = position
        self._reopen = reopen
        self._settle = settle
        self._rotate_bytes = rotate_bytes
        self._descriptor = -1
        self._reading = path
        self._told = 0.0
        self._stopping = False
        ledger.take(position.unfinished)

    async def run(self) -> None:
        """Follow the log until told to stop."""
        try:
            loop = asyncio.get_running_loop()
            latest = loop.time()
            while not self._stopping:
                try:
                    busy = await self._step()
                except OSError as error:
                    _log.warning("the access log %s cannot be read: %s", self.path, error)
                    self.close()
                    busy = False
                    await asyncio.sleep(_AFTER_ERROR_SECONDS)
                if busy:
                    latest = loop.time()
                    await asyncio.sleep(0)
                else:
                    quiet = loop.time() - latest > _QUIET_AFTER_SECONDS
                    await asyncio.sleep(_QUIET_POLL_SECONDS if quiet else _POLL_SECONDS)
        finally:
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def behind_bytes(self) -> int:
        """What was written and not read."""
        try:
            return max(0, os.stat(self._reading).st_size - self._position.offset)
        except OSError:
            return 0

    def stop(self) -> None:
        """Has `run` return when what was read is booked."""
        self._stopping = True

    async def finish(self) -> None:
        """Reads to the end, after `run`, for an orderly end of this process."""
        if self._descriptor >= 0 or self._open():
            while await self._read():
                pass
        self.close()

    async def _step(self) -> bool:
        """Reads a piece; whether there may be more at once."""
        if self._store.backlog > _MOST_BACKLOG or (self._descriptor < 0 and not self._open()):
            return False
        if await self._read():
            return True
        if self._reading == self._old:
            if self.path.exists():
                return await self._finish_old()
            await self._tell_envoy()
        elif self._position.offset >= self._rotate_bytes:
            self.path.rename(self._old)
            self._reading, self._told = self._old, 0.0
            await self._tell_envoy()
        return False

    def _open(self) -> bool:
        """Opens the file that was read last, else what is there, from its start."""
        found: list[tuple[Path, int]] = []
        for path in (self._old, self.path):
            with contextlib.suppress(FileNotFoundError):
                found.append((path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
        known = next((item for item in found if self._is_known(item[1])), None)
        chosen = known or next(iter(found), None)
        for item in found:
            if item is not chosen:
                os.close(item[1])
        if chosen is None:
            return False
        self._reading, self._descriptor = chosen
        if known is None:
            # It names clients and models: its owner's alone.
            os.fchmod(self._descriptor, 0o600)
            self._position = LogPosition(os.fstat(self._descriptor).st_ino)
        return True

    def _is_known(self, descriptor: int) -> bool:
        status = os.fstat(descriptor)
        position = self._position
        return (
            status.st_ino == position.inode
            and status.st_size >= position.offset
            and os.pread(descriptor, len(position.head), 0) == position.head
        )

    async def _read(self) -> bool:
        """Books what is there, up to a chunk; False at the end of what is whole."""
        position = self._position
        data = os.pread(self._descriptor, _CHUNK_BYTES, position.offset)
        if not data:
            return self._was_replaced()
        end = data.rfind(b"\n") + 1
        if end == 0:
            if len(data) < _CHUNK_BYTES:
                return False  # it is being written
            end = len(data)
        head = position.head or os.pread(self._descriptor, _HEAD_BYTES, 0)
        records = self._ledger.book(data[:end].decode(errors="replace").split("\n"))
        if self._settle is not None and records:
            await self._settle(records)
        self._position = LogPosition(position.inode, position.offset + end, head)
        self._ledger.hand_on(records, self._position)
        return True

    def _was_replaced(self) -> bool:
        """At the end of the file: whether there is another one to be read, since somebody cut or took away this one."""
        if os.fstat(self._descriptor).st_size < self._position.offset:
            _log.warning("the access log %s was cut short by somebody; reading it from its start", self.path)
            self._position = LogPosition(self._position.inode)
            return True
        if self._reading == self._old:
            return False
        try:
            if os.stat(self.path).st_ino == self._position.inode:
                return False
        except FileNotFoundError:
            return False  # taken away, and Envoy has it open still
        _log.warning("the access log %s was replaced by somebody; reading the new one", self.path)
        self.close()
        return self._open()

    async def _tell_envoy(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._told and now - self._told < _REOPEN_SECONDS:
            return
        self._told = now
        try:
            await self._reopen()
        except OSError as error:
            # When it starts it opens the new file by itself.
            _log.info("Envoy cannot be told to reopen its access log: %s", error)

    async def _finish_old(self) -> bool:
        """Envoy has a new file, so the old one gets nothing more. It goes when all of it is on disk elsewhere."""
        if await self._read():
            return True
        saved = self._store.saved
        if self._position.offset and (saved is None or not _same_place(saved, self._position)):
            return False
        if os.fstat(self._descriptor).st_size > self._position.offset:
            _log.warning("the access log %s ended within a line", self._old)
        self.close()
        self._old.unlink(missing_ok=True)
        return True


def _same_place(one: LogPosition, other: LogPosition) -> bool:
    return (one.inode, one.offset) == (other.inode, other.offset)
