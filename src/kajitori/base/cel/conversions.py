"""Conversions between types: `int(x)`, `string(x)`, `timestamp(x)`, and from JSON to typed values."""

from __future__ import annotations

import base64
import binascii
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.functions import as_int, as_uint, register
from kajitori.base.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
)

_DURATION_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION: Final = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|[+-]?0")
_SECONDS: Final = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 10**3),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-]\d{2}:\d{2}))"
)


def parse_duration(text: str) -> timedelta:
    """A Go duration such as `1h30m`, to the microsecond. Raises EvaluationError."""
    if not _DURATION.fullmatch(text):
        raise EvaluationError(f"invalid duration: {text!r}")
    total = sum(
        (Fraction(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text)), Fraction(0)
    )
    microseconds = int(total * 10**6)
    try:
        return timedelta(microseconds=-microseconds if text.startswith("-") else microseconds)
    except OverflowError:
        raise EvaluationError(f"duration out of range: {text!r}") from None


def parse_timestamp(text: str) -> datetime:
    """An RFC 3339 time, to the microsecond. Raises EvaluationError."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise EvaluationError(f"invalid timestamp: {text!r}")
    date, time, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}.{(fraction or '0')[:6]:0<6}{offset or '+00:00'}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise EvaluationError(f"invalid timestamp: {text!r}") from None


def decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EvaluationError("invalid base64") from None


FROM_JSON: Final[dict[str, Any]] = {
    "double": lambda value: float(value) if type(value) is int else value,
    "google.protobuf.Timestamp": lambda value: (
        parse_timestamp(value if "T" in value.upper() else f"{value}T00:00:00Z")
        if isinstance(value, str)
        else value
    ),
    "google.protobuf.Duration": lambda value: parse_duration(value) if isinstance(value, str) else value,
    "bytes": lambda value: decode_base64(value) if isinstance(value, str) else value,
}
"""How data becomes a value of a type that JSON has not."""


def format_timestamp(moment: datetime) -> str:
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    return f"{text.rjust(19, '0')}{fraction}Z"


def format_duration(duration: timedelta) -> str:
    micro = duration // timedelta(microseconds=1)
    whole, rest = divmod(abs(micro), 10**6)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' if micro < 0 else ''}{whole}{fraction}s"


def format_double(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(float(value))
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{exponent[0]}{exponent[1:].zfill(2)}" if exponent else text


def _int_of_double(value: Any) -> int:
    if not math.isfinite(value):
        raise EvaluationError("integer overflow")
    return as_int(int(value))


def _uint_of_double(value: Any) -> int:
    if not math.isfinite(value) or value < 0:
        raise EvaluationError("unsigned integer overflow")
    return as_uint(int(value))


def _int_of_string(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise EvaluationError(f"type conversion error from 'string' to 'int': {text!r}")
    return as_int(int(text))


def _uint_of_string(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise EvaluationError(f"type conversion error from 'string' to 'uint': {text!r}")
    return as_uint(int(text))


def _double_of_string(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise EvaluationError(f"type conversion error from 'string' to 'double': {text!r}") from None


_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def _bool_of_string(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise EvaluationError(f"type conversion error from 'string' to 'bool': {text!r}")


def _string_of_bytes(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None


def _identity(value: Any) -> Any:
    return value


for _type, _name in (
    (INT, "int"),
    (UINT, "uint"),
    (DOUBLE, "double"),
    (STRING, "string"),
    (BYTES, "bytes"),
    (BOOL, "bool"),
    (TIMESTAMP, "timestamp"),
    (DURATION, "duration"),
):
    register(_name, (_type,), _type, _identity)
register("int", (UINT,), INT, as_int)
register("int", (DOUBLE,), INT, _int_of_double)
register("int", (STRING,), INT, _int_of_string)
register("int", (TIMESTAMP,), INT, lambda moment: math.floor(moment.timestamp()))
register("int", (DURATION,), INT, lambda duration: (duration // timedelta(microseconds=1)) * 1000)
register("uint", (INT,), UINT, as_uint)
register("uint", (DOUBLE,), UINT, _uint_of_double)
register("uint", (STRING,), UINT, _uint_of_string)
register("double", (INT,), DOUBLE, float)
register("double", (UINT,), DOUBLE, float)
register("double", (STRING,), DOUBLE, _double_of_string)
register("string", (INT,), STRING, str)
register("string", (UINT,), STRING, str)
register("string", (DOUBLE,), STRING, format_double)
register("string", (BOOL,), STRING, lambda value: "true" if value else "false")
register("string", (BYTES,), STRING, _string_of_bytes)
register("string", (TIMESTAMP,), STRING, format_timestamp)
register("string", (DURATION,), STRING, format_duration)
register("bytes", (STRING,), BYTES, lambda text: text.encode())
register("bool", (STRING,), BOOL, _bool_of_string)
register("timestamp", (STRING,), TIMESTAMP, parse_timestamp)
register("timestamp", (INT,), TIMESTAMP, lambda seconds: datetime.fromtimestamp(seconds, UTC))
register("duration", (STRING,), DURATION, parse_duration)
