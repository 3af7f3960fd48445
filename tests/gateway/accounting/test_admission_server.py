"""The server that Envoy asks: what it understands, what it refuses, how it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.accounting.admission_answers import answer_of, as_http1
from kajitori.gateway.accounting.admission_server import AdmissionServer
from kajitori.gateway.accounting.questions import LARGEST_HEAD_BYTES, Forms, Malformed, parse_question
from kajitori.gateway.limits.request import ALLOWED, Dialect, Request, Verdict
from tests.waiting import eventually

QUESTION = "POST /admit/v1/chat/completions?a=b HTTP/1.1"
ROUTE = "ai/default/route/rule/2/match/0"


def question(*headers: str, line: str = QUESTION, body: str = "", id: str = "-", facts: str = "") -> bytes:
    facts = f"x-kajitori-facts: {ROUTE}|{facts or f'{id}|-|127.0.0.1|-'}"
    lines = (line, "host: accountant", f"content-length: {len(body)}", facts, *headers, "", body)
    return "\r\n".join(lines).encode()


class Admission:
    """Lets everything pass, unless told otherwise, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.decide: Callable[[Request], Verdict] = lambda request: ALLOWED
        self.wait = asyncio.Event()
        self.wait.set()

    def admit_at_once(self, request: Request) -> Verdict | None:
        return None

    async def admit(self, request: Request) -> Verdict:
        self.asked.append(request)
        await self.wait.wait()
        return self.decide(request)


