"""The `openai` client, unmodified, against stand-ins of OpenAI and Azure that refuse what these would refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.gateway.clients.conftest import OF_THE_CLIENT, World
from tests.gateway.clients.stand_ins import SPEECH, VECTOR
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKED: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest_asyncio.fixture(loop_scope="module")
async def client(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=OF_THE_CLIENT, max_retries=0) as found:
        yield found


async def test_a_chat_its_stream_and_its_tools(client: openai.AsyncOpenAI, world: World) -> None:
    raw = await client.chat.completions.with_raw_response.create(**ASKED)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello there."
    assert answer.usage is not None and answer.usage.total_tokens == 19
    called = await client.chat.completions.create(**ASKED, tools=[TOOL])
    assert called.choices[0].message.tool_calls is not None
    assert called.choices[0].message.tool_calls[0].function.name == "weather"  # type: ignore[union-attr]
    stream = await client.chat.completions.create(
        **ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there."
    assert chunks[-1].usage is not None and chunks[-1].usage.prompt_tokens == 12
    # Nobody asked for usage: none is seen, though it is booked.
    stream = await client.chat.completions.create(**ASKED, stream=True)
    assert not [chunk async for chunk in stream if chunk.usage is not None or not chunk.choices]
    key = stream.response.headers["x-request-id"]
    await eventually(lambda: key in world.bench.records)
    usage = world.bench.records[key].usage
    assert usage is not None and (usage.input_tokens, usage.output_tokens) == (12, 7)
    assert usage.cached_input_tokens == 4


async def test_nothing_of_the_client_or_of_the_gateway_goes_to_a_provider(
    client: openai.AsyncOpenAI, world: World
) -> None:
    await client.chat.completions.create(
        **ASKED, extra_headers={"x-kajitori-key": "forged", "x-mine": "kept"}
    )
    (seen,) = world.providers["gpt-4o"].seen
    assert seen.headers["authorization"] == "Bearer sk-of-openai"
    assert seen.headers["x-mine"] == "kept"
    assert not [name for name in seen.headers if name.startswith(("x-kajitori", "x-ai-eg", "x-envoy"))]
    assert OF_THE_CLIENT not in str(seen.headers)


async def test_azure_is_asked_as_azure_wants_it(client: openai.AsyncOpenAI, world: World) -> None:
    answer = await client.chat.completions.create(**{**ASKED, "model": "on-azure"})
    assert answer.choices[0].message.content == "Hello there."
    embedded = await client.embeddings.create(model="on-azure", input="x")
    assert embedded.data[0].embedding == VECTOR
    stream = await client.chat.completions.create(**{**ASKED, "model": "on-azure"}, stream=True)
    assert [chunk async for chunk in stream]
    paths = [seen.path for seen in world.providers["on-azure"].seen]
    assert paths[0] == "/openai/deployments/ours/chat/completions?api-version=2025-01-01-preview"


async def test_completions_embeddings_moderations_and_models(client: openai.AsyncOpenAI) -> None:
    assert (await client.completions.create(model="gpt-4o", prompt="Once upon")).choices[0].text == " a time"
    assert (await client.embeddings.create(model="gpt-4o", input="x")).data[0].embedding == VECTOR
    plain = await client.embeddings.create(model="gpt-4o", input=["x"], encoding_format="float")
    assert plain.data[0].embedding == VECTOR
    assert not (await client.moderations.create(input="x")).results[0].flagged
    assert "gpt-4o" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("gpt-4o")).id == "gpt-4o"


async def test_responses_and_their_stream(client: openai.AsyncOpenAI, world: World) -> None:
    answer = await client.responses.create(model="gpt-4o", input="Say hello.")
    assert answer.output_text == "Hello there."
    assert answer.usage is not None and answer.usage.total_tokens == 13
    stream = await client.responses.create(model="gpt-4o", input="Say hello.", stream=True)
    kinds = [event.type async for event in stream]
    assert kinds == ["response.created", "response.output_text.delta", "response.completed"]
    key = stream.response.headers["x-request-id"]
    await eventually(lambda: key in world.bench.records)
    usage = world.bench.records[key].usage
    assert usage is not None and (usage.input_tokens, usage.output_tokens) == (9, 4)
    assert (await client.responses.retrieve("resp_1")).output_text == "Hello there."
    await client.responses.delete("resp_1")


async def test_images_and_sound_go_as_forms_and_bytes(client: openai.AsyncOpenAI) -> None:
    made = await client.images.generate(model="gpt-4o", prompt="a ship")
    assert made.data is not None and made.data[0].b64_json == "aGk="
    edited = await client.images.edit(model="gpt-4o", prompt="a sail", image=("a.png", b"\x89PNG\r\n--x"))
    assert edited.data is not None and edited.data[0].b64_json == "aGk="
    spoken = await client.audio.speech.create(model="gpt-4o", voice="alloy", input="Hello.")
    assert spoken.content == SPEECH
    sound = ("a.wav", b"RIFF\x00\r\n\r\n--\r\n" * 1000)
    assert (await client.audio.transcriptions.create(model="gpt-4o", file=sound)).text == "Hello."
    with pytest.warns(DeprecationWarning):
        assert (await client.audio.translations.create(model="gpt-4o", file=sound)).text == "Hello."


async def test_files_and_batches_go_to_the_account_of_a_model(client: openai.AsyncOpenAI) -> None:
    uploaded = await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    assert (uploaded.id, uploaded.bytes) == ("file-1", 2)
    assert [file.id async for file in client.files.list()] == ["file-1"]
    assert (await client.files.retrieve("file-1")).id == "file-1"
    assert (await client.files.content("file-1")).content.startswith(b'{"custom_id"')
    batch = await client.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert (await client.batches.retrieve(batch.id)).status == "completed"
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    assert (await client.files.delete("file-1")).deleted


async def test_each_refusal_is_the_librarys_own_exception(client: openai.AsyncOpenAI, world: World) -> None:
    def asked(**more: Any) -> Any:
        return client.chat.completions.create(**{**ASKED, **more})

    # Of the provider, as it was.
    with pytest.raises(openai.NotFoundError) as missing:
        await asked(model="gpt-99")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match=r"messages\[0\].role"):
        await asked(messages=[{"role": "king", "content": "x"}])
    with pytest.raises(openai.AuthenticationError):
        await asked(model="with-a-wrong-key")
    world.there["gpt-4o"].failures[:] = [429]
    with pytest.raises(openai.RateLimitError, match="provider says 429") as limited:
        await asked()
    assert limited.value.response.headers["retry-after"] == "1"
    assert limited.value.response.headers["x-ratelimit-limit-requests"] == "60"
    world.there["gpt-4o"].failures[:] = [500]
    with pytest.raises(openai.InternalServerError):
        await asked()
    # Of the gateway.
    with pytest.raises(openai.NotFoundError, match="nobody-has-it"):
        await asked(model="nobody-has-it")
    with pytest.raises(openai.BadRequestError):
        await asked(model="")
    stranger = client.with_options(api_key="somebody")
    with pytest.raises(openai.AuthenticationError) as unknown:
        await stranger.chat.completions.create(**ASKED)
    assert unknown.value.response.headers["www-authenticate"]


async def test_an_error_in_a_stream_is_raised_as_such(client: openai.AsyncOpenAI, world: World) -> None:
    world.there["gpt-4o"].breaks_streams = True
    stream = await client.chat.completions.create(**ASKED, stream=True)
    with pytest.raises(openai.APIError, match="The server had an error"):
        _ = [chunk async for chunk in stream]


async def test_the_librarys_retries_work_through_the_gateway(
    client: openai.AsyncOpenAI, world: World
) -> None:
    world.there["gpt-4o"].failures[:] = [429]
    patient = client.with_options(max_retries=2)
    assert (await patient.chat.completions.create(**ASKED)).choices
    assert len(world.providers["gpt-4o"].seen) == 2
