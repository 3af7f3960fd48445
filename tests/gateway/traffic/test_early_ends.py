"""Backends whose streams come to a proper end without being whole: what clients hear, and what is booked.

The gateway is a real Envoy. How the script knows what is whole is tested in lua/test_endings.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anthropic
import h2.config
import h2.connection
import h2.events
import openai
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, generate_latest

from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.records import RequestRecord
from tests.gateway.workbench import Workbench, ai_route, backend, gateway, running_workbench
from tests.stand_ins import serving
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGE = "the answer was interrupted: the backend ended the stream too early"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def word(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return data(
        {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    )


def named(kind: str, **value: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **value})}\n\n".encode()


WORDS = word("one ") + word("two ")
MESSAGE_BEGUN = named(
    "message_start",
    message={"id": "a", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
             "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1}},
) + named("content_block_start", index=0, content_block={"type": "text", "text": ""}) + named(
    "content_block_delta", index=0, delta={"type": "text_delta", "text": "one "}
)  # fmt: skip


def h1_until_closed(body: bytes, *, reset: bool = False) -> Callable[..., Any]:
    """An answer that ends where its connection does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"\r\n" + body)
        await writer.drain()
        if reset:
            await asyncio.sleep(0.05)  # what comes with a reset in one segment is lost with it
            writer.transport.abort()

    return answer


def h1_with_last_chunk(*bodies: bytes, head: bytes = b"") -> Callable[..., Any]:
    """An answer whose framing is whole."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(HEAD + (head or b"transfer-encoding: chunked\r\n") + b"\r\n")
            for body in bodies:
                writer.write(body if head else b"%x\r\n%s\r\n" % (len(body), body))
                await writer.drain()
            writer.write(b"" if head else b"0\r\n\r\n")

    return answer


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))


def h2_with_data_in_its_last_frame(*, trailers: bool = False) -> Callable[..., Any]:
    """trailers: they end the stream instead."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while received := await reader.read(65536):
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.StreamEnded):
                    stream = event.stream_id
                    connection.send_headers(
                        stream, [(":status", "200"), ("content-type", "text/event-stream")]
                    )
                    connection.send_data(stream, word("one "))
                    connection.send_data(stream, word("two "), end_stream=not trailers)
                    if trailers:
                        connection.send_headers(stream, [("x-over", "true")], end_stream=True)
            writer.write(connection.data_to_send())

    return answer


def sized(body: bytes) -> Callable[..., Any]:
    return h1_with_last_chunk(body, head=b"content-length: %d\r\n" % len(body))


# By model.
BACKENDS: dict[str, Callable[..., Any]] = {
    "closed": h1_until_closed(WORDS),
    "reset": h1_until_closed(WORDS, reset=True),
    "within-an-event": h1_until_closed(WORDS + word("three ")[:40]),
    "last-chunk": h1_with_last_chunk(WORDS),
    "sized": sized(WORDS),
    "h2": h2_with_data_in_its_last_frame(),
    "h2-trailers": h2_with_data_in_its_last_frame(trailers=True),
    "nothing": h1_with_last_chunk(),
    "nothing-sized": sized(b""),
    "message": h1_until_closed(MESSAGE_BEGUN),
    "whole": h1_until_closed(WORDS + word("three", "stop")),
    "whole-sized": sized(WORDS + b"data: [DONE]\n\n"),
    "failed": h1_with_last_chunk(WORDS, data({"error": {"message": "overloaded", "code": 503}})),
    "no-stream": h1_with_last_chunk(b'{"choices":[]}'),
}
EARLY = ("closed", "reset", "within-an-event", "last-chunk", "sized", "h2")


@asynccontextmanager
async def running_backends() -> AsyncIterator[dict[str, int]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(serving(answer)) for name, answer in BACKENDS.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Workbench]:
    async with running_backends() as ports, running_workbench() as made:
        documents: list[Any] = [gateway(made.port)]
        for name, port in ports.items():
            schema = {"name": "Anthropic"} if name == "message" else None
            objects = backend(name, port, schema)
            if name.startswith("h2"):
                objects[0]["spec"]["appProtocols"] = ["gateway.envoyproxy.io/h2c"]
            documents += [*objects, ai_route(name, name, {"name": name})]
        await made.apply(*documents)
        yield made


