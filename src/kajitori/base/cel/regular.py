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
_FLAGS: Final = re.compile(r"\(\?([a-zA-Z-]+)\)")
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
        return re.compile(_Translator(pattern).translate(), 0 if r"\p" in pattern else re.ASCII)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise EvaluationError(f"error parsing regexp: {_in_words_of_re2(error)}: `{pattern}`") from None


_WORDS_OF_RE2: Final = {
    "missing ), unterminated subpattern": "missing closing )",
    "unbalanced parenthesis": "unexpected )",
    "unterminated character set": "missing closing ]",
    "nothing to repeat": "missing argument to repetition operator",
    "multiple repeat": "invalid nested repetition operator",
}


def _in_words_of_re2(error: Exception) -> str:
    problem = error.msg if isinstance(error, re.error) else str(error)
    return _WORDS_OF_RE2.get(problem, problem)


class _Translator:
    """Walks a pattern once, knowing whether it is inside a character class."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._in_class = False
        self._result: list[str] = []
        # By open group, the flags that were set inside of it.
        self._flags: list[list[str]] = [[]]
        self._many_lines = re.search(r"\(\?[is]*m", pattern) is not None

    def translate(self) -> str:
        found = _UNSUPPORTED.search(re.sub(r"\\\\", "  ", self._pattern))
        if found is not None:
            raise self._error(f"invalid or unsupported Perl syntax: {found.group()}")
        while self._at < len(self._pattern):
            self._step()
        return "".join(self._result) + self._unset()

    def _error(self, problem: str) -> EvaluationError:
        return EvaluationError(f"error parsing regexp: {problem}: `{self._pattern}`")

    def _take(self, length: int, replacement: str | None = None) -> None:
        text = self._pattern[self._at : self._at + length]
        self._result.append(text if replacement is None else replacement)
        self._at += length

    def _step(self) -> None:
        letter = self._pattern[self._at]
        if letter == "\\" and self._at + 1 < len(self._pattern):
            self._escape()
        elif self._in_class:
            self._inside_class(letter)
        elif letter == "[":
            self._in_class = True
            self._take(1)
            if self._pattern.startswith("^", self._at):
                self._take(1)
            if self._pattern.startswith("]", self._at):
                self._take(1, r"\]")
        elif letter in "()|":
            self._group(letter)
        elif letter == "$" and not self._many_lines:
            self._take(1, r"\Z")  # Python's `$` also matches before a last newline
        else:
            self._take(1)

    def _group(self, letter: str) -> None:
        """RE2 takes `(?i)` anywhere, for the rest of its group; Python only as a group of its own, within one alternative."""
        flags = _FLAGS.match(self._pattern, self._at)
        if flags is not None and self._at > 0:
            self._flags[-1].append(f"(?{flags[1]}:")
            self._take(len(flags[0]), self._flags[-1][-1])
        elif letter == "|":
            self._take(1, f"{self._unset()}|{''.join(self._flags[-1])}")
        elif letter == ")":
            self._take(1, f"{self._unset()})")
            if len(self._flags) > 1:
                self._flags.pop()
        else:
            self._take(1)
            if flags is None:
                self._flags.append([])

    def _unset(self) -> str:
        return ")" * len(self._flags[-1])

    def _inside_class(self, letter: str) -> None:
        if letter == "]":
            self._in_class = False
            self._take(1)
        elif self._pattern.startswith("[:", self._at):
            end = self._pattern.find(":]", self._at)
            name = self._pattern[self._at + 2 : end]
            if end < 0 or name not in _CLASSES:
                raise self._error("invalid character class range")
            self._take(end + 2 - self._at, _CLASSES[name])
        else:
            # Python warns of these inside classes, where RE2 takes them as they are.
            doubled = letter == "-" and self._result[-1] == "-"
            self._take(1, f"\\{letter}" if doubled or letter in "[&~|" else letter)

    def _escape(self) -> None:
        letter = self._pattern[self._at + 1]
        if letter == "z":
            self._take(2, r"\Z")
        elif letter == "Q":
            end = self._pattern.find(r"\E", self._at)
            end = len(self._pattern) if end < 0 else end
            quoted = re.escape(self._pattern[self._at + 2 : end])
            self._take(end + 2 - self._at, quoted)
        elif letter == "x" and self._pattern.startswith("{", self._at + 2):
            end = self._pattern.find("}", self._at)
            code = int(self._pattern[self._at + 3 : end], 16)
            self._take(end + 1 - self._at, re.escape(chr(code)))
        elif letter in "pP":
            self._unicode_class()
        elif letter in "ZGKRXCHV":
            raise self._error(f"invalid escape sequence: \\{letter}")
        else:
            self._take(2)

    def _unicode_class(self) -> None:
        start = self._at + 2
        if self._pattern.startswith("{", start):
            end = self._pattern.find("}", start)
            name, length = self._pattern[start + 1 : end], end + 1 - self._at
        else:
            name, length = self._pattern[start : start + 1], 3
        if name not in _UNICODE or self._in_class or self._pattern[self._at + 1] == "P":
            raise self._error(f"unsupported character class \\p{{{name}}}")
        self._take(length, _UNICODE[name])
