"""A conversation with a model over the OpenAI API: one streamed question, and what it cost.

Standard library only, so that `kaji chat` starts at once.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kajitori.base.errors import ApiError, NotFound, Unreachable, api_error

_ANSWER_SECONDS = 600.0


@dataclass(frozen=True)
class Answer:
    """One answer. request_id: for `kaji explain request ID`. simulated: the engine says that it simulates."""

    text: str
    request_id: str
    prompt_tokens: int
    completion_tokens: int
    time_to_first_token_seconds: float
    duration_seconds: float
    simulated: bool

    @property
    def tokens_per_second(self) -> float:
        """Of the decode phase: the tokens after the first, over the time after the first."""
        decode_seconds = self.duration_seconds - self.time_to_first_token_seconds
        return (
            (self.completion_tokens - 1) / decode_seconds
            if decode_seconds > 0 and self.completion_tokens > 1
            else 0.0
        )

    def summary(self) -> str:
        """One line: tokens, time to first token, tokens per second."""
        parts = [
            f"{self.prompt_tokens} + {self.completion_tokens} tokens",
            f"first after {self.time_to_first_token_seconds * 1000:.0f} ms",
        ]
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        if self.request_id:
            parts.append(f"kaji explain request {self.request_id}")
        return ("simulated · " if self.simulated else "") + " · ".join(parts)


def ask(
    base_url: str,
    model: str,
    messages: list[dict[str, str]],
    on_text: Callable[[str], None],
    *,
    api_key: str = "",
    maximum_tokens: int | None = None,
) -> Answer:
    """Ask, hand each piece of text to `on_text` as it comes, and return the whole.

    base_url: such as `http://127.0.0.1:8080/v1`. Raises ApiError with the gateway's own words, or Unreachable.
    """
    split = urllib.parse.urlsplit(base_url)
    kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    connection = kind(split.hostname or "", split.port, timeout=_ANSWER_SECONDS)
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if maximum_tokens is not None:
        body["max_tokens"] = maximum_tokens
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    started = time.perf_counter()
    try:
        connection.request("POST", f"{split.path}/chat/completions", json.dumps(body).encode(), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(response.status, response.read(), response.headers.get("x-request-id", ""))
        if response.headers.get_content_type() == "application/json":
            return _read_whole(response, on_text, started)
        return _read_stream(response, on_text, started)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"no answer from {base_url}: {error}", hint="does the gateway run? `kaji status` tells"
        ) from None
    finally:
        connection.close()


def _read_stream(
    response: http.client.HTTPResponse, on_text: Callable[[str], None], started: float
) -> Answer:
    pieces: list[str] = []
    first = 0.0
    usage: dict[str, Any] = {}
    while line := response.readline():
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            break
        event = json.loads(data)
        if "error" in event:
            raise ApiError(str(event["error"].get("message") or event["error"]))
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            text = (choice.get("delta") or {}).get("content")
            if text:
                first = first or time.perf_counter() - started
                pieces.append(text)
                on_text(text)
    duration = time.perf_counter() - started
    return Answer(
        "".join(pieces),
        response.headers.get("x-request-id", ""),
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or len(pieces)),
        first or duration,
        duration,
        response.headers.get("x-kajitori-simulated") == "true",
    )


def _read_whole(response: http.client.HTTPResponse, on_text: Callable[[str], None], started: float) -> Answer:
    """The answer of a backend that does not stream."""
    try:
        body = json.loads(response.read())
    except ValueError:
        raise ApiError("the answer says that it is JSON and is not") from None
    duration = time.perf_counter() - started
    text = "".join(
        str((each.get("message") or {}).get("content") or "") for each in body.get("choices") or ()
    )
    on_text(text)
    usage = body.get("usage") or {}
    return Answer(
        text,
        response.headers.get("x-request-id", ""),
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        duration,
        duration,
        response.headers.get("x-kajitori-simulated") == "true",
    )


def _refusal(code: int, body: bytes, request_id: str = "") -> ApiError:
    try:
        error = json.loads(body)["error"]
        message = str(error["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip()[:300] or f"HTTP {code}"
    refusal = api_error({"message": message}, code)
    if isinstance(refusal, NotFound):
        refusal.hint = "`kaji get aigatewayroutes` lists the routes"
    elif request_id and "kaji explain request" not in message:
        refusal.hint = f"`kaji explain request {request_id}` tells what was tried"
    return refusal
