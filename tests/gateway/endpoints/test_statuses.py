"""Each status that the gateway gives by itself, met by a real request in each dialect, as docs/reference/endpoints.md lists them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio
from aiohttp import web

from kajitori.gateway.error_names import anthropic_name, openai_name
from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import Resources
from tests.gateway.attacks.test_wire import exchange
from tests.gateway.keys.objects import api_key, asking, key_text
from tests.gateway.resilience.test_cooling import policy
from tests.gateway.workbench import (
    Provider,
    Reply,
    Workbench,
    ai_route,
    backend,
    free_port,
    gateway,
    observe,
    running_provider,
    running_workbench,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
DOCS = Path(__file__).parents[3] / "docs" / "reference" / "endpoints.md"
DIALECTS = {
    "openai": ("/v1/chat/completions", "OpenAI"),
    "anthropic": ("/v1/messages", "Anthropic"),
    "cohere": ("/v2/rerank", "Cohere"),
}
KEY = key_text("holder")
_BODY_LIMIT = 1_000_000


async def behave(request: web.Request, body: bytes) -> web.StreamResponse:
    """A provider whose answer is said by the model."""
    match json.loads(body)["model"]:
        case "redirecting":
            return web.Response(status=307, headers={"location": "http://127.0.0.1:1/"})
        case "silent":
            await asyncio.sleep(60)
        case "busy":
            return web.json_response({"error": {}}, status=429, headers={"retry-after": "60"})
        case "unprocessable":
            return web.json_response({"message": "provider says 422"}, status=422)
        case _:
            pass
    return web.json_response({"choices": []})


def documents(port: int, provider: Provider) -> list[dict[str, Any]]:
    found = [gateway(port), api_key("holder", models=["plain"])]
    down = free_port()
    for dialect, (_, schema) in DIALECTS.items():
        found += backend(dialect, provider.port, {"name": schema})
        found += backend(f"{dialect}-down", down, {"name": schema})
    up = [{"name": dialect} for dialect in DIALECTS]
    for model in ("plain", "redirecting", "unprocessable"):
        found.append(ai_route(model, model, *up))
    found += [
        asking(ai_route("guarded", "guarded", *up)),
        ai_route("silent", "silent", *up, rule={"timeouts": {"request": "300ms"}}),
        ai_route("busy", "busy", *up),
        policy("busy", fallback={"cooldown": {"whenAllCooled": "Refuse"}}),
        ai_route("down", "down", *({"name": f"{dialect}-down"} for dialect in DIALECTS)),
    ]
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Workbench]:
    async with running_provider(Provider(answer=behave)) as provider, running_workbench() as made:
        observed = observe(*documents(made.port, provider), body_limit_bytes=_BODY_LIMIT)
        text = json.dumps(make_plan(observed).resources.by_type)
        # The time for a request is ten minutes; a test has not so long.
        assert '"request_timeout": "600s"' in text
        hurried = text.replace('"request_timeout": "600s"', '"request_timeout": "1s"')
        made.set_resources("gateway", Resources(json.loads(hurried)))
        await made.settled()
        yield made


async def ask(bench: Workbench, path: str, model: str = "plain", **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await bench.post({"model": model, "messages": []}, path, sent)


async def slow(bench: Workbench, path: str) -> Reply:
    told = await exchange(
        bench.port, f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{".encode()
    )
    head, _, body = told.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return Reply(int(head.split()[1]), headers, body)


async def cooled(bench: Workbench, path: str) -> Reply:
    await ask(bench, path, "busy")
    return await ask(bench, path, "busy")


Asked = Callable[[Workbench, str], Awaitable[Reply]]
# By status: what is asked, and a part of the answer's message.
OWN: dict[int, tuple[Asked, str]] = {
    400: (lambda bench, path: bench.post({"model": 5}, path), "`model` must be a string"),
    401: (lambda bench, path: ask(bench, path, "guarded"), "an API key is needed"),
    403: (
        lambda bench, path: ask(bench, path, "guarded", authorization=f"Bearer {KEY}"),
        "may not use the model",
    ),
    404: (lambda bench, path: ask(bench, path, "nothing"), "No route matches the model 'nothing'"),
    405: (lambda bench, path: bench.get(path), "takes POST, not GET"),
    408: (slow, "did not arrive in time"),
    413: (
        lambda bench, path: bench.post({"model": "plain", "x": "x" * 2 * _BODY_LIMIT}, path),
        "longer than the gateway reads",
    ),
    415: (lambda bench, path: ask(bench, path, content_encoding="gzip"), "send it as it is"),
    429: (cooled, "every backend asked to be left alone"),
    502: (lambda bench, path: ask(bench, path, "redirecting"), "answered 307, which is no answer"),
    503: (lambda bench, path: ask(bench, path, "down"), "kaji explain request"),
    504: (lambda bench, path: ask(bench, path, "silent"), "kaji explain request"),
}


@pytest.mark.parametrize("status", OWN)
async def test_each_status_is_told_in_each_dialect_and_says_what_to_do(bench: Workbench, status: int) -> None:
    asked, part = OWN[status]
    replies = await asyncio.gather(*(asked(bench, path) for path, _ in DIALECTS.values()))
    for dialect, reply in zip(DIALECTS, replies, strict=True):
        assert reply.status == status, reply
        assert part in message_of(reply, dialect)


def message_of(reply: Reply, dialect: str) -> str:
    """Of an error in the shape that a dialect has for it."""
    body, status = reply.json, reply.status
    if dialect == "cohere":
        assert set(body) == {"id", "message"}
        return body["message"]
    error = body["error"]
    if dialect == "anthropic":
        assert (body["type"], error["type"]) == ("error", anthropic_name(status))
        assert body["request_id"]
    else:
        assert (error["type"], error["code"]) == (openai_name(status), str(status))
    return error["message"]


@pytest.mark.parametrize("body", [{}, {"model": ""}])
async def test_a_message_without_a_model_is_422_and_other_requests_are_400(
    bench: Workbench, body: dict[str, Any]
) -> None:
    for dialect, (path, _) in DIALECTS.items():
        reply = await bench.post(body, path)
        assert reply.status == (422 if dialect == "anthropic" else 400)
        assert message_of(reply, dialect).endswith(
            "`model` is empty" if body else "`model` is missing: it must be a string that names a model"
        )


async def test_a_422_of_the_provider_passes_as_it_is(bench: Workbench) -> None:
    for path, _ in DIALECTS.values():
        reply = await ask(bench, path, "unprocessable")
        assert (reply.status, reply.json) == (422, {"message": "provider says 422"})


async def test_clients_raise_what_they_have_for_each_status(bench: Workbench) -> None:
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{bench.url}/v1", max_retries=0) as client:
        for model, error in (
            ("guarded", openai.AuthenticationError),
            ("nothing", openai.NotFoundError),
            ("unprocessable", openai.UnprocessableEntityError),
            ("redirecting", openai.InternalServerError),
        ):
            with pytest.raises(error):
                await client.chat.completions.create(model=model, messages=[])
    async with anthropic.AsyncAnthropic(api_key="x", base_url=bench.url, max_retries=0) as client:
        for model, error in (
            ("", anthropic.UnprocessableEntityError),
            ("guarded", anthropic.AuthenticationError),
            ("nothing", anthropic.NotFoundError),
            ("down", anthropic.InternalServerError),
        ):
            with pytest.raises(error):
                await client.messages.create(model=model, messages=[], max_tokens=1)


async def test_the_documentation_lists_them_all() -> None:
    text = DOCS.read_text()
    listed = {int(status) for status in re.findall(r"^\| (\d{3}) \|", text, re.M)}
    assert listed >= {*OWN, 422}
