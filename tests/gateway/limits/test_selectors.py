"""Whom a limit holds for, and regular expressions that no text can slow down."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.errors import UserError
from kajitori.gateway.accounting.accountant_policy import TargetFacts
from kajitori.gateway.limits.limit import Selector
from kajitori.gateway.limits.regular import LinearPattern
from kajitori.gateway.limits.selectors import Conditions
from kajitori.gateway.operations import native_path
from tests.gateway.limits.making import request


def holds(selector: Selector, target: TargetFacts | None = None, **fields: object) -> bool:
    return Conditions((selector,)).holds(request("a", **fields), target) is not None


@pytest.mark.parametrize(
    ("selector", "fields", "expected"),
    [
        (Selector("model", "Exact", "gpt"), {}, True),
        (Selector("model", "Exact", "gpt", invert=True), {}, False),
        (Selector("model", "OneOf", "a,gpt"), {}, True),
        (Selector("model", "Regex", "g.t"), {}, True),
        (Selector("model", "Regex", "g"), {}, False),
        (Selector("header:x-a", "Exact", "1"), {"headers": {"x-a": "1"}}, True),
        (Selector("header:x-a", "Exact", "1"), {}, False),
        (Selector("header:x-a", "Exact", "1", invert=True), {}, True),
        (Selector("header:x-a", "Present"), {"headers": {"x-a": ""}}, False),
        (Selector("header:X-A", "Present"), {"headers": {"x-a": "1"}}, True),
        (Selector("key", "Present", invert=True), {}, True),
        (Selector("client", "Cidr", "10.0.0.0/8"), {"client": "10.1.2.3"}, True),
        (Selector("client", "Cidr", "10.0.0.0/8"), {"client": "192.168.1.1"}, False),
        (Selector("client", "Cidr", "2001:db8::/32"), {"client": "2001:db8::1"}, True),
        (Selector("client", "Cidr", "10.0.0.0/8"), {"client": "not an address"}, False),
        (Selector("path", "Prefix", "/v1/chat"), {"path": "/v1/chat/completions"}, True),
        (Selector("path", "Prefix", "/v1/chat"), {"path": "/v1/chatter"}, False),
        (Selector("method", "OneOf", "GET,POST"), {"method": "DELETE"}, False),
    ],
)
def test_a_limit_holds_where_its_selectors_do(
    selector: Selector, fields: dict[str, object], expected: bool
) -> None:
    assert holds(selector, **fields) is expected


def test_a_model_at_a_backend_is_the_one_that_it_is_called_there() -> None:
    selector = Selector("backend_model", "Exact", "large")
    assert holds(selector, TargetFacts(0, 0, "default/a", "large"))
    assert not holds(selector, TargetFacts(0, 0, "default/a"))
    assert holds(selector, TargetFacts(0, 0, "default/a"), model="large")


@pytest.mark.parametrize(
    "selector",
    [
        Selector("colour", "Exact", "red"),
        Selector("model", "Regex", "("),
        Selector("model", "Regex", "(?=a)"),
        Selector("model", "Regex", r"(a)\1"),
        Selector("model", "Regex", "a{1000}{1000}"),
        Selector("client", "Cidr", "10.0.0.0/99"),
    ],
)
def test_a_selector_that_makes_no_sense_is_refused(selector: Selector) -> None:
    with pytest.raises(UserError):
        Conditions((selector,))


@pytest.mark.parametrize("expression", ["(a+)+", "(a|a)*b", "(a*)*b", "(.*)(.*)(.*)(.*)[^!]", "([a-z]+)*1"])
def test_a_text_that_would_keep_another_matcher_busy_for_ever_is_matched_at_once(expression: str) -> None:
    assert not LinearPattern(expression).matches("a" * 5000 + "!")


PARTS = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "[ab]",
        "[^a]",
        "[a-c]",
        r"\d",
        r"\w",
        r"\S",
        "^",
        "$",
        r"\b",
        "(?:ab)",
        "é",
        "[[:alpha:]]",
    ]
)
REPEATS = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "*?", "+?"])


def _expressions() -> st.SearchStrategy[str]:
    piece = st.tuples(PARTS, REPEATS).map(
        lambda each: each[0] + (each[1] if each[0] not in "^$" + r"\b" else "")
    )
    row = st.lists(piece, max_size=5).map("".join)
    return (
        st.lists(row, min_size=1, max_size=3)
        .map("|".join)
        .flatmap(lambda text: st.sampled_from([text, f"(?:{text})*", f"(?i){text}", f"(?s){text}"]))
    )


@given(_expressions(), st.text("abcABé1 \n-", max_size=8))
def test_expressions_mean_what_they_mean_to_python(expression: str, text: str) -> None:
    python = expression.replace("[[:alpha:]]", "[a-zA-Z]").replace("$", r"\Z")
    assert LinearPattern(expression).matches(text) is (re.fullmatch(python, text, re.ASCII) is not None)


@pytest.mark.parametrize(
    ("operation", "path", "native"),
    [
        ("messages", "/anthropic/v1/messages", "/v1/messages"),
        ("chat", "/v1/chat/completions", "/v1/chat/completions"),
        ("files_content", "/v1/files/file-1/content", "/v1/files/file-1/content"),
        ("", "/plain", "/plain"),
    ],
)
def test_what_has_ended_has_the_path_by_which_limits_knew_it(operation: str, path: str, native: str) -> None:
    assert native_path(operation, path) == native
