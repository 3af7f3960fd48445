"""Functions on lists, sets and optional values, as Kubernetes switches them on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.functions import as_int, method, register
from kajitori.base.cel.types import (
    BOOL,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    A,
    list_of,
    optional_of,
)
from kajitori.base.cel.values import NOTHING, Optional, contains, equal

_LIST: Final = list_of(A)
_ORDERED: Final = (INT, UINT, DOUBLE, STRING, DURATION, TIMESTAMP)


def _is_sorted(items: list[Any]) -> bool:
    return all(left <= right for left, right in pairwise(items))


def _extreme(choose: Callable[[list[Any]], Any], name: str) -> Callable[[list[Any]], Any]:
    def run(items: list[Any]) -> Any:
        if not items:
            raise EvaluationError(f"{name} called on empty list")
        return choose(items)

    return run


def _position(items: list[Any], wanted: Any) -> int:
    return next((index for index, item in enumerate(items) if equal(item, wanted)), -1)


def _last_position(items: list[Any], wanted: Any) -> int:
    reverse = _position(items[::-1], wanted)
    return -1 if reverse < 0 else len(items) - 1 - reverse


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(items):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    flat: list[Any] = []
    for item in items:
        flat += _flatten(item, depth - 1) if depth and isinstance(item, list) else [item]
    return flat


def _distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not contains(found, item):
            found.append(item)
    return found


def _includes(items: list[Any], part: list[Any]) -> bool:
    return all(contains(items, item) for item in part)


def _last_of(optional: Optional) -> Any:
    if not optional.present:
        raise EvaluationError("optional.none() dereference")
    return optional.value


for _kind in _ORDERED:
    _items = list_of(_kind)
    method("isSorted", (_items,), BOOL, _is_sorted)
    method("min", (_items,), _kind, _extreme(min, "min"))
    method("max", (_items,), _kind, _extreme(max, "max"))
    method("sort", (_items,), _items, sorted)
method("isSorted", (list_of(BOOL),), BOOL, _is_sorted)
method("sum", (list_of(INT),), INT, lambda items: as_int(sum(items)))
method("sum", (list_of(UINT),), UINT, sum)
method("sum", (list_of(DOUBLE),), DOUBLE, lambda items: float(sum(items)))
method("sum", (list_of(DURATION),), DURATION, lambda items: sum(items, timedelta()))
method("indexOf", (_LIST, A), INT, _position)
method("lastIndexOf", (_LIST, A), INT, _last_position)
method("slice", (_LIST, INT, INT), _LIST, _slice)
method("distinct", (_LIST,), _LIST, _distinct)
method("reverse", (_LIST,), _LIST, lambda items: items[::-1])
method("flatten", (list_of(list_of(A)),), _LIST, _flatten)
method("flatten", (list_of(DYN), INT), list_of(DYN), _flatten)
method("first", (_LIST,), optional_of(A), lambda items: Optional(True, items[0]) if items else NOTHING)
method("last", (_LIST,), optional_of(A), lambda items: Optional(True, items[-1]) if items else NOTHING)
register("lists.range", (INT,), list_of(INT), lambda count: list(range(min(count, 100_000))))
register("sets.contains", (_LIST, _LIST), BOOL, _includes)
register("sets.equivalent", (_LIST, _LIST), BOOL, lambda a, b: _includes(a, b) and _includes(b, a))
register("sets.intersects", (_LIST, _LIST), BOOL, lambda a, b: any(contains(b, item) for item in a))

register("optional.of", (A,), optional_of(A), lambda value: Optional(True, value))
register("optional.none", (), optional_of(A), lambda: NOTHING)
register(
    "optional.ofNonZeroValue",
    (A,),
    optional_of(A),
    lambda value: Optional(True, value) if value not in (None, 0, "", b"", [], {}) else NOTHING,
)
method("hasValue", (optional_of(A),), BOOL, lambda optional: optional.present)
method("value", (optional_of(A),), A, _last_of)
method(
    "orValue", (optional_of(A), A), A, lambda optional, other: optional.value if optional.present else other
)
method(
    "or",
    (optional_of(A), optional_of(A)),
    optional_of(A),
    lambda optional, other: optional if optional.present else other,
)
