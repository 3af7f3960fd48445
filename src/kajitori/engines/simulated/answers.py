"""The shapes of answers: chat and plain completions, as a whole or as a stream of events."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.engines.simulated.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.engines.simulated.arguments import Settings
    from kajitori.engines.simulated.generation import Generation
    from kajitori.engines.simulated.http1 import Responder
    from kajitori.engines.simulated.wire import GenerateRequest


class ChatShape:
    """Chat completions. model: as the client named it. request_id: the client's own, or empty."""

    prefix = "chatcmpl"
    whole = "chat.completion"
    part = "chat.completion.chunk"

    def __init__(self, model: str, request_id: str) -> None:
        self.head: dict[str, Any] = {
            "id": f"{self.prefix}-{request_id or os.urandom(16).hex()}",
            "object": self.whole,
            "created": int(time.time()),
            "model": model,
        }

    def opening(self) -> dict[str, Any] | None:
        """The choice of a stream's first chunk, before there is any text."""
        return {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }

    def chunk(self, piece: str, generation: Generation) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "delta": {"content": piece}, "logprobs": None}
        return choice | _ending(generation)

    def choice(self, index: int, content: str, generation: Generation) -> dict[str, Any]:
        message = {"role": "assistant", "content": content, "refusal": None, "tool_calls": []}
        return {"index": index, "message": message, "logprobs": None} | _ending(generation)


class CompletionShape(ChatShape):
    """Plain completions."""

    prefix = "cmpl"
    whole = "text_completion"
    part = "text_completion"

    def opening(self) -> dict[str, Any] | None:
        return None

    def chunk(self, piece: str, generation: Generation) -> dict[str, Any]:
        return self.choice(0, piece, generation)

    def choice(self, index: int, content: str, generation: Generation) -> dict[str, Any]:
        return {"index": index, "text": content, "logprobs": None} | _ending(generation)


def _ending(generation: Generation) -> dict[str, Any]:
    return {"finish_reason": generation.finish_reason or None, "stop_reason": generation.stop_text}


def _usage(generations: Sequence[Generation], settings: Settings) -> dict[str, Any]:
    prompt = sum(generation.prompt_tokens for generation in generations)
    completion = sum(generation.completion_tokens for generation in generations)
    cached = sum(generation.cached_tokens for generation in generations)
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached} if settings.prompt_details else None,
    }


async def answer(
    shape: ChatShape,
    generations: Sequence[Generation],
    asked: GenerateRequest,
    settings: Settings,
    respond: Responder,
    headers: Mapping[str, str],
) -> None:
    """Run the generations and send what they give. Raises Refused where nothing was sent yet."""
    if asked.stream:
        await _stream(shape, generations[0], asked, settings, respond, headers)
        return
    contents = await asyncio.gather(*(_collect(generation) for generation in generations))
    choices = [
        shape.choice(index, content, generation)
        for index, (content, generation) in enumerate(zip(contents, generations, strict=True))
    ]
    body = shape.head | {"choices": choices, "usage": _usage(generations, settings)}
    respond.send(200, msgspec.json.encode(body), headers=headers)


async def _collect(generation: Generation) -> str:
    async with aclosing(generation.pieces()) as pieces:
        return "".join([piece async for piece in pieces])


async def _stream(
    shape: ChatShape,
    generation: Generation,
    asked: GenerateRequest,
    settings: Settings,
    respond: Responder,
    headers: Mapping[str, str],
) -> None:
    options = asked.stream_options
    usage_at_end = settings.force_usage or bool(options and options.include_usage)
    usage_always = bool(options and options.continuous_usage_stats)
    head = shape.head | {"object": shape.part}

    async def write(choices: list[dict[str, Any]], *, with_usage: bool) -> None:
        body = head | {"choices": choices}
        if with_usage:
            body["usage"] = _usage([generation], settings)
        await respond.write(b"data: " + msgspec.json.encode(body) + b"\n\n")

    started = False
    try:
        async with aclosing(generation.pieces()) as pieces:
            async for piece in pieces:
                if not started:
                    started = True
                    respond.start(200, "text/event-stream; charset=utf-8", headers)
                    opening = shape.opening()
                    if opening is not None:
                        await write([opening], with_usage=usage_always)
                if piece or generation.finish_reason:
                    await write([shape.chunk(piece, generation)], with_usage=usage_always)
    except Refused as error:
        if not started:
            raise
        # The status is sent already: say it as vLLM does, as an event, and leave the stream unfinished.
        await respond.write(b"data: " + error.body() + b"\n\n")
        return
    if usage_at_end:
        await write([], with_usage=True)
    await respond.write(b"data: [DONE]\n\n")
    respond.finish()
