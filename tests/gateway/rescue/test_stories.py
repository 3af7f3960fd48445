"""Events in pieces, and what is known of a stream from them: pure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.rescue.dialects import Story, story_of
from kajitori.gateway.rescue.events import Splitter, comment, data_of, with_data

CHAT = "/v1/chat/completions"


def chunk(text: str | None = None, *, finish: str | None = None, index: int = 0, **delta: Any) -> bytes:
    if text is not None:
        delta["content"] = text
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return (
        b"data: "
        + json.dumps({"id": "a", "created": 7, "model": "m", "choices": [choice]}).encode()
        + b"\n\n"
    )


def named(kind: str, **value: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **value})}\n\n".encode()


def told(path: str, *events: bytes) -> Story:
    story = story_of(path)
    for event in events:
        story.read(event)
    return story


@given(
    st.lists(
        st.sampled_from(
            [chunk("é\n"), b": ping\n\n", b"event: x\r\ndata: 1\r\ndata: 2\r\n\r\n", b"data: [DONE]\n\n"]
        )
    ),
    st.lists(st.integers(1, 30)),
)
def test_events_are_whole_however_they_are_cut(events: list[bytes], cuts: list[int]) -> None:
    stream, splitter, found, passed = b"".join(events) + b"data: be", Splitter(), list[bytes](), b""
    for size in [*cuts, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        whole, some = splitter.feed(piece)
        passed += whole
        found += some
    assert b"".join(found) == passed == b"".join(events)
    assert [event for event in found if event.strip()] == [event for event in events if event.strip()]
    assert splitter.pending == b"data: be"


def test_every_boundary_of_one_event() -> None:
    event = b"event: x\r\ndata: 1\r\n\r\n"
    for cut in range(len(event) + 1):
        splitter = Splitter()
        assert (
            splitter.feed(event[:cut])[0] + splitter.feed(event[cut:] + b"data: 2\n\n")[0]
            == event + b"data: 2\n\n"
        )


def test_data_of_several_lines_is_joined_and_can_be_replaced() -> None:
    event = b"event: x\ndata: {\ndata: }\nid: 3\n\n"
    assert data_of(event) == b"{\n}"
    assert with_data(event, {"a": 1}) == b'event: x\nid: 3\ndata: {"a":1}\n\n'
    assert comment("two\nlines") == b": two lines\n\n"


def test_a_chat_that_said_done_is_whole() -> None:
    story = told(CHAT, chunk(role="assistant"), chunk("a"), chunk("b"), b"data: [DONE]\n\n")
    assert story.ended and story.text == "ab" and story.tokens == 3


def test_an_error_of_the_provider_ends_a_chat() -> None:
    assert told(CHAT, b'data: {"error": {"message": "x"}}\n\n').ended


def test_a_chat_goes_on_from_the_text_so_far_within_what_is_left_of_its_bound() -> None:
    story = told(CHAT, chunk("Hello"), chunk(" wor"))
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "max_tokens": 10}
    assert story.continuation(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Hello wor"}],
        "max_tokens": 8,
    }
    engine = story_of(CHAT, engine_fields=True)
    engine.read(chunk("x"))
    assert engine.continuation(body)["continue_final_message"] is True


def test_a_further_leg_of_a_chat_looks_like_the_first() -> None:
    story = told(CHAT, chunk("a"))
    further = b'data: {"id":"b","created":9,"model":"n","choices":[{"index":0,"delta":{"role":"assistant","content":"c"}}]}\n\n'
    assert json.loads(data_of(story.adapted(further))) == {
        "id": "a",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "c"}}],
    }
    assert story.adapted(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([chunk("a"), chunk(tool_calls=[{"index": 0}])], "a tool call was cut"),
        ([chunk(reasoning_content="hm")], "more than plain text"),
        ([chunk("a"), chunk("b", index=1)], "several answers"),
        ([chunk("a"), chunk(finish="stop")], "whole but for its end"),
    ],
)
def test_what_nobody_can_go_on_from_is_named(events: list[bytes], why: str) -> None:
    assert why in told(CHAT, *events).obstacle


def test_a_completion_goes_on_from_its_prompt_and_text() -> None:
    story = story_of("/v1/completions")
    story.read(b'data: {"choices":[{"index":0,"text":" there"}]}\n\n')
    assert story.continuation({"prompt": "hello"})["prompt"] == "hello there"
    assert not story.obstacle
    story.continuation({"prompt": ["a", "b"]})
    assert story.obstacle


def test_a_message_of_anthropic_ends_with_message_stop_and_goes_on_as_one_message() -> None:
    story = told(
        "/anthropic/v1/messages",
        named("message_start", message={"id": "1"}),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        named("content_block_delta", index=0, delta={"type": "text_delta", "text": "So far "}),
    )
    assert not story.ended and not story.obstacle
    body = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 5}
    assert story.continuation(body)["messages"][-1] == {"role": "assistant", "content": "So far"}
    assert story.continuation(body)["max_tokens"] == 4
    assert story.adapted(named("message_start")) == story.adapted(named("content_block_start")) == b""
    rest = named("content_block_delta", index=0, delta={"type": "text_delta", "text": "on"})
    assert story.adapted(rest) == rest
    story.read(named("message_stop"))
    assert story.ended


def test_each_dialect_says_an_error_in_its_own_shape() -> None:
    chat = json.loads(data_of(story_of(CHAT).error("why")))
    assert (chat["error"]["message"], chat["error"]["code"]) == ("why", "stream_interrupted")
    message = story_of("/v1/messages").error("why")
    assert message.startswith(b"event: error\n")
    assert json.loads(data_of(message)) == {"type": "error", "error": {"type": "api_error", "message": "why"}}
    responses = told("/v1/responses", named("response.created", sequence_number=4))
    assert json.loads(data_of(responses.error("why")))["sequence_number"] == 5
    assert responses.obstacle


@given(st.binary(max_size=200), st.sampled_from([CHAT, "/v1/completions", "/v1/messages", "/v1/responses"]))
def test_garbage_is_passed_over(event: bytes, path: str) -> None:
    story = story_of(path)
    story.read(b"data: " + event + b"\n\n")
    story.adapted(b"data: " + event + b"\n\n")


@pytest.mark.parametrize(("error", "ended"), [(None, False), ({"message": "overloaded"}, True), ("no", True)])
def test_a_chunk_that_says_there_is_no_error_ends_nothing(error: Any, ended: bool) -> None:
    event = with_data(chunk("word"), {**json.loads(data_of(chunk("word"))), "error": error})
    assert told(CHAT, event).ended is ended
