"""What stands on both sides of the gateway while `bench.gateway` measures it: a provider, and clients. Each is a process of its own.

    python -m bench.gateway_load provide PORT
    python -m bench.gateway_load load PORT BODY COUNT CONNECTIONS TOKEN
    python -m bench.gateway_load latency SECONDS RATE BODY (PORT TOKEN)...
    python -m bench.gateway_load hold PORT BODY COUNT TOKEN

`load` asks again as soon as an answer is whole. `latency` sends at fixed times, whether or not answers came, to all ports in
turn, and prints seconds for each. `hold` opens streams, prints a line when all have begun, and keeps them until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

EVENTS = 50
EVENT_SECONDS = 0.002
USAGE = {"prompt_tokens": 250, "completion_tokens": 50, "total_tokens": 300}
ANSWER = json.dumps(
    {"id": "x", "object": "chat.completion", "model": "m", "usage": USAGE,
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 40}, "finish_reason": "stop"}]}
).encode()  # fmt: skip
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)
EVENT = {"id": "x", "object": "chat.completion.chunk", "model": "m",
         "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}  # fmt: skip
LAST = {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": USAGE}
HOLD = b'"hold":true'


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Provider(asyncio.Protocol):
    """Answers as soon as the body is whole."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not found or len(body) < length:
            return
        self.data = body[length:]
        body = body.replace(b": ", b":")  # routers write JSON anew
        if b'"stream":true' not in body:
            self.transport.write(ANSWER)
            return
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        if HOLD in body:
            self.transport.write(chunked(b"data: " + json.dumps(EVENT).encode() + b"\n\n"))
            return
        self.event(EVENTS, b"include_usage" in body)

    def event(self, left: int, usage: bool) -> None:
        if left:
            self.transport.write(chunked(b"data: " + json.dumps(EVENT).encode() + b"\n\n"))
            asyncio.get_running_loop().call_later(EVENT_SECONDS, self.event, left - 1, usage)
            return
        if usage:
            self.transport.write(chunked(b"data: " + json.dumps(LAST).encode() + b"\n\n"))
        self.transport.write(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def provide(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port)
    await server.serve_forever()


class Client(asyncio.Protocol):
    """Asks again as soon as the answer is whole, until none is left."""

    def __init__(self, request: bytes, left: list[int], done: asyncio.Event) -> None:
        self.request, self.left, self.done = request, left, done

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.data = b""
        if self.left[0] <= 0:
            self.transport.close()
            return
        self.left[0] -= 1
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        assert head.startswith(b"HTTP/1.1 200"), self.data
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if (length and len(body) >= int(length)) or (not length and self.data.endswith(b"0\r\n\r\n")):
            self.left[1] -= 1
            if self.left[1] == 0:
                self.done.set()
            self.ask()


def request_head(body: bytes, token: str) -> bytes:
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()


async def load(port: int, body: bytes, count: int, connections: int, token: str) -> None:
    left, done = [count, count], asyncio.Event()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: Client(request_head(body, token) + body, left, done), "127.0.0.1", port
        )
    await done.wait()


class Waiting(asyncio.Protocol):
    """One connection of a client that asks once in a while."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data = b""

    def ask(self, request: bytes) -> asyncio.Future[None]:
        self.answered = asyncio.get_running_loop().create_future()
        self.data = b""
        self.transport.write(request)
        return self.answered

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if found and length and len(body) >= int(length) and not self.answered.done():
            assert head.startswith(b"HTTP/1.1 200"), self.data
            self.answered.set_result(None)


async def latency(seconds: float, rate: float, body: bytes, targets: list[tuple[int, str]]) -> None:
    """Prints, for each target, the seconds of all its answers in their order, as JSON."""
    loop = asyncio.get_running_loop()
    idle: list[list[Waiting]] = [[] for _ in targets]
    took: list[list[float]] = [[] for _ in targets]

    async def ask(number: int) -> None:
        port, token = targets[number]
        if idle[number]:
            connection = idle[number].pop()
        else:
            _, connection = await loop.create_connection(Waiting, "127.0.0.1", port)
        began = time.perf_counter()
        await connection.ask(request_head(body, token) + body)
        took[number].append(time.perf_counter() - began)
        idle[number].append(connection)

    start, tasks = loop.time() + 0.1, []
    for turn in range(int(seconds * rate)):
        for number in range(len(targets)):
            await asyncio.sleep(start + (turn + number / len(targets)) / rate - loop.time())
            tasks.append(asyncio.create_task(ask(number)))
    await asyncio.gather(*tasks)
    print(json.dumps(took))


class Held(asyncio.Protocol):
    """A stream of which the first event was read."""

    def __init__(self, request: bytes, begun: asyncio.Semaphore) -> None:
        self.request, self.begun, self.data = request, begun, b""

    def connection_made(self, transport: Any) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        before = b"data: " in self.data
        self.data += data
        assert self.data.startswith(b"HTTP/1.1 200"), self.data
        if not before and b"data: " in self.data:
            self.begun.release()


async def hold(port: int, body: bytes, count: int, token: str) -> None:
    begun = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    request = request_head(body, token) + body
    for number in range(count):
        await loop.create_connection(lambda: Held(request, begun), "127.0.0.1", port)
        if number % 50 == 49:
            for _ in range(50):
                await begun.acquire()
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    what, *words = sys.argv[1:]
    match what:
        case "provide":
            uvloop.run(provide(int(words[0])))
        case "load":
            port, body, count, connections, token = words
            uvloop.run(load(int(port), body.encode(), int(count), int(connections), token))
        case "latency":
            seconds, rate, body, *targets = words
            pairs = list(zip(map(int, targets[::2]), targets[1::2], strict=True))
            uvloop.run(latency(float(seconds), float(rate), body.encode(), pairs))
        case _:
            port, body, count, token = words
            uvloop.run(hold(int(port), body.encode(), int(count), token))


if __name__ == "__main__":
    main()
