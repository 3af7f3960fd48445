"""HTTP/1.1 as Envoy speaks it, both ways: heads, and bodies out of the bytes that come. Pure.

Envoy stands on both sides of the relay, so nothing here has to be on its guard against what only others send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HEAD_END = b"\r\n\r\n"
LONGEST_HEAD_BYTES = 256 * 1024
_LONGEST_SIZE_LINE = 1024
Headers = list[tuple[str, str]]


class WireError(ValueError):
    """What came is no HTTP that we know."""


class Head(NamedTuple):
    """first: the request line or the status line. headers: names in lower case."""

    first: str
    headers: Headers

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for known, value in self.headers if known == name), None)

    @property
    def status(self) -> int:
        """Of an answer. Raises WireError."""
        parts = self.first.split(" ", 2)
        if len(parts) < 2 or not parts[1].isdecimal():
            raise WireError(f"{self.first[:100]!r} is no status line")
        return int(parts[1])


def read_head(data: bytes) -> Head:
    """A head without its blank line. Raises WireError."""
    first, *lines = data.decode("latin-1").split("\r\n")
    headers: Headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise WireError(f"{line[:100]!r} is no header")
        headers.append((name.lower(), value.strip()))
    return Head(first, headers)


def write_head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A head with its blank line."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{first}\r\n{lines}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """A piece of a body of unknown length."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


class Body:
    """Takes one body out of what comes. answer: it may last as long as its connection.

    ended: whether all of it came. rest: what came behind it.
    """

    def __init__(self, head: Head, *, answer: bool) -> None:
        self.rest = b""
        length = head.get("content-length")
        self._chunked = (head.get("transfer-encoding") or "").lower() == "chunked"
        self.until_closed = answer and not self._chunked and length is None and head.status not in (204, 304)
        if length is not None and not length.isdecimal():
            raise WireError(f"{length[:100]!r} is no length")
        # Of the body, or of a chunk and its line end.
        self._left = 0 if self._chunked else int(length or 0)
        self._trailers = False
        self._kept = b""
        self.ended = not self._chunked and not self.until_closed and self._left == 0

    def feed(self, data: bytes) -> bytes:
        """What of it is in these bytes. Raises WireError."""
        if self._chunked:
            return self._feed_chunks(data)
        if self.until_closed:
            return data
        found, self.rest = data[: self._left], data[self._left :]
        self._left -= len(found)
        self.ended = self._left == 0
        return found

    def _feed_chunks(self, data: bytes) -> bytes:
        if self._kept:
            data, self._kept = self._kept + data, b""
        found: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left > 2:
                found.append(data[at : at + self._left - 2])
                at += len(found[-1])
                self._left -= len(found[-1])
            elif self._left:
                passed = min(self._left, size - at)
                at += passed
                self._left -= passed
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._keep(data[at:])
                    break
                if self._take_line(data[at:end]):
                    self.rest = data[end + 2 :]
                    break
                at = end + 2
        return found[0] if len(found) == 1 else b"".join(found)

    def _keep(self, line: bytes) -> None:
        if len(line) > _LONGEST_SIZE_LINE:
            raise WireError("the line with the size of a chunk does not end")
        self._kept = line

    def _take_line(self, line: bytes) -> bool:
        """The size of a chunk, or a trailer; whether it was the last line."""
        if self._trailers:
            self.ended = not line
            return self.ended
        try:
            length = int(line.partition(b";")[0], 16)
        except ValueError:
            raise WireError(f"{line[:100]!r} is no size of a chunk") from None
        self._trailers = length == 0
        self._left = length + 2 if length else 0
        return False
