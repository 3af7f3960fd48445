"""Providers that fail on the wire: before an answer the next one is asked, within it the client is told the truth."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from kajitori.gateway.resources import Resources
from tests.gateway.providers import FAILS_BEFORE_AN_ANSWER, FAILS_IN_AN_ANSWER, Way, misbehaving
from tests.gateway.resilience.test_cooling import QUESTION, policy
from tests.gateway.workbench import Provider, Workbench, ai_route, backend, free_port, gateway
from tests.stand_ins import Handler, serving
from tests.waiting import eventually

STREAM = {**QUESTION, "stream": True}


def documents(first: int, second: Provider, **rule: Any) -> list[dict[str, Any]]:
    return [
        *backend("a", first),
        *backend("b", second.port),
        ai_route("route", "m", {"name": "a", "priority": 0}, {"name": "b", "priority": 1}, rule=rule),
    ]


async def hurried(bench: Workbench) -> None:
    """With a bound for standstill that a test can wait for: it leaves each backend the time to be connected with."""
    assert bench.plan is not None
    text = json.dumps(bench.plan.resources.by_type)
    assert '"idle_timeout": "7.8s"' in text
    text = text.replace('"idle_timeout": "7.8s"', '"idle_timeout": "1s"')
    bench.set_resources("gateway", Resources(json.loads(text)))
    await bench.settled()


@pytest.mark.parametrize("way", FAILS_BEFORE_AN_ANSWER)
async def test_complaint_1_priorities_alone_make_fallback_happen_however_the_first_one_fails(
    bench: Workbench, second: Provider, way: Way
) -> None:
    async with misbehaving(way) as first:
        await bench.apply(gateway(bench.port), *documents(first.port, second, streamIdleTimeout="400ms"))
        reply = await bench.post(STREAM)
        assert reply.status == 200
        assert reply.body.endswith(b"data: [DONE]\n\n")
        record = await bench.record(reply)
        assert [item.backend for item in record.attempts] == ["default/a", "default/b"]
        assert first.asked <= 1


async def test_a_reset_in_the_tls_handshake_leads_to_the_next_backend(
    bench: Workbench, second: Provider
) -> None:
    async with misbehaving("resets at the first byte") as first:
        objects = documents(first.port, second)
        objects[0]["spec"]["tls"] = {"insecureSkipVerify": True}
        await bench.apply(gateway(bench.port), *objects)
        reply = await bench.post(STREAM)
        assert reply.status == 200
        assert len((await bench.record(reply)).attempts) == 2


async def test_the_time_to_the_first_byte_has_a_bound_of_its_own(bench: Workbench, second: Provider) -> None:
    async with misbehaving("never answers") as first:
        held = policy(streams={"firstByteTimeout": "200ms", "idleTimeout": "60s"})
        await bench.apply(gateway(bench.port), *documents(first.port, second), held)
        reply = await bench.post(STREAM)
        assert reply.status == 200
        # The bound is no bound for an answer that flows.
        second.chunk_seconds = 0.15
        assert (await bench.post(STREAM)).body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("way", FAILS_IN_AN_ANSWER)
async def test_a_stream_that_has_begun_is_never_begun_again_and_no_client_takes_it_for_whole(
    bench: Workbench, second: Provider, way: Way
) -> None:
    async with misbehaving(way) as first:
        await bench.apply(gateway(bench.port), *documents(first.port, second, streamIdleTimeout="400ms"))
        await hurried(bench)
        got = b""
        whole = True
        try:
            async with bench.session.post(bench.url + "/v1/chat/completions", json=STREAM) as response:
                status, request_id = response.status, response.headers["x-request-id"]
                async for piece in response.content.iter_any():
                    got += piece
        except aiohttp.ClientError:
            whole = False
        assert not second.seen
        assert b"[DONE]" not in got
        # What was sent has come through, and what follows it says that the answer is not whole.
        assert not whole or status != 200 or b"error" in got
        assert first.asked == 1
        await eventually(lambda: request_id in bench.records)
        (attempt,) = bench.records[request_id].attempts
        assert attempt.backend == "default/a"
        assert attempt.outcome in ("broken or malformed answer", "no progress for too long")


async def test_one_byte_at_a_time_is_an_answer_as_long_as_it_is_not_silent(
    bench: Workbench, second: Provider
) -> None:
    async with misbehaving("one byte at a time", byte_seconds=0.005) as first:
        await bench.apply(gateway(bench.port), *documents(first.port, second, streamIdleTimeout="10s"))
        reply = await bench.post(STREAM)
        assert reply.status == 200
        assert reply.body.endswith(b"data: [DONE]\n\n")
        assert not second.seen


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422])
async def test_an_answer_that_blames_the_request_goes_to_the_client_and_to_no_other_backend(
    bench: Workbench, first: Provider, second: Provider, status: int
) -> None:
    first.status = status
    await bench.apply(gateway(bench.port), *documents(first.port, second))
    reply = await bench.post(QUESTION)
    assert reply.status == status
    assert reply.json["error"]["message"] == f"provider says {status}"
    assert not second.seen


async def test_backends_of_one_priority_are_all_tried_before_the_next_and_each_once(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 500
    async with misbehaving("resets after the request") as third:
        route = ai_route(
            "route", "m", {"name": "a", "weight": 9}, {"name": "c"}, {"name": "b", "priority": 1}
        )
        await bench.apply(
            gateway(bench.port),
            *backend("a", first.port),
            *backend("b", second.port),
            *backend("c", third.port),
            route,
        )
        for number in range(1, 5):
            reply = await bench.post(QUESTION)
            assert reply.status == 200
            assert (len(first.seen), third.asked, len(second.seen)) == (number, number, number)
        record = await bench.record(reply)
        assert len(record.attempts) == 3


async def left_out(bench: Workbench) -> int:
    """How many endpoints are at the moment."""
    line = (await bench.admin("/stats?filter=ejections_active")).splitlines()
    return sum(int(each.rpartition(" ")[2]) for each in line)


async def test_a_bad_endpoint_of_several_is_left_out_and_4xx_and_500_put_none_out(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    several = backend("a", first.port)
    several[0]["spec"]["endpoints"].append({"ip": {"address": "127.0.0.1", "port": second.port}})
    await bench.apply(gateway(bench.port), *several, ai_route("route", "m", {"name": "a"}))
    for status in (400, 429, 500):
        first.status = status
        await asyncio.gather(*(bench.post(QUESTION) for _ in range(20)))
    assert await left_out(bench) == 0
    first.status = 503

    async def is_left_out() -> bool:
        await bench.post(QUESTION)
        return await left_out(bench) == 1

    await eventually(is_left_out, "the bad endpoint is left out")
    seen = len(first.seen)
    assert {(await bench.post(QUESTION)).status for _ in range(5)} == {200}
    assert len(first.seen) == seen


async def test_a_backend_that_fails_again_and_again_is_passed_over_without_waiting_for_it(
    bench: Workbench, second: Provider
) -> None:
    async with misbehaving("never answers") as first:
        held = policy(streams={"firstByteTimeout": "100ms"})
        await bench.apply(gateway(bench.port), *documents(first.port, second), held)

        async def is_left_out() -> bool:
            replies = await asyncio.gather(*(bench.post(QUESTION) for _ in range(5)))
            assert {reply.status for reply in replies} == {200}
            return await left_out(bench) == 1

        await eventually(is_left_out, "the backend is left out")
        asked = first.asked
        reply = await bench.post(QUESTION)
        assert reply.status == 200
        assert first.asked == asked
        record = await bench.record(reply)
        assert [(item.backend, item.outcome) for item in record.attempts] == [
            ("default/a", "no healthy host"),
            ("default/b", "answered"),
        ]


async def test_the_last_backend_is_asked_whatever_it_did_before(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = second.status = 503
    await bench.apply(gateway(bench.port), *documents(first.port, second))
    for number in range(1, 16):
        assert (await bench.post(QUESTION)).status == 503
        assert len(second.seen) == number
    assert len(first.seen) < 15


async def test_complaint_3_a_local_pool_that_is_lost_is_replaced_by_the_next_backend_and_comes_back(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    port = {"name": "http", "port": 80, "protocol": "TCP"}
    pool = {"name": "pool", "kind": "Service", "group": "", "port": 80}
    objects = [
        gateway(bench.port),
        *backend("b", second.port),
        {"kind": "Service", "metadata": {"name": "pool"}, "spec": {"ports": [port]}},
        {
            "kind": "AIServiceBackend",
            "metadata": {"name": "a"},
            "spec": {"schema": {"name": "OpenAI"}, "backendRef": pool},
        },
        ai_route("route", "m", {"name": "a", "priority": 0}, {"name": "b", "priority": 1}),
    ]
    ready = {
        "kind": "EndpointSlice",
        "metadata": {"name": "pool-1", "labels": {"kubernetes.io/service-name": "pool"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": first.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
    for endpoints, served in (([], second), ([ready], first), ([], second)):
        plan = await bench.apply(*objects, *endpoints)
        (route,) = (item for item in plan.statuses if item.resource.kind == "AIGatewayRoute")
        told = route.status["conditions"][0]["message"]
        assert ("default/a has no ready endpoint" in told) is (served is second)
        reply = await bench.post(QUESTION)
        assert reply.status == 200
        assert len((await bench.record(reply)).attempts) == 1
        assert reply.json["choices"][0]["message"]["content"] == str(served.port)


async def test_a_backend_whose_name_cannot_be_resolved_leads_to_the_next(
    bench: Workbench, second: Provider
) -> None:
    objects = documents(1, second)
    objects[0]["spec"]["endpoints"] = [{"fqdn": {"hostname": "nowhere.invalid", "port": 443}}]
    await bench.apply(gateway(bench.port), *objects)
    assert (await bench.post(QUESTION)).status == 200


async def test_a_second_attempt_at_one_backend_takes_another_endpoint(
    bench: Workbench, second: Provider
) -> None:
    several = backend("a", free_port())
    several[0]["spec"]["endpoints"].append({"ip": {"address": "127.0.0.1", "port": second.port}})
    await bench.apply(gateway(bench.port), *several, ai_route("route", "m", {"name": "a"}))
    counts: set[int] = set()
    # Which endpoint is asked first is left to chance.
    for _ in range(50):
        reply = await bench.post(QUESTION)
        assert reply.status == 200
        counts.add(len((await bench.record(reply)).attempts))
        if 2 in counts:
            break
    assert counts <= {1, 2} and 2 in counts


async def test_clients_have_no_say_in_attempts_and_timeouts(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 500
    second.chunk_seconds = 0.05
    await bench.apply(gateway(bench.port), *documents(first.port, second))
    sly = {
        "x-envoy-max-retries": "0",
        "x-envoy-retry-on": "reset",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-upstream-rq-per-try-timeout-ms": "1",
        "x-envoy-hedge-on-per-try-timeout": "true",
    }
    reply = await bench.post(STREAM, headers=sly)
    assert reply.status == 200
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def _says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _speaks_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def _drips_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-a: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _has_a_head_of_two_megabytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 2_000_000 + b"\r\n\r\n")
    await writer.drain()
    await reader.read()


async def _is_busy_before_it_has_heard_all(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.05)


async def _breaks_off_the_upload(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.read(100_000)
    writer.transport.abort()


async def _stops_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
@pytest.mark.parametrize(
    "way",
    [_drips_a_head, _has_a_head_of_two_megabytes, _is_busy_before_it_has_heard_all, _breaks_off_the_upload, _stops_reading],
)  # fmt: skip
async def test_who_fails_within_the_head_or_the_upload_is_replaced_too(
    bench: Workbench, second: Provider, way: Handler, path: str
) -> None:
    async with serving(way) as port:
        await bench.apply(gateway(bench.port), *documents(port, second, streamIdleTimeout="400ms"))
        reply = await bench.post({**QUESTION, "x": "y" * 3_000_000}, path)
        assert reply.status == 200
        assert len(second.seen[-1].body) > 3_000_000
        assert [item.backend for item in (await bench.record(reply)).attempts] == ["default/a", "default/b"]


@pytest.mark.parametrize("way", [_says_nothing, _speaks_plainly])
async def test_who_speaks_no_tls_is_replaced(bench: Workbench, second: Provider, way: Handler) -> None:
    async with serving(way) as port:
        objects = documents(port, second)
        objects[0]["spec"]["tls"] = {"insecureSkipVerify": True}
        await bench.apply(gateway(bench.port), *objects)
        reply = await bench.post(STREAM)
        assert reply.status == 200
        assert (await bench.record(reply)).attempts[0].outcome == "connection failure"
