"""exec, attach and port-forward in SPDY/3.1, as a real API server speaks to a node, and in a WebSocket around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.node.conftest import DEADLINE_SECONDS, RunningNode, shell, until

from kajitori.base import spdy
from kajitori.base.unix_sockets import short_path

TUNNEL = "SPDY/3.1+portforward.k8s.io"


class SpdyClient:
    """One upgraded connection and what came over it, by stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._headers = spdy.Writer()
        self._frames = spdy.Reader()
        self.output: dict[int, bytes] = {}
        self.ended: set[int] = set()

    def open(self, stream: int, **headers: str) -> None:
        self.writer.write(self._headers.open(stream, headers))

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.writer.write(spdy.data_frame(stream, data, end=end))

    async def until_ended(self, *streams: int) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.ended >= set(streams):
                data = await self._reader.read(65536)
                assert data, f"the node left; ended: {self.ended}, {self.output}"
                for frame in self._frames.feed(data):
                    if frame.type == spdy.DATA:
                        self.output[frame.stream] = self.output.get(frame.stream, b"") + frame.data
                        self.ended |= {frame.stream} if frame.ends else set()


@contextlib.asynccontextmanager
async def upgraded(node: RunningNode, path: str, protocol: str) -> AsyncIterator[SpdyClient]:
    socket = node.home / "run/node-1.sock"
    await until(socket.exists)
    with short_path(socket) as short:
        reader, writer = await asyncio.open_unix_connection(short)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: node-1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        f"X-Stream-Protocol-Version: unheard.of\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n"
    )
    try:
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        assert f"X-Stream-Protocol-Version: {protocol}".encode() in answer
        yield SpdyClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_exec_in_spdy_gives_output_by_stream_and_the_exit_code(node: RunningNode) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    query = "command=sh&command=-c&command=cat;+echo+err+>%262;+exit+7&input=1&output=1&error=1"
    async with upgraded(node, f"/exec/default/p/c0?{query}", "v4.channel.k8s.io") as client:
        for stream, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")):
            client.open(stream, streamtype=kind)
        client.send(3, b"hello\n" * 50_000)
        client.send(3, b"", end=True)
        await client.until_ended(1, 5, 7)
    assert client.output[5] == b"hello\n" * 50_000
    assert client.output[7] == b"err\n"
    assert json.loads(client.output[1])["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_a_terminal_in_spdy_has_the_size_that_the_client_gives(node: RunningNode) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    query = "command=sh&command=-c&command=read+x;+stty+size&input=1&output=1&tty=1"
    async with upgraded(node, f"/exec/default/p/c0?{query}", "v4.channel.k8s.io") as client:
        for stream, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")):
            client.open(stream, streamtype=kind)
        client.send(7, b'{"Width":70,"Height":30}\n{"Width":77,"Height":33}\n')
        client.send(3, b"go\n")
        await client.until_ended(1, 5)
    assert b"33 77" in client.output[5]


async def test_attach_in_spdy_carries_input_and_output(node: RunningNode) -> None:
    await node.create_pod(
        "p", shell("read x; echo got $x", stdin=True, stdinOnce=True), restartPolicy="Never"
    )
    await node.wait_ready("p")
    async with upgraded(node, "/attach/default/p/c0?input=1&output=1&error=1", "v4.channel.k8s.io") as client:
        for stream, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")):
            client.open(stream, streamtype=kind)
        client.send(3, b"hello\n")
        await client.until_ended(1, 5)
    assert client.output[5] == b"got hello\n"


async def shouting_pod(node: RunningNode) -> None:
    script = (
        "import socket, threading\n"
        "server = socket.create_server(('', 9000)); open('/v/listens', 'w')\n"
        "def serve(c):\n"
        "    data = b''\n"
        "    while piece := c.recv(65536): data += piece\n"
        "    c.sendall(data.upper()); c.close()\n"
        "while True: threading.Thread(target=serve, args=(server.accept()[0],)).start()\n"
    )
    await node.create_pod(
        "p",
        {
            "image": "python",
            "command": ["python3", "-c", script],
            "readinessProbe": {"exec": {"command": ["test", "-e", "/v/listens"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        },
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    await node.wait_ready("p")


async def test_ports_are_forwarded_in_spdy_and_closed_on_both_sides(node: RunningNode) -> None:
    await shouting_pod(node)
    async with upgraded(node, "/portForward/default/p", "portforward.k8s.io") as client:
        for request in (1, 2):
            error, data = 4 * request - 3, 4 * request - 1
            client.open(error, streamtype="error", port="9000", requestid=str(request))
            client.open(data, streamtype="data", port="9000", requestid=str(request))
            client.send(data, b"hello " * 10_000)
            client.send(data, b"", end=True)
        client.open(9, streamtype="error", port="1", requestid="3")
        client.open(11, streamtype="data", port="1", requestid="3")
        await client.until_ended(1, 3, 5, 7, 9, 11)
    assert client.output[3] == client.output[7] == b"HELLO " * 10_000
    assert client.output[9].startswith(b"failed to connect to port 1 of the pod at 127.")


async def test_kubectls_tunnel_through_the_api_server_carries_connections(node: RunningNode) -> None:
    await shouting_pod(node)
    frames, headers = spdy.Reader(), spdy.Writer()
    config = node.client.config
    url = f"{config.server}/api/v1/namespaces/default/pods/p/portforward"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=(TUNNEL,), ssl=config.ssl_context() or True) as socket,
    ):
        assert socket.protocol == TUNNEL
        common = {"port": "9000", "requestid": "0"}
        await socket.send_bytes(headers.open(1, {"streamtype": "error", **common}))
        await socket.send_bytes(headers.open(3, {"streamtype": "data", **common}))
        await socket.send_bytes(spdy.data_frame(3, b"hello", end=True))
        received: dict[int, bytes] = {}
        ended: set[int] = set()
        while len(ended) < 2:
            for frame in frames.feed(await socket.receive_bytes(timeout=10)):
                if frame.type == spdy.DATA:
                    received[frame.stream] = received.get(frame.stream, b"") + frame.data
                    ended |= {frame.stream} if frame.ends else set()
        assert received == {1: b"", 3: b"HELLO"}


async def test_a_client_with_no_protocol_of_ours_is_refused(node: RunningNode) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    with pytest.raises(AssertionError, match="403 Forbidden"):
        async with upgraded(node, "/portForward/default/p", "v9.channel.k8s.io"):
            pass
