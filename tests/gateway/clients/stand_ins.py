"""Stand-ins for providers that are as strict as these: what a provider would refuse is refused, in its words' shape.

Each is what a `Provider` of the workbench answers with. A request is held against the provider's documentation: its
path, its key, its headers, its length, the members that its body must have. Only then it is answered as documented, in
JSON or as a stream of events, with usage. `failures` are answered first, one a request.

    python -m tests.gateway.clients.stand_ins openai PORT KEY
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from typing import Any

from aiohttp import web

from tests.gateway.workbench import Provider, running_provider

Object = dict[str, Any]
VECTOR = [0.25, -0.5, 1.0]
SPEECH = b"ID3\x04\x00 this would be music"


class Refused(Exception):
    """status, and what the provider calls it."""

    def __init__(self, status: int, kind: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, headers


@dataclass
class StandIn:
    """key: the only one that is let in. failures: statuses that the next requests get. models: those there are."""

    key: str
    failures: list[int] = field(default_factory=list)
    models: Sequence[str] = ("gpt-4o", "gpt-4o-mini")
    breaks_streams: bool = False

    async def __call__(self, request: web.Request, body: bytes) -> web.StreamResponse:
        try:
            self.check_key(request)
            answer, groups = self.find(request)
            if self.failures:
                raise self.failure(self.failures.pop(0))
            if request.method == "POST":
                if "chunked" in request.headers.get("transfer-encoding", ""):
                    raise Refused(411, "invalid_request_error", "A body needs its length.")
                if body and int(request.headers["content-length"]) != len(body):
                    raise Refused(400, "invalid_request_error", "The body has another length.")
            return await self.reply(request, answer(self.read(request, body), *groups))
        except Refused as refused:
            text = json.dumps(self.error(refused))
            return web.Response(
                text=text, status=refused.status, content_type="application/json", headers=refused.headers
            )

    def check_key(self, request: web.Request) -> None:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise Refused(401, "invalid_api_key", "Incorrect API key provided.")

    def find(self, request: web.Request) -> tuple[Callable[..., Any], tuple[str, ...]]:
        for method, path, answer in self.operations():
            if method == request.method and (found := re.fullmatch(path, request.rel_url.raw_path)):
                return answer, found.groups()
        raise Refused(404, "invalid_request_error", f"Invalid URL ({request.method} {request.path})")

    def operations(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        raise NotImplementedError

    def failure(self, status: int) -> Refused:
        more = {"retry-after": "1", "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
        return Refused(status, "rate_limit_exceeded", f"provider says {status}", **more)

    def error(self, refused: Refused) -> Object:
        kind = refused.kind if refused.status in (400, 404) else "requests"
        return {"error": {"message": str(refused), "type": kind, "param": None, "code": refused.kind}}

    def read(self, request: web.Request, body: bytes) -> Object:
        """Members of the body, be it JSON or a form; a form's files are bytes."""
        if request.method != "POST" or not body:
            return {}
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            return form(kind, body)
        if kind.partition(";")[0] != "application/json":
            raise Refused(415, "invalid_request_error", f"Unsupported media type {kind!r}.")
        try:
            found = json.loads(body)
        except ValueError:
            raise Refused(400, "invalid_request_error", "We could not parse the JSON body.") from None
        if not isinstance(found, dict):
            raise Refused(400, "invalid_request_error", "The body must be an object.")
        return found

    async def reply(self, request: web.Request, answer: Any) -> web.StreamResponse:
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/octet-stream")
        if isinstance(answer, dict):
            return web.json_response(answer, headers={"x-request-id": "req_of_the_provider"})
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in answer:
            await response.write(event)
        return response

    def known(self, model: object) -> str:
        if not isinstance(model, str) or not model:
            raise Refused(400, "invalid_request_error", "you must provide a model parameter")
        if model not in self.models:
            raise Refused(404, "model_not_found", f"The model `{model}` does not exist")
        return model


def need(body: Object, *members: str) -> None:
    for member in members:
        if not body.get(member):
            raise Refused(400, "invalid_request_error", f"Missing required parameter: '{member}'.")


