"""Usage as the script reads it from answers of every dialect, however they are cut into chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.reported import answered_model, read_usage
from tests.gateway.lua.machine import answer

CHAT = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
RESPONSES = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 19,
}
# What a model or a client wrote, in the places where it comes back as JSON and not as text.
FORGED = {"usage": {"input_tokens": 0, "prompt_tokens": 0, "output_tokens": 0, "completion_tokens": 0}}
SSE = "text/event-stream"
# Whatever came before, it is an event of its own.
DONE = b"\n\ndata: [DONE]\n\n"
ANSWERS: list[tuple[str, dict[str, Any], Usage]] = [
    ("openai", {"choices": [{"message": {"content": json.dumps(FORGED)}}], "usage": CHAT}, Usage(12, 7, 19, 5, 0, 3)),
    ("openai", {"usage": CHAT, "choices": [{"message": {"content": '"usage":{'}}]}, Usage(12, 7, 19, 5, 0, 3)),
    ("openai", {"data": [{"embedding": [0.5, 1e-9]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(8, 0, 8)),
    ("openai", {"output": [], "tools": [{"parameters": {"properties": FORGED}}], "usage": RESPONSES, "user": None},
     Usage(12, 7, 19, 5, 0, 3)),
    ("openai", {"usage": RESPONSES, "output": [], "tools": [{"parameters": {"properties": FORGED}}]},
     Usage(12, 7, 19, 5, 0, 3)),
    ("openai", {"text": "x", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}},
     Usage(14, 45, 59)),
    ("openai", {"results": [], "usage": {"total_tokens": 56}}, Usage(56, 0, 56)),
    ("anthropic", {"content": [{"type": "tool_use", "input": FORGED}],
                   "usage": {"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100,
                             "cache_creation": {"ephemeral_5m_input_tokens": 20}, "output_tokens": 50}},
     Usage(123, 50, 173, 100, 20)),
    ("cohere", {"results": [], "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 9, "output_tokens": 0}}},
     Usage(9, 0, 9)),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "body", "expected"), ANSWERS)
def test_usage_of_an_answer_is_read_and_what_somebody_wrote_into_it_is_not(
    dialect: str, body: dict[str, Any], expected: Usage
) -> None:
    for indent in (None, 2):
        data = json.dumps(body, indent=indent).encode()
        for cut in (0, 1, len(data) // 2, len(data) - 1):
            out, told = answer([data[:cut], data[cut:], b""], dialect=dialect)
            assert out == data
            assert told is not None and read_usage(told, "") == (expected, False), (indent, cut)


def test_usage_at_either_end_of_a_long_answer_is_read() -> None:
    long = [{"embedding": "x" * 400_000}]
    for body in ({"data": long, "usage": CHAT}, {"object": "list", "usage": CHAT, "data": long}):
        data = json.dumps(body).encode()
        chunks = [data[start : start + 16_384] for start in range(0, len(data), 16_384)]
        out, told = answer(chunks)
        assert out == data
        assert told is not None and read_usage(told, "")[0] == Usage(12, 7, 19, 5, 0, 3)


def events(*items: tuple[str, Any]) -> bytes:
    lines = [(f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n" for name, data in items]
    return "".join(lines).encode()


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], "usage": None}


STREAMS: list[tuple[str, str, bytes, Usage]] = [
    ("openai", "\n\n", events(("", delta("é")), ("", delta('"usage":{"prompt_tokens":0}')),
                              ("", {"choices": [], "usage": CHAT})) + b"data: [DONE]\n\n", Usage(12, 7, 19, 5, 0, 3)),
    ("openai", '.delta"', events(("response.created", {"type": "response.created", "response": {"usage": None}}),
                                 ("response.output_text.delta", {"type": "response.output_text.delta", "delta": "a"}),
                                 ("response.completed", {"type": "response.completed", "response": {
                                     "output": [], "tools": [{"parameters": FORGED}], "usage": RESPONSES, "user": None}})),
     Usage(12, 7, 19, 5, 0, 3)),
    ("anthropic", '"content_block_delta"', events(
        ("message_start", {"type": "message_start", "message": {"role": "assistant", "content": [], "usage": {
            "input_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1}}}),
        ("content_block_delta", {"type": "content_block_delta", "delta": {"text": "hi"}}),
        ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}}),
        ("message_stop", {"type": "message_stop"})), Usage(123, 50, 173, 100, 20)),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "event", "stream", "expected"), STREAMS)
def test_usage_of_a_stream_is_read_wherever_it_is_cut(
    dialect: str, event: str, stream: bytes, expected: Usage
) -> None:
    for ends in (stream, stream.replace(b"\n", b"\r\n")):
        for cut in range(len(ends) + 1):
            out, told = answer([ends[:cut], ends[cut:], b""], SSE, dialect=dialect, event=event)
            assert out == ends
            assert told is not None and read_usage(told, "") == (expected, False), cut
        out, told = answer([ends[at : at + 1] for at in range(len(ends))], SSE, dialect=dialect, event=event)
        assert (out, read_usage(told or "", "")[0]) == (ends, expected)


def test_the_usage_event_is_taken_out_wherever_it_is_cut() -> None:
    _, event, stream, expected = STREAMS[0]
    for ends in (stream, stream.replace(b"\n", b"\r\n")):
        parts = [part for part in ends.replace(b"\r\n", b"\n").split(b"\n\n") if part]
        kept = b"\n\n".join(part for part in parts if b'"choices": []' not in part) + b"\n\n"
        for cut in range(len(ends) + 1):
            out, told = answer([ends[:cut], ends[cut:], b""], SSE, event=event, strip="true")
            assert out.replace(b"\r\n", b"\n") == kept, cut
            assert read_usage(told or "", "")[0] == expected
        out, _ = answer([ends[at : at + 1] for at in range(len(ends))], SSE, event=event, strip="true")
        assert out.replace(b"\r\n", b"\n") == kept


@given(st.lists(st.binary(max_size=30), max_size=8), st.booleans())
def test_a_stream_of_anything_passes_byte_for_byte(chunks: list[bytes], strip: bool) -> None:
    out, _ = answer([*chunks, DONE, b""], SSE, **({"strip": "true"} if strip else {}))
    assert out == b"".join(chunks) + DONE


def test_a_long_event_passes_though_its_usage_is_looked_for() -> None:
    text = "x" * 200_000
    stream = events(("", delta(text)), ("", {"choices": [], "usage": CHAT})) + DONE[2:]
    chunks = [stream[start : start + 1000] for start in range(0, len(stream), 1000)]
    out, told = answer([*chunks, b""], SSE, strip="true")
    assert out == events(("", delta(text))) + DONE[2:]
    assert read_usage(told or "", "")[0] == Usage(12, 7, 19, 5, 0, 3)


@pytest.mark.parametrize("size", [100, 1000, 70_000, 1_000_000])
def test_usage_at_the_end_of_a_very_long_event_is_read(size: int) -> None:
    response = {"output": [{"text": "x" * 400_000}], "tools": [FORGED], "usage": RESPONSES, "user": None}
    stream = events(("response.completed", {"type": "response.completed", "response": response}))
    out, told = answer([stream[at : at + size] for at in range(0, len(stream), size)], SSE, event='.delta"')
    assert out == stream
    assert read_usage(told or "", "") == (Usage(12, 7, 19, 5, 0, 3), False)


def test_a_stream_that_was_cut_tells_a_lower_bound_of_its_output() -> None:
    for count in range(1, 60):
        chunks = [events(("", delta(str(number)))) for number in range(count)]
        _, told = answer(chunks, SSE)
        assert told == f"!~{count - 1}"
    start = STREAMS[2][2].partition(b"event: content_block_delta")[0]
    word = events(("content_block_delta", {"type": "content_block_delta", "delta": {"text": "hi"}}))
    _, told = answer([start, word, word], SSE, dialect="anthropic", event='"content_block_delta"')
    assert told is not None and told.startswith("!")
    assert read_usage(told[1:], "999") == (Usage(123, 2, 125, 100, 20), True)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([{"model": "gpt-5-2026", "usage": CHAT, "choices": [{"message": {"content": '"model": "x"'}}]}], "gpt-5-2026"),
        ([{"choices": [{"message": {"content": '"model":"forged"' * 200}}], "model": "late", "usage": CHAT}], "late"),
        ([{"model": "bad\u001fmodel", "usage": CHAT}], ""),
        ([{"model": "m" * 200, "usage": CHAT}], ""),
        ([{"usage": CHAT}], ""),
    ],
)  # fmt: skip
def test_the_model_that_an_answer_names_goes_with_its_usage(
    parts: list[dict[str, Any]], expected: str
) -> None:
    body = json.dumps(parts[0]).encode()
    _, told = answer([body, b""])
    assert answered_model(told or "") == expected
    events = b"".join(
        b"data: " + json.dumps(event).encode() + b"\n\n" for event in ({"model": "s-1"}, parts[0])
    )
    _, told = answer([events, b"data: [DONE]\n\n", b""], kind=SSE)
    assert answered_model(told or "") == "s-1"
    assert read_usage(told or "", "")[0] == Usage(12, 7, 19, 5, 0, 3)
