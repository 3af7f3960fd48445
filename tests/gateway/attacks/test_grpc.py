"""Clients of gRPC behind GRPCRoutes that leave, reset, stall and send what is no message."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from tests.gateway.attacks.http2 import Header, http2
from tests.gateway.test_grpc_routes import grpc_route
from tests.gateway.test_http_routes import to
from tests.gateway.workbench import Workbench, backend, gateway, running_workbench
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNARY, STREAM = "/a.Service/Get", "/a.Service/Watch"
# So many the gateway takes of one connection; others wait.
_AT_ONCE = 100


class Echo(grpc.GenericRpcHandler):
    """Gives back what it gets; a watch repeats it without end. left: watches that were cancelled."""

    def __init__(self) -> None:
        self.left = 0

    def service(self, handler_call_details: Any) -> Any:
        async def get(request: bytes, context: Any) -> bytes:
            return request

        async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield request
                    await asyncio.sleep(0.005)
            finally:
                self.left += 1

        if handler_call_details.method == UNARY:
            return grpc.unary_unary_rpc_method_handler(get)
        return grpc.unary_stream_rpc_method_handler(watch) if handler_call_details.method == STREAM else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[Workbench, Echo]]:
    echo = Echo()
    server = aio.server()
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with running_workbench() as bench:
            await bench.apply(
                gateway(bench.port), *backend("a", port), grpc_route("calls", {"backendRefs": [to("a")]})
            )
            yield bench, echo
            assert bench.envoy is not None
            assert bench.envoy.poll() is None
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def calling(bench: Workbench) -> AsyncIterator[aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    async with aio.insecure_channel(f"127.0.0.1:{bench.port}", options=options) as channel:
        yield channel


async def test_calls_of_one_connection_are_answered_though_others_are_cancelled(
    shared: tuple[Workbench, Echo],
) -> None:
    bench, echo = shared
    before = echo.left
    async with calling(bench) as channel:
        watches = [channel.unary_stream(STREAM)(b"w%d" % number) for number in range(_AT_ONCE // 2)]
        for number, watch in enumerate(watches):
            assert await watch.read() == b"w%d" % number
        large = b"x" * 2_000_000
        answers = await asyncio.gather(
            channel.unary_unary(UNARY)(large), *(channel.unary_unary(UNARY)(b"%d" % n) for n in range(100))
        )
        assert answers == [large, *(b"%d" % n for n in range(100))]
        for watch in watches[1:]:
            watch.cancel()
        await eventually(lambda: echo.left == before + len(watches) - 1)
        assert await watches[0].read() == b"w0"
        with pytest.raises(aio.AioRpcError) as late:
            await channel.unary_stream(STREAM)(b"", timeout=0.2).read()
            while True:
                await asyncio.wait_for(channel.unary_stream(STREAM)(b"", timeout=0.0).read(), 5)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: echo.left >= before + len(watches))


def message(data: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", flag, len(data) if length is None else length) + data


TRAILERS: Header = ("te", "trailers")
KIND: Header = ("content-type", "application/grpc")
ODD: dict[str, tuple[list[Header], bytes]] = {
    "a timeout without a unit": ([KIND, TRAILERS, ("grpc-timeout", "5")], message(b"a")),
    "a timeout of ages": ([KIND, TRAILERS, ("grpc-timeout", "99999999H")], message(b"a")),
    "a timeout below zero": ([KIND, TRAILERS, ("grpc-timeout", "-1S")], message(b"a")),
    "no trailers": ([KIND], message(b"a")),
    "another kind": ([("content-type", "application/grpc+json;x=\xff"), TRAILERS], message(b"a")),
    "an unknown compression": ([KIND, TRAILERS, ("grpc-encoding", "nothing")], message(b"a", flag=1)),
    "a length without end": ([KIND, TRAILERS], message(b"a", length=2**32 - 1)),
    "a flag of nobody": ([KIND, TRAILERS], message(b"a", flag=255)),
    "two messages": ([KIND, TRAILERS], message(b"a") * 2),
    "binary metadata that is none": (
        [KIND, TRAILERS, ("x-bin", "!!!"), ("grpc-status", "99")],
        message(b"a"),
    ),
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_no_call_ends_alone(shared: tuple[Workbench, Echo], name: str) -> None:
    bench, _ = shared
    headers, body = ODD[name]
    async with http2(bench.port) as client:
        beside = client.ask(message(b"b"), path=STREAM, headers=[KIND, TRAILERS])
        await eventually(lambda: client.answers[beside].body)
        answer = await client.answer(client.ask(body, path=UNARY, headers=headers))
        assert answer.over
        before = len(client.answers[beside].body)
        await eventually(lambda: len(client.answers[beside].body) > before)
        assert (client.answers[beside].over, client.closed) == (False, None)
        client.reset(beside)


async def test_resets_of_calls_in_every_phase_free_the_backend(shared: tuple[Workbench, Echo]) -> None:
    bench, echo = shared
    before = echo.left
    async with http2(bench.port) as client:
        for part in (b"", message(b"x" * 10)[:7]):
            client.reset(client.ask(part, path=UNARY, headers=[KIND, TRAILERS], end=False))
        streams = [client.ask(message(b"a"), path=STREAM, headers=[KIND, TRAILERS]) for _ in range(20)]
        await eventually(lambda: all(client.answers[stream].body for stream in streams))
        for stream in streams:
            client.reset(stream)
        await eventually(lambda: echo.left >= before + 20)
        answer = await client.answer(client.ask(message(b"ok"), path=UNARY, headers=[KIND, TRAILERS]))
        assert (answer.status, bytes(answer.body), answer.trailers["grpc-status"]) == (
            200,
            message(b"ok"),
            "0",
        )
    identifiers = {client.answers[stream].request_id for stream in streams}
    await eventually(lambda: identifiers <= bench.records.keys())