async def ask(bench: Workbench, model: str, **more: Any) -> tuple[bytes, RequestRecord]:
    reply = await bench.post({"model": model, "stream": True, "messages": [], **more})
    assert reply.status == 200
    return reply.body, await bench.record(reply)


@pytest.mark.parametrize("model", EARLY)
@pytest.mark.parametrize("usage", [False, True])
async def test_the_openai_client_raises_the_error_of_a_stream_that_ended_too_early(
    bench: Workbench, model: str, usage: bool
) -> None:
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{bench.url}/v1", max_retries=0) as client:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
        stream = await client.chat.completions.create(model=model, messages=[], stream=True, **options)
        heard: list[str | None] = []
        with pytest.raises(openai.APIError, match=MESSAGE):
            async for event in stream:
                heard.append(event.choices[0].delta.content)  # noqa: PERF401  what came before it counts
        assert heard == ["one ", "two "]


async def test_the_anthropic_client_raises_the_error_of_a_message_that_ended_too_early(
    bench: Workbench,
) -> None:
    async with anthropic.AsyncAnthropic(api_key="x", base_url=bench.url, max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError, match=MESSAGE):
            async with client.messages.stream(
                model="message", max_tokens=9, messages=[{"role": "user", "content": "count"}]
            ) as stream:
                assert [text async for text in stream.text_stream] == ["one "]


@pytest.mark.parametrize("model", ["nothing", "nothing-sized"])
async def test_an_answer_without_an_event_is_an_error(bench: Workbench, model: str) -> None:
    body, record = await ask(bench, model)
    assert body.startswith(b'data: {"error":') and MESSAGE.encode() in body
    assert (record.outcome, record.usage) == ("ended too early", None)


async def test_the_record_and_the_metrics_say_that_it_was_cut(bench: Workbench) -> None:
    _, record = await ask(bench, "closed")
    assert (record.outcome, record.status, record.usage_estimated) == ("ended too early", 200, True)
    assert record.attempts[-1].outcome == "ended too early"
    metrics, registry = GatewayMetrics(), CollectorRegistry()
    metrics.observe([record])
    registry.register(metrics)
    text = generate_latest(registry).decode()
    assert (
        'kaji_gateway_streams_cut_total{backend="default/closed",model="closed",outcome="ended too early"'
        in text
    )
    assert 'error_type="_OTHER"' in text


async def test_a_stream_that_is_reset_is_counted_as_cut_too(bench: Workbench) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(WORDS), WORDS))

    metrics = GatewayMetrics()
    async with serving(reset) as port:
        documents = [
            gateway(bench.port),
            *backend("torn", port),
            ai_route("torn", "torn", {"name": "torn"}),
        ]
        plan = bench.plan

        def cut() -> list[RequestRecord]:
            # Those of tests before may come now.
            return [record for record in bench.records.values() if record.model == "torn"]

        await bench.apply(*documents)
        with pytest.raises(Exception, match=r"closed|payload"):
            await bench.post({"model": "torn", "stream": True, "messages": []})
        await eventually(cut)
        assert plan is not None
        bench.ledger.configure(plan.policy)
        bench.set_resources("gateway", plan.resources)
        await bench.settled()
    metrics.observe(cut())
    assert [sample.value for family in metrics.collect() for sample in family.samples
            if sample.name == "kaji_gateway_streams_cut_total"] == [1]  # fmt: skip


@pytest.mark.parametrize("model", ["whole", "whole-sized", "failed"])
async def test_a_stream_that_is_whole_or_told_its_error_itself_is_passed_as_it_is(
    bench: Workbench, model: str
) -> None:
    body, record = await ask(bench, model)
    assert MESSAGE.encode() not in body and body.startswith(WORDS)
    assert record.outcome == "answered"


async def test_what_only_says_that_it_is_a_stream_is_not_touched(bench: Workbench) -> None:
    body, record = await ask(bench, "no-stream")
    assert (body, record.outcome) == (b'{"choices":[]}', "answered")


async def test_before_trailers_nothing_can_be_said_and_the_record_says_it(bench: Workbench) -> None:
    body, record = await ask(bench, "h2-trailers")
    assert (body, record.outcome) == (WORDS, "ended too early")