class Client:
    """One connection of an Envoy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, body

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Admission, Callable[[], object]]]:
    admission = Admission()
    server = AdmissionServer(admission, {"/healthz": lambda: (200, "text/plain", b"ok\n")})
    socket = folder / "accountant.sock"
    await server.listen(socket)
    assert socket.stat().st_mode & 0o077 == 0
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_unix_connection(socket)))
        return clients[-1]

    try:
        yield admission, connect
    finally:
        for client in clients:
            client.writer.close()
        server.close()


async def test_a_question_is_understood_and_the_connection_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as (admission, connect):
        client = await connect()
        facts = "r1|k|default/t|12|99|anthropic|messages||10.0.0.1|odd | name é"
        for _ in range(2):
            client.send(question("X-Team: red", facts=facts))
            assert await client.answer() == (200, {"content-length": "0"}, b"")
        asked = admission.asked[1]
        assert (asked.id, asked.route, asked.rule, asked.model) == (
            "r1",
            "default/route",
            "2",
            "odd | name é",
        )
        assert (asked.key, asked.tenant, asked.client) == ("k", "default/t", "10.0.0.1")
        assert (asked.input_tokens, asked.output_tokens, asked.dialect) == (12, 99, "anthropic")
        assert (asked.method, asked.path, asked.headers["x-team"]) == ("POST", "/v1/chat/completions", "red")


async def test_questions_that_arrive_in_one_piece_or_byte_by_byte_are_answered_in_order(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (admission, connect):
        client = await connect()
        admission.decide = lambda request: Verdict(allowed=True, headers=(("x-ratelimit-id", request.id),))
        admission.wait.clear()
        client.send(b"".join(question(body="12345\r\n\r\n", id=str(number)) for number in range(20)))
        await eventually(lambda: admission.asked, "the first is asked")
        assert len(admission.asked) == 1  # one after the other: a decision may depend on the one before
        admission.wait.set()
        assert [(await client.answer())[1]["x-ratelimit-id"] for _ in range(20)] == [
            str(n) for n in range(20)
        ]
        for byte in question(id="slow"):
            client.send(bytes([byte]))
            await client.writer.drain()
        assert (await client.answer())[1]["x-ratelimit-id"] == "slow"


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /admit/ HTTP/2\r\n\r\n",
        b"POST admit HTTP/1.1\r\n\r\n",
        b"POST /elsewhere HTTP/1.1\r\n\r\n",
        b"POST /admit/a HTTP/1.1\r\n\r\n",
        b"POST /admit/a HTTP/1.1\r\nx-kajitori-facts: short|-|-|-|-|-|-|-|-\r\n\r\n",
        question("no colon"),
        question(f"x-kajitori-facts: {ROUTE}|-|-|127.0.0.1|-"),
        question("space : before"),
        question("transfer-encoding: chunked"),
        question("content-length: -5"),
        question("content-length: ²"),
        b"x" * (LARGEST_HEAD_BYTES + 1),
        question(f"long: {'x' * LARGEST_HEAD_BYTES}"),
    ],
)
async def test_whatever_is_no_question_gets_400_and_the_end_of_its_connection(
    tmp_path: Path, sent: bytes
) -> None:
    async with serving(tmp_path) as (admission, connect):
        client, other = await connect(), await connect()
        client.send(sent + question())
        assert (await client.answer())[0] == 400
        assert await client.ended()
        other.send(question())
        assert (await other.answer())[0] == 200
        assert len(admission.asked) == 1


async def test_a_client_that_leaves_ends_its_question(tmp_path: Path) -> None:
    async with serving(tmp_path) as (admission, connect):
        asked, cancelled = asyncio.Event(), asyncio.Event()

        async def admit(request: Request) -> Verdict:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

        admission.admit = admit  # type: ignore[method-assign]
        client = await connect()
        client.send(question())
        await asyncio.wait_for(asked.wait(), 20)
        client.writer.close()
        await asyncio.wait_for(cancelled.wait(), 20)


async def test_an_engine_that_fails_costs_one_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as (admission, connect):

        def fail(request: Request) -> Verdict:
            raise RuntimeError("broken")

        admission.decide = fail
        client = await connect()
        client.send(question(id="r1"))
        assert (await client.answer())[0] == 500
        assert "r1" in caplog.text
        admission.decide = lambda request: ALLOWED
        client.send(question())
        assert (await client.answer())[0] == 200


async def test_pages_are_given_on_the_same_socket_and_on_a_port_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, connect):
        client = await connect()
        client.send(question(line="GET /healthz HTTP/1.1"))
        assert (await client.answer())[::2] == (200, b"ok\n")
    server = AdmissionServer(Admission(), {"/healthz": lambda: (200, "text/plain", b"ok\n")})
    address = await server.listen_pages("127.0.0.1:0")
    client = Client(*await asyncio.open_connection(*address.split(":")))
    client.send(question(line="GET /healthz HTTP/1.1") + question())
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 404  # nobody decides there
    client.writer.close()
    server.close()


def test_refusals_are_in_the_dialect_of_the_client() -> None:
    verdict = Verdict(
        allowed=False,
        status=429,
        message='over "budget"',
        retry_after_seconds=2.1,
        headers=(("x-ratelimit-limit", "5\r\nevil: yes"),),
    )
    bodies: dict[str, object] = {}
    dialects: tuple[Dialect, ...] = ("openai", "anthropic", "cohere")
    for dialect in dialects:
        asked = Request(id="r-1", route="default/chat", dialect=dialect)
        head, _, body = as_http1(answer_of(verdict, asked)).partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 429 Too Many Requests"
        assert {"retry-after: 3", "x-ratelimit-limit: 5  evil: yes"} <= set(lines)
        bodies[dialect] = json.loads(body)
    message = 'over "budget"'
    assert bodies == {
        "openai": {
            "type": "error",
            "error": {"type": "TooManyRequests", "code": "429", "message": message},
        },
        "anthropic": {
            "type": "error",
            "error": {"type": "rate_limit_error", "message": message},
            "request_id": "r-1",
        },
        "cohere": {"id": "r-1", "message": message},
    }


@given(st.lists(st.sampled_from(["X-Team: red", "x-team: blue", "content-length: 7", "host: b"]), max_size=4))
def test_what_is_read_once_of_heads_is_what_each_would_have_said(more: list[str]) -> None:
    forms = Forms()
    for _ in range(2):
        for number in range(3):
            head = question(*more, id=f"r{number}").removesuffix(b"\r\n\r\n")
            assert forms.read(head) == Forms().read(head)
            assert parse_question(*forms.read(head)).id == f"r{number}"


@given(st.binary(max_size=300))
def test_no_head_breaks_the_parser(head: bytes) -> None:
    with contextlib.suppress(Malformed):
        parse_question(*Forms().read(head))


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_the_parser(path: str, value: str) -> None:
    head = f"POST /admit/{path} HTTP/1.1\r\nx-kajitori-facts: {value}|{path}|k||{value}|{value}|{value}|||-|-"
    with contextlib.suppress(Malformed):
        parse_question(*Forms().read(head.encode("utf-8", "surrogatepass")))
