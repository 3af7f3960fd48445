"""What passes through to a node: at the pace of whoever takes it, and wherever the home lies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

from tests.apiserver.core.conftest import PODS, Cluster, add_service_account, pod

from kajitori.base.unix_sockets import short_path
from kajitori.laptop.apiserver.proxy import UPSTREAM_BYTES_LIMIT, Upstream

if TYPE_CHECKING:
    from pathlib import Path


class _Client:
    """A connection of which only what is done to its reading counts."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()

    def pause_reading(self) -> None:
        self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()

    def is_closing(self) -> bool:
        return False


async def test_a_client_that_sends_faster_than_the_node_takes_waits_for_it() -> None:
    here, there = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=here)
    reader, other = await asyncio.open_connection(sock=there, limit=1 << 16)
    client: Any = _Client()
    upstream = Upstream(writer, client)
    sent = 0
    while client.reading.is_set():
        upstream.feed_data(bytes(1 << 16))
        sent += 1 << 16
        await asyncio.sleep(0)
    assert writer.transport.get_write_buffer_size() <= 2 * UPSTREAM_BYTES_LIMIT
    async with asyncio.timeout(20):
        await reader.readexactly(sent)
        await client.reading.wait()
    for each in (writer, other):
        each.close()


async def test_a_node_that_is_gone_leaves_no_client_waiting() -> None:
    here, there = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=here)
    client: Any = _Client()
    upstream = Upstream(writer, client)
    while client.reading.is_set():
        upstream.feed_data(bytes(1 << 16))
        await asyncio.sleep(0)
    there.close()
    async with asyncio.timeout(20):
        await client.reading.wait()
    writer.close()


async def test_a_header_in_any_alphabet_reaches_the_node(cluster: Cluster) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
        writer.close()

    await add_service_account(cluster.admin)
    (await cluster.admin.create(PODS, pod("p", nodeName="node-x"))).ok()
    folder = cluster.running.home / "run"
    folder.mkdir(exist_ok=True)
    server = await asyncio.start_unix_server(answer, folder / "node-x.sock")
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "X-Who": "\u8235\u53d6\u308a"}
    refused = await cluster.admin.request("GET", f"{PODS}/p/exec?command=ls", headers=headers)
    server.close()
    assert refused.code == 404, refused.body
    assert "X-Who: \u8235\u53d6\u308a".encode() in heads[0]


async def test_a_socket_is_reached_in_however_deep_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)
    with (
        socket.socket(socket.AF_UNIX) as listener,
        contextlib.closing(socket.socket(socket.AF_UNIX)) as client,
        short_path(folder / "s.sock") as short,
    ):
        listener.bind(short)
        listener.listen()
        client.connect(short)
    assert (folder / "s.sock").is_socket()
