"""Inputs like good ones, changed at random by a seed: the same each time, on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

# What readers stumble over: no UTF-8, what is deep, large or no number, beginnings and ends of everything.
JUNK = (
    b"", b"\xff", b"\0", b"\xed\xa0\x80", b"\xd9\xa3", b"\xf0\x9f\x98\x80", b"[", b"]", b"{", b"}", b'"', b"\\u", b"[" * 3000,
    b'{"a":' * 3000, b"9" * 400, b"1e999", b"1e308", b"NaN", b"-Infinity", b"-0", b"-", b"0x", b"null", b"true", b"{}", b"[]", b"'",
    b"\n", b"\r\n\r\n", b"\r", b"http://[", b"%", b"${", b"$$", b": ", b"- ", b"&a ", b"*a", b"\x1e", b"\x1f", b"|", b"~", b",", b";",
)  # fmt: skip
LONGEST_BYTES = 20_000


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """The seeds, the junk, and so many more."""
    yield from seeds
    yield from JUNK
    odds = random.Random(seed)
    for _ in range(count):
        data = bytearray(odds.choice(seeds))
        for _ in range(odds.choice((1, 1, 2, 4, 8))):
            at = odds.randrange(len(data) + 1)
            match odds.randrange(5):
                case 0:
                    data[at:at] = odds.choice(JUNK)
                case 1:
                    data[at : at + odds.randrange(1, 9)] = odds.choice(JUNK)
                case 2:
                    del data[at : at + odds.randrange(1, 9)]
                case 3:
                    data[at : at + 1] = bytes([odds.randrange(256)])
                case _:
                    data[at:at] = data[odds.randrange(len(data) + 1) :][:200]
        yield bytes(data[:LONGEST_BYTES])
