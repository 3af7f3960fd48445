"""A file that is only ever appended to, and survives `kill -9`.

Each record is its length, a checksum, and msgpack. A record is handed to the system at once, in one write, so the
end of the process loses none; it is not forced onto the disk, so a power cut may take the last seconds. A tail
that was torn is cut off when the file is read. What it says grows with requests, so it is written anew from
the state from time to time: beside itself, forced onto the disk by a thread while it goes on, then renamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

_log = logging.getLogger(__name__)

_MAGIC = b"kajitori limits 1\n"
_HEAD = struct.Struct("<II")
_LARGEST_BYTES = 64 * 1024 * 1024
_MOST_HELD_BYTES = 4 * 1024 * 1024
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Journal:
    """An open journal. Read it with `replay` before the first `append`. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size_bytes = 0
        self._held = bytearray()
        # Whether so much waited for a full disk that it was let go: what is there now is of no use until it is written anew.
        self.overdue = False
        # Whether what was to be written last could not be.
        self.fails = False
        # What was written since a snapshot was taken that is not in place yet.
        self._since: bytearray | None = None

    def replay(self) -> Iterator[Any]:
        """Every record, oldest first; then the file stands ready to be appended to."""
        good = len(_MAGIC)
        with os.fdopen(os.dup(self._file), "rb") as reader:
            reader.seek(0)
            head = reader.read(len(_MAGIC))
            if head == _MAGIC:
                for record, end in _records(reader):
                    yield record
                    good = end
            elif not _MAGIC.startswith(head):
                # Counting from zero beside a file that is kept is better than not serving at all.
                aside = self._path.with_name(self._path.name + ".unreadable")
                os.replace(self._path, aside)
                _log.error("%s is no journal of limits; it is kept as %s", self._path, aside)
                os.close(self._file)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._file).st_size
        if size > good:
            _log.warning("%s: the last %d bytes were torn and are cut off", self._path, size - good)
        os.ftruncate(self._file, min(size, good))
        if size < len(_MAGIC):
            os.pwrite(self._file, _MAGIC, 0)
        self.size_bytes = os.lseek(self._file, 0, os.SEEK_END)

    def append(self, record: Any) -> None:
        """Hands a record to the system, behind those that were held back."""
        self._put(bytes(self._held) + _framed(record) if self._held else _framed(record))

    def hold(self, record: Any) -> None:
        """Keeps a record for the next write."""
        if not self.overdue:
            self._held += _framed(record)
            if len(self._held) <= _MOST_HELD_BYTES:
                return
            self.overdue = True
        elif self._since is not None:
            self._held += _framed(record)
        if self._since is not None:  # the snapshot does not know of it
            self._since += self._held
        self._held.clear()

    def flush(self) -> None:
        """Hands what was held back to the system; what cannot be written is kept, up to a bound."""
        if self._held or self.overdue:
            self._put(bytes(self._held))

    def _put(self, data: bytes) -> None:
        self.fails = True
        if self.overdue:
            raise OSError(f"{self._path}: it has to be written anew, and could not be")
        written = os.write(self._file, data)
        if written != len(data):  # the disk is full: what is half there is a torn tail
            os.ftruncate(self._file, self.size_bytes)
            os.lseek(self._file, 0, os.SEEK_END)
            raise OSError(f"{self._path}: the disk is full")
        self.fails = False
        self.size_bytes += written
        self._held.clear()
        if self._since is not None:
            self._since += data

    async def rewrite(self, records: Iterable[Any]) -> None:
        """Puts these records in place of all that were written before; others may be appended meanwhile.

        Nobody else may be waiting for this.
        """
        beside = self._path.with_name(self._path.name + ".new")
        data = _MAGIC + b"".join(map(_framed, records))
        self._held.clear()  # the records know of it
        self._since = bytearray()
        try:
            await asyncio.get_running_loop().run_in_executor(None, _write_whole, beside, data)
            fresh = os.open(beside, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            try:
                if os.write(fresh, self._since) != len(self._since):
                    raise OSError(f"{beside}: the disk is full")
                os.replace(beside, self._path)
            except OSError:
                os.close(fresh)
                raise
        finally:
            self._since = None
        os.close(self._file)
        self.overdue, self.fails = False, bool(self._held)
        self._file = fresh
        self.size_bytes = os.lseek(fresh, 0, os.SEEK_END)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.flush()
        os.close(self._file)


def read_journal(path: Path) -> Iterator[Any]:
    """Every record of a journal that another process may be writing; none if there is no such file."""
    try:
        reader = path.open("rb")
    except FileNotFoundError:
        return
    with reader:
        if reader.read(len(_MAGIC)) == _MAGIC:
            for record, _ in _records(reader):
                yield record


def _write_whole(path: Path, data: bytes) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(target, "wb") as writer:
        writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())


def _framed(record: Any) -> bytes:
    data = _encode(record)
    return _HEAD.pack(len(data), zlib.crc32(data)) + data


def _records(reader: Any) -> Iterator[tuple[Any, int]]:
    """Records with where they end; stops at the first that is not whole."""
    end = reader.tell()
    while True:
        head = reader.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        length, checksum = _HEAD.unpack(head)
        if length > _LARGEST_BYTES:
            return
        data = reader.read(length)
        if len(data) < length or zlib.crc32(data) != checksum:
            return
        try:
            record = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        end += _HEAD.size + length
        yield record, end
