"""A provider that speaks HTTP/2 and misbehaves in one of its phases."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, get_args

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.gateway.providers import event, reset_connection
from tests.stand_ins import serving

_Before = Literal[
    "never says a word",
    "speaks HTTP/1",
    "goes away at once",
    "goes away after the request",
    "refuses the stream",
    "resets the stream",
    "resets the connection",
    "never answers",
    "closes its half and never answers",
]
_Within = Literal[
    "resets the stream after the headers",
    "resets the stream in the middle",
    "resets the connection in the middle",
    "goes away and closes in the middle",
    "stops in the middle",
]
Way = Literal[_Before, _Within, "one byte at a time"]
BEFORE_AN_ANSWER: tuple[_Before, ...] = get_args(_Before)
IN_AN_ANSWER: tuple[_Within, ...] = get_args(_Within)
_HEADERS = [(":status", "200"), ("content-type", "text/event-stream")]


@dataclass
class Http2Provider:
    """way: how it misbehaves. asked: requests that were whole."""

    way: Way
    port: int = 0
    asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
            await self._serve(reader, writer)
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.way == "never says a word":
            await reader.read()
            return
        if self.way == "speaks HTTP/1":
            await reader.read(1000)
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return
        machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        machine.initiate_connection()
        if self.way == "goes away at once":
            machine.close_connection()
        writer.write(machine.data_to_send())
        while data := await reader.read(65536):
            for found in machine.receive_data(data):
                if isinstance(found, h2.events.DataReceived) and found.flow_controlled_length:
                    machine.acknowledge_received_data(found.flow_controlled_length, found.stream_id)
                elif isinstance(found, h2.events.StreamEnded) and self.way != "goes away at once":
                    self.asked += 1
                    await self._answer(machine, writer, found.stream_id)
            if writer.transport.is_closing():
                return
            writer.write(machine.data_to_send())
            await writer.drain()

    async def _answer(
        self, machine: h2.connection.H2Connection, writer: asyncio.StreamWriter, stream: int
    ) -> None:
        match self.way:
            case "goes away after the request":
                machine.close_connection(last_stream_id=0)
            case "refuses the stream":
                machine.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            case "resets the stream":
                machine.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
            case "resets the connection":
                reset_connection(writer)
            case "closes its half and never answers":
                writer.write_eof()
            case "never answers":
                pass
            case _:
                await self._begin(machine, writer, stream)

    async def _begin(
        self, machine: h2.connection.H2Connection, writer: asyncio.StreamWriter, stream: int
    ) -> None:
        """Headers and the first events, and what then comes to its mind."""
        machine.send_headers(stream, _HEADERS)
        whole = b"".join(map(event, range(3)))
        if self.way == "one byte at a time":
            for at in range(len(whole)):
                machine.send_data(stream, whole[at : at + 1])
                writer.write(machine.data_to_send())
                await writer.drain()
                await asyncio.sleep(0.002)
            machine.send_data(stream, b"data: [DONE]\n\n", end_stream=True)
            return
        if self.way != "resets the stream after the headers":
            machine.send_data(stream, whole)
        writer.write(machine.data_to_send())
        await writer.drain()
        # What comes with a reset in one segment is lost with it.
        await asyncio.sleep(0.05)
        match self.way:
            case "resets the stream after the headers" | "resets the stream in the middle":
                machine.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
            case "resets the connection in the middle":
                reset_connection(writer)
            case "goes away and closes in the middle":
                machine.close_connection(last_stream_id=stream)
                writer.write(machine.data_to_send())
                writer.close()
            case _:
                pass


@contextlib.asynccontextmanager
async def misbehaving_by_http2(way: Way) -> AsyncGenerator[Http2Provider]:
    """Serves on a port of its own until the block ends."""
    provider = Http2Provider(way)
    async with serving(provider.serve) as provider.port:
        yield provider
