"""Functions on strings: the standard ones, cel-go's string extension and Kubernetes' regular expressions."""

from __future__ import annotations

import math
from typing import Any, Final

from kajitori.base.cel.conversions import format_double, format_duration, format_timestamp
from kajitori.base.cel.errors import BudgetExceeded, EvaluationError
from kajitori.base.cel.functions import MOST_LENGTH, method, register, within_size
from kajitori.base.cel.regular import compile_pattern
from kajitori.base.cel.types import BOOL, BYTES, DYN, INT, STRING, list_of
from kajitori.base.cel.values import KINDS, TypeValue

_STRINGS: Final = list_of(STRING)
_SPACES: Final = " \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


def _matches(text: str, pattern: str) -> bool:
    return compile_pattern(pattern).search(text) is not None


def _find(text: str, pattern: str) -> str:
    found = compile_pattern(pattern).search(text)
    return found.group() if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match.group() for match in compile_pattern(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


def _character(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise EvaluationError(f"index out of range: {index}")
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise EvaluationError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, last: int | None = None) -> int:
    if last is None:
        return text.rfind(part)
    if not 0 <= last <= len(text):
        raise EvaluationError(f"index out of range: {last}")
    return text.rfind(part, 0, last + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= end <= len(text):
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    if (text.count(old) if limit < 0 else limit) * len(new) > MOST_LENGTH:
        raise BudgetExceeded("operation cancelled: actual cost limit exceeded")
    return text.replace(old, new, limit)


def _join(items: list[str], separator: str = "") -> str:
    if len(items) * len(separator) > MOST_LENGTH:
        raise BudgetExceeded("operation cancelled: actual cost limit exceeded")
    return within_size(separator.join(items))


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if not separator:
        parts = list(text)
        return (
            parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], "".join(parts[limit - 1 :])]
        )
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _ascii(text: str, first: str, shift: int) -> str:
    end = chr(ord(first) + 25)
    return "".join(chr(ord(c) + shift) if first <= c <= end else c for c in text)


def quote(text: str) -> str:
    """`text` in double quotes with its control characters escaped."""
    escapes = {
        "\a": r"\a",
        "\b": r"\b",
        "\f": r"\f",
        "\n": r"\n",
        "\r": r"\r",
        "\t": r"\t",
        "\v": r"\v",
        "\\": r"\\",
        '"': r"\"",
    }
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def _format(template: str, args: list[Any]) -> str:
    """cel-go's `format`: %s %d %f %e %b %x %X %o, with a precision for %f and %e."""
    result: list[str] = []
    used = 0
    at = 0
    while at < len(template):
        if template[at] != "%":
            end = template.find("%", at)
            end = len(template) if end < 0 else end
            result.append(template[at:end])
            at = end
            continue
        at += 1
        precision = 6
        if template[at : at + 1] == ".":
            end = at + 1
            while template[end : end + 1].isdigit():
                end += 1
            precision = int(template[at + 1 : end] or 0)
            at = end
        verb = template[at : at + 1]
        at += 1
        if verb == "%":
            result.append("%")
            continue
        if used >= len(args):
            raise EvaluationError("index out of range: more verbs than arguments")
        result.append(_formatted(verb, precision, args[used]))
        used += 1
    return "".join(result)


def _formatted(verb: str, precision: int, value: Any) -> str:
    if verb == "s":
        return shown(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if verb == "d" and is_whole:
        return str(value)
    if verb in ("f", "e") and (is_whole or isinstance(value, float)):
        if isinstance(value, float) and not math.isfinite(value):
            return format_double(value)
        return f"{value:.{min(precision, 100)}{verb}}"
    if verb in ("x", "X", "o", "b") and (is_whole or (verb == "b" and isinstance(value, bool))):
        return f"{int(value):{verb}}"
    if verb in ("x", "X") and isinstance(value, str | bytes):
        text = (value.encode() if isinstance(value, str) else value).hex()
        return text if verb == "x" else text.upper()
    kind = KINDS.get(type(value), "dyn")
    raise EvaluationError(f"error during formatting: %{verb} does not take a {kind}")


def shown(value: Any) -> str:
    """A value as `%s` shows it."""
    kind = KINDS.get(type(value), "dyn")
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{shown(key)}: {shown(item)}" for key, item in value.items())) + "}"
    texts = {
        "null_type": lambda: "null",
        "bool": lambda: "true" if value else "false",
        "double": lambda: format_double(value),
        "google.protobuf.Timestamp": lambda: format_timestamp(value),
        "google.protobuf.Duration": lambda: format_duration(value),
        "type": lambda: value.name if isinstance(value, TypeValue) else "",
        "bytes": lambda: value.decode(errors="replace"),
    }
    return texts[kind]() if kind in texts else str(value)


method("startsWith", (STRING, STRING), BOOL, str.startswith)
method("endsWith", (STRING, STRING), BOOL, str.endswith)
method("contains", (STRING, STRING), BOOL, lambda text, part: part in text)
method("matches", (STRING, STRING), BOOL, _matches)
register("matches", (STRING, STRING), BOOL, _matches)
method("find", (STRING, STRING), STRING, _find)
method("findAll", (STRING, STRING), _STRINGS, _find_all)
method("findAll", (STRING, STRING, INT), _STRINGS, _find_all)
method("charAt", (STRING, INT), STRING, _character)
method("indexOf", (STRING, STRING), INT, _index_of)
method("indexOf", (STRING, STRING, INT), INT, _index_of)
method("lastIndexOf", (STRING, STRING), INT, _last_index_of)
method("lastIndexOf", (STRING, STRING, INT), INT, _last_index_of)
method("lowerAscii", (STRING,), STRING, lambda text: _ascii(text, "A", 32))
method("upperAscii", (STRING,), STRING, lambda text: _ascii(text, "a", -32))
method("replace", (STRING, STRING, STRING), STRING, _replace)
method("replace", (STRING, STRING, STRING, INT), STRING, _replace)
method("split", (STRING, STRING), _STRINGS, _split)
method("split", (STRING, STRING, INT), _STRINGS, _split)
method("substring", (STRING, INT), STRING, _substring)
method("substring", (STRING, INT, INT), STRING, _substring)
method("trim", (STRING,), STRING, lambda text: text.strip(_SPACES))
method("join", (_STRINGS,), STRING, _join)
method("join", (_STRINGS, STRING), STRING, _join)
method("format", (STRING, list_of(DYN)), STRING, _format)
register("strings.quote", (STRING,), STRING, quote)
method("size", (BYTES,), INT, len)
