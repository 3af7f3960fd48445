"""Values that plain Python has no type for, and the equality of CEL."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final, cast
from urllib.parse import SplitResult


@dataclass(frozen=True, slots=True)
class Optional:
    """A value or none."""

    present: bool
    value: Any = None


NOTHING: Final = Optional(False)


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount such as `1.5Gi`, compared by value."""

    amount: Fraction


@dataclass(frozen=True, slots=True)
class Url:
    parts: SplitResult


@dataclass(frozen=True, slots=True)
class TypeValue:
    """What `type(x)` gives."""

    name: str


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface

KINDS: Final[dict[type, str]] = {
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    list: "list",
    dict: "map",
    datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
    Optional: "optional_type",
    Quantity: "kubernetes.Quantity",
    Url: "kubernetes.URL",
    TypeValue: "type",
    ipaddress.IPv4Address: "net.IP",
    ipaddress.IPv6Address: "net.IP",
    ipaddress.IPv4Interface: "net.CIDR",
    ipaddress.IPv6Interface: "net.CIDR",
}


def equal(left: Any, right: Any) -> bool:
    """CEL's equality: numbers by value across types, true is not 1, containers by their contents."""
    if isinstance(left, dict):
        if not isinstance(right, dict):
            return False
        ours, theirs = cast("dict[Any, Any]", left), cast("dict[Any, Any]", right)
        return len(ours) == len(theirs) and all(
            key in theirs and equal(value, theirs[key]) for key, value in ours.items()
        )
    if isinstance(left, list):
        if not isinstance(right, list):
            return False
        ours, theirs = cast("list[Any]", left), cast("list[Any]", right)
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return left == right


def contains(items: list[Any], wanted: Any) -> bool:
    return any(equal(item, wanted) for item in items)
