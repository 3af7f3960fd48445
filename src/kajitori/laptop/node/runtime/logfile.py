"""A container's log: one line of text a line, with time and stream, bounded in size.

    2026-01-31T12:00:00.123456789Z stdout F hello
                                          F: a whole line; P: a part of one longer than 16 KiB

This is the form that container runtimes write (CRI logging). Lines that were read together share one time. A file
that would grow over its bound is renamed to `<name>.log.1`, the one before to `.2`; older ones are removed.
"""

from __future__ import annotations

import contextlib
import os
import time

MAXIMUM_BYTES = 10 * 2**20
KEPT_ROTATIONS = 2
PART_BYTES = 16 * 2**10


class LogFile:
    """Writes one log, opened at the first line. A full disk loses lines, never the container: errors of writing are counted in `lost_bytes`."""

    def __init__(self, path: str, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        self.path = path
        self.lost_bytes = 0
        self._maximum_bytes = maximum_bytes
        self._open_lines: dict[str, bytes] = {}
        self._descriptor = -1
        self._size = 0

    def write(self, stream: str, data: bytes) -> None:
        """Add what a stream gave; a last line without end waits for the rest."""
        data = self._open_lines.pop(stream, b"") + data
        lines, newline, rest = data.rpartition(b"\n")
        stamp = _timestamp()
        parts: list[bytes] = []
        if newline:
            whole = b"%s %s F " % (stamp, stream.encode())
            if len(lines) < PART_BYTES:
                parts.append(whole + lines.replace(b"\n", b"\n" + whole) + b"\n")
            else:
                parts += [self._parts(stamp, stream, line) + b"\n" for line in lines.split(b"\n")]
        while len(rest) >= PART_BYTES:
            parts.append(b"%s %s P %s\n" % (stamp, stream.encode(), rest[:PART_BYTES]))
            rest = rest[PART_BYTES:]
        if rest:
            self._open_lines[stream] = rest
        if parts:
            self._append(b"".join(parts))

    def close(self) -> None:
        """Write what is left of lines without an end, and close."""
        stamp = _timestamp()
        for stream, rest in self._open_lines.items():
            self._append(b"%s %s P %s\n" % (stamp, stream.encode(), rest))
        self._open_lines.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @staticmethod
    def _parts(stamp: bytes, stream: str, line: bytes) -> bytes:
        written = b""
        while len(line) > PART_BYTES:
            written += b"%s %s P %s\n" % (stamp, stream.encode(), line[:PART_BYTES])
            line = line[PART_BYTES:]
        return written + b"%s %s F %s" % (stamp, stream.encode(), line)

    def _open(self) -> None:
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._descriptor = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            self._size = os.fstat(self._descriptor).st_size

    def _append(self, data: bytes) -> None:
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + len(data) > self._maximum_bytes:
            self._rotate()
        try:
            self._size += os.write(self._descriptor, data)
        except OSError:
            self.lost_bytes += len(data)

    def _rotate(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with contextlib.suppress(OSError):
            for number in range(KEPT_ROTATIONS - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            os.replace(self.path, f"{self.path}.1")
        self._size = 0
        self._open()


def _timestamp() -> bytes:
    nanoseconds = time.time_ns()
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z").encode()
