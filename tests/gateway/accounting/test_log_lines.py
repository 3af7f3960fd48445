"""What Envoy writes down: nothing that a client sends breaks a line, and no secret stands in one."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway

QUESTION = {"model": "gpt-4o", "messages": []}


async def raw(bench: Workbench, request: bytes) -> bytes:
    """The first line of the answer; empty if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()


@pytest.mark.parametrize("separator", [b"\x1f", b"\x1e", b"\n\x1er1"])
async def test_separators_in_what_clients_send_never_reach_the_log(
    bench: Workbench, first: Provider, separator: bytes
) -> None:
    await bench.apply(gateway(bench.port), *backend("a", first.port), ai_route("r", "gpt-4o", {"name": "a"}))
    end = b"host: x\r\nconnection: close\r\n\r\n"
    requests = [
        b"GET /a" + separator + b"b HTTP/1.1\r\n" + end,
        b"GE" + separator + b"T / HTTP/1.1\r\n" + end,
        b"GET / HTTP/1.1\r\nx-request-id: a" + separator + b"b\r\n" + end,
        b"GET / HTTP/1.1\r\nx-kajitori-key: a" + separator + b"b\r\n" + end,
    ]
    for request in requests:
        await raw(bench, request)
    model = separator.decode()
    assert (await bench.post({**QUESTION, "model": f"a{model}b"})).status == 400
    reply = await bench.post(QUESTION)
    assert (await bench.record(reply)).model == "gpt-4o"
    assert bench.ledger.unreadable_lines == 0


async def test_odd_names_are_kept_and_no_query_credential_or_prompt_is_written(
    bench: Workbench, first: Provider
) -> None:
    model = "ünïcödé | é" * 30
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("r", "gpt-4o", {"name": "a"}),
    )
    reply = await bench.post({**QUESTION, "model": model})
    record = await bench.record(reply)
    assert (reply.status, record.model) == (404, model)
    headers = {"authorization": "Bearer client-secret", "x-api-key": "other-secret"}
    body = {**QUESTION, "messages": [{"role": "user", "content": "a private prompt"}]}
    for path in ("/v1/chat/completions?key=query-secret", "/elsewhere?key=query-secret"):
        record = await bench.record(await bench.post(body, path=path, headers=headers))
        assert record.path == path.partition("?")[0]
    text = bench.access_log.read_text()
    for secret in ("client-secret", "other-secret", "query-secret", "private prompt"):
        assert secret not in text
    assert bench.ledger.unreadable_lines == 0
