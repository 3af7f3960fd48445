"""Follows the access log that Envoy writes, line by line, and never books one twice.

How far it was read is saved with the records of what was read, in one transaction, and how far it was settled with the
counts of limits, in one write; a process that was killed goes on at both. Envoy appends, also after a restart. When the file
has grown to its bound it is renamed, Envoy is told to open a new one, and once that is there the old one is read to its end
and deleted when its records are on disk.

While records cannot be written requests are settled all the same. While what was settled cannot be written, no records are,
since it is settled anew by the process after a killed one. Beyond a bound their records are not kept in memory:
their lines are read again when there is room (`LaterRecords`).

Envoy writes ten times a second. While somebody waits for what it tells, each piece is read when it comes; else what comes first
is read at once and the rest once a second, since every reading, and every batch that is stored, costs as much as many lines. A
file that rests is not looked at.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.gateway.accounting.file_watch import FileWatch
from kajitori.gateway.accounting.later_records import LaterRecords
from kajitori.gateway.accounting.log_file import LogFile, Place, packed, unpacked
from kajitori.gateway.accounting.records import LogPosition

if TYPE_CHECKING:
    from kajitori.gateway.accounting.ledger import Ledger
    from kajitori.gateway.accounting.record_store import RecordStore
    from kajitori.gateway.accounting.records import RequestRecord

_log = logging.getLogger(__name__)

_OLD_SUFFIX = ".1"
_AFTER_ERROR_SECONDS = 5.0
# What was read is followed by a rest of so many turns, which ends when somebody begins to wait.
_TURN_SECONDS, _TURNS = 0.1, 10
# The file is looked at after so long whatever the system tells of it; sooner while it tells nothing, there is no file yet,
# or a new one is expected.
_LONGEST_REST_SECONDS, _POLL_SECONDS = 10.0, 0.4
ROTATE_BYTES = 64 * 1024 * 1024
# So long after Envoy was told, the new file is waited for before it is told again.
_REOPEN_SECONDS = 5.0
# With more records than these in memory, lines wait; and if they cannot be written, further records are made later.
_MOST_BACKLOG = 20_000
# A disk that takes so long is as good as none.
_PATIENCE_SECONDS = 5.0

Settle = Callable[["list[RequestRecord]", bytes], Awaitable[None]]


class LogReader:
    """Reads `path` into a ledger.

    reopen: tells Envoy to open the file anew. settle: is told of records before they are stored, and of the position behind
    them, which it keeps with what it makes of them. settled: what it has kept, perhaps in a process before this one.
    kept: whether all that it was told outlives this process. awaited: whether somebody waits for what it is told next.
    rotate_bytes: when the file is renamed.
    """

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        store: RecordStore,
        position: LogPosition,
        reopen: Callable[[], Awaitable[None]],
        settle: Settle | None = None,
        *,
        settled: Callable[[], Awaitable[bytes]] | None = None,
        kept: Callable[[], bool] = lambda: True,
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
        self._settled = settled
        self._rotate_bytes = rotate_bytes
        self._kept = kept
        # Records that wait for that, in front of those that are made later.
        self._unkept: list[tuple[list[RequestRecord], LogPosition]] = []
        self._awaited = awaited
        self._file: LogFile | None = None
        self._later: LaterRecords | None = None
        # The end of a file that was read and is not deleted yet.
        self._old_end: LogPosition | None = None
        self._watch: FileWatch | None = None
        self._behind_since: float | None = None
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
                    self._let_go()
                    more = False
                    await asyncio.sleep(_AFTER_ERROR_SECONDS)
                if more:
                    await asyncio.sleep(0)
                else:
                    await self._rest(self._position is not before)
        finally:
            self.close()

    def close(self) -> None:
        self._let_go()
        if self._later is not None:
            self._later.close()
            self._later = None

    @property
    def behind_bytes(self) -> int:
        """What was written and not read."""
        try:
            reading = self._file.path if self._file is not None else self.path
            return max(0, os.stat(reading).st_size - self._position.offset)
        except OSError:
            return 0

    @property
    def later_records(self) -> int:
        """Requests that were settled and whose records are not made yet."""
        unkept = sum(len(records) for records, _ in self._unkept)
        return unkept + (self._later.count if self._later is not None else 0)

    def stop(self) -> None:
        """Has `run` return when what was read is booked."""
        self._stopping = True
        self._woken.set()

    async def finish(self) -> None:
        """Reads to the end, after `run`, for an orderly end of this process."""
        if self._file is not None or await self._open():
            while await self._read():
                pass
            while self._read_later():
                pass
        self.close()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _rest(self, had_read: bool) -> None:
        """Until there may be something to read."""
        if had_read:
            for _ in range(_TURNS):
                if self._stopping or self._awaited():
                    break
                await asyncio.sleep(_TURN_SECONDS)
        if self._stopping:
            return
        waits = self._behind_since is not None or self._later is not None
        expects = self._reads_old or waits or self._old_end is not None
        if self._watch is None or not self._watch.works or expects:
            await asyncio.sleep(_TURN_SECONDS if self._awaited() else _POLL_SECONDS)
            return
        await self._watch.wait(_LONGEST_REST_SECONDS, self._woken)
        if not self._stopping:
            self._woken.clear()

    @property
    def _reads_old(self) -> bool:
        return self._file is not None and self._file.path == self._old

    async def _step(self) -> bool:
        """Reads a piece; whether there may be more at once."""
        if self._file is None and not await self._open():
            return False
        if self._must_wait():
            return False
        more = await self._read()
        more = self._read_later() or more
        self._delete_old()
        if more:
            return True
        if self._reads_old:
            if self.path.exists():
                return await self._leave_old()
            await self._tell_envoy()
        elif self._position.offset >= self._rotate_bytes and not self._later and not self._old_end:
            self.path.rename(self._old)
            assert self._file is not None
            self._file.path, self._told = self._old, 0.0
            await self._tell_envoy()
        return False

    async def _open(self) -> bool:
        """Opens the file that was read last, else what is there, from its start."""
        found = [file for path in (self._old, self.path) for file in _opened(path)]
        known = next((file for file in found if file.has(self._position)), None)
        chosen = known or next(iter(found), None)
        for file in found:
            if file is not chosen:
                file.close()
        if chosen is None:
            return False
        if known is None:
            self._position = LogPosition(chosen.inode)
        settled, self._settled = self._settled, None
        place = unpacked(await settled()) if settled is not None else None
        self._take(self._skip_settled(chosen, place) if place is not None else chosen)
        return True

    def _skip_settled(self, chosen: LogFile, place: Place) -> LogFile:
        """Goes on behind what an earlier process has settled, and makes the records of that beside. Gives the file to go on with."""
        ahead = [chosen] if chosen.path == self.path else [chosen, *_opened(self.path)]
        found = chosen
        for file in ahead:
            position = file.position_of(place)
            if position is not None and (file is not chosen or position.offset > self._position.offset):
                self._part(chosen.path, told=False)
                if file is not chosen:
                    self._old_end = LogPosition(chosen.inode, chosen.size)
                found, self._position = file, position
        for file in ahead:
            if file is not found:
                file.close()
        return found

    def _part(self, path: Path, *, told: bool) -> None:
        """From here on records are made later."""
        self._later = LaterRecords(path, self.path, self._position, self._ledger, told=told)

    def _must_wait(self) -> bool:
        """Whether so many records wait that no more should be made yet. From when they cannot be written, they are made later."""
        if self._later is not None or self._file is None:
            self._behind_since = None
            return False
        if self._unkept and not self._kept():
            _log.warning("counts of limits cannot be written; lines wait in %s for their records", self.path)
            self._part(self._file.path, told=True)
            return False
        if self._store.backlog <= _MOST_BACKLOG:
            self._behind_since = None
            return False
        now = asyncio.get_running_loop().time()
        self._behind_since = self._behind_since or now
        if not self._store.fails and now < self._behind_since + _PATIENCE_SECONDS:
            return True
        _log.warning("records cannot be written; requests are settled, their lines wait in %s", self.path)
        self._part(self._file.path, told=True)
        return False

    async def _read(self) -> bool:
        """Settles what is there, up to a chunk, and hands its records on; whether there may be more."""
        file = self._file
        if file is None:
            return False
        if self._watch is not None:
            self._watch.forget()
        found = file.lines(self._position)
        if found is None:
            return file.size <= self._position.offset and await self._was_replaced(file)
        lines, position, more = found
        records = self._ledger.book(lines)
        if self._settle is not None and records:
            await self._settle(records, packed(position))
        self._position = position
        if self._later is None:
            self._hand_on(records, position)
        elif self._later.told:
            self._later.count += len(records)
            self._ledger.tell(records)
        return more

    def _hand_on(self, records: list[RequestRecord], position: LogPosition) -> None:
        if self._kept() and not self._unkept:
            self._ledger.hand_on(records, position)
            return
        # Killed now, this process would have settled nothing of this: the next one has to begin before it.
        self._unkept.append((records, position))
        self._ledger.tell(records)

    def _read_later(self) -> bool:
        """Makes records of what is settled already, up to a chunk; whether there may be more at once."""
        if not self._kept():
            return False
        for records, position in self._unkept:
            self._ledger.keep(records, position)
        self._unkept.clear()
        if self._later is None or self._store.backlog > _MOST_BACKLOG // 2:
            return False
        if not self._later.make(self._position):
            return True
        self._later.close()
        self._later = None
        self._ledger.join()
        return False

    async def _was_replaced(self, file: LogFile) -> bool:
        """At the end of the file: whether there is another one to be read, since somebody cut or took away this one."""
        if file.size < self._position.offset:
            _log.warning("the access log %s was cut short by somebody; reading it from its start", self.path)
            self._position = LogPosition(self._position.inode)
            return True
        if self._reads_old:
            return False
        try:
            if os.stat(self.path).st_ino == self._position.inode:
                return False
        except FileNotFoundError:
            return False  # taken away, and Envoy has it open still
        _log.warning("the access log %s was replaced by somebody; reading the new one", self.path)
        self._let_go()
        return await self._open()

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

    async def _leave_old(self) -> bool:
        """Envoy has a new file, so the old one gets nothing more."""
        if await self._read():
            return True
        if self._file is not None and self._file.size > self._position.offset:
            _log.warning("the access log %s ended within a line", self._old)
        self._old_end = self._position
        self._let_go()
        self._take(LogFile(self.path))
        return True

    def _delete_old(self) -> None:
        """It goes when all of it is on disk elsewhere."""
        end, saved = self._old_end, self._store.saved
        if end is None:
            return
        is_saved = saved is not None and (saved.inode != end.inode or saved.offset >= end.offset)
        if is_saved or not end.offset:
            self._old.unlink(missing_ok=True)
            self._old_end = None

    def _take(self, file: LogFile) -> None:
        """Goes on with a file, from its start unless its position is known."""
        # It names clients and models: its owner's alone.
        os.fchmod(file.descriptor, 0o600)
        if file.inode != self._position.inode:
            self._position = LogPosition(file.inode)
        self._file = file
        self._watch = FileWatch(file.descriptor)


def _opened(path: Path) -> list[LogFile]:
    """None or one."""
    try:
        return [LogFile(path)]
    except FileNotFoundError:
        return []
