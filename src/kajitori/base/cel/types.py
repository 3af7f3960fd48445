"""Types of CEL, as far as they are known before evaluation; `dyn` is what only evaluation can tell.

Values are plain Python: int (int and uint), float, str, bytes, bool, None, list, dict, datetime, timedelta, and
the classes of `values` for the rest. Whether an int is a uint is known by its type alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Type:
    """kind: `int`, `list`, ... or `parameter` inside signatures (`name` says which)."""

    kind: str
    args: tuple[Type, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        if self.kind == "parameter":
            return self.name
        if self.kind == "null_type":
            return "null"
        inside = ", ".join(map(str, self.args))
        return f"{self.kind}({inside})" if inside else self.kind


@dataclass(frozen=True, slots=True, eq=False)
class ObjectType(Type):
    """A struct with declared fields. find: from a field's name in expressions to its key in the data and its type."""

    find: Callable[[str], tuple[str, Type] | None] = lambda name: None

    def __str__(self) -> str:
        return self.name or "object"


def simple(kind: str) -> Type:
    return Type(kind)


DYN: Final = simple("dyn")
INT: Final = simple("int")
UINT: Final = simple("uint")
DOUBLE: Final = simple("double")
STRING: Final = simple("string")
BYTES: Final = simple("bytes")
BOOL: Final = simple("bool")
NULL: Final = simple("null_type")
DURATION: Final = simple("google.protobuf.Duration")
TIMESTAMP: Final = simple("google.protobuf.Timestamp")
TYPE: Final = simple("type")
QUANTITY: Final = simple("kubernetes.Quantity")
URL: Final = simple("kubernetes.URL")
IP: Final = simple("net.IP")
CIDR: Final = simple("net.CIDR")
NUMBERS: Final = frozenset({"int", "uint", "double"})
A: Final = Type("parameter", name="A")
B: Final = Type("parameter", name="B")


def list_of(item: Type) -> Type:
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("optional_type", (value,))


def accepts(pattern: Type, actual: Type, bound: dict[str, Type]) -> bool:
    """Whether a value of type `actual` may stand where `pattern` is asked for; binds the pattern's parameters."""
    if pattern.kind == "parameter":
        known = bound.get(pattern.name)
        if known is None or known.kind == "dyn":
            bound[pattern.name] = actual
            return True
        return actual.kind == "dyn" or accepts(known, actual, bound)
    if pattern.kind == "dyn" or actual.kind == "dyn":
        return True
    if pattern.kind == "object" or actual.kind == "object":
        return pattern is actual or (pattern.kind == "map" and actual.kind == "object")
    return pattern.kind == actual.kind and all(
        accepts(inner, other, bound) for inner, other in zip(pattern.args, actual.args, strict=False)
    )


def substitute(pattern: Type, bound: Mapping[str, Type]) -> Type:
    """The pattern with its parameters filled in; those left open become `dyn`."""
    if pattern.kind == "parameter":
        return bound.get(pattern.name, DYN)
    if not pattern.args:
        return pattern
    return Type(pattern.kind, tuple(substitute(inner, bound) for inner in pattern.args))


def join(left: Type, right: Type) -> Type:
    """One type for both: their common one, else `dyn`."""
    if left == right:
        return left
    if left.kind == "null_type" and right.kind not in NUMBERS | {"bool", "string"}:
        return right
    if right.kind == "null_type" and left.kind not in NUMBERS | {"bool", "string"}:
        return left
    if left.kind == right.kind and len(left.args) == len(right.args) and left.args:
        return Type(left.kind, tuple(map(join, left.args, right.args)))
    return DYN
