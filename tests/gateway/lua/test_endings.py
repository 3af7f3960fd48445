"""Streams that come to a proper end without being whole, as the script ends them in each dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.reported import read_usage
from kajitori.gateway.rescue.dialects import story_of
from tests.gateway.lua.machine import answer

SSE = "text/event-stream"
MESSAGE = "the answer was interrupted: the backend ended the stream too early"


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def named(kind: str, **value: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **value})}\n\n".encode()


def chunk(finish: str | None = None, **more: Any) -> bytes:
    delta = {"content": 'a "finish_reason":"stop" [DONE] "error":{ \ndata: [DONE]'}
    return data({"id": "a", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


USAGE = data({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
DONE = b"data: [DONE]\n\n"
RESPONSE = {"output": [{"text": "x" * 50_000}], "error": None, "tools": [], "user": None}
WORD = named("response.output_text.delta", delta='"type":"response.completed"', sequence_number=7)
BLOCK = named("content_block_delta", delta={"text": '"type":"message_stop"'})
STOP = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
START = named(
    "message_start", message={"stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
)
# Path and operation, the events that are not enough, and those of which one is.
CASES: list[tuple[str, str, list[bytes], list[bytes]]] = [
    ("/v1/chat/completions", "chat", [chunk(), chunk()], [chunk("stop"), USAGE, DONE]),
    ("/v1/chat/completions", "chat", [chunk(usage={"prompt_tokens": 1}), b": ping\n\n"], [DONE]),
    ("/v1/completions", "completion", [chunk(), chunk()], [chunk("length"), DONE]),
    ("/v1/chat/completions", "chat", [chunk()], [data({"error": {"message": "overloaded"}})]),
    ("/v1/messages", "messages", [START, BLOCK, BLOCK], [STOP, named("message_stop")]),
    ("/v1/messages", "messages", [START, BLOCK], [named("error", error={"type": "overloaded_error"})]),
    ("/v1/responses", "responses", [named("response.created", response=RESPONSE, sequence_number=3), WORD],
     [named("response.completed", response=RESPONSE, sequence_number=8)]),
    ("/v1/responses", "responses", [WORD], [named("response.failed", response=RESPONSE, sequence_number=8)]),
    ("/v1/responses", "responses", [WORD], [named("error", code="x", sequence_number=8)]),
]  # fmt: skip


def error_of(path: str, events: list[bytes]) -> bytes:
    """What the relay would say."""
    story = story_of(path)
    for event in events:
        story.read(event)
    return story.error(MESSAGE)


@pytest.mark.parametrize(("path", "operation", "begun", "ends"), CASES)
def test_a_stream_that_is_not_whole_ends_with_an_error_in_its_dialect(
    path: str, operation: str, begun: list[bytes], ends: list[bytes]
) -> None:
    for count in range(len(begun) + 1):
        stream = begun[:count]
        for chunks in ([*stream, b""], [b"".join(stream)], []):
            out, told = answer(chunks, SSE, operation=operation)
            seen = stream if chunks else []
            assert out == b"".join(seen) + error_of(path, seen)
            assert told is not None and told.startswith("!")
    for count in range(1, len(ends) + 1):
        stream = begun + ends[:count]
        for chunks in ([*stream, b""], [b"".join(stream)]):
            out, told = answer(chunks, SSE, operation=operation)
            assert out == b"".join(stream)
            assert not (told or "").startswith("!")


@pytest.mark.parametrize("case", [0, 4, 6])
def test_an_event_that_has_no_end_is_left_out_wherever_it_is_cut(case: int) -> None:
    path, operation, begun, ends = CASES[case]
    whole = b"".join(begun)
    step = 1 if len(whole) < 5_000 else 31
    for length in range(len(whole), len(whole) + min(len(ends[0]), 300), step):
        stream = (whole + ends[0])[:length]
        for chunks in (
            [whole, stream[len(whole) :], b""],
            [stream],
            [stream[at : at + 40] for at in range(0, length, 40)],
        ):
            out, told = answer(chunks, SSE, operation=operation)
            if told is not None and told.startswith("!"):
                assert out == whole + error_of(path, begun)
            else:
                assert out == stream and length > len(whole) + 20


@given(st.lists(st.integers(1, 200), max_size=8), st.booleans(), st.sampled_from(range(len(CASES))))
def test_a_whole_stream_is_not_touched_however_it_comes(cuts: list[int], at_once: bool, case: int) -> None:
    _, operation, begun, ends = CASES[case]
    stream = b"".join([*begun, *ends])
    chunks, at = list[bytes](), 0
    for size in cuts:
        chunks.append(stream[at : at + size])
        at += size
    chunks = [part for part in [*chunks, stream[at:]] if part] + ([] if at_once else [b""])
    out, told = answer(chunks, SSE, operation=operation)
    assert out == stream
    assert not (told or "").startswith("!")


@pytest.mark.parametrize("awake", [b": keep-alive\n\n", b"\n", b"\r\n", b": ping\r\n\r\n", named("ping")])
@pytest.mark.parametrize("case", [0, 4, 6])
def test_what_keeps_a_connection_awake_does_not_make_a_whole_stream_less_whole(
    case: int, awake: bytes
) -> None:
    path, operation, begun, ends = CASES[case]
    for events in ([*begun, *ends], [*begun, ends[0]]):
        out, told = answer([*events, *[awake] * 6, b""], SSE, operation=operation)
        assert out == b"".join(events) + awake * 6
        assert not (told or "").startswith("!")
    out, told = answer([*begun, *[awake] * 6, b""], SSE, operation=operation)
    assert out == b"".join(begun) + awake * 6 + error_of(path, begun)
    assert (told or "").startswith("!")


@pytest.mark.parametrize(("path", "operation", "usage"), [
    ("/v1/messages", "messages", Usage(10, 1, 11)),
    ("/v1/responses", "responses", None),
])  # fmt: skip
@pytest.mark.parametrize("failed", [True, False])
def test_what_is_told_of_a_stream_that_ends_before_its_first_word_can_be_read(
    path: str, operation: str, usage: Usage | None, failed: bool
) -> None:
    started = {"model": "some-model", "usage": {"input_tokens": 10, "output_tokens": 1}}
    first = (
        named("message_start", message=started)
        if usage
        else named("response.created", response=RESPONSE | {"model": "m"})
    )
    ends = [named("error", error={"type": "overloaded_error"})] if failed else []
    out, told = answer(
        [first, *ends, b""], SSE, operation=operation, dialect="anthropic" if usage else "openai"
    )
    assert out == first + (ends[0] if failed else error_of(path, [first]))
    assert (told or "").startswith("!") is not failed
    assert read_usage((told or "").removeprefix("!"), "")[0] == usage


def test_what_is_no_such_stream_is_not_touched() -> None:
    cut = chunk()
    for kind, operation in (("application/json", "chat"), (SSE, "transcription")):
        assert answer([cut, b""], kind, operation=operation)[0] == cut
    assert answer([cut, b""], SSE, operation="chat", leg="true") == (cut, "!~0")


def test_before_trailers_nothing_can_be_said_but_it_is_known() -> None:
    cut = chunk()
    assert answer([cut], SSE, operation="chat", trailers=True) == (cut, "!~0")


def test_a_comment_and_a_line_too_long_do_not_wait_for_their_end() -> None:
    for sent in (b": ping\n", b'data: {"x":"' + b"x" * 20_000):
        out, _ = answer([chunk(), sent, b""], SSE, operation="chat")
        assert out == chunk() + sent + b"\n\n" + error_of("/v1/chat/completions", [])
