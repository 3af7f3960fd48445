"""What no client library sends, byte by byte: answered in JSON or with the end of the connection, and led nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from kajitori.gateway.accounting.log_format import parse_line
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    running_provider,
    running_workbench,
)
from tests.waiting import eventually

BODY = b'{"model":"gpt-4o","messages":[]}'
CHAT = b"/v1/chat/completions"
_PATIENCE_SECONDS = 20.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


def asking(
    path: bytes = CHAT,
    *headers: bytes,
    body: bytes = BODY,
    method: bytes = b"POST",
    host: bytes = b"x",
    length: int | None = -1,
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """A request as it goes over the wire. length: -1 for that of the body, None for none."""
    lines = [b" ".join((method, path, version)), b"host: " + host, b"connection: close", *headers]
    if length is not None:
        lines.append(b"content-length: %d" % (len(body) if length < 0 else length))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked"
REFUSED: dict[str, tuple[bytes, int]] = {
    "length and chunks": (asking(CHAT, CHUNKED, body=SMUGGLED), 400),
    "two lengths": (asking(CHAT, b"content-length: 5"), 400),
    "a length below zero": (asking(CHAT, b"content-length: -1", length=None, body=b""), 400),
    "a length without end": (asking(CHAT, b"content-length: " + b"9" * 30, length=None, body=b""), 400),
    "an encoding of nobody": (asking(CHAT, b"transfer-encoding: identity"), 400),
    "an encoding that nobody knows": (
        asking(CHAT, b"transfer-encoding: gzip, chunked", length=None, body=b""),
        501,
    ),
    "chunks that are none": (asking(CHAT, CHUNKED, length=None, body=b"zz\r\n"), 400),
    "chunks with bare line ends": (asking(CHAT, CHUNKED, length=None, body=b"20\n" + BODY + b"\n0\n\n"), 400),
    "a blank before the colon": (asking(CHAT, b"x-a : b"), 400),
    "a zero byte": (asking(CHAT, b"x-a: \0"), 400),
    "a separator of the log": (asking(CHAT, b"agent-session-id: a\x1er1\x1fb"), 400),
    "a separator of the log in the path": (asking(b"/v1/x\x1ey"), 400),
    "a separator of the log in the model": (asking(body=b'{"model":"a\\u001er1\\u001f"}'), 400),
    "a host that is none": (asking(host=b"x/y@z"), 400),
    "a method in small letters": (asking(method=b"post"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 600, 400),
    "HTTP/1.0": (asking(version=b"HTTP/1.0"), 426),
    "a header of 100 KB": (asking(CHAT, b"x-a: " + b"a" * 100_000), 431),
    "300 headers": (asking(CHAT, *(b"x-%d: a" % number for number in range(300))), 431),
    "two slashes": (asking(b"//v1//chat/completions"), 404),
    "a slash in code": (asking(b"/v1%2fchat/completions"), 404),
    "a slash at the end": (asking(CHAT + b"/"), 404),
    "a zero byte in code": (asking(CHAT + b"%00"), 400),
    "a method that is overridden": (asking(CHAT, b"x-http-method-override: POST", method=b"DELETE"), 405),
    "a WebSocket where none is": (asking(CHAT, b"upgrade: websocket", b"connection: upgrade"), 400),
    "two models, one in code": (asking(body=b'{"model":"gpt-4o","mod\\u0065l":"x"}'), 400),
    "half a character": (asking(body=b'{"model":"\\ud800"}'), 404),
    "a model of bytes": (asking(body=b'{"model":"\xff\xfe"}'), 404),
    "a command of Envoy as model": (asking(body=b'{"model":"%REQ(authorization)%"}', length=-1), 404),
    "UTF-16": (asking(body=BODY.decode().encode("utf-16")), 400),
    "gzip in odd letters": (asking(CHAT, b"content-encoding: , GZIP"), 415),
}
SERVED: dict[str, bytes] = {
    "a header on two lines": asking(CHAT, b"x-a: b\r\n x-kajitori-leg: 1"),
    "an absolute target": asking(b"http://evil.test" + CHAT),
    "dots": asking(b"/v1/./x/%2e%2e/chat/completions"),
    "a letter in code": asking(b"/v1/ch%61t/completions"),
    "a dot behind the host": asking(host=b"x."),
    "a port behind the host": asking(host=b"x:99"),
    "headers that steer": asking(
        CHAT, b"x-ai-eg-model: other", b"X-Kajitori-Leg: 1", b"x-kajitori-key: victim", b"x-kajitori-route: inner",
        b"x-envoy-original-path: /other", b"x-aigw-api-key: other", b"x-request-id: mine",
    ),
    "headers that the next one shall not see": asking(CHAT, b"connection: x-request-id, content-length, x-ai-eg-model"),
    "bytes in headers that are logged": asking(CHAT, b"agent-session-id: a\xffb\xc2\x85", b"traceparent: \xff"),
    "a key in the query": asking(CHAT + b"?api_key=sk-of-somebody"),
}  # fmt: skip


@dataclass
class Served:
    bench: Workbench
    provider: Provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with running_provider() as provider, running_workbench() as bench:
        await bench.apply(
            gateway(bench.port), *backend("a", provider.port), ai_route("r", "gpt-4o", {"name": "a"})
        )
        yield Served(bench, provider)


async def exchange(port: int, data: bytes) -> bytes:
    """All that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), _PATIENCE_SECONDS)
    finally:
        writer.close()


