"""What the accountant answers: verdicts and pages, whichever HTTP they go by. Pure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec

from kajitori.gateway.accounting.header_blocks import write_block, write_name, write_text
from kajitori.gateway.error_names import anthropic_name, openai_name
from kajitori.gateway.limits.limit import LIMIT_HEADERS
from kajitori.gateway.limits.request import Request, Verdict

_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests",
            500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip
# PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE. Envoy makes the answer one of gRPC, with the body as its message.
_GRPC_STATUSES = {403: 7, 429: 8, 503: 14}
Lines = Sequence[tuple[str, str]]
_value = itemgetter(1)


class Answer(NamedTuple):
    """headers: besides the length of the body, without line ends in their values."""

    status: int
    headers: Lines = ()
    body: bytes = b""


PASSED = Answer(200)
FAILED = Answer(500, (("content-type", "text/plain"),), b"see the accountant's log\n")
NOT_FOUND = Answer(404, (("content-type", "text/plain"),), b"not found\n")


def answer_of(verdict: Verdict, question: Request) -> Answer:
    """What Envoy is told of a verdict on what it asked."""
    if verdict.allowed:
        if not verdict.headers and not verdict.exhausted:
            return PASSED
        if not verdict.exhausted:
            return Answer(200, _on_one_line(verdict.headers))
        gone = ",".join([f"{name}={seconds}" for name, seconds in verdict.exhausted.items()])
        return Answer(200, _on_one_line((*verdict.headers, ("x-kajitori-exhausted", gone))))
    headers = verdict.headers
    if verdict.retry_after_seconds is not None:
        headers += (("retry-after", str(max(1, int(-(-verdict.retry_after_seconds // 1))))),)
    if question.dialect == "grpc":
        kind, body = "application/grpc", verdict.message.encode()
        headers += (("grpc-status", str(_GRPC_STATUSES[verdict.status])),)
    else:
        kind, body = "application/json", refusal_body(verdict.status, verdict.message, question)
    return Answer(verdict.status, (("content-type", kind), *_on_one_line(headers)), body)


def refusal_body(status: int, message: str, question: Request) -> bytes:
    """A refusal as JSON in the client's dialect, as lua/refusals.lua has it."""
    if question.dialect == "cohere":
        return msgspec.json.encode({"id": question.id, "message": message})
    if question.dialect == "anthropic":
        error = {"type": anthropic_name(status), "message": message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": question.id})
    error = {"type": openai_name(status), "code": str(status), "message": message}
    return msgspec.json.encode({"type": "error", "error": error})


def page(status: int, kind: str, body: bytes) -> Answer:
    """What people and probes ask for."""
    return Answer(status, (("content-type", kind),), body)


def as_http1(answer: Answer, *, close: bool = False) -> bytes:
    """An answer in bytes. close: it is the last of its connection."""
    status, headers, body = answer
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    end = "connection: close\r\n" if close else ""
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Answer')}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}{lines}{end}\r\n".encode() + body


def as_block(answer: Answer) -> bytes:
    """The header block of an answer, for HTTP/2."""
    status, headers, body = answer
    begin = _begin(status)
    if body:
        begin += _LENGTH + write_text(b"%d" % len(body))
    try:
        # Of what most answers say only the values are not known before.
        lines = [f"{_KNOWN[name]}{_LENGTHS[len(value)]}{value}" for name, value in headers]
        return begin + "".join(lines).encode("ascii")
    except (KeyError, IndexError, UnicodeEncodeError):
        return begin + b"".join(
            [write_name(name.encode()) + write_text(value.encode()) for name, value in headers]
        )


_LENGTH = write_name(b"content-length")
_LENGTHS = tuple(write_text(b" " * length)[:1].decode("ascii") for length in range(127))
_KNOWN = {
    name: write_name(name.encode()).decode("ascii")
    for name in (*LIMIT_HEADERS, "content-type", "retry-after")
}
_begin = functools.cache(lambda status: write_block(status, ()))


def _on_one_line(headers: Lines) -> Lines:
    if "".join(map(_value, headers)).isprintable():
        return headers
    return [(name, "".join(c if c.isprintable() else " " for c in value)) for name, value in headers]
