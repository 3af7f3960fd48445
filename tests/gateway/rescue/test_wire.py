"""HTTP/1.1 between the relay and Envoy, however it is cut: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.rescue.wire import LAST_CHUNK, Body, WireError, chunk, read_head, write_head

CHUNKED = read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")


def fed(body: Body, data: bytes, cuts: list[int]) -> bytes:
    found = b""
    for size in [*cuts, len(data)]:
        part, data = data[:size], data[size:]
        if part:
            found += body.feed(part)
    return found


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(1, 20)), st.booleans())
def test_a_body_in_chunks_is_the_same_however_it_is_cut(
    pieces: list[bytes], cuts: list[int], trailers: bool
) -> None:
    end = b"0\r\nx-a: b\r\n\r\n" if trailers else LAST_CHUNK
    whole = b"".join(map(chunk, pieces)) + end
    body = Body(CHUNKED, answer=True)
    assert fed(body, whole, cuts) == b"".join(pieces)
    assert body.ended and not body.rest
    body = Body(CHUNKED, answer=True)
    fed(body, whole[:-1], cuts)
    assert not body.ended
    body = Body(CHUNKED, answer=True)
    assert body.feed(whole + b"next") == b"".join(pieces)
    assert body.rest == b"next"


def test_a_body_ends_with_its_length_or_with_its_connection() -> None:
    sized = Body(read_head(b"HTTP/1.1 200 OK\r\ncontent-length: 3"), answer=True)
    assert (sized.feed(b"ab"), sized.ended) == (b"ab", False)
    assert (sized.feed(b"cd"), sized.ended, sized.rest) == (b"c", True, b"d")
    assert Body(read_head(b"HTTP/1.1 204 No Content"), answer=True).ended
    assert Body(read_head(b"POST / HTTP/1.1"), answer=False).ended
    lasting = Body(read_head(b"HTTP/1.1 200 OK"), answer=True)
    assert (lasting.feed(b"x"), lasting.until_closed, lasting.ended) == (b"x", True, False)


@pytest.mark.parametrize("data", [b"zz\r\n", b"1" * 2000])
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Body(CHUNKED, answer=True).feed(data)


def test_heads_are_read_as_they_were_written() -> None:
    head = read_head(
        write_head("POST /v1/x?y HTTP/1.1", [("a", "1: 2"), ("b", "")]).removesuffix(b"\r\n\r\n")
    )
    assert (head.first, head.get("a"), head.get("b"), head.get("c")) == (
        "POST /v1/x?y HTTP/1.1",
        "1: 2",
        "",
        None,
    )
    for bad in (b"HTTP/1.1 200 OK\r\nnothing", b"HTTP/1.1 2x0 OK", b""):
        with pytest.raises(WireError):
            assert read_head(bad).status
