"""Reading containers' logs: the lines of a container, in the forms that `kubectl logs` asks for.

The form on disk is that of runtime/logfile.py. A log that was rotated is read from its oldest part on; following it
survives rotation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import NamedTuple

from kajitori.base.clock import parse_rfc3339
from kajitori.laptop.node.runtime.logfile import KEPT_ROTATIONS

_FOLLOW_SECONDS = 0.1
_READ_BYTES = 1 << 16


class LogOptions(NamedTuple):
    """As in PodLogOptions. since: seconds since 1970. stream: `stdout`, `stderr` or empty for both."""

    follow: bool = False
    tail_lines: int | None = None
    since: float | None = None
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: str = ""


class _Line(NamedTuple):
    time: bytes
    stream: bytes
    whole: bool
    text: bytes


def _parse(line: bytes) -> _Line | None:
    parts = line.split(b" ", 3)
    if len(parts) != 4:
        return None
    return _Line(parts[0], parts[1], parts[2] == b"F", parts[3])


def _files(log: Path) -> list[Path]:
    rotated = [log.with_name(f"{log.name}.{number}") for number in range(KEPT_ROTATIONS, 0, -1)]
    return [path for path in (*rotated, log) if path.exists()]


def last_lines(log: Path, count: int) -> str:
    """The text of the last lines, without times."""
    return b"".join(_rendered(_tail(log, count), LogOptions())).decode(errors="replace")


def _tail(log: Path, count: int) -> list[_Line]:
    """The last whole lines, with the parts that belong to them."""
    found: list[_Line] = []
    missing = count
    for path in reversed(_files(log)):
        lines = [parsed for line in _read_backwards(path, missing) if (parsed := _parse(line))]
        found = lines + found
        missing = count - sum(line.whole for line in found)
        if missing <= 0:
            break
    if count <= 0:
        return []
    # Drop from the front until no more than `count` lines are left; an open last part counts as one.
    total = sum(line.whole for line in found) + bool(found and not found[-1].whole)
    while total > count:
        total -= found.pop(0).whole
    return found


def _read_backwards(path: Path, lines: int) -> list[bytes]:
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        data = b""
        while position > 0 and data.count(b"\n") <= lines + 1:
            step = min(_READ_BYTES, position)
            position -= step
            file.seek(position)
            data = file.read(step) + data
    whole = data.split(b"\n")
    return whole[1 if position > 0 else 0 : -1]


def _rendered(lines: list[_Line], options: LogOptions) -> Iterator[bytes]:
    starts = True
    for line in lines:
        if options.stream and line.stream.decode() != options.stream:
            continue
        if options.since is not None and parse_rfc3339(_short(line.time)) < options.since:
            continue
        prefix = line.time + b" " if options.timestamps and starts else b""
        yield prefix + line.text + (b"\n" if line.whole else b"")
        starts = line.whole


def _short(stamp: bytes) -> str:
    # Nanoseconds are more than Python's times hold.
    text = stamp.decode()
    return text[:26] + "Z" if len(text) > 27 else text


async def read_log(
    log: Path, options: LogOptions, ended: asyncio.Event | None = None
) -> AsyncGenerator[bytes]:
    """The log in pieces. With follow: until `ended` is set and everything is read."""
    remaining = options.limit_bytes
    async for piece in _pieces(log, options, ended):
        if remaining is not None:
            piece = piece[:remaining]
            remaining -= len(piece)
        if piece:
            yield piece
        if remaining == 0:
            return


async def _pieces(log: Path, options: LogOptions, ended: asyncio.Event | None) -> AsyncGenerator[bytes]:
    reader = _Follower(log)
    if options.tail_lines is not None:
        yield b"".join(_rendered(_tail(log, options.tail_lines), options))
        reader.skip_to_end()
    else:
        for path in _files(log)[:-1]:
            for data in _blocks(path):
                yield b"".join(_rendered(data, options))
                await asyncio.sleep(0)
    while True:
        # Asked before reading: what was written before the end is then read for sure.
        over = ended is None or ended.is_set() or not options.follow
        while lines := reader.read():
            yield b"".join(_rendered(lines, options))
            await asyncio.sleep(0)
        if over:
            return
        await asyncio.sleep(_FOLLOW_SECONDS)


def _blocks(path: Path) -> Iterator[list[_Line]]:
    reader = _Follower(path)
    while lines := reader.read():
        yield lines


class _Follower:
    """Reads a log from its beginning on, across rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb") if path.exists() else None
        self._rest = b""

    def skip_to_end(self) -> None:
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def read(self) -> list[_Line]:
        if self._file is None:
            if not self._path.exists():
                return []
            self._file = self._path.open("rb")
        data = self._file.read(_READ_BYTES)
        if not data and self._rotated():
            self._file.close()
            self._file = self._path.open("rb")
            data = self._file.read(_READ_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [parsed for line in lines if (parsed := _parse(line))]

    def _rotated(self) -> bool:
        assert self._file is not None
        try:
            return os.stat(self._path).st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def __del__(self) -> None:
        if self._file:
            self._file.close()
