"""Follows the access log that Envoy writes, line by line, and never books one twice.

How far it was read is saved with the records of what was read, in one transaction; a process that was killed goes on
there. Envoy appends, also after a restart. When the file has grown to its bound it is renamed, Envoy is told to open a new
one, and once that is there the old one is read to its end and deleted.

Envoy writes ten times a second. While somebody waits for what it tells, each piece is read when it comes; else what comes first
is read at once and the rest once a second, since every reading, and every batch that is stored, costs as much as many lines. A
file that rests is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.gateway.accounting.file_watch import FileWatch
from kajitori.gateway.accounting.records import LogPosition

if TYPE_CHECKING:
    from kajitori.gateway.accounting.ledger import Ledger
    from kajitori.gateway.accounting.records import RecordStore, RequestRecord

_log = logging.getLogger(__name__)

_OLD_SUFFIX = ".1"
_AFTER_ERROR_SECONDS = 5.0
# What was read is followed by a rest of so many turns, which ends when somebody begins to wait.
_TURN_SECONDS, _TURNS = 0.1, 10
# The file is looked at after so long whatever the system tells of it; sooner while it tells nothing, there is no file yet,
# or a new one is expected.
_LONGEST_REST_SECONDS, _POLL_SECONDS = 10.0, 0.4
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
    that nothing is forgotten; after a crash it may be told twice. awaited: whether somebody waits for that now.
    rotate_bytes: when the file is renamed.
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
        awaited: Callable[[], bool] = lambda: False,
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
        self._awaited = awaited
        self._descriptor = -1
        self._watch: FileWatch | None = None
        self._reading = path
        self._told = 0.0
        self._stopping = False
        self._woken = asyncio.Event()
        ledger.take(position.unfinished)

    async def run(self) -> None:
        """Follow the log until told to stop."""
        try:
            while not self._stopping:
                before = self._position
                try:
                    more = await self._step()
                except OSError as error:
                    _log.warning("the access log %s cannot be read: %s", self.path, error)
                    self.close()
                    more = False
                    await asyncio.sleep(_AFTER_ERROR_SECONDS)
                if more:
                    await asyncio.sleep(0)
                else:
                    await self._rest(self._position is not before)
        finally:
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._watch is not None:
            self._watch.close()
            self._watch = None

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
        self._woken.set()

    async def _rest(self, had_read: bool) -> None:
        """Until there may be something to read."""
        if had_read:
            for _ in range(_TURNS):
                if self._stopping or self._awaited():
                    break
                await asyncio.sleep(_TURN_SECONDS)
        if self._stopping:
            return
        if self._watch is None or not self._watch.works or self._reading == self._old or self._is_behind():
            await asyncio.sleep(_TURN_SECONDS if self._awaited() else _POLL_SECONDS)
            return
        await self._watch.wait(_LONGEST_REST_SECONDS, self._woken)
        if not self._stopping:
            self._woken.clear()

    def _is_behind(self) -> bool:
        return self._store.backlog > _MOST_BACKLOG

    async def finish(self) -> None:
        """Reads to the end, after `run`, for an orderly end of this process."""
        if self._descriptor >= 0 or self._open():
            while await self._read():
                pass
        self.close()

    async def _step(self) -> bool:
        """Reads a piece; whether there may be more at once."""
        if self._is_behind() or (self._descriptor < 0 and not self._open()):
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
        self._watch = FileWatch(self._descriptor)
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
        """Books what is there, up to a chunk; whether there may be more."""
        position = self._position
        if self._watch is not None:
            self._watch.forget()
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
        return len(data) == _CHUNK_BYTES

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