async def test_what_is_no_request_gets_json_and_reaches_no_backend(served: Served) -> None:
    seen = len(served.provider.seen)
    # All at once, since Envoy waits a second before it closes the connection of a request that was none.
    told = await asyncio.gather(*(exchange(served.bench.port, data) for data, _ in REFUSED.values()))
    answers = dict(zip(REFUSED, told, strict=True))
    statuses = {name: int(answer.split(b" ", 2)[1]) for name, answer in answers.items()}
    assert statuses == {name: status for name, (_, status) in REFUSED.items()}
    for name, answer in answers.items():
        assert answer.count(b"\r\n\r\n") == 1, name
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["type"], name
        # More than the name of the status.
        assert len(error["message"]) > 40, (name, error)
    assert len(served.provider.seen) == seen


async def test_odd_requests_are_the_same_to_the_gateway_and_to_the_backend(served: Served) -> None:
    before = len(served.provider.seen)
    for name, data in SERVED.items():
        answer = await exchange(served.bench.port, data)
        assert answer.startswith(b"HTTP/1.1 200 "), name
    arrived = served.provider.seen[before:]
    assert len(arrived) == len(SERVED)
    assert {seen.path.partition("?")[0] for seen in arrived} == {CHAT.decode()}
    assert {seen.body for seen in arrived} == {BODY}
    for seen in arrived:
        assert not [
            name
            for name in seen.headers
            if name.startswith(("x-kajitori-", "x-ai-eg-", "x-envoy-", "x-aigw-"))
        ]
        assert seen.headers["x-request-id"] != "mine"


async def test_no_request_breaks_a_line_of_the_log_or_leaves_a_secret_in_it(served: Served) -> None:
    odd = (*(data for data, _ in REFUSED.values()), *SERVED.values())
    await asyncio.gather(*(exchange(served.bench.port, data) for data in odd))
    done = await exchange(served.bench.port, asking())
    mark = next(line for line in done.split(b"\r\n") if line.lower().startswith(b"x-request-id: ")).split()[1]
    log = served.bench.access_log
    await eventually(lambda: mark in log.read_bytes())
    lines = log.read_bytes().decode("utf-8", "replace").split("\n")
    assert [line for line in lines[:-1] if parse_line(line) is None] == []
    assert "sk-of-somebody" not in log.read_text(errors="replace")
    assert served.bench.envoy is not None
    assert served.bench.envoy.poll() is None
