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
_HOST_NAME: Final = re.compile(
    r"(?=.{1,255}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    r"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?",
    re.ASCII,
)
_EMAIL: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+\.?[^@\s<>]*")
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


STRING_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _date_time,
    "datetime": _date_time,
    "date": _without_error(
        lambda text: date.fromisoformat(text) if len(text) == 10 else date.fromisoformat("x")
    ),
    "duration": _without_error(parse_duration),
    "byte": _without_error(lambda text: base64.b64decode(text, validate=True)),
    "uri": lambda text: _URI.fullmatch(text) is not None,
    "hostname": lambda text: _HOST_NAME.fullmatch(text) is not None,
    "email": lambda text: _EMAIL.fullmatch(text) is not None,
    "ipv4": _without_error(ipaddress.IPv4Address),
    "ipv6": _without_error(ipaddress.IPv6Address),
    "cidr": _without_error(lambda text: ipaddress.ip_interface(text if "/" in text else "x")),
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "uuid": _uuid(0),
    "uuid3": _uuid(3),
    "uuid4": _uuid(4),
    "uuid5": _uuid(5),
    "hexcolor": lambda text: _HEX_COLOUR.fullmatch(text) is not None,
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
