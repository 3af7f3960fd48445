"""What the scripts read of requests and answers against what Python's json reads, however it is written down and cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.accounting.reported import answered_model, read_usage
from tests.gateway.lua.machine import answer, ask

COUNTS = st.one_of(st.integers(0, 10**6), st.sampled_from([0, 10**12, 2**63, 10**40]))
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
VALUES = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "stream", "usage", "a", 'q"\\', "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)
CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
FORGED = {"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "model": "forged"}


@st.composite
def written(draw: st.DrawFn, members: list[tuple[str, Any]]) -> bytes:
    """An object as somebody might write it: with letters of names in code, white space anywhere, letters as they are."""
    ascii = draw(st.booleans())
    parts: list[str] = []
    for key, value in members:
        name = json.dumps(key, ensure_ascii=ascii)
        if len(key) > 1 and draw(st.booleans()):
            at = draw(st.integers(0, len(key) - 1))
            name = json.dumps(key[:at])[:-1] + f"\\u{ord(key[at]):04x}" + json.dumps(key[at + 1 :])[1:]
        space = draw(st.sampled_from(["", " ", "\n\t", "\r\n"]))
        parts.append(f"{space}{name}{space}:{space}{json.dumps(value, ensure_ascii=ascii)}{space}")
    return ("{" + ",".join(parts) + "}").encode("utf-8", "surrogatepass")


MEMBERS = st.lists(
    st.one_of(
        st.tuples(st.just("stream"), st.one_of(st.just(True), VALUES)),
        st.tuples(
            st.just("stream_options"),
            st.one_of(VALUES, st.dictionaries(st.sampled_from(["include_usage", "x"]), VALUES, max_size=2)),
        ),
        st.tuples(st.sampled_from([*CAPS, "n"]), st.one_of(st.integers(0, 10**6), VALUES)),
        st.tuples(st.sampled_from(["a", "messages", "temperature", 'q"\\']), VALUES),
        st.tuples(st.just("model"), VALUES),
    ),
    max_size=6,
)
READ = {"model", "stream", "stream_options", "n", "messages", *CAPS}


def bound(value: dict[str, Any]) -> str | None:
    """As docs/reference/endpoints.md has it: a whole number that is not negative, times `n`."""

    def count(name: str) -> int | None:
        found = value.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None

    first = next((found for name in CAPS if (found := count(name)) is not None), None)
    return None if first is None else str(min(first * max(count("n") or 1, 1), 10**15))


@settings(max_examples=150, deadline=None)
@given(st.data(), MEMBERS, st.integers(0, 6))
def test_a_request_is_what_python_reads(
    data: st.DataObject, members: list[tuple[str, Any]], place: int
) -> None:
    members.insert(place, ("model", "m"))
    body = data.draw(written(members))
    asked = ask("/v1/chat/completions", body)
    keys = [key for key, _ in members if key in READ]
    if len(keys) != len(set(keys)):
        assert asked.status == "400" and "two members" in (asked.answer or "")
        return
    value = json.loads(body)
    assert (asked.status, asked.headers["x-ai-eg-model"]) == (None, "m")
    assert asked.facts.get("stream") == ("true" if value.get("stream") is True else None)
    told = asked.facts.get("output_tokens")
    wanted = bound(value)
    # Beyond what a double holds only its size matters.
    assert told == wanted or (wanted is not None and abs(int(told or 0) - int(wanted)) * 10**12 < int(wanted))
    if value.get("stream") is True:
        options = value.get("stream_options")
        options = options if isinstance(options, dict) else {}
        assert json.loads(asked.body) == {**value, "stream_options": {**options, "include_usage": True}}
    else:
        assert asked.body == body


@given(st.binary(max_size=8), st.integers(0, 40), st.sampled_from([510, 513, 700]))
def test_bytes_that_are_no_text_and_deep_values_are_passed_on_or_refused(
    junk: bytes, at: int, deep: int
) -> None:
    body = b'{"model":"m","a":"' + b"x" * 20 + b'","b":1}'
    body = body[:at] + junk + body[at:]
    asked = ask("/v1/chat/completions", body)
    assert asked.status == "400" or asked.body == body
    if asked.status:
        json.loads((asked.answer or "").encode("latin-1").decode("utf-8", "replace"))
    nested = b'{"model":"m","a":' + b"[" * deep + b"]" * deep + b"}"
    assert (ask("/v1/chat/completions", nested).status is None) == (deep <= 512)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, Any]:
    """As the two dialects of OpenAI have it, with members that nobody reads."""
    names = draw(st.sampled_from([("prompt", "completion"), ("input", "output")]))
    found: dict[str, Any] = {f"{names[0]}_tokens": draw(COUNTS), f"{names[1]}_tokens": draw(COUNTS)}
    if draw(st.booleans()):
        found["total_tokens"] = draw(COUNTS)
    if draw(st.booleans()):
        found[f"{names[0]}_tokens_details"] = {"cached_tokens": draw(COUNTS), "audio_tokens": draw(COUNTS)}
        found[f"{names[1]}_tokens_details"] = {
            "reasoning_tokens": draw(COUNTS),
            "x": draw(st.none() | st.just({})),
        }
    found["x"] = draw(st.one_of(st.none(), st.just("prompt_tokens"), st.just({"y": "}"})))
    return dict(draw(st.permutations(list(found.items()))))


def expected(usage: dict[str, Any]) -> Usage:
    def count(*names: str, default: int = 0) -> int:
        return next((min(usage[name], 10**12) for name in names if name in usage), default)

    def detail(kind: tuple[str, str], name: str) -> int:
        for prefix in kind:
            if found := usage.get(f"{prefix}_tokens_details"):
                return min(found[name], 10**12)
        return 0

    given, made = count("prompt_tokens", "input_tokens"), count("completion_tokens", "output_tokens")
    return Usage(
        given,
        made,
        count("total_tokens", default=given + made),
        detail(("prompt", "input"), "cached_tokens"),
        0,
        detail(("completion", "output"), "reasoning_tokens"),
    )


@settings(max_examples=60, deadline=None)
@given(st.data(), usages(), st.lists(st.tuples(st.sampled_from(["choices", "a", "é"]), VALUES), max_size=3))
def test_usage_is_what_python_reads_wherever_an_answer_is_cut(
    data: st.DataObject, usage: dict[str, Any], others: list[tuple[str, Any]]
) -> None:
    members = [("model", "gpt"), *others, ("tools", [FORGED])]
    members.insert(data.draw(st.integers(0, len(members))), ("usage", usage))
    spaced = data.draw(st.sampled_from([None, 1]))
    body = json.dumps(dict(members), indent=spaced, ensure_ascii=data.draw(st.booleans())).encode(
        "utf-8", "surrogatepass"
    )
    wanted = expected(json.loads(body)["usage"])
    for cut in range(0, len(body), max(1, len(body) // 40)):
        out, told = answer([body[:cut], body[cut:], b""])
        assert out == body
        assert told is not None and read_usage(told, "") == (wanted, False), cut
    event = b"data: " + json.dumps(dict(members)).encode() + b"\n\n"
    stream = b'data: {"choices":[{"delta":{}}],"usage":null}\n\n' + event + b"data: [DONE]\n\n"
    for cut in range(0, len(stream), max(1, len(stream) // 40)):
        out, told = answer([stream[:cut], stream[cut:], b""], "text/event-stream")
        assert out == stream
        assert told is not None and read_usage(told, "") == (wanted, False), cut
    _, told = answer([body, b""])
    assert answered_model(told or "") == "gpt"