def form(kind: str, body: bytes) -> Object:
    """A multipart body, read by other code than the gateway's."""
    message = BytesParser().parsebytes(f"content-type: {kind}\r\n\r\n".encode() + body)
    if not message.is_multipart():
        raise Refused(400, "invalid_request_error", "The form cannot be read.")
    found: Object = {}
    for part in message.get_payload():
        assert isinstance(part, Message)
        name = str(part.get_param("name", header="content-disposition")).removesuffix("[]")
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found[name] = payload if part.get_filename() else payload.decode()
    return found


def sse(*events: Object, named: bool = False) -> Iterable[bytes]:
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        yield f"{name}data: {json.dumps(event)}\n\n".encode()


class OpenAI(StandIn):
    """The API below /v1."""

    PREFIX = "/v1"

    def operations(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        item = r"([a-z]+_?-?[0-9]+)"
        rows: list[tuple[str, str, Callable[..., Any]]] = [
            ("POST", "/chat/completions", self.chat),
            ("POST", "/completions", self.completion),
            ("POST", "/embeddings", self.embeddings),
            ("POST", "/responses", self.response),
            ("GET", f"/responses/{item}", lambda body, id: self.one_response(id, "gpt-4o")),
            ("DELETE", f"/responses/{item}", lambda body, id: {"id": id, "object": "response.deleted", "deleted": True}),
            ("POST", "/images/generations", self.image),
            ("POST", "/images/edits", self.edit),
            ("POST", "/audio/speech", self.speech),
            ("POST", "/audio/transcriptions", self.transcription),
            ("POST", "/audio/translations", self.transcription),
            ("POST", "/moderations", self.moderation),
            ("POST", "/files", self.upload),
            ("GET", "/files", lambda body: {"object": "list", "data": [self.file("file-1")], "has_more": False}),
            ("GET", f"/files/{item}", lambda body, id: self.file(id)),
            ("DELETE", f"/files/{item}", lambda body, id: {"id": id, "object": "file", "deleted": True}),
            ("GET", f"/files/{item}/content", lambda body, id: b'{"custom_id": "1"}\n'),
            ("POST", "/batches", self.batch),
            ("GET", f"/batches/{item}", lambda body, id: self.one_batch(id, "completed")),
            ("POST", f"/batches/{item}/cancel", lambda body, id: self.one_batch(id, "cancelling")),
        ]  # fmt: skip
        return [(method, self.PREFIX + path, answer) for method, path, answer in rows]

    def chat(self, body: Object) -> Any:
        model = self.known(body.get("model"))
        need(body, "messages")
        for at, message in enumerate(body["messages"]):
            if message.get("role") not in ("developer", "system", "user", "assistant", "tool"):
                raise Refused(400, "invalid_value", f"Invalid value for 'messages[{at}].role'.")
        if "stream_options" in body and not body.get("stream"):
            raise Refused(400, "invalid_request_error", "'stream_options' is only allowed with 'stream'.")
        usage = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19,
                 "prompt_tokens_details": {"cached_tokens": 4}}  # fmt: skip
        base = {"id": "chatcmpl-1", "created": 1, "model": f"{model}-2024-08-06"}
        if body.get("stream"):
            return self.chat_stream({**base, "object": "chat.completion.chunk"}, body, usage)
        message: Object = {"role": "assistant", "content": "Hello there."}
        if body.get("tools"):
            function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Trier"}'}
            message |= {
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
            }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if body.get("tools") else "stop"}  # fmt: skip
        return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chat_stream(self, base: Object, body: Object, usage: Object) -> Iterable[bytes]:
        deltas: list[Object] = [
            {"role": "assistant", "content": ""},
            {"content": "Hello "},
            {"content": "there."},
        ]
        yield from sse(*({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas))  # fmt: skip
        if self.breaks_streams:
            yield from sse(
                {"error": {"message": "The server had an error.", "type": "server_error", "code": None}}
            )
            return
        yield from sse({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield from sse({**base, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def completion(self, body: Object) -> Object:
        model = self.known(body.get("model"))
        need(body, "prompt")
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        choice = {"index": 0, "text": " a time", "finish_reason": "stop", "logprobs": None}
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model, "choices": [choice], "usage": usage}  # fmt: skip

    def embeddings(self, body: Object) -> Object:
        model = self.known(body.get("model"))
        need(body, "input")
        packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
        vector: Any = packed if body.get("encoding_format") == "base64" else VECTOR
        row = {"object": "embedding", "index": 0, "embedding": vector}
        return {"object": "list", "model": model, "data": [row], "usage": {"prompt_tokens": 5, "total_tokens": 5}}  # fmt: skip

    def response(self, body: Object) -> Any:
        model = self.known(body.get("model"))
        need(body, "input")
        whole = self.one_response("resp_1", model)
        if not body.get("stream"):
            return whole
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        delta = {
            "type": "response.output_text.delta",
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
        }
        return sse(
            {"type": "response.created", "sequence_number": 0, "response": begun},
            {**delta, "sequence_number": 1, "delta": "Hello there.", "logprobs": []},
            {"type": "response.completed", "sequence_number": 2, "response": whole},
            named=True,
        )

    def one_response(self, id: str, model: str) -> Object:
        text = {"type": "output_text", "text": "Hello there.", "annotations": []}
        item = {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
        usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13,
                 "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
        return {"id": id, "object": "response", "created_at": 1, "status": "completed", "model": model,
                "output": [item], "usage": usage, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}  # fmt: skip

    def image(self, body: Object) -> Object:
        self.known(body.get("model", self.models[0]))
        need(body, "prompt")
        return {"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 6, "output_tokens": 40, "total_tokens": 46}}  # fmt: skip

    def edit(self, body: Object) -> Object:
        need(body, "prompt", "image")
        if not isinstance(body["image"], bytes):
            raise Refused(400, "invalid_request_error", "'image' must be a file.")
        return self.image(body)

    def speech(self, body: Object) -> bytes:
        self.known(body.get("model"))
        need(body, "input", "voice")
        return SPEECH

    def transcription(self, body: Object) -> Object:
        self.known(body.get("model"))
        if not isinstance(body.get("file"), bytes) or not body["file"].startswith(b"RIFF"):
            raise Refused(400, "invalid_request_error", "Invalid file format.")
        return {
            "text": "Hello.",
            "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 2, "total_tokens": 16},
        }

    def moderation(self, body: Object) -> Object:
        need(body, "input")
        return {
            "id": "modr-1",
            "model": "omni",
            "results": [{"flagged": False, "categories": {}, "category_scores": {}}],
        }

    def upload(self, body: Object) -> Object:
        need(body, "file", "purpose")
        return {**self.file("file-1"), "bytes": len(body["file"])}

    def file(self, id: str) -> Object:
        return {"id": id, "object": "file", "bytes": 2, "created_at": 1, "filename": "a.jsonl", "purpose": "batch", "status": "processed"}  # fmt: skip

    def batch(self, body: Object) -> Object:
        need(body, "input_file_id", "endpoint", "completion_window")
        return self.one_batch("batch_1", "validating")

    def one_batch(self, id: str, status: str) -> Object:
        return {"id": id, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1",
                "completion_window": "24h", "status": status, "created_at": 1}  # fmt: skip


class AzureOpenAI(OpenAI):
    """Deployments of it: the model is in the path, and a version of the API must be named."""

    VERSIONS = ("2025-01-01-preview",)
    PREFIX = "/openai/deployments/([^/]+)"

    def operations(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        def deployed(answer: Callable[..., Any]) -> Callable[..., Any]:
            def named(body: Object, deployment: str, *rest: str) -> Any:
                if deployment not in self.models:
                    raise Refused(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")  # fmt: skip
                return answer({**body, "model": deployment}, *rest)

            return named

        return [(method, path, deployed(answer)) for method, path, answer in super().operations()]

    def check_key(self, request: web.Request) -> None:
        if request.headers.get("api-key") != self.key or "authorization" in request.headers:
            raise Refused(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
        if request.query.get("api-version") not in self.VERSIONS:
            raise Refused(404, "404", "Resource not found")


class Anthropic(StandIn):
    """The Messages API."""

    # The last one is what the `anthropic` library of the tests names.
    VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")

    def operations(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        return [("POST", "/v1/messages", self.messages), ("POST", "/v1/messages/count_tokens", self.count)]

    def check_key(self, request: web.Request) -> None:
        if request.headers.get("x-api-key") != self.key or "authorization" in request.headers:
            raise Refused(401, "authentication_error", "invalid x-api-key")
        version = request.headers.get("anthropic-version")
        if version is None:
            raise Refused(400, "invalid_request_error", "anthropic-version: header is required")
        if version not in self.VERSIONS:
            raise Refused(400, "invalid_request_error", f"anthropic-version: {version!r} is not a valid version")  # fmt: skip

    def failure(self, status: int) -> Refused:
        kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        more = {"retry-after": "1", "anthropic-ratelimit-requests-remaining": "0"} if status == 429 else {}
        return Refused(status, kind, f"provider says {status}", **more)

    def error(self, refused: Refused) -> Object:
        kind = "not_found_error" if refused.status == 404 else refused.kind
        return {
            "type": "error",
            "error": {"type": kind, "message": str(refused)},
            "request_id": "req_of_the_provider",
        }

    def messages(self, body: Object) -> Any:
        model = self.known(body.get("model"))
        if not isinstance(body.get("max_tokens"), int):
            raise Refused(400, "invalid_request_error", "max_tokens: Field required")
        self.check_messages(body)
        text: Object = {"type": "text", "text": "Hello there."}
        if body.get("tools"):
            text = {
                "type": "tool_use",
                "id": "toolu_1",
                "name": body["tools"][0]["name"],
                "input": {"city": "Trier"},
            }
        usage = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5, "output_tokens": 6}  # fmt: skip
        stop = "tool_use" if body.get("tools") else "end_turn"
        whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [text],
                 "stop_reason": stop, "stop_sequence": None, "usage": usage}  # fmt: skip
        return self.stream(whole) if body.get("stream") else whole

    def check_messages(self, body: Object) -> None:
        need(body, "messages")
        if body["messages"][0].get("role") != "user":
            raise Refused(400, "invalid_request_error", "messages: first message must use the \"user\" role")  # fmt: skip

    def count(self, body: Object) -> Object:
        self.known(body.get("model"))
        self.check_messages(body)
        return {"input_tokens": 15}

    def stream(self, whole: Object) -> Iterable[bytes]:
        begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
        block = {"type": "text", "text": ""}
        yield from sse(
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "ping"},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello "}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "there."}},
            named=True,
        )
        if self.breaks_streams:
            error = {"type": "overloaded_error", "message": "Overloaded"}
            yield from sse({"type": "error", "error": error}, named=True)
            return
        yield from sse(
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 6},
            },
            {"type": "message_stop"},
            named=True,
        )


class Cohere(StandIn):
    """Rerank of version 2."""

    def operations(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        return [("POST", "/v2/rerank", self.rerank)]

    def error(self, refused: Refused) -> Object:
        return {"id": "1", "message": str(refused)}

    def rerank(self, body: Object) -> Object:
        self.known(body.get("model"))
        for member in ("query", "documents"):
            if not body.get(member):
                raise Refused(422, "422", f"{member} must not be empty")
        count = min(body.get("top_n") or len(body["documents"]), len(body["documents"]))
        results = [{"index": at, "relevance_score": 0.9 - at / 10} for at in range(count)]
        meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
        return {"id": "1", "results": results, "meta": meta}


KINDS: dict[str, type[StandIn]] = {
    "openai": OpenAI,
    "azure": AzureOpenAI,
    "anthropic": Anthropic,
    "cohere": Cohere,
}


async def main(name: str, port: int, key: str) -> None:
    async with running_provider(Provider(port=port, answer=KINDS[name](key))):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
