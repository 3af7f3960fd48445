"""The formats of strings and integers that structural schemas check. Unknown formats are ignored, as documented."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final

from kajitori.base.cel.conversions import parse_duration
from kajitori.base.cel.errors import EvaluationError

_DATE_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})")
# One label, or several of which the last has letters only.
_HOST_NAME: Final = re.compile(
    r"(?=.{1,255}$)(?:[^\W_](?:-?[^\W_]){0,62}|(?:[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?\.)+[^\W\d_]{2,63})"
)
_EMAIL: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+|[^@<>]*<[^@\s<>]+@[^@\s<>]+>")
_IPV4: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}", re.ASCII)
_AMOUNTS_OF_TIME: Final = re.compile(r"\d+\s*([A-Za-zµ]+)", re.ASCII)
_UNITS_OF_TIME: Final = frozenset(
    [
        "ns",
        "nano",
        "us",
        "µs",
        "micro",
        "ms",
        "milli",
        "s",
        "sec",
        "m",
        "min",
        "h",
        "hr",
        "hour",
        "d",
        "day",
        "w",
        "wk",
        "week",
    ]
)
_SOCIAL_SECURITY: Final = re.compile(r"\d{3}[- ]?\d{2}[- ]?\d{4}", re.ASCII)
_RGB: Final = re.compile(r"rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)", re.ASCII)
_URI: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:\S+|/\S*)")
_MAC: Final = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5,7}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4}")
_HEX_COLOUR: Final = re.compile(r"#?(?:[0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})")
_BSON_ID: Final = re.compile(r"[0-9A-Fa-f]{24}")
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def _without_error(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error, EvaluationError):
            return False
        return True

    return check


def _date_time(text: str) -> bool:
    if not _DATE_TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text[:19].replace("t", "T"))
    except ValueError:
        return False
    return True


def _uuid(version: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parsed = uuid.UUID(text)
        except ValueError:
            return False
        return len(text) in (32, 36) and (not version or parsed.version == version)

    return check


def _ipv4(text: str) -> bool:
    return _IPV4.fullmatch(text) is not None and all(int(part) < 256 for part in text.split("."))


def _duration(text: str) -> bool:
    """As Go writes them, or any text with an amount of a unit such as `3 days`."""
    try:
        parse_duration(text)
    except EvaluationError:
        units = (unit.lower() for unit in _AMOUNTS_OF_TIME.findall(text))
        return any(
            unit in _UNITS_OF_TIME
            or unit.startswith(("nano", "micro", "milli", "sec", "min", "hour", "day", "week"))
            for unit in units
        )
    return True


def _digits(text: str, pattern: str = r"[\s-]") -> str:
    return re.sub(pattern, "", text)


def _isbn10(text: str) -> bool:
    digits = _digits(text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", digits):
        return False
    return sum((10 - at) * (10 if c == "X" else int(c)) for at, c in enumerate(digits)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = _digits(text)
    return bool(re.fullmatch(r"[0-9]{13}", digits)) and (
        sum((3 if at % 2 else 1) * int(c) for at, c in enumerate(digits)) % 10 == 0
    )


def _credit_card(text: str) -> bool:
    """By its length and its check digit (Luhn)."""
    digits = _digits(text, r"[^0-9]+")
    if not 13 <= len(digits) <= 19:
        return False
    doubled = (int(c) * (1 + at % 2) for at, c in enumerate(reversed(digits)))
    return sum(amount // 10 + amount % 10 for amount in doubled) % 10 == 0


_BASE64: Final = _without_error(lambda text: base64.b64decode(text, validate=True))

STRING_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _date_time,
    "datetime": _date_time,
    "date": _without_error(
        lambda text: date.fromisoformat(text) if len(text) == 10 else date.fromisoformat("x")
    ),
    "duration": _duration,
    "byte": lambda text: text != "" and _BASE64(text),
    "uri": lambda text: _URI.fullmatch(text) is not None,
    "hostname": lambda text: _HOST_NAME.fullmatch(text) is not None,
    "email": lambda text: _EMAIL.fullmatch(text) is not None,
    "ipv4": _ipv4,
    "ipv6": _without_error(ipaddress.IPv6Address),
    "cidr": _without_error(lambda text: ipaddress.ip_interface(text if "/" in text else "x")),
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "uuid": _uuid(0),
    "uuid3": _uuid(3),
    "uuid4": _uuid(4),
    "uuid5": _uuid(5),
    "hexcolor": lambda text: _HEX_COLOUR.fullmatch(text) is not None,
    "rgbcolor": lambda text: _RGB.fullmatch(text) is not None,
    "ssn": lambda text: _SOCIAL_SECURITY.fullmatch(text) is not None,
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _credit_card,
    "bsonobjectid": lambda text: _BSON_ID.fullmatch(text) is not None,
    "k8s-short-name": lambda text: _LABEL.fullmatch(text) is not None,
    "k8s-long-name": lambda text: (
        0 < len(text) <= 253 and all(_LABEL.fullmatch(part) for part in text.split("."))
    ),
}
"""Whether a string is of the format."""

INTEGER_RANGES: Final[dict[str, tuple[int, int]]] = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}

FLOAT_RANGES: Final[dict[str, tuple[float, float]]] = {
    "float": (-3.4028234663852886e38, 3.4028234663852886e38)
}
KNOWN_FORMATS: Final = frozenset({*STRING_FORMATS, *INTEGER_RANGES, "float", "double", "password"})
