"""Questions by HTTP/2: the same as by HTTP/1.1, many at once, and what is odd ends its connection alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import h2.connection
import h2.events
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.accounting.admission_http2 import PREFACE, frame
from kajitori.gateway.accounting.admission_server import AdmissionServer
from kajitori.gateway.accounting.header_blocks import HeaderTable, write_block, write_text
from kajitori.gateway.accounting.questions import Forms, Malformed, parse_question
from kajitori.gateway.limits.request import ALLOWED, Request, Verdict
from tests.waiting import eventually

ROUTE = "ai/default/route/rule/2/match/0"
REFUSED = Verdict(allowed=False, status=429, message="nothing is left", retry_after_seconds=7.0)
names = st.text("abc-", min_size=1, max_size=9)
values = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=200
)


class Admission:
    """As `decide` says; what has `wait` in its id has to be waited for."""

    def __init__(self) -> None:
        self.decide: Callable[[Request], Verdict] = lambda request: ALLOWED
        self.waiting: list[Request] = []
        self.given_up = 0
        self.open = asyncio.Event()

    def admit_at_once(self, request: Request) -> Verdict | None:
        return None if "wait" in request.id else self.decide(request)

    async def admit(self, request: Request) -> Verdict:
        self.waiting.append(request)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return self.decide(request)


class Client:
    """One connection of somebody who speaks HTTP/2 by the book."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h2.connection.H2Connection()
        self.http.encoder.encode = functools.partial(self.http.encoder.encode, huffman=False)  # type: ignore[method-assign]
        self.http.initiate_connection()
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: list[int] = []

    def ask(self, id: str, *headers: tuple[str, str]) -> int:
        stream = self.http.get_next_available_stream_id()
        facts = ("x-kajitori-facts", f"{ROUTE}|{id}|-|127.0.0.1|m")
        pseudo = ((":method", "POST"), (":path", "/admit/v1/x"), (":scheme", "http"), (":authority", "a"))
        self.http.send_headers(stream, [*pseudo, facts, *headers], end_stream=True)
        return stream

    def send(self) -> None:
        self.writer.write(self.http.data_to_send())

    async def until_ended(self, *streams: int, acknowledge: bool = True) -> None:
        """Until these are answered."""
        while not set(streams) <= set(self.ended):
            data = await asyncio.wait_for(self.reader.read(65536), 20)
            assert data, "the connection has ended"
            for event in self.http.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self.heads[event.stream_id] = {n.decode(): v.decode() for n, v in event.headers}
                elif isinstance(event, h2.events.DataReceived):
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                    if acknowledge:
                        self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.ended.append(event.stream_id)
            self.send()


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[tuple[Admission, Callable[[], asyncio.Future[Client]]]]:
    admission = Admission()
    server = AdmissionServer(admission)
    await server.listen(folder / "accountant.sock")
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_unix_connection(folder / "accountant.sock")))
        return clients[-1]

    try:
        yield admission, lambda: asyncio.ensure_future(connect())
    finally:
        for client in clients:
            client.writer.close()
        server.close()


