"""The bodies that clients send, as far as the simulation reads them. Other fields are ignored, as sampling is."""

from __future__ import annotations

from typing import Any

import msgspec


class StreamOptions(msgspec.Struct, frozen=True):
    """include_usage: one more chunk with the usage at the end. continuous_usage_stats: the usage in every chunk."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and plain completions share."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: str | list[str] | None = None
    n: int | None = None
    seed: int | None = None
    ignore_eos: bool = False
    logprobs: bool | int | None = None

    @property
    def length_limit(self) -> int | None:
        """The most tokens that the client wants."""
        return self.max_tokens

    @property
    def stop_texts(self) -> list[str]:
        if self.stop is None:
            return []
        return [stop for stop in ([self.stop] if isinstance(self.stop, str) else self.stop) if stop]


class ChatRequest(GenerateRequest, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None

    @property
    def length_limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class CompletionRequest(GenerateRequest, frozen=True, kw_only=True):
    """POST /v1/completions. prompt: a text or token numbers, or a list of either."""

    prompt: str | list[Any]
    echo: bool = False


class TokenizeRequest(msgspec.Struct, frozen=True):
    """POST /tokenize."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True):
    """POST /detokenize."""

    tokens: list[int]
    model: str | None = None
