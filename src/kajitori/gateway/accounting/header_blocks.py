"""Header blocks of HTTP/2 (HPACK, RFC 7541), as Envoy writes them when it is told to leave Huffman's code out. Pure.

Texts stand in them as they are, so a question is read with no more than a search. A table of what was said before
exists for as long as it takes to be told to do without.
"""

from __future__ import annotations

from collections.abc import Iterable

Field = tuple[bytes, bytes]


def _static(text: bytes) -> tuple[Field, ...]:
    pairs = (each.partition(b"|") for each in text.split(b" "))
    return tuple((name, value.replace(b"_", b" ")) for name, _, value in pairs)


# Appendix A of the RFC; a space of a value stands as `_`.
_STATIC = _static(
    b":authority :method|GET :method|POST :path|/ :path|/index.html :scheme|http :scheme|https :status|200 :status|204 "
    b":status|206 :status|304 :status|400 :status|404 :status|500 accept-charset accept-encoding|gzip,_deflate "
    b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
    b"content-disposition content-encoding content-language content-length content-location content-range content-type "
    b"cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
    b"last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after "
    b"server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate"
)
_LARGEST_TABLE_BYTES = 4096
_ENTRY_BYTES = 32
_HUFFMAN = 0x80
# A number goes on for as long as a byte says so.
_MORE, _MOST_SHIFT = 0x80, 28
_STATUSES = {200: b"\x88", 400: b"\x8c", 404: b"\x8d", 500: b"\x8e"}


class HeaderTable:
    """What one side of a connection has said before, the latest first. capacity: in bytes as RFC 7541 counts them."""

    def __init__(self, capacity: int = _LARGEST_TABLE_BYTES) -> None:
        self.capacity = self._most = capacity
        self._entries: list[Field] = []

    def read(self, block: bytes) -> list[Field]:
        """The fields of a block. Raises ValueError for what is none, and for Huffman's code."""
        fields: list[Field] = []
        at = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = read_number(block, at, 7)
                fields.append(self._entry(index))
            elif first & 0xE0 == 0x20:
                size, at = read_number(block, at, 5)
                if size > self._most:
                    raise ValueError("the table of headers grows beyond its bound")
                self.capacity = size
                self._evict()
            else:
                kept = bool(first & 0x40)
                index, at = read_number(block, at, 6 if kept else 4)
                name, at = read_text(block, at) if not index else (self._entry(index)[0], at)
                value, at = read_text(block, at)
                fields.append((name, value))
                if kept:
                    self._entries.insert(0, (name, value))
                    self._evict()
        return fields

    def _entry(self, index: int) -> Field:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        if 0 < index <= len(_STATIC) + len(self._entries):
            return self._entries[index - len(_STATIC) - 1]
        raise ValueError(f"there is no header {index}")

    def _evict(self) -> None:
        while sum(_size(entry) for entry in self._entries) > self.capacity:
            self._entries.pop()


def _size(entry: Field) -> int:
    return len(entry[0]) + len(entry[1]) + _ENTRY_BYTES


def read_number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number that begins in the last bits of a byte, and where it ends. Raises ValueError."""
    most = (1 << bits) - 1
    try:
        number = block[at] & most
        at += 1
        if number < most:
            return number, at
        for shift in range(0, _MOST_SHIFT, 7):
            byte = block[at]
            at += 1
            number += (byte & ~_MORE) << shift
            if not byte & _MORE:
                return number, at
    except IndexError:
        pass
    raise ValueError("a number does not end")


def read_text(block: bytes, at: int) -> tuple[bytes, int]:
    """A text, and where it ends. Raises ValueError for one that does not end, or stands in Huffman's code."""
    length = block[at] if at < len(block) else _HUFFMAN - 1
    if length & _HUFFMAN:
        raise ValueError("Huffman's code is not taken")
    if length < _HUFFMAN - 1:
        at += 1
    else:
        length, at = read_number(block, at, 7)
    end = at + length
    if end > len(block):
        raise ValueError("a text does not end")
    return block[at:end], end


def write_number(number: int, bits: int, marks: int = 0) -> bytes:
    """marks: what stands in the other bits of the first byte."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((marks | number,))
    written = bytearray((marks | most,))
    number -= most
    while number >= _MORE:
        written.append(number & 0x7F | _MORE)
        number >>= 7
    written.append(number)
    return bytes(written)


def write_text(text: bytes) -> bytes:
    """Its length, and the text as it is."""
    length = len(text)
    return (bytes((length,)) if length < 0x7F else write_number(length, 7)) + text


def write_block(status: int, fields: Iterable[Field]) -> bytes:
    """The block of an answer: whoever reads it remembers nothing. Names are in lower case."""
    parts = [_STATUSES.get(status) or b"\x08" + write_text(b"%d" % status)]
    for name, value in fields:
        parts.append(write_name(name))
        parts.append(write_text(value))
    return b"".join(parts)


def write_name(name: bytes) -> bytes:
    """How a field begins that nobody shall remember."""
    return b"\x00" + write_text(name)
