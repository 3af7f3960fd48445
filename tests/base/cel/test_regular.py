"""Regular expressions in RE2's syntax."""

from __future__ import annotations

import pytest

from kajitori.base.cel import EvaluationError
from kajitori.base.cel.regular import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        (r"^[a-z]+$", "abc", "abc\n"),
        (r"^[$]x$", "$x", "x"),
        (r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$", "x-$`~|&", "a b"),
        (r"^[[:alpha:]_]+$", "ab_", "a1"),
        (r"^[^[:space:]]+$", "ab", "a b"),
        (r"^[]a]+$", "]a", "b"),
        (r"^[a[b]$", "[", "c"),
        (r"^[+--]$", ",", "."),
        (r"\Aab\z", "ab", "abc"),
        (r"^\Qa.b\E$", "a.b", "axb"),
        (r"^\pL+$", "äb", "1"),
        (r"^\x{41}$", "A", "B"),
        (r"^\d$", "5", "٣"),
        (r"(?i)^AB$", "ab", "ac"),
        (r"(?m)^b$", "a\nb\nc", "abc"),
        (r"^(?P<n>a)+$", "aa", "b"),
        (r"^(?i)[a-z]+(\.[a-z]+)*$", "Foo.Bar", "1a"),
        (r"^(x(?i)y|z)w$", "xYw", "XYw"),
        (r"^(x(?i)y|z)w$", "Zw", "xyW"),
        (r"^(?:a(?s)b.c|d)$", "ab\nc", "ab\nC"),
    ],
)
def test_patterns_mean_what_they_mean_to_re2(pattern: str, matching: str, other: str) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.search(matching)
    assert not compiled.search(other)


@pytest.mark.parametrize(
    "pattern", ["(", r"(?=a)", r"(?<!a)b", r"(a)\1", "[[:nope:]]", r"\Z", r"[\p{L}]", "a**"]
)
def test_what_re2_does_not_have_is_refused(pattern: str) -> None:
    with pytest.raises(EvaluationError):
        compile_pattern(pattern)
