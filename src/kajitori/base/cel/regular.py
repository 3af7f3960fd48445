"""Regular expressions in RE2's syntax, as CEL and JSON schemas in Kubernetes have them, on Python's `re`.

The syntaxes agree but for some spellings, which are translated, and for what RE2 leaves out on purpose
(look-around, back-references), which is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kajitori.base.cel.errors import EvaluationError

_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_UNSUPPORTED: Final = re.compile(r"\(\?(?:=|!|<=|<!|P=|P>|\(|#)|\\[1-9]")
_UNICODE: Final = {
    "L": r"[^\W\d_]",
    "Lu": "[A-ZÀ-ÖØ-Þ]",
    "Ll": "[a-zß-öø-ÿ]",
    "N": r"\d",
    "Nd": r"\d",
}


@lru_cache(maxsize=2048)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; `search` it, since RE2 does not anchor. Raises EvaluationError."""
    try:
        return re.compile(_translate(pattern), 0 if r"\p" in pattern else re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise EvaluationError(f"error parsing regexp {pattern!r}: {error}") from None


def _translate(pattern: str) -> str:
    found = _UNSUPPORTED.search(re.sub(r"\\\\", "  ", pattern))
    if found is not None:
        raise EvaluationError(
            f"error parsing regexp {pattern!r}: invalid or unsupported Perl syntax: {found.group()}"
        )
    result: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("[[:", at) or (pattern.startswith("[:", at) and result and "[" in result[-1:]):
            at = _posix(pattern, at, result)
        elif pattern[at] == "\\" and at + 1 < len(pattern):
            at = _escape(pattern, at, result)
        elif pattern[at] == "$":
            result.append(
                r"\Z" if "(?m" not in pattern else "$"
            )  # Python's `$` also matches before a last newline
            at += 1
        else:
            result.append(pattern[at])
            at += 1
    return "".join(result)


def _posix(pattern: str, at: int, result: list[str]) -> int:
    """`[[:alpha:]_]` with its classes spelled out; returns where it goes on."""
    if pattern.startswith("[[:", at):
        result.append("[")
        at += 1
    while pattern.startswith("[:", at):
        end = pattern.find(":]", at)
        name = pattern[at + 2 : end]
        if end < 0 or name not in _CLASSES:
            raise EvaluationError(f"error parsing regexp {pattern!r}: invalid character class range")
        result.append(_CLASSES[name])
        at = end + 2
    return at


def _escape(pattern: str, at: int, result: list[str]) -> int:
    letter = pattern[at + 1]
    if letter == "z":
        result.append(r"\Z")
        return at + 2
    if letter == "Q":
        end = pattern.find(r"\E", at)
        end = len(pattern) if end < 0 else end
        result.append(re.escape(pattern[at + 2 : end]))
        return end + 2
    if letter == "x" and pattern.startswith("{", at + 2):
        end = pattern.find("}", at)
        result.append(re.escape(chr(int(pattern[at + 3 : end], 16))))
        return end + 1
    if letter in "pP":
        return _unicode(pattern, at, result)
    if letter == "Z" or letter in "GKRXCHV":
        raise EvaluationError(f"error parsing regexp {pattern!r}: invalid escape sequence: \\{letter}")
    result.append(pattern[at : at + 2])
    return at + 2


def _unicode(pattern: str, at: int, result: list[str]) -> int:
    if pattern.startswith("{", at + 2):
        end = pattern.find("}", at)
        name, after = pattern[at + 3 : end], end + 1
    else:
        name, after = pattern[at + 2 : at + 3], at + 3
    inside = "".join(result).rfind("[") > "".join(result).rfind("]")
    if name not in _UNICODE or inside or pattern[at + 1] == "P":
        raise EvaluationError(f"error parsing regexp {pattern!r}: unsupported character class \\p{{{name}}}")
    result.append(_UNICODE[name])
    return after
