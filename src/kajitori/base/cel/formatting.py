"""`"%s is %d".format([name, count])`.

Source: the CEL extension library for strings.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final, cast

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.functions import method, within_size
from kajitori.base.cel.types import DYN, STRING, list_of
from kajitori.base.cel.values import TypeValue

_CLAUSE: Final = re.compile(r"%(?:%|(?:\.(\d+))?([a-zA-Z]))")
_DEFAULT_PRECISION: Final = 6


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, cast("list[Any]", value))) + "]"
    if isinstance(value, dict):
        entries = sorted((_text(key), _text(entry)) for key, entry in cast("dict[Any, Any]", value).items())
        return "{" + ", ".join(f"{key}: {entry}" for key, entry in entries) + "}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else f"{value:g}"
    return str(value)


def _whole(value: Any, clause: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise EvaluationError(f"error during formatting: {clause} clause can only be used on integers")
    return value


def _based(value: Any, clause: str) -> str:
    if clause == "b":
        return format(int(value) if isinstance(value, bool) else _whole(value, "binary"), "b")
    if clause == "o":
        return format(_whole(value, "octal"), "o")
    if isinstance(value, str | bytes):
        raw = value.encode() if isinstance(value, str) else value
        return raw.hex() if clause == "x" else raw.hex().upper()
    return format(_whole(value, "hex"), clause)


def _formatted(clause: str, precision: str | None, value: Any) -> str:
    match clause:
        case "s":
            return _text(value)
        case "d":
            return str(_whole(value, "decimal"))
        case "f" | "e":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise EvaluationError(
                    "error during formatting: fixed-point clause can only be used on numbers"
                )
            return f"{value:.{precision or _DEFAULT_PRECISION}{clause}}"
        case "b" | "o" | "x" | "X":
            return _based(value, clause)
        case _:
            raise EvaluationError(
                f'could not parse formatting clause: unrecognized formatting clause "{clause}"'
            )


def _format(text: str, values: list[Any]) -> str:
    index = 0

    def fill(found: re.Match[str]) -> str:
        nonlocal index
        if found.group(0) == "%%":
            return "%"
        if index >= len(values):
            raise EvaluationError(f"index {index} out of range")
        value = values[index]
        index += 1
        return _formatted(found.group(2), found.group(1), value)

    return within_size(_CLAUSE.sub(fill, text))


method("format", (STRING, list_of(DYN)), STRING, _format)
