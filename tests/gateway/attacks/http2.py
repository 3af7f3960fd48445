"""A client of HTTP/2 that does what no library does unless it is told to: it resets, stalls, and sends frames of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import Frame

from tests.waiting import eventually

Header = tuple[str, str]
_LARGE_WINDOW = 2**30


@dataclass
class Answer:
    """What came on a stream. reset: the code of its RST_STREAM."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray, repr=False)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", "0"))

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Http2Client:
    """One connection. generous: whether it opens its windows as data comes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, generous: bool = True
    ) -> None:
        self._reader, self._writer = reader, writer
        self._generous = generous
        configuration = h2.connection.H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
        self.machine = h2.connection.H2Connection(configuration)
        self.answers: dict[int, Answer] = {}
        self.closed: str | None = None

    def begin(self) -> None:
        self.machine.initiate_connection()
        if self._generous:
            self.machine.increment_flow_control_window(_LARGE_WINDOW)
            self.machine.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _LARGE_WINDOW})
        self.flush()

    def flush(self) -> None:
        data = self.machine.data_to_send()
        if data and self.closed is None:
            self._writer.write(data)

    def write_frames(self, *frames: Frame) -> None:
        """Past the machine that keeps the rules."""
        self.write(b"".join(frame.serialize() for frame in frames))

    def write(self, data: bytes) -> None:
        self.flush()
        self._writer.write(data)

    async def drained(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def ask(
        self,
        body: object = None,
        *,
        path: str = "/v1/chat/completions",
        headers: Sequence[Header] = (),
        authority: str = "x",
        end: bool = True,
        **replaced: str,
    ) -> int:
        """Begins a request, and sends its body if there is one. Gives the number of its stream."""
        stream = self.machine.get_next_available_stream_id()
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        pseudo = {"method": "POST", "scheme": "http", "authority": authority, "path": path, **replaced}
        sent = [*((f":{name}", value) for name, value in pseudo.items()), *headers]
        self.answers[stream] = Answer()
        self.machine.send_headers(stream, sent, end_stream=end and not data)
        if data:
            self.machine.send_data(stream, data, end_stream=end)
        self.flush()
        return stream

    async def upload(self, stream: int, data: bytes) -> None:
        """As fast as the gateway lets it."""
        while data:
            await eventually(lambda: self.machine.local_flow_control_window(stream))
            size = min(self.machine.local_flow_control_window(stream), self.machine.max_outbound_frame_size)
            self.machine.send_data(stream, data[:size])
            self.flush()
            data = data[size:]
            await self.drained()

    def reset(self, stream: int) -> None:
        self.machine.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    async def answer(self, stream: int, seconds: float = 20.0) -> Answer:
        """As soon as it is whole or cut; what came of it if the connection ends before."""
        found = self.answers[stream]
        await eventually(
            lambda: found.over or self.closed is not None,
            seconds=seconds,
            what=lambda: f"stream {stream}: {found}",
        )
        return found

    async def read(self) -> None:
        """Until the connection ends; says in `closed` how."""
        why = "end"
        try:
            while data := await self._reader.read(65536):
                for event in self.machine.receive_data(data):
                    self._take(event)
                self.flush()
        except (ConnectionError, ssl.SSLError) as error:
            why = repr(error)
        except h2.exceptions.ProtocolError as error:
            why = f"the gateway broke the rules: {error!r}"
        self.closed = self.closed or why

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.closed = f"goaway {event.error_code}"
            return
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        match event:
            case h2.events.ResponseReceived() | h2.events.InformationalResponseReceived():
                answer.headers = {str(name): str(value) for name, value in event.headers}
            case h2.events.TrailersReceived():
                answer.trailers = {str(name): str(value) for name, value in event.headers}
            case h2.events.DataReceived():
                answer.body += event.data
                if self._generous and event.flow_controlled_length:
                    self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                answer.ended = True
            case h2.events.StreamReset():
                answer.reset = int(event.error_code)
            case _:
                pass


@contextlib.asynccontextmanager
async def http2(
    port: int, context: ssl.SSLContext | None = None, *, generous: bool = True
) -> AsyncIterator[Http2Client]:
    """A connection, by prior knowledge or, with a context, over TLS."""
    if context is not None:
        context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="x.test" if context else None
    )
    client = Http2Client(reader, writer, generous=generous)
    client.begin()
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 2)