async def test_many_questions_of_one_connection_are_answered_and_one_that_waits_holds_up_no_other(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (admission, connect):
        client = await connect()
        admission.decide = lambda request: Verdict(allowed=True, headers=(("x-ratelimit-id", request.id),))
        slow = client.ask("wait")
        others = [client.ask(f"r{number}") for number in range(50)]
        client.send()
        await client.until_ended(*others)
        assert [client.heads[each]["x-ratelimit-id"] for each in others] == [f"r{n}" for n in range(50)]
        assert slow not in client.ended
        admission.open.set()
        await client.until_ended(slow)
        assert client.heads[slow] == {":status": "200", "x-ratelimit-id": "wait"}


async def test_what_arrives_byte_by_byte_with_a_ping_between_is_answered_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as (admission, connect):
        client = await connect()
        admission.decide = lambda request: REFUSED
        first = client.ask("r1", ("x-team", "red"))
        client.http.ping(b"12345678")
        second = client.ask("r2", ("long", "x" * 40_000))  # in three frames
        for byte in client.http.data_to_send():
            client.writer.write(bytes([byte]))
            if byte == 0:
                await client.writer.drain()
        await client.until_ended(first, second)
        for stream in (first, second):
            assert client.heads[stream][":status"] == "429" and client.heads[stream]["retry-after"] == "7"
            assert json.loads(client.bodies[stream])["error"]["message"] == "nothing is left"


async def test_bodies_wait_for_room_and_heads_do_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as (admission, connect):
        client = await connect()
        long = Verdict(allowed=False, status=429, message="x" * 30_000)
        admission.decide = lambda request: ALLOWED if request.id == "passes" else long
        refused = [client.ask(f"r{number}") for number in range(3)]
        passes = client.ask("passes")
        client.send()
        await client.until_ended(*refused[:2], passes, acknowledge=False)
        assert refused[2] not in client.heads
        client.http.increment_flow_control_window(60_000)
        client.send()
        await client.until_ended(*refused)
        assert len({client.bodies[each] for each in refused}) == 1
        # One that is longer than anybody reads is a refusal all the same.
        admission.decide = lambda request: Verdict(allowed=False, status=429, message="x" * 70_000)
        longest = client.ask("r9")
        client.send()
        await client.until_ended(longest)
        assert client.heads[longest][":status"] == "429" and longest not in client.bodies


async def test_a_head_longer_than_a_frame_goes_in_several_and_holds_up_no_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as (admission, connect):
        client = await connect()
        gone = {f"default/{'b' * 200}-{number}": 3600 for number in range(100)}
        long = (("x-long", "y" * 40_000),)
        admission.decide = lambda request: (
            Verdict(allowed=True, exhausted=gone)
            if request.id == "passes"
            else Verdict(allowed=False, status=429, message="no", headers=long)
        )
        client.http.decoder.max_header_list_size = 1 << 20
        sent = [client.ask(id) for id in ("passes", "is refused", "passes")]
        client.send()
        await client.until_ended(*sent)
        told = client.heads[sent[0]]["x-kajitori-exhausted"]
        assert told == client.heads[sent[2]]["x-kajitori-exhausted"] and told.count("=3600") == 100
        assert client.heads[sent[1]]["x-long"] == long[0][1] and client.bodies[sent[1]]


async def test_a_question_that_is_taken_back_or_whose_connection_ends_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as (admission, connect):
        client = await connect()
        taken_back = client.ask("wait-1")
        client.ask("wait-2")
        client.send()
        await eventually(lambda: len(admission.waiting) == 2, "both are asked")
        client.http.reset_stream(taken_back)
        client.send()
        await eventually(lambda: admission.given_up == 1, "the first is given up")
        client.writer.close()
        await eventually(lambda: admission.given_up == 2, "the second is given up")


@pytest.mark.parametrize(
    "sent",
    [
        frame(1, 5, b"\0\0\0\1", b"\x82\x86\x44\x83\x63\xc6\x7f"),  # Huffman's code
        frame(1, 5, b"\0\0\0\1", b"\xff\xff\xff\xff\xff\xff"),
        frame(1, 5, b"\0\0\0\1", b"\xc0"),
        frame(1, 13, b"\0\0\0\1", b"\xff"),
        frame(9, 4, b"\0\0\0\1", b"\x82"),
        frame(1, 0, b"\0\0\0\1", b"") + frame(1, 4, b"\0\0\0\3", b""),
        b"\xff\xff\xff\x01\x05\0\0\0\1",
    ],
)
async def test_what_cannot_be_read_ends_its_connection_and_no_other(tmp_path: Path, sent: bytes) -> None:
    async with serving(tmp_path) as (_, connect):
        client, other = await connect(), await connect()
        client.writer.write(PREFACE + frame(4, 0, bytes(4)) + sent)
        assert await asyncio.wait_for(client.reader.readuntil(b"\0\0\0\4\1\0\0\0\0"), 10)
        assert await asyncio.wait_for(client.reader.read(), 10) == b""
        stream = other.ask("r1")
        other.send()
        await other.until_ended(stream)


async def test_what_is_no_question_is_answered_with_400_and_the_next_as_ever(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, connect):
        client = await connect()
        twice = client.ask("r1", ("x-kajitori-facts", f"{ROUTE}|r|-|-|-"), ("transfer-encoding", "chunked"))
        good = client.ask("r2")
        client.send()
        await client.until_ended(twice, good)
        assert client.heads[twice][":status"] == "400" and client.heads[good][":status"] == "200"


@given(
    st.lists(st.lists(st.tuples(names, values), max_size=6), max_size=8),
    st.integers(0, 300),
    st.integers(0, 8),
)
def test_blocks_say_what_was_written_in_them(
    blocks: list[list[tuple[str, str]]], size: int, turn: int
) -> None:
    encoder, table = hpack.Encoder(), HeaderTable()
    for number, fields in enumerate(blocks):
        if number == turn:
            encoder.header_table_size = size
        written = [(name.encode(), value.encode()) for name, value in fields]
        assert table.read(encoder.encode(written, huffman=False)) == written
        assert hpack.Decoder().decode(write_block(429, written), raw=True) == [(b":status", b"429"), *written]


@given(st.binary(max_size=200))
def test_no_block_breaks_the_reader(block: bytes) -> None:
    with contextlib.suppress(ValueError):
        HeaderTable().read(block)


@given(st.lists(st.tuples(names, values), max_size=4), values, values, st.integers(0, 4), st.booleans())
def test_a_question_means_the_same_by_either_protocol_and_whether_or_not_its_form_is_known(
    more: list[tuple[str, str]], path: str, model: str, place: int, small: bool
) -> None:
    forms, path = Forms(), "/admit/" + path.replace(" ", "")
    encoder, table = hpack.Encoder(), HeaderTable()
    if small:
        encoder.header_table_size = 0
    for number in range(3):
        facts = f"{ROUTE}|r{number}|-|127.0.0.1|{model}"
        fields = [("host", "a"), *more]
        fields.insert(min(place, len(fields)), ("x-kajitori-facts", facts))
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        block = encoder.encode([(":method", "POST"), (":path", path), *fields], huffman=False)
        form, told = forms.read("\r\n".join(lines).encode())
        found = forms.read_block(block, table)
        assert found == (form, told)
        with contextlib.suppress(Malformed):
            assert parse_question(*found).id == f"r{number}"


@pytest.mark.parametrize("model", ["m\x85", "m\u3000", "\u2028m\xa0", "m|", "m ", "-", ""])
def test_a_model_is_named_to_its_last_character(model: str) -> None:
    facts = f"{ROUTE}|id|key|tenant|1|2|openai|chat||10.0.0.1|{model}"
    block = write_block(
        200, [(b":method", b"POST"), (b":path", b"/admit/v1/x"), (b"x-kajitori-facts", facts.encode())]
    )
    table = HeaderTable()
    for begin in (b"", b"\x20"):  # with a table of headers, and without
        assert parse_question(*Forms().read_block(begin + block[1:], table)).model == model
    head = f"POST /admit/v1/x HTTP/1.1\r\nx-kajitori-facts: {facts}".encode()
    assert parse_question(*Forms().read(head)).model == model


def test_facts_are_not_looked_for_in_the_value_of_a_header_that_a_client_chose() -> None:
    forms, table = Forms(), HeaderTable(0)
    facts = b"\x00\x10x-kajitori-facts" + write_text(f"{ROUTE}|r|-|127.0.0.1|m".encode())
    value = b"\x10x-kajitori-facts"
    for name in (b"\x0f\x00", b"\x0f\x10", b"\x00\x04team", b"\x00\x01\x40", b"\x00\x02\x40\x10"):
        for parts in ((name, value, facts), (facts, name, value)):
            form, told = forms.read_block(b"\x83\x04\x0b/admit/v1/x\x86" + b"".join(parts), table)
            assert "x-kajitori-facts" in form.headers.values() and parse_question(form, told).id == "r"


def test_nobody_is_answered_before_what_was_asked_together_has_ended() -> None:
    class Transport:
        def __init__(self) -> None:
            self.written: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.written.append(data)

        def set_protocol(self, protocol: Any) -> None:
            self.protocol = protocol

    transport, asked, before = Transport(), list[str](), list[int]()

    class Deciding(Admission):
        def admit_at_once(self, request: Request) -> Verdict | None:
            asked.append(request.id)
            return ALLOWED

    @contextlib.contextmanager
    def together() -> Generator[None]:
        yield
        before.append(len(transport.written))

    server = AdmissionServer(Deciding(), None, together)
    transport.protocol = server._connection()
    transport.protocol.connection_made(transport)
    transport.protocol.data_received(PREFACE)
    heads = len(transport.written)
    block = b"\x83\x04\x0b/admit/v1/x\x86\x00\x10x-kajitori-facts" + write_text(
        f"{ROUTE}|r|-|127.0.0.1|m".encode()
    )
    transport.protocol.data_received(frame(1, 5, b"\0\0\0\1", block) + frame(1, 5, b"\0\0\0\3", block))
    assert (asked, before[-1], len(transport.written)) == (["r", "r"], heads, heads + 1)
