"""One file of the access log: which it is, and what stands behind a place in it."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec

from kajitori.gateway.accounting.records import LogPosition

# About 150 lines, 2 ms: whoever shares the loop waits no longer. No line is longer.
CHUNK_BYTES = 64 * 1024
_HEAD_BYTES = 128


class Place(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A position in few bytes. head: checksum of so many first bytes of the file."""

    inode: int
    offset: int
    head: int
    head_bytes: int


def packed(position: LogPosition) -> bytes:
    """A position, to be kept by somebody else."""
    head = position.head
    return msgspec.msgpack.encode(Place(position.inode, position.offset, zlib.crc32(head), len(head)))


def unpacked(data: bytes) -> Place | None:
    """None for what is none."""
    try:
        return msgspec.msgpack.decode(data, type=Place)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class LogFile:
    """An open file. Raises FileNotFoundError, OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self.descriptor)
        self.inode = status.st_ino

    def close(self) -> None:
        os.close(self.descriptor)

    @property
    def size(self) -> int:
        """Bytes, now."""
        return os.fstat(self.descriptor).st_size

    def has(self, position: LogPosition) -> bool:
        """Whether a position is one of this file, which was not cut or replaced since."""
        head = position.head
        return (
            self.inode == position.inode
            and self.size >= position.offset
            and os.pread(self.descriptor, len(head), 0) == head
        )

    def position_of(self, place: Place) -> LogPosition | None:
        """A place as a position; None if it is of another file."""
        if place.inode != self.inode or not 0 <= place.offset <= self.size:
            return None
        head = os.pread(self.descriptor, min(place.head_bytes, _HEAD_BYTES), 0)
        return LogPosition(self.inode, place.offset, head) if zlib.crc32(head) == place.head else None

    def lines(
        self, position: LogPosition, until: int | None = None
    ) -> tuple[list[str], LogPosition, bool] | None:
        """Lines behind a position, the position behind them, and whether there may be more at once; None: no whole line.

        until: an offset between lines where to stop.
        """
        length = CHUNK_BYTES if until is None else min(CHUNK_BYTES, until - position.offset)
        data = os.pread(self.descriptor, length, position.offset)
        end = data.rfind(b"\n") + 1
        if end == 0:
            if len(data) < CHUNK_BYTES:
                return None  # it is being written
            end = len(data)
        head = position.head or os.pread(self.descriptor, _HEAD_BYTES, 0)
        found = data[:end].decode(errors="replace").split("\n")
        return found, LogPosition(position.inode, position.offset + end, head), len(data) == CHUNK_BYTES
