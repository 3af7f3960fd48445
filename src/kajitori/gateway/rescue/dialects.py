"""What a stream of each operation looks like: how it ends, what text it carries, how it says that it failed. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import msgspec

from kajitori.gateway.rescue.events import data_of, decoded, with_data

Event = dict[str, Any]
_encode = msgspec.json.encode


def _list(value: object) -> list[Any]:
    """A list that somebody sent; an empty one for anything else, as are the next two."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def _object(value: object) -> Event:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _objects(value: object) -> list[Event]:
    return [item for item in _list(value) if isinstance(item, dict)]


class Story(Protocol):
    """What is known of a stream so far.

    ended: whether it has said that it is whole. text: of the answer. obstacle: why nobody can go on from it, if so.
    tokens: at least so many were produced.
    """

    ended: bool
    text: str
    obstacle: str
    tokens: int

    def read(self, event: bytes) -> None: ...
    def error(self, message: str) -> bytes: ...
    def continuation(self, body: Event) -> Event: ...
    def adapted(self, event: bytes) -> bytes: ...


class _OpenAI(ABC):
    """Chat and completions: chunks, then `[DONE]`. Where a choice has its text is each one's own."""

    def __init__(self) -> None:
        self.ended = False
        self.text = ""
        self.obstacle = ""
        self.tokens = 0
        self._first: Event | None = None

    def read(self, event: bytes) -> None:
        if data_of(event) == b"[DONE]":
            self.ended = True
            return
        value = decoded(event)
        if value is None:
            return
        if value.get("error"):
            # The provider has told the client itself.
            self.ended = True
            return
        self._first = self._first or {key: value[key] for key in ("id", "created", "model") if key in value}
        for choice in _objects(value.get("choices")):
            if choice.get("index", 0) != 0:
                self.obstacle = "the request asked for several answers"
            if choice.get("finish_reason"):
                self.obstacle = "the answer was whole but for its end"
            self.tokens += 1
            self._read_choice(choice)

    @abstractmethod
    def _read_choice(self, choice: Event) -> None: ...

    def error(self, message: str) -> bytes:
        body = {"message": message, "type": "upstream_error", "code": "stream_interrupted", "param": None}
        return b"data: " + _encode({"error": body}) + b"\n\n"

    @abstractmethod
    def continuation(self, body: Event) -> Event: ...

    def adapted(self, event: bytes) -> bytes:
        """A chunk of a further leg as one of the first: with its id, and without beginning the message anew."""
        value = decoded(event)
        if value is None or not self._first:
            return event
        value.update(self._first)
        for choice in _objects(value.get("choices")):
            _object(choice.get("delta")).pop("role", None)
        return with_data(event, value)

    def _shortened(self, body: Event) -> Event:
        """The bound of output tokens less those that were seen."""
        found = dict(body)
        for name in ("max_completion_tokens", "max_tokens"):
            bound = found.get(name)
            if isinstance(bound, int):
                found[name] = max(1, bound - self.tokens)
        return found


class ChatStory(_OpenAI):
    """`/v1/chat/completions`. The text so far becomes an assistant's message at the end.

    engine_fields: whether to say `continue_final_message`, as vLLM and SGLang want to hear it.
    """

    def __init__(self, *, engine_fields: bool = False) -> None:
        super().__init__()
        self._engine_fields = engine_fields

    def _read_choice(self, choice: Event) -> None:
        delta = _object(choice.get("delta"))
        if delta.get("tool_calls") or delta.get("function_call"):
            self.obstacle = "a tool call was cut"
        if delta.get("reasoning_content") or delta.get("reasoning") or delta.get("refusal"):
            self.obstacle = "the answer has more than plain text"
        if isinstance(delta.get("content"), str):
            self.text += delta["content"]

    def continuation(self, body: Event) -> Event:
        found = self._shortened(body)
        found["messages"] = [*_list(body.get("messages")), {"role": "assistant", "content": self.text}]
        if self._engine_fields:
            found |= {"continue_final_message": True, "add_generation_prompt": False}
        return found


