"""SPDY/3.1 frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base import spdy

TEXTS = st.text("abcdefgh-", min_size=1, max_size=12)


@given(
    st.lists(st.tuples(st.integers(1, 2**31 - 1), st.dictionaries(TEXTS, TEXTS), st.binary(max_size=200))),
    st.integers(1, 64),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    streams: list[tuple[int, dict[str, str], bytes]], size: int
) -> None:
    writer, reader = spdy.Writer(), spdy.Reader()
    sent = b"".join(
        writer.open(stream, headers) + spdy.data_frame(stream, data, end=True) + spdy.ping_frame(stream)
        for stream, headers, data in streams
    )
    frames = [
        frame for start in range(0, len(sent), size) for frame in reader.feed(sent[start : start + size])
    ]
    assert [(f.stream, f.headers) for f in frames if f.type == spdy.SYN_STREAM] == [
        (stream, headers) for stream, headers, _ in streams
    ]
    assert [(f.stream, f.data, f.ends) for f in frames if f.type == spdy.DATA] == [
        (stream, data, True) for stream, _, data in streams
    ]
    assert [f.stream for f in frames if f.type == spdy.PING] == [stream for stream, _, _ in streams]


@pytest.mark.parametrize(
    "noise", [b"\x80\x02\x00\x01" + b"\x00" * 20, b"\x80\x03\x00\x01\x00\x00\x00\x0c" + b"x" * 12]
)
def test_noise_is_no_spdy(noise: bytes) -> None:
    with pytest.raises(spdy.MalformedSpdy):
        list(spdy.Reader().feed(noise))
