"""Port-forwarding as kubectl does it: SPDY frames in a WebSocket."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.apiserver.core.conftest import PODS, Cluster, add_service_account, pod

from kajitori.laptop.apiserver import spdy

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


async def _running_pod(cluster: Cluster) -> None:
    api = cluster.admin
    await add_service_account(api)
    (await api.create(PODS, pod("p"))).ok()
    target = {"target": {"kind": "Node", "name": "node-1"}}
    assert (await api.create(f"{PODS}/p/binding", target)).code == 201
    (await api.merge(f"{PODS}/p/status", {"status": {"podIP": "127.0.0.1", "phase": "Running"}})).ok()


async def test_connections_to_a_pod_are_carried_and_closed_on_both_sides(cluster: Cluster) -> None:
    await _running_pod(cluster)

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    writer, reader = spdy.Writer(), spdy.Reader()
    api = cluster.admin
    url = f"{api.url}{PODS}/p/portforward"
    protocol = "SPDY/3.1+portforward.k8s.io"
    async with api._session.ws_connect(url, protocols=(protocol,)) as socket:
        assert socket.protocol == protocol
        for request in (1, 2):
            error, data = 4 * request - 3, 4 * request - 1
            headers = {"port": port, "requestid": str(request)}
            await socket.send_bytes(writer.open(error, {"streamtype": "error", **headers}))
            await socket.send_bytes(writer.open(data, {"streamtype": "data", **headers}))
            await socket.send_bytes(spdy.data_frame(data, b"hello " * 10_000))
            await socket.send_bytes(spdy.data_frame(data, b"", end=True))
        received: dict[int, bytes] = {}
        ended: set[int] = set()
        while len(ended) < 4:
            for frame in reader.feed(await socket.receive_bytes(timeout=10)):
                if frame.type == spdy.DATA:
                    received[frame.stream] = received.get(frame.stream, b"") + frame.data
                    ended |= {frame.stream} if frame.ends else set()
        assert received == {1: b"", 3: b"HELLO " * 10_000, 5: b"", 7: b"HELLO " * 10_000}
    server.close()


async def test_a_port_that_nobody_listens_on_is_told(cluster: Cluster) -> None:
    await _running_pod(cluster)
    writer, reader = spdy.Writer(), spdy.Reader()
    api = cluster.admin
    async with api._session.ws_connect(
        f"{api.url}{PODS}/p/portforward", protocols=("SPDY/3.1+portforward.k8s.io",)
    ) as socket:
        headers = {"port": "1", "requestid": "0"}
        await socket.send_bytes(writer.open(1, {"streamtype": "error", **headers}))
        await socket.send_bytes(writer.open(3, {"streamtype": "data", **headers}))
        text, ended = b"", 0
        while ended < 2:
            for frame in reader.feed(await socket.receive_bytes(timeout=10)):
                text += frame.data if frame.stream == 1 else b""
                ended += frame.type == spdy.DATA and frame.ends
        assert text.startswith(b"failed to connect to port 1 of the pod at 127.0.0.1")
