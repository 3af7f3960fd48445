"""The `anthropic` and `cohere` clients, unmodified, against stand-ins that refuse what the providers would refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import cohere
import pytest
import pytest_asyncio

from tests.gateway.clients.conftest import OF_THE_CLIENT, World
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKED: Any = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "Say hello."}]}


@pytest_asyncio.fixture(loop_scope="module", params=["", "/anthropic"])
async def client(world: World, request: pytest.FixtureRequest) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=world.url + request.param, api_key=OF_THE_CLIENT, max_retries=0
    ) as found:
        yield found


async def test_messages_their_stream_their_tools_and_their_count(
    client: anthropic.AsyncAnthropic, world: World
) -> None:
    answer = await client.messages.create(**ASKED)
    assert answer.content[0].text == "Hello there."  # type: ignore[union-attr]
    tool: Any = {"name": "weather", "input_schema": {"type": "object"}}
    assert (await client.messages.create(**ASKED, tools=[tool])).stop_reason == "tool_use"
    async with client.messages.stream(**ASKED) as stream:
        assert "".join([text async for text in stream.text_stream]) == "Hello there."
        whole = await stream.get_final_message()
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (10, 6)
    counted = await client.messages.count_tokens(model="claude", messages=ASKED["messages"])
    assert counted.input_tokens == 15
    assert "claude" in [model.id async for model in client.models.list()]
    (seen, *_) = world.providers["claude"].seen
    assert (seen.path, seen.headers["x-api-key"]) == ("/v1/messages", "sk-ant")
    assert OF_THE_CLIENT not in str(seen.headers)
    key = stream.response.headers["x-request-id"]
    await eventually(lambda: key in world.bench.records)
    usage = world.bench.records[key].usage
    # As upstream counts it: what was cached is input, too.
    assert usage is not None and (usage.input_tokens, usage.output_tokens) == (15, 6)
    assert usage.cached_input_tokens == 5


async def test_each_refusal_is_anthropics_own_exception(
    client: anthropic.AsyncAnthropic, world: World
) -> None:
    def asked(**more: Any) -> Any:
        return client.messages.create(**{**ASKED, **more})

    with pytest.raises(anthropic.BadRequestError, match='"user" role'):
        await asked(messages=[{"role": "assistant", "content": "x"}])
    with pytest.raises(anthropic.BadRequestError, match="not a valid version"):
        await asked(extra_headers={"anthropic-version": "2099-01-01"})
    world.there["claude"].failures[:] = [429]
    with pytest.raises(anthropic.RateLimitError) as limited:
        await asked()
    assert limited.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    world.there["claude"].failures[:] = [529]
    with pytest.raises(anthropic.InternalServerError, match="529"):
        await asked()
    with pytest.raises(anthropic.NotFoundError, match="nobody-has-it"):
        await asked(model="nobody-has-it")
    # A model that speaks another dialect.
    with pytest.raises(anthropic.NotFoundError):
        await asked(model="gpt-4o")
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="somebody").messages.create(**ASKED)
    world.there["claude"].breaks_streams = True
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with client.messages.stream(**ASKED) as stream:
            _ = [text async for text in stream.text_stream]


async def test_coheres_rerank_and_its_exceptions(world: World) -> None:
    async with cohere.AsyncClientV2(base_url=f"{world.url}/cohere", api_key=OF_THE_CLIENT) as client:
        asked: Any = {"model": "rerank-v3.5", "query": "q", "documents": ["a", "b", "c"], "top_n": 2}
        ranked = await client.rerank(**asked)
        assert [row.index for row in ranked.results] == [0, 1]
        assert ranked.meta is not None and ranked.meta.billed_units is not None
        with pytest.raises(cohere.UnprocessableEntityError):
            await client.rerank(**{**asked, "documents": []})
        with pytest.raises(cohere.NotFoundError):
            await client.rerank(**{**asked, "model": "nobody-has-it"})
        world.there["rerank-v3.5"].failures[:] = [429]
        with pytest.raises(cohere.TooManyRequestsError):
            await client.rerank(**asked, request_options={"max_retries": 0})
    async with cohere.AsyncClientV2(base_url=f"{world.url}/cohere", api_key="somebody") as stranger:
        with pytest.raises(cohere.UnauthorizedError):
            await stranger.rerank(**asked)
