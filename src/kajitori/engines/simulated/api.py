"""vLLM's HTTP API in front of a simulated engine: which path answers what, and who may ask.

Shapes, paths and errors are vLLM's. Every answer carries the header `x-kajitori-simulated: true`.
"""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from kajitori.engines.simulated import text
from kajitori.engines.simulated.answers import ChatShape, CompletionShape, answer
from kajitori.engines.simulated.arguments import VERSION
from kajitori.engines.simulated.generation import Generation
from kajitori.engines.simulated.prompts import chat_prompt, completion_prompts
from kajitori.engines.simulated.refusal import Refused
from kajitori.engines.simulated.wire import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    GenerateRequest,
    TokenizeRequest,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kajitori.engines.simulated.arguments import Settings
    from kajitori.engines.simulated.engine import SimulatedEngine
    from kajitori.engines.simulated.http1 import HttpRequest, Responder

    Route = Callable[[HttpRequest, Responder], Awaitable[None]]

Body = TypeVar("Body", ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest)

MARK = {"x-kajitori-simulated": "true"}


class Api:
    """Answers requests.

    engine: there once the group is formed and loaded. why_not_ready: a sentence for /health; empty when requests are
    taken.
    """

    def __init__(self, settings: Settings, max_model_tokens: int) -> None:
        self.settings = settings
        self.max_model_tokens = max_model_tokens
        self.why_not_ready = "starting"
        self.engine: SimulatedEngine | None = None
        self._created = int(time.time())
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("POST", "/ping"): self._health,
            ("GET", "/version"): self._version,
            ("GET", "/load"): self._load,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._complete,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
        }
        self._paths = {path for _, path in self._routes}

    async def handle(self, request: HttpRequest, respond: Responder) -> None:
        """Answer one request, whatever it is."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            known = request.path in self._paths
            detail = "Method Not Allowed" if known else "Not Found"
            respond.send(405 if known else 404, msgspec.json.encode({"detail": detail}), headers=MARK)
        elif not self._allowed(request):
            respond.send(401, b'{"error":"Unauthorized"}', headers=MARK)
        else:
            try:
                await route(request, respond)
            except Refused as error:
                respond.send(error.status, error.body(), headers=MARK)

    def _allowed(self, request: HttpRequest) -> bool:
        keys = self.settings.api_keys
        if not keys or not request.path.startswith("/v1"):
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip().encode()
        return scheme.lower() == "bearer" and any(hmac.compare_digest(given, key.encode()) for key in keys)

    def _ready(self) -> SimulatedEngine:
        if self.engine is None or self.why_not_ready:
            raise Refused(
                503, f"the engine takes no requests: {self.why_not_ready}", kind="ServiceUnavailableError"
            )
        return self.engine

    async def _health(self, request: HttpRequest, respond: Responder) -> None:
        if self.why_not_ready:
            respond.send(503, self.why_not_ready.encode() + b"\n", "text/plain; charset=utf-8", MARK)
        else:
            respond.send(200, b"", "text/plain", MARK)

    async def _version(self, request: HttpRequest, respond: Responder) -> None:
        respond.send(200, msgspec.json.encode({"version": VERSION}), headers=MARK)

    async def _load(self, request: HttpRequest, respond: Responder) -> None:
        load = self.engine.requests if self.engine else 0
        respond.send(200, msgspec.json.encode({"server_load": load}), headers=MARK)

    async def _metrics(self, request: HttpRequest, respond: Responder) -> None:
        engine = self.engine
        exposition = engine.metrics.text(engine.gauges()) if engine else "kajitori_simulated 1\n"
        respond.send(200, exposition.encode(), "text/plain; version=0.0.4; charset=utf-8", MARK)

    async def _models(self, request: HttpRequest, respond: Responder) -> None:
        shared = {
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": self.settings.model,
            "parent": None,
            "max_model_len": self.max_model_tokens,
            "permission": [],
            "simulated": True,
        }
        data = [{"id": name, **shared} for name in self.settings.served_names]
        respond.send(200, msgspec.json.encode({"object": "list", "data": data}), headers=MARK)

    async def _tokenize(self, request: HttpRequest, respond: Responder) -> None:
        asked = self._read(request, TokenizeRequest)
        if (asked.messages is None) == (asked.prompt is None):
            raise Refused(400, "give either prompt or messages", param="prompt")
        prompt = asked.prompt if asked.messages is None else chat_prompt(asked.messages)
        tokens = text.encode(prompt or "")
        strings = [text.decode([token]) for token in tokens] if asked.return_token_strs else None
        body = {
            "count": len(tokens),
            "max_model_len": self.max_model_tokens,
            "tokens": tokens,
            "token_strs": strings,
        }
        respond.send(200, msgspec.json.encode(body), headers=MARK)

    async def _detokenize(self, request: HttpRequest, respond: Responder) -> None:
        asked = self._read(request, DetokenizeRequest)
        if any(token < 0 for token in asked.tokens):
            raise Refused(400, "tokens are not negative", param="tokens")
        respond.send(200, msgspec.json.encode({"prompt": text.decode(asked.tokens)}), headers=MARK)

    async def _chat(self, request: HttpRequest, respond: Responder) -> None:
        engine = self._ready()
        asked = self._read(request, ChatRequest)
        generation = self._generation(engine, asked, chat_prompt(asked.messages))
        shape = ChatShape(
            asked.model or self.settings.served_names[0], request.headers.get("x-request-id", "")
        )
        await answer(shape, [generation], asked, self.settings, respond, MARK)

    async def _complete(self, request: HttpRequest, respond: Responder) -> None:
        engine = self._ready()
        asked = self._read(request, CompletionRequest)
        prompts = completion_prompts(asked.prompt)
        if asked.stream and len(prompts) > 1:
            raise Refused(400, "a stream of several prompts is not simulated", param="prompt")
        generations = [self._generation(engine, asked, prompt) for prompt in prompts]
        shape = CompletionShape(
            asked.model or self.settings.served_names[0], request.headers.get("x-request-id", "")
        )
        await answer(shape, generations, asked, self.settings, respond, MARK)

    def _generation(self, engine: SimulatedEngine, asked: GenerateRequest, prompt: str) -> Generation:
        if (asked.n or 1) != 1:
            raise Refused(400, f"n={asked.n}: this simulated model gives one answer", param="n")
        return Generation(engine, self.settings, self.max_model_tokens, asked, prompt)

    def _read(self, request: HttpRequest, kind: type[Body]) -> Body:
        """The body, if it is one and asks for a model that is here. Raises Refused."""
        try:
            asked = msgspec.json.decode(request.body, type=kind)
        except msgspec.ValidationError as error:
            raise Refused(400, str(error)) from None
        except msgspec.DecodeError as error:
            raise Refused(400, f"the body is not JSON: {error}") from None
        if asked.model and asked.model not in self.settings.served_names:
            raise Refused(
                404, f"The model `{asked.model}` does not exist.", kind="NotFoundError", param="model"
            )
        return asked
