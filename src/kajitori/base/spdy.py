"""SPDY/3.1 frames, as far as port-forwarding needs them: streams with headers, data, and their ends.

Clients of Kubernetes still carry port-forwarding in this protocol, inside a WebSocket. Pure: bytes in, frames out,
and back. Source: SPDY Protocol Draft 3.1; its header dictionary is a constant of the protocol.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
DATA = 0
FIN = 1
LARGEST_FRAME_BYTES = 1 << 24
_VERSION = 3

_DICTIONARY_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age "
    "allow authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_DICTIONARY_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _sized(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


DICTIONARY = (
    b"".join(_sized(word.replace("_", " ").encode()) for word in _DICTIONARY_WORDS.split())
    + _DICTIONARY_TAIL.encode()
)


class MalformedSpdy(Exception):
    """Bytes that are no SPDY/3.1 frames."""


class Frame(NamedTuple):
    """type: DATA or a control type. stream: its number (of a PING: the ping's). headers: of a SYN_STREAM."""

    type: int
    stream: int
    flags: int
    data: bytes = b""
    headers: dict[str, str] | None = None

    @property
    def ends(self) -> bool:
        """The sender says no more on this stream."""
        return bool(self.flags & FIN)


class Reader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames that are complete by now. Raises MalformedSpdy."""
        self._buffer += data
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                return
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            frame = self._frame(first, second >> 24, payload)
            if frame is not None:
                yield frame

    def _frame(self, first: int, flags: int, payload: bytes) -> Frame | None:
        if not first & 0x8000_0000:
            return Frame(DATA, first, flags, payload)
        if (first >> 16) & 0x7FFF != _VERSION:
            raise MalformedSpdy("not SPDY/3.1")
        kind = first & 0xFFFF
        if kind not in (SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY):
            return None
        if len(payload) < 4:
            raise MalformedSpdy("a control frame is too short")
        (stream,) = struct.unpack_from(">I", payload)
        if kind == SYN_STREAM:
            return Frame(kind, stream & 0x7FFF_FFFF, flags, headers=self._headers(payload[10:]))
        if kind == SYN_REPLY:
            return Frame(kind, stream & 0x7FFF_FFFF, flags, headers=self._headers(payload[4:]))
        return Frame(kind, stream, flags, payload[4:])

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, LARGEST_FRAME_BYTES)
            (count,) = struct.unpack_from(">I", plain)
            position = 4
            words: list[str] = []
            for _ in range(2 * min(count, 1_000)):
                (size,) = struct.unpack_from(">I", plain, position)
                words.append(plain[position + 4 : position + 4 + size].decode())
                position += 4 + size
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise MalformedSpdy(f"headers cannot be read: {error}") from None
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=True)}


class Writer:
    """Makes frames. Frames with headers share one compression: send them in the order in which they were made."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def _block(self, headers: dict[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers)) + b"".join(
            _sized(name.encode()) + _sized(value.encode()) for name, value in headers.items()
        )
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def open(self, stream: int, headers: dict[str, str]) -> bytes:
        return _control(SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + self._block(headers))

    def reply(self, stream: int) -> bytes:
        return _control(SYN_REPLY, struct.pack(">I", stream) + self._block({}))


def _control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", 0x8000_0000 | _VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def data_frame(stream: int, data: bytes, *, end: bool = False) -> bytes:
    return struct.pack(">II", stream, (FIN if end else 0) << 24 | len(data)) + data


def reset_frame(stream: int, status: int = 5) -> bytes:
    """status 5: CANCEL."""
    return _control(RST_STREAM, struct.pack(">II", stream, status))


def ping_frame(number: int) -> bytes:
    return _control(PING, struct.pack(">I", number))