class CompletionStory(_OpenAI):
    """`/v1/completions`. The text so far becomes the end of the prompt."""

    def _read_choice(self, choice: Event) -> None:
        if choice.get("logprobs"):
            self.obstacle = "probabilities of tokens were asked for"
        if isinstance(choice.get("text"), str):
            self.text += choice["text"]

    def continuation(self, body: Event) -> Event:
        if not isinstance(body.get("prompt"), str):
            self.obstacle = "the prompt is not one text"
        return {**self._shortened(body), "prompt": f"{body.get('prompt')}{self.text}"}


class MessagesStory:
    """Anthropic's `/v1/messages`: named events, the last of which is `message_stop`.

    An assistant's message at the end of a request is what the model goes on from.
    """

    def __init__(self) -> None:
        self.ended = False
        self.text = ""
        self.obstacle = ""
        self.tokens = 0
        self._blocks = 0

    def read(self, event: bytes) -> None:
        value = decoded(event)
        if value is None:
            return
        match value.get("type"):
            case "message_stop" | "error":
                self.ended = True
            case "message_delta":
                self.obstacle = "the answer was whole but for its end"
            case "content_block_start":
                self._blocks += 1
                block = _object(value.get("content_block"))
                if block.get("type") != "text" or self._blocks > 1:
                    self.obstacle = "the answer has more than one plain text"
            case "content_block_stop":
                self.obstacle = "the answer was whole but for its end"
            case "content_block_delta":
                text = _object(value.get("delta")).get("text")
                self.tokens += 1
                self.text += text if isinstance(text, str) else ""
            case _:
                return

    def error(self, message: str) -> bytes:
        value = {"type": "error", "error": {"type": "api_error", "message": message}}
        return b"event: error\ndata: " + _encode(value) + b"\n\n"

    def continuation(self, body: Event) -> Event:
        # The API refuses an assistant's text that ends in white space.
        text = self.text.rstrip()
        if not text:
            return body
        found = {**body, "messages": [*_list(body.get("messages")), {"role": "assistant", "content": text}]}
        bound = body.get("max_tokens")
        if isinstance(bound, int):
            found["max_tokens"] = max(1, bound - self.tokens)
        return found

    def adapted(self, event: bytes) -> bytes:
        """The message and its block have begun already."""
        value = decoded(event)
        if (
            value is not None
            and value.get("type") in ("message_start", "content_block_start")
            and self._blocks
        ):
            return b""
        return event


class ResponsesStory:
    """`/v1/responses`: named events with numbers; state is with the provider, so nobody else can go on."""

    def __init__(self) -> None:
        self.ended = False
        self.text = ""
        self.obstacle = "a response is known to its provider alone"
        self.tokens = 0
        self._number = 0

    def read(self, event: bytes) -> None:
        value = decoded(event)
        if value is None:
            return
        number = value.get("sequence_number")
        self._number = number + 1 if isinstance(number, int) else self._number
        if value.get("type") in ("response.completed", "response.failed", "response.incomplete", "error"):
            self.ended = True

    def error(self, message: str) -> bytes:
        value = {
            "type": "error",
            "code": "stream_interrupted",
            "message": message,
            "param": None,
            "sequence_number": self._number,
        }
        return b"event: error\ndata: " + _encode(value) + b"\n\n"

    def continuation(self, body: Event) -> Event:
        return body

    def adapted(self, event: bytes) -> bytes:
        return event


def story_of(path: str, *, engine_fields: bool = False) -> Story:
    """For the client's path; what is not known is taken for chat."""
    if path.endswith("/messages"):
        return MessagesStory()
    if path.endswith("/responses"):
        return ResponsesStory()
    if path.endswith("/completions") and not path.endswith("/chat/completions"):
        return CompletionStory()
    return ChatStory(engine_fields=engine_fields)
