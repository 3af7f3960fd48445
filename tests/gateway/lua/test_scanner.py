"""The scanner of JSON and of forms against Python's own."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.gateway.lua.machine import ask, request_machine, text_of

TEXTS = st.one_of(st.text(), st.sampled_from(['"', "\\", '\\"', "{}[]", "\ud800", "base64,", "é\U0001f600"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=6)


def scanned(data: bytes) -> tuple[int | None, list[tuple[str, bytes]]]:
    """Where the object closes, and its members: keys as they read, values as they stand."""
    close, _, found = request_machine().members(text_of(data))
    members = [tuple(item.values()) for item in found.values()]
    text = text_of(data)
    values = [text[first - 1 : last].encode("latin-1") for _, _, first, last in members]
    keys = [key.encode("latin-1").decode("utf-8", errors="replace") for key, *_ in members]
    return close, list(zip(keys, values, strict=True))


@given(OBJECTS, st.sampled_from([None, 0, 3]), st.booleans())
def test_members_are_those_that_python_reads(value: dict[str, Any], indent: int | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    data = text.encode("utf-8", errors="surrogatepass")
    close, members = scanned(data)
    assert close is not None and data[close - 1 :].strip() == b"}"
    assert [json.loads(raw.decode("utf-8", "surrogatepass")) for _, raw in members] == list(value.values())
    for (key, _), expected in zip(members, value, strict=True):
        replaced = expected.encode("utf-8", errors="surrogatepass").decode("utf-8", errors="replace")
        assert key == replaced or "\ufffd" in key


@settings(max_examples=300)
@given(st.text(alphabet='{}[]",:\\ abtruefalsn0-.1eE+\n', max_size=40).map(lambda text: "{" + text))
@example('{"a":-0}')
@example('{"a":1.5e-3,"b":0.0E+1}')
@example('{"a":"\\\\\\""}')
def test_what_python_takes_is_taken_and_nothing_breaks_the_scanner(text: str) -> None:
    close, members = scanned(text.encode())
    try:
        value = json.loads(text)
    except ValueError:
        return
    assert close is not None
    assert {key: json.loads(raw) for key, raw in members} == value


@given(st.binary(max_size=60))
def test_no_bytes_break_the_scanner(data: bytes) -> None:
    scanned(data)
    scanned(b'{"a":' + data)
    assert ask("/v1/chat/completions", data).status in (None, "400")


@given(st.text(), OBJECTS, st.integers(0, 6))
def test_the_model_is_the_one_that_python_reads(name: str, value: dict[str, Any], place: int) -> None:
    value = {key: item for key, item in value.items() if key.lower() != "model"}
    members = list(value.items())
    members.insert(place, ("model", name))
    data = json.dumps(dict(members)).encode()
    asked = ask("/v1/embeddings", data)
    wanted = name.encode("utf-8", errors="replace").decode()
    is_name = name and len(name.encode()) <= 512 and not any(ord(c) < 32 or ord(c) == 127 for c in name)
    if is_name:
        assert asked.headers["x-ai-eg-model"].encode("latin-1").decode() == wanted
        assert asked.body == data
    else:
        assert asked.status == "400"


@given(st.dictionaries(st.sampled_from(["model", "file", "n"]), st.binary(max_size=40), max_size=3))
def test_a_field_of_a_form_is_found_beside_files(fields: dict[str, bytes]) -> None:
    boundary = b"----kajitori7MA4"
    parts = b""
    for name, value in fields.items():
        before, after = (b'; filename="model"', b'; filename="model"') if name == "file" else (b"", b"")
        parts += b"--" + boundary + b"\r\nContent-Disposition: form-data" + before
        parts += b'; name="' + name.encode() + b'"' + after + b"\r\n\r\n" + value + b"\r\n"
    data = text_of(parts + b"--" + boundary + b"--\r\n")
    first, last, problem = (*request_machine().form_field(data, text_of(boundary), "model"), None)[:3]
    assert problem is None
    if "model" in fields:
        assert data[first - 1 : last].encode("latin-1") == fields["model"]
    else:
        assert first is None


def test_texts_count_a_quarter_token_a_byte_and_an_image_a_thousand() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}
    for content, most in (("x" * 400, 110), ([image], 1_100), ([{"type": "image", "source": source}], 1_100)):
        messages = [{"role": "user", "content": content}]
        asked = ask(
            "/v1/chat/completions",
            json.dumps({"model": "m", "messages": messages, "max_tokens": 5, "n": 2}).encode(),
        )
        assert most * 0.9 <= int(asked.facts["input_tokens"]) <= most * 1.1
        assert asked.facts["output_tokens"] == "10"
